"""What each instruction of a Dockerfile does, seen in the image and in a container of it."""

from __future__ import annotations

import gzip
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.builds import Builder, context
from tests.support.engines import Engine

pytestmark = pytest.mark.claim("POST /build", "rule-build-dockerfile")


@pytest.fixture
def build(engine: Engine, busybox: str) -> Iterator[Builder]:
    """Builds on the engine under test."""
    builder = Builder(engine, busybox)
    yield builder
    builder.close()


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("CMD echo hi", "Cmd", ["/bin/sh", "-c", "echo hi"]),
        ('CMD ["echo", "hi"]', "Cmd", ["echo", "hi"]),
        ('ENTRYPOINT ["sh", "-c"]', "Entrypoint", ["sh", "-c"]),
        ("EXPOSE 80 53/udp", "ExposedPorts", {"80/tcp": {}, "53/udp": {}}),
        ("LABEL a=b c='d e'", "Labels", {"a": "b", "c": "d e"}),
        ("USER 33:33", "User", "33:33"),
        ("VOLUME /one /two", "Volumes", {"/one": {}, "/two": {}}),
        ("STOPSIGNAL SIGINT", "StopSignal", "SIGINT"),
        ("ONBUILD RUN true", "OnBuild", ["RUN true"]),
        ('SHELL ["/bin/sh", "-ec"]', "Shell", ["/bin/sh", "-ec"]),
        (
            "HEALTHCHECK --interval=5s --timeout=2s --retries=4 CMD true",
            "Healthcheck",
            {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000, "Timeout": 2_000_000_000, "Retries": 4},
        ),
        ("HEALTHCHECK NONE", "Healthcheck", {"Test": ["NONE"]}),
    ],
    ids=["cmd", "cmd-exec", "entrypoint", "expose", "label", "user", "volume", "stopsignal", "onbuild", "shell",
         "healthcheck", "no-healthcheck"],
)  # fmt: skip
def test_what_goes_into_the_configuration(build: Builder, line: str, field: str, value: object) -> None:
    config = build.config(build(f"FROM {{base}}\n{line}\n"))
    found = config[field]
    if isinstance(value, dict) and field == "Labels":
        found = {key: found[key] for key in value}
    assert found == value


def test_env_and_its_substitution(build: Builder) -> None:
    text = (
        "FROM {base}\nENV A=1 B='two words'\nENV C=$A-${B} D=${N:-default} E=${A:+set} F=\\$A\n"
        "ENV OLD style of env\nWORKDIR /dir-$A\nRUN echo $A $D\n"
    )
    made = build(text)
    assert {"A=1", "B=two words", "C=1-two words", "D=default", "E=set", "F=$A", "OLD=style of env"} <= set(
        build.config(made)["Env"]
    )
    assert build.config(made)["WorkingDir"] == "/dir-1"
    assert "\n1 default\n" in made.text


def test_arg_is_there_for_steps_and_not_for_containers(build: Builder) -> None:
    made = build("FROM {base}\nARG V=inner\nRUN echo seen $V\n")
    assert "seen inner\n" in made.text
    assert build.run(made, "sh", "-c", "echo [$V]") == "[]\n"


def test_arg_before_from(build: Builder) -> None:
    name, _, tag = build.base.rpartition(":")
    made = build(f"ARG NAME={name}\nARG TAG=wrong\nFROM $NAME:${{TAG}}\nRUN true\n", buildargs={"TAG": tag})
    assert made.id


def test_workdir_is_made_and_relative_to_the_last(build: Builder) -> None:
    made = build("FROM {base}\nWORKDIR /a\nWORKDIR b\nRUN pwd\n")
    assert "\n/a/b\n" in made.text and build.run(made, "pwd") == "/a/b\n"


def test_user_of_the_steps(build: Builder) -> None:
    made = build("FROM {base}\nUSER www\nRUN id -un; id -g\n")
    assert "\nwww\n33\n" in made.text


def test_run_in_both_forms(build: Builder) -> None:
    made = build('FROM {base}\nRUN echo shell $HOME\nRUN ["echo", "exec $HOME"]\nSHELL ["/bin/sh", "-xc"]\nRUN true\n')
    # What is said on standard error is coloured piece by piece, as it comes.
    plain = re.sub(r"\x1b\[\d+m", "", made.text)
    assert "\nshell /root\n" in plain and "\nexec $HOME\n" in plain and "+ true\n" in plain


def test_a_line_that_goes_on_and_comments(build: Builder) -> None:
    made = build("# a comment\nFROM {base}\nRUN echo one \\\n  # inside\n  two\n")
    assert "\none two\n" in made.text


def test_another_escape(build: Builder) -> None:
    made = build("# escape=`\nFROM {base}\nRUN echo one `\n two\\\\three\n")
    assert "\none two" in made.text


FILES = {"a": b"A", "b.txt": b"B", "dir/c": b"C", "dir/sub/d": (b"D", 0o755), "e.txt": b"E"}


@pytest.mark.parametrize(
    ("line", "script", "said"),
    [
        ("COPY a /x", "cat /x; stat -c ' %a %u:%g' /x", "A 644 0:0\n"),
        ("COPY a /x/", "cat /x/a", "A"),
        ("COPY a b.txt /x/", "cat /x/a /x/b.txt", "AB"),
        ("COPY *.txt /x/", "ls /x", "b.txt\ne.txt\n"),
        ("COPY dir /x", "find /x -type f | sort", "/x/c\n/x/sub/d\n"),
        ("COPY dir/ /x/dir/", "stat -c %a /x/dir/sub/d", "755\n"),
        ("COPY . /x/", "ls -A /x", "Dockerfile\na\nb.txt\ndir\ne.txt\n"),
        ('COPY ["a", "/with space/a"]', "cat '/with space/a'", "A"),
        ("COPY --chown=33:10 a dir /x/", "stat -c %u:%g /x/a /x/c", "33:10\n33:10\n"),
        ("COPY --chown=www a /x", "stat -c %u:%g /x", "33:33\n"),
        ("WORKDIR /w\nCOPY a rel", "cat /w/rel", "A"),
        ("ADD a /x", "cat /x", "A"),
    ],
    ids=["file", "folder", "several", "pattern", "tree", "mode", "all", "json", "owner-numbers", "owner-name",
         "relative", "add"],
)  # fmt: skip
def test_copy(build: Builder, line: str, script: str, said: str) -> None:
    made = build(f"FROM {{base}}\n{line}\n", FILES)
    assert build.run(made, "sh", "-c", script) == said


def test_add_unpacks_archives(build: Builder) -> None:
    inner = gzip.compress(images.tar_of(lambda tar: images.add_file(tar, "deep/inner", b"unpacked")))
    made = build("FROM {base}\nADD x.tar.gz /add/\nCOPY x.tar.gz /copy/\n", {"x.tar.gz": inner})
    assert build.run(made, "sh", "-c", "cat /add/deep/inner; ls /copy") == "unpackedx.tar.gz\n"


def test_add_from_an_address(build: Builder, engine: Engine) -> None:
    """The engine's own registry is the server: every engine reaches it."""
    address = build.base.partition("/")[0]
    made = build(f"FROM {{base}}\nADD http://{address}/v2/ /answer\nADD http://{address}/v2/_catalog /folder/\n")
    assert build.run(made, "sh", "-c", "cat /answer; stat -c %a /answer; ls /folder").split() == ["{}600", "_catalog"]


def test_stages(build: Builder) -> None:
    text = (
        "FROM {base} AS maker\nRUN mkdir /out && echo made >/out/file\n"
        "FROM {base}\nCOPY --from=maker /out/file /by-name\nCOPY --from=0 /out /by-number\n"
        f"COPY --from={build.base} /bin/true /from-image\n"
    )
    made = build(text)
    assert build.run(made, "sh", "-c", "cat /by-name /by-number/file; ls /out 2>/dev/null; ls /from-image").split() == [
        "made", "made", "/from-image",
    ]  # fmt: skip


def test_a_stage_on_a_stage(build: Builder) -> None:
    made = build("FROM {base} AS one\nENV A=1\nFROM one\nENV B=2\n")
    assert {"A=1", "B=2"} <= set(build.config(made)["Env"])


def test_from_scratch(build: Builder, engine: Engine) -> None:
    made = build("FROM scratch\nCOPY a /\n", {"a": b"A"})
    value = engine.request("GET", f"/images/{made.id}/json").json()
    assert isinstance(value, dict) and len(value["RootFS"]["Layers"]) == 1 and value["Size"] == 1


def test_onbuild_runs_in_the_next_build(build: Builder, repository: str) -> None:
    build("FROM {base}\nONBUILD RUN echo triggered >/triggered\nONBUILD ENV T=1\n", t=f"{repository}:1")
    made = build(f"FROM {repository}:1\nRUN cat /triggered\n")
    assert "# Executing 2 build triggers" in made.text and "\ntriggered\n" in made.text
    config = build.config(made)
    assert "T=1" in config["Env"] and not config["OnBuild"]


def test_a_volume_that_is_written_after_it_was_declared(build: Builder) -> None:
    """What RUN writes into a volume is in no layer."""
    made = build("FROM {base}\nRUN mkdir /v && touch /v/before\nVOLUME /v\nRUN touch /v/after\n")
    assert build.run(made, "ls", "/v") == "before\n"


def test_entrypoint_takes_the_cmd_of_the_base(build: Builder) -> None:
    config = build.config(build('FROM {base}\nENTRYPOINT ["true"]\n'))
    assert config["Cmd"] is None and config["Entrypoint"] == ["true"]


def test_maintainer(build: Builder, engine: Engine) -> None:
    made = build("FROM {base}\nMAINTAINER me\n")
    value = engine.request("GET", f"/images/{made.id}/json").json()
    assert isinstance(value, dict) and value["Author"] == "me"


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        ("*.txt", ["Dockerfile", "a", "dir/c", "dir/sub/d"]),
        ("dir", ["Dockerfile", "a", "b.txt", "e.txt"]),
        ("*\n!a", ["a"]),
        ("**/d", ["Dockerfile", "a", "b.txt", "dir/c", "e.txt"]),
        ("dir/*\n!dir/c\n# a comment", ["Dockerfile", "a", "b.txt", "dir/c", "e.txt"]),
        ("Dockerfile\n.dockerignore", ["a", "b.txt", "dir/c", "dir/sub/d", "e.txt"]),
        ("?.txt", ["Dockerfile", "a", "dir/c", "dir/sub/d"]),
    ],
    ids=["pattern", "folder", "exception", "anywhere", "exception-inside", "itself", "one-letter"],
)
def test_dockerignore(build: Builder, tmp_path: Path, ignore: str, left: list[str]) -> None:
    for name, content in {**FILES, ".dockerignore": ignore, "Dockerfile": f"FROM {build.base}\nCOPY . /x/\n"}.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        data = content[0] if isinstance(content, tuple) else content
        file.write_bytes(data.encode() if isinstance(data, str) else data)
    made = build.by_docker(tmp_path)
    found = build.run(made, "sh", "-c", "cd /x; find . -type f | sed s,^./,, | sort").split()
    assert [name for name in found if name != ".dockerignore"] == left


def test_layers_hold_what_a_step_changed(build: Builder, engine: Engine) -> None:
    """A deletion is in the layer as a whiteout, and an ENV makes no layer."""
    made = build("FROM {base}\nRUN echo x >/new\nENV A=1\nRUN rm /bin/wget /new\n")
    value = engine.request("GET", f"/images/{made.id}/json").json()
    assert isinstance(value, dict)
    assert len(value["RootFS"]["Layers"]) == 3
    assert build.run(made, "sh", "-c", "ls /new /bin/wget 2>/dev/null | wc -l") == "0\n"


def test_a_context_from_an_address(build: Builder, engine: Engine) -> None:
    """``remote`` is a tar, or a Dockerfile."""
    body = context({"Dockerfile": f"FROM {build.base}\nCOPY f /f\n".encode(), "f": b"remote"})
    program = (
        "import http.server, sys\n"
        "data = sys.stdin.buffer.read()\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.send_header('Content-Type', 'application/x-tar')\n"
        "        self.send_header('Content-Length', str(len(data))); self.end_headers(); self.wfile.write(data)\n"
        "    def log_message(self, *_): pass\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), Handler)\n"
        "print(server.server_port, flush=True); server.serve_forever()\n"
    )
    server = engine.sandbox.popen(["python3", "-I", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(body)
        server.stdin.close()
        port = server.stdout.readline().decode().strip()
        made = build.send(b"", remote=f"http://127.0.0.1:{port}/context.tar")
        assert build.run(made, "cat", "/f") == "remote"
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
