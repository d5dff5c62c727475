"""The classic build as a stream: its lines, its cache, its errors, and what may be asked of it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.asking import filters, get, image_id
from tests.support.builds import Builder, context
from tests.support.engines import Engine

pytestmark = pytest.mark.claim("POST /build", "rule-build-classic")


@pytest.fixture
def build(engine: Engine, busybox: str) -> Iterator[Builder]:
    """Builds on the engine under test."""
    builder = Builder(engine, busybox)
    yield builder
    builder.close()


def test_the_lines_of_a_build(build: Builder, repository: str, engine: Engine) -> None:
    made = build("FROM {base}\nENV A=1\nRUN echo said\nRUN echo aside >&2\n", t=f"{repository}:1")
    assert made.status == 200
    base = image_id(engine, build.base)[7:19]
    lines = re.sub(r"[0-9a-f]{12}$", "<id>", made.text.replace(base, "<base>"), flags=re.M).splitlines()
    assert lines == [
        f"Step 1/4 : FROM {build.base}",
        " ---> <base>",
        "Step 2/4 : ENV A=1",
        " ---> Running in <id>",
        "Removing intermediate container <id>",
        " ---> <id>",
        "Step 3/4 : RUN echo said",
        " ---> Running in <id>",
        "said",
        "Removing intermediate container <id>",
        " ---> <id>",
        "Step 4/4 : RUN echo aside >&2",
        " ---> Running in <id>",
        "\x1b[91maside",
        "\x1b[0mRemoving intermediate container <id>",
        " ---> <id>",
        "Successfully built <id>",
        f"Successfully tagged {repository}:1",
    ]
    assert made.id == image_id(engine, f"{repository}:1")
    assert f"Successfully built {made.id[7:19]}\n" in made.text


def test_the_records_of_a_build(build: Builder) -> None:
    made = build("FROM {base}\nENV A=1\n")
    assert made.records[0] == {"stream": f"Step 1/2 : FROM {build.base}"}
    assert made.records[1] == {"stream": "\n"}
    assert made.records[2]["stream"].startswith(" ---> ")
    (aux,) = [record for record in made.records if "aux" in record]
    assert aux == {"aux": {"ID": made.id}}


def test_no_container_is_left(build: Builder, engine: Engine) -> None:
    before = {row["Id"] for row in get(engine, "/containers/json?all=1")}
    build("FROM {base}\nRUN true\nENV A=1\n")
    failed = build("FROM {base}\nRUN false\n")
    assert "returned a non-zero code: 1" in failed.error
    assert {row["Id"] for row in get(engine, "/containers/json?all=1")} == before


def test_quiet_says_the_id_alone(build: Builder) -> None:
    made = build("FROM {base}\nENV A=1\n", q="1")
    assert made.records == [{"stream": f"{made.text}"}] and re.fullmatch(r"sha256:[0-9a-f]{64}\n", made.text)
    build.adopt(made.text.strip())


@pytest.mark.claim("rule-build-cache")
def test_a_second_build_comes_from_the_cache(build: Builder) -> None:
    text = "FROM {base}\nENV A=1\nCOPY f /f\nRUN cat /f\n"
    first = build(text, {"f": b"1"})
    assert first.cached == 0
    second = build(text, {"f": b"1"})
    assert (second.cached, second.id) == (3, first.id)
    assert "Running in" not in second.text


@pytest.mark.claim("rule-build-cache")
def test_what_changes_ends_the_cache(build: Builder) -> None:
    text = "FROM {base}\nENV A=1\nCOPY f /f\nRUN cat /f\n"
    build(text, {"f": b"1"})
    assert build(text, {"f": b"2"}).cached == 1
    assert build(text.replace("A=1", "A=2"), {"f": b"1"}).cached == 0
    assert build(text, {"f": (b"1", 0o755)}).cached == 1


@pytest.mark.claim("rule-build-cache")
def test_times_do_not_end_the_cache(build: Builder, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {build.base}\nCOPY f /f\n")
    (tmp_path / "f").write_text("same")
    first = build.by_docker(tmp_path)
    (tmp_path / "f").unlink()
    (tmp_path / "f").write_text("same")
    assert build.by_docker(tmp_path) == first


@pytest.mark.claim("rule-build-cache")
def test_nocache(build: Builder) -> None:
    text = "FROM {base}\nRUN date +%N >/now\n"
    first = build(text)
    second = build(text, nocache="1")
    assert second.cached == 0 and second.id != first.id


@pytest.mark.claim("rule-build-cache")
def test_cachefrom_is_the_only_cache(build: Builder, repository: str) -> None:
    text = "FROM {base}\nRUN date +%N >/now\n"
    first = build(text, t=f"{repository}:1")
    assert build(text, cachefrom=[f"{repository}:1"]).id == first.id
    other = build(text, cachefrom=["nosuch:1"])
    assert other.cached == 0


@pytest.mark.claim("rule-build-errors")
def test_a_command_that_fails(build: Builder) -> None:
    failed = build("FROM {base}\nRUN exit 7\nRUN true\n")
    assert failed.status == 200
    words = "The command '/bin/sh -c exit 7' returned a non-zero code: 7"
    assert failed.records[-1] == {"errorDetail": {"code": 7, "message": words}, "error": words}
    assert failed.steps == [f"FROM {build.base}", "RUN exit 7"]


@pytest.mark.claim("rule-build-errors")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM {base}\nRUNN true\n", "dockerfile parse error line 2: unknown instruction: RUNN"),
        ("RUN true\n", "no build stage in current context"),
        ("", "the Dockerfile (Dockerfile) cannot be empty"),
        ("FROM {base} AS\n", "FROM requires either one or three arguments"),
        ("FROM {base}\nENV\n", "ENV requires at least one argument"),
        ("FROM {base}\nCOPY a\n", "COPY requires at least two arguments, but only one was provided"),
        ("FROM {base}\nEXPOSE\n", "EXPOSE requires at least one argument"),
        ("FROM {base}\nCOPY --bogus=1 a b\n", "Unknown flag: bogus"),
        ("# only a comment\n", "file with no instructions"),
    ],
    ids=["instruction", "no-from", "empty", "as", "env", "copy", "expose", "flag", "comment"],
)
def test_dockerfiles_that_cannot_be_read(build: Builder, text: str, words: str) -> None:
    failed = build(text)
    assert failed.status == 400 and words in failed.error, (failed.status, failed.records)


@pytest.mark.claim("rule-build-errors")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM {base}\nCOPY nosuch /x\n", "COPY failed: file not found in build context or excluded by .dockerignore"),
        ("FROM {base}\nCOPY ../x /x\n", "COPY failed: forbidden path outside the build context: ../x ()"),
        ("FROM {base}\nCOPY --from=nosuchstage /x /x\n", "nosuchstage"),
        ("FROM 127.0.0.1:1/nosuch:1\n", "connection refused"),
        ("FROM {base}\nUSER nosuch\nRUN true\n", "unable to find user nosuch"),
        ("FROM {base}\nEXPOSE bogus\n", "bogus"),
    ],
    ids=["missing", "outside", "stage", "image", "user", "port"],
)
def test_steps_that_fail(build: Builder, text: str, words: str) -> None:
    failed = build(text)
    assert words in failed.error, failed.records


@pytest.mark.claim("rule-build-errors")
def test_a_dockerfile_that_is_not_there(build: Builder) -> None:
    failed = build.send(context({"other": b""}))
    assert failed.status in (400, 500) and "Cannot locate specified Dockerfile: Dockerfile" in failed.error
    outside = build("FROM {base}\n", dockerfile="../Dockerfile")
    assert outside.status in (400, 500) and outside.error


def test_another_dockerfile(build: Builder) -> None:
    made = build("FROM nosuch\n", {"sub/Other": f"FROM {build.base}\nENV A=other\n".encode()}, dockerfile="sub/Other")
    assert "A=other" in build.config(made)["Env"]


def test_several_names(build: Builder, engine: Engine, repository: str) -> None:
    body = context({"Dockerfile": f"FROM {build.base}\nENV A=1\n".encode()})
    reply = engine.request("POST", f"/build?version=1&t={repository}:1&t={repository}:2", body)
    assert reply.status == 200
    assert image_id(engine, f"{repository}:1") == image_id(engine, f"{repository}:2")


@pytest.mark.claim("rule-build-errors")
def test_a_name_that_cannot_be(build: Builder) -> None:
    failed = build("FROM {base}\n", t="UPPER:1")
    assert failed.status in (400, 500) and "must be lowercase" in failed.error


def test_arguments_and_labels_of_the_request(build: Builder) -> None:
    text = "ARG TAG=1\nFROM {base}\nARG V=default\nARG W\nENV SEEN=$V-$W\n"
    made = build(text, buildargs={"V": "given"}, labels={"a": "b"})
    config = build.config(made)
    assert "SEEN=given-" in config["Env"] and config["Labels"]["a"] == "b"
    assert "LABEL a=b" in made.steps


def test_an_argument_that_nobody_wants_is_told(build: Builder) -> None:
    made = build("FROM {base}\nENV A=1\n", buildargs={"UNUSED": "x"})
    assert "[Warning] One or more build-args [UNUSED] were not consumed" in made.text


def test_a_target(build: Builder) -> None:
    made = build("FROM {base} AS first\nENV A=first\nFROM {base} AS second\nENV A=second\n", target="first")
    assert "A=first" in build.config(made)["Env"] and made.steps[-1] == "ENV A=first"
    failed = build("FROM {base} AS first\n", target="nosuch")
    assert failed.status in (400, 500) and "failed to reach build target nosuch in Dockerfile" in failed.error


def test_a_compressed_context(build: Builder) -> None:
    body = context({"Dockerfile": f"FROM {build.base}\nCOPY f /f\n".encode(), "f": b"zipped"})
    made = build.send(gzip.compress(body))
    assert build.run(made, "cat", "/f") == "zipped"


def test_the_dockerfile_alone_as_context(build: Builder, engine: Engine) -> None:
    text = f"FROM {build.base}\nENV A=alone\n"
    done = engine.docker("build", "-q", "-", input=text, check=True)
    build.adopt(done.out.strip())
    assert "A=alone" in get(engine, f"/images/{done.out.strip()}/json")["Config"]["Env"]


def test_network_of_the_steps(build: Builder) -> None:
    made = build("FROM {base}\nRUN ls /sys/class/net\n", networkmode="none")
    assert re.search(r"^lo$", made.text, re.M) and "eth0" not in made.text


def test_extra_hosts_and_limits_of_the_steps(build: Builder) -> None:
    text = "FROM {base}\nRUN cat /etc/hosts; ulimit -n; df -k /dev/shm | tail -n 1\n"
    ulimits = [{"Name": "nofile", "Soft": 321, "Hard": 321}]
    made = build(text, extrahosts="other.test:192.0.2.7", ulimits=ulimits, shmsize=str(1 << 20))
    assert re.search(r"^192\.0\.2\.7\s+other\.test$", made.text, re.M)
    assert re.search(r"^321$", made.text, re.M)
    assert re.search(r"^shm +1024 ", made.text, re.M), made.text


def test_docker_build(build: Builder, engine: Engine, repository: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {build.base}\nCOPY f /f\nRUN exit $(cat /f)\n")
    (tmp_path / "f").write_text("0")
    done = engine.docker("build", "-t", f"{repository}:1", str(tmp_path))
    assert done.code == 0, done
    assert re.match(r"Sending build context to Docker daemon +[0-9.]+kB\s+Step 1/3 : FROM ", done.out)
    assert done.out.endswith(f"Successfully tagged {repository}:1\n")
    build.adopt(image_id(engine, f"{repository}:1"))
    (tmp_path / "f").write_text("9")
    failed = engine.docker("build", "--force-rm", str(tmp_path))
    assert failed.code == 9
    assert "The command '/bin/sh -c exit $(cat /f)' returned a non-zero code: 9" in failed.err


@pytest.mark.claim("GET /images/json", "rule-image-list", "GET /images/{name}/history")
def test_intermediate_images_are_shown_with_all_only(build: Builder, engine: Engine, repository: str) -> None:
    made = build("FROM {base}\nENV A=1\nENV B=2\n", t=f"{repository}:1")
    plain = {row["Id"] for row in get(engine, "/images/json")}
    rows = {row["Id"]: row for row in get(engine, "/images/json?all=1")}
    parent = rows[made.id]["ParentId"]
    assert parent in rows and parent not in plain and made.id in plain
    assert get(engine, f"/images/{made.id}/json")["Parent"] == parent
    history = get(engine, f"/images/{made.id}/history")
    assert [entry["Id"] for entry in history[:2]] == [made.id, parent]
    assert [entry["CreatedBy"] for entry in history[:2]] == [
        "/bin/sh -c #(nop)  ENV B=2",
        "/bin/sh -c #(nop)  ENV A=1",
    ]


@pytest.mark.claim("DELETE /images/{name}", "rule-image-conflict", "rule-image-delete")
def test_a_parent_cannot_go_before_its_child(build: Builder, engine: Engine, repository: str) -> None:
    made = build("FROM {base}\nENV A=1\nENV B=2\n", t=f"{repository}:1")
    parent = get(engine, f"/images/{made.id}/json")["Parent"]
    reply = engine.request("DELETE", f"/images/{parent}?force=1")
    assert reply.status == 409 and b"(cannot be forced) - image has dependent child images" in reply.body
    kept = json.loads(engine.request("DELETE", f"/images/{repository}:1?noprune=1").body)
    assert kept == [{"Untagged": f"{repository}:1"}, {"Deleted": made.id}]
    assert get(engine, f"/images/{parent}/json")["Id"] == parent
    dangling = {row["Id"] for row in get(engine, f"/images/json?{filters(dangling=['true'])}")}
    assert parent in dangling
    gone = json.loads(engine.request("DELETE", f"/images/{parent}").body)
    assert {"Deleted": parent} in gone
