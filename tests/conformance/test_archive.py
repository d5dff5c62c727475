"""``/containers/{id}/archive``: files in and out of containers, and never past their root."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.asking import content, files_of, message
from tests.support.containers import create, events, finished, path_stat, run, said, start
from tests.support.engines import Engine, Reply
from tests.support.images import add_dir, add_file, add_link, tar_of
from tests.support.sandbox import wait_until

_TREE = (
    "mkdir -p /d/e; echo hi > /d/f; chmod 4755 /d/f; ln -s f /d/l; ln -s /etc/passwd /d/abs; "
    "ln -s ../../../etc /d/up; mkfifo /d/pipe; ln /d/f /d/hard; chown 33:10 /d/e"
)
_MODES = {"/d/f": 0o755 | 1 << 23, "/d": 0o755 | 1 << 31, "/d/l": 0o777 | 1 << 27, "/d/pipe": 0o644 | 1 << 25}


def _ask(engine: Engine, method: str, name: str, path: str, query: str = "", body: bytes | None = None) -> Reply:
    target = f"/containers/{name}/archive?path={quote(path)}{query}"
    return engine.request(method, target, body, headers={"Content-Type": "application/x-tar"} if body else None)


def _get(engine: Engine, name: str, path: str) -> tuple[dict[str, tarfile.TarInfo], Reply]:
    reply = _ask(engine, "GET", name, path)
    assert reply.status == 200, reply
    return dict(files_of(reply.body)), reply


def _listing(engine: Engine, name: str, folder: str) -> str:
    """What the container itself sees: mode, owner and name of each entry."""
    script = f"cd {folder} && find . ! -name . | sort | while read f; do stat -c '%A %u %g %n' \"$f\"; done"
    return engine.docker("exec", name, "sh", "-c", script, check=True).out


@pytest.fixture
def tree(engine: Engine, busybox: str, name: str) -> str:
    """A container that has a tree of every kind of file below /d, and has ended."""
    assert finished(engine, busybox, name, ["sh", "-c", _TREE]) == 0
    return name


@pytest.mark.claim("HEAD /containers/{id}/archive", "GET /containers/{id}/archive", "rule-archive-stat")
class TestStat:
    @pytest.mark.parametrize("path", sorted(_MODES))
    def test_modes_are_those_of_go(self, engine: Engine, tree: str, path: str) -> None:
        reply = _ask(engine, "HEAD", tree, path)
        found = path_stat(reply)
        assert (reply.status, found["mode"], found["name"]) == (200, _MODES[path], path.rpartition("/")[2])
        assert sorted(found) == ["linkTarget", "mode", "mtime", "name", "size"]
        assert path_stat(_ask(engine, "GET", tree, path)) == found

    @pytest.mark.parametrize(("path", "target"), [("/d/l", "/d/f"), ("/d/abs", "/etc/passwd"), ("/d/up", "/etc")])
    def test_targets_of_links_are_resolved_inside(self, engine: Engine, tree: str, path: str, target: str) -> None:
        assert path_stat(_ask(engine, "HEAD", tree, path))["linkTarget"] == target

    def test_size_and_time(self, engine: Engine, tree: str) -> None:
        found = path_stat(_ask(engine, "HEAD", tree, "/d/f"))
        assert found["size"] == 3 and found["linkTarget"] == ""
        assert str(found["mtime"]).startswith("20") and "T" in found["mtime"]

    def test_of_the_root(self, engine: Engine, tree: str) -> None:
        found = path_stat(_ask(engine, "HEAD", tree, "/"))
        assert (found["name"], found["mode"]) == ("/", 0o755 | 1 << 31)

    @pytest.mark.parametrize("method", ["HEAD", "GET"])
    def test_of_nothing(self, engine: Engine, tree: str, method: str) -> None:
        reply = _ask(engine, method, tree, "/nope")
        assert reply.status == 404
        if method == "GET":
            assert message(reply) == f"Could not find the file /nope in container {tree}"

    @pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
    def test_without_a_path(self, engine: Engine, tree: str, method: str) -> None:
        assert engine.request(method, f"/containers/{tree}/archive").status == 400

    @pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
    def test_of_an_unknown_container(self, engine: Engine, method: str) -> None:
        assert _ask(engine, method, "no-such", "/").status == 404

    @pytest.mark.parametrize("path", ["/d/f/x", "/d/f/", "/d/l/"])
    def test_of_what_is_below_a_file(self, engine: Engine, tree: str, path: str) -> None:
        """Old reference engines say 500 and name a path of the host; newer ones 404 or 400."""
        assert _ask(engine, "GET", tree, path).status in {400, 404, 500}


@pytest.mark.claim("GET /containers/{id}/archive", "rule-archive-get")
class TestGet:
    def test_a_file(self, engine: Engine, tree: str) -> None:
        found, reply = _get(engine, tree, "/d/f")
        assert list(found) == ["f"] and content(reply.body, "f") == b"hi\n"
        assert (found["f"].mode & 0o7777, found["f"].uid) == (0o4755, 0)
        assert reply.headers["content-type"] == "application/x-tar"

    @pytest.mark.parametrize("path", ["/d", "/d/", "d"])
    def test_a_folder(self, engine: Engine, tree: str, path: str) -> None:
        found, _ = _get(engine, tree, path)
        assert sorted(found) == ["d", "d/abs", "d/e", "d/f", "d/hard", "d/l", "d/pipe", "d/up"]
        assert found["d"].isdir() and found["d/pipe"].isfifo() and found["d/l"].issym()
        assert (found["d/l"].linkname, found["d/up"].linkname) == ("f", "../../../etc")
        assert (found["d/e"].uid, found["d/e"].gid) == (33, 10)
        assert sorted([found["d/f"].islnk(), found["d/hard"].islnk()]) == [False, True]

    def test_what_is_in_a_folder(self, engine: Engine, tree: str) -> None:
        found, _ = _get(engine, tree, "/d/.")
        assert found.keys() >= {".", "./f", "./e"}

    def test_a_link_is_itself(self, engine: Engine, tree: str) -> None:
        found, _ = _get(engine, tree, "/d/l")
        assert [(entry.name, entry.type, entry.linkname) for entry in found.values()] == [("l", tarfile.SYMTYPE, "f")]

    @pytest.mark.claim("rule-archive-confined")
    def test_past_a_link_that_points_up(self, engine: Engine, tree: str) -> None:
        """It leads to the container's own /etc, whatever is above."""
        found, reply = _get(engine, tree, "/d/up/passwd")
        assert list(found) == ["passwd"] and content(reply.body, "passwd").startswith(b"root:x:0:0:root:/root:/bin/sh")

    @pytest.mark.parametrize("state", ["created", "running", "paused", "ended"])
    def test_in_every_state(self, engine: Engine, busybox: str, name: str, state: str) -> None:
        create(engine, busybox, name, Cmd=["true"] if state == "ended" else ["sleep", "300"])
        if state != "created":
            start(engine, name)
        if state == "paused":
            engine.request("POST", f"/containers/{name}/pause")
        if state == "ended":
            engine.request("POST", f"/containers/{name}/wait")
        _, reply = _get(engine, name, "/etc/passwd")
        assert content(reply.body, "passwd").startswith(b"root:")

    @pytest.mark.parametrize("alive", [False, True])
    def test_what_is_mounted(
        self, engine: Engine, busybox: str, name: str, tmp_path: Path, volume: str, alive: bool
    ) -> None:
        """Binds and volumes are part of what is seen, whether the container runs or not."""
        (tmp_path / "bound").write_text("b")
        binds = [f"{tmp_path}:/bind:ro", f"{volume}:/vol"]
        create(
            engine,
            busybox,
            name,
            Cmd=["sh", "-c", "echo v > /vol/file; echo up; sleep 300"],
            HostConfig={"Binds": binds},
        )
        start(engine, name)
        said(engine, name, "up")
        if not alive:
            engine.request("POST", f"/containers/{name}/kill")
            engine.request("POST", f"/containers/{name}/wait")
        assert content(_get(engine, name, "/bind")[1].body, "bind/bound") == b"b"
        assert content(_get(engine, name, "/vol/file")[1].body, "file") == b"v\n"

    @pytest.mark.claim("rule-archive-confined")
    def test_a_link_of_a_volume_stays_inside_too(self, engine: Engine, busybox: str, name: str, tmp_path: Path) -> None:
        (tmp_path / "out").symlink_to("/etc")
        create(engine, busybox, name, HostConfig={"Binds": [f"{tmp_path}:/bind"]})
        _, reply = _get(engine, name, "/bind/out/passwd")
        assert b"www:x:33:33" in content(reply.body, "passwd")
        assert content(reply.body, "passwd") != Path("/etc/passwd").read_bytes()

    def test_a_megabyte(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "head -c 1048576 /dev/zero > /big"])
        assert content(_get(engine, name, "/big")[1].body, "big") == b"\0" * 1048576

    @pytest.mark.claim("rule-events")
    def test_it_is_told(self, engine: Engine, tree: str) -> None:
        with events(engine, container=[tree]) as stream:
            _get(engine, tree, "/d")
            wait_until(lambda: len(stream.lines()) >= 1, what="the event")
        assert [row["Action"] for row in stream.lines()] == ["archive-path"]


@pytest.mark.claim("PUT /containers/{id}/archive", "rule-archive-put")
class TestPut:
    @pytest.mark.parametrize("alive", [False, True])
    def test_files_with_their_owners(self, engine: Engine, busybox: str, name: str, alive: bool) -> None:
        create(engine, busybox, name, Cmd=["sleep", "300"])
        if alive:
            start(engine, name)

        def build(tar: tarfile.TarFile) -> None:
            add_dir(tar, "sub", 0o750, uid=33)
            add_file(tar, "sub/file", b"text", 0o640, uid=1000, gid=1001)
            add_link(tar, "sub/link", "file")

        assert _ask(engine, "PUT", name, "/tmp", body=tar_of(build)).status == 200
        if not alive:
            start(engine, name)
        assert _listing(engine, name, "/tmp") == (
            "drwxr-x--- 33 0 ./sub\n-rw-r----- 1000 1001 ./sub/file\nlrwxrwxrwx 0 0 ./sub/link\n"
        )

    @pytest.mark.parametrize("packed", ["gzip", "bzip2", "xz"])
    def test_packed(self, engine: Engine, busybox: str, name: str, packed: str) -> None:
        import bz2
        import lzma

        pack: dict[str, Callable[[bytes], bytes]] = {
            "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
        }  # fmt: skip
        create(engine, busybox, name)
        body = pack[packed](tar_of(lambda tar: add_file(tar, "file", b"x")))
        assert _ask(engine, "PUT", name, "/tmp", body=body).status == 200
        assert content(_get(engine, name, "/tmp/file")[1].body, "file") == b"x"

    @pytest.mark.parametrize(
        ("path", "status", "words"),
        [
            ("/etc/passwd", {400, 500}, "extraction point is not a directory"),
            ("/nope", {404}, "Could not find the file /nope in container {}"),
        ],
    )
    def test_where_no_folder_is(
        self, engine: Engine, busybox: str, name: str, path: str, status: set[int], words: str
    ) -> None:
        create(engine, busybox, name)
        reply = _ask(engine, "PUT", name, path, body=tar_of(lambda tar: add_file(tar, "file", b"x")))
        assert reply.status in status and message(reply) == words.format(name)

    def test_what_is_no_tar(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name)
        assert _ask(engine, "PUT", name, "/tmp", body=b"not a tar" * 100).status >= 400

    def test_into_a_read_only_root(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name, HostConfig={"ReadonlyRootfs": True})
        reply = _ask(engine, "PUT", name, "/tmp", body=tar_of(lambda tar: add_file(tar, "file", b"x")))
        assert reply.status in {403, 500} and message(reply) == "container rootfs is marked read-only"

    def test_into_a_read_only_mount(self, engine: Engine, busybox: str, name: str, tmp_path: Path) -> None:
        create(engine, busybox, name, HostConfig={"Binds": [f"{tmp_path}:/bind:ro"]})
        reply = _ask(engine, "PUT", name, "/bind", body=tar_of(lambda tar: add_file(tar, "file", b"x")))
        assert reply.status in {403, 500} and message(reply) == "mounted volume is marked read-only"
        assert list(tmp_path.iterdir()) == []

    def test_into_a_mount(self, engine: Engine, busybox: str, name: str, tmp_path: Path) -> None:
        create(engine, busybox, name, HostConfig={"Binds": [f"{tmp_path}:/bind"]})
        body = tar_of(lambda tar: add_file(tar, "file", b"x"))
        assert _ask(engine, "PUT", name, "/bind", body=body).status == 200
        assert (tmp_path / "file").read_bytes() == b"x"

    def test_a_file_over_a_folder(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        body = tar_of(lambda tar: add_file(tar, "home", b"x"))
        reply = _ask(engine, "PUT", name, "/", "&noOverwriteDirNonDir=1", body=body)
        assert reply.status in {400, 500} and "cannot overwrite directory" in message(reply).lower()
        assert _ask(engine, "PUT", name, "/", body=body).status == 200
        assert content(_get(engine, name, "/home")[1].body, "home") == b"x"

    @pytest.mark.claim("rule-archive-confined")
    @pytest.mark.parametrize("alive", [False, True])
    def test_names_that_climb(self, engine: Engine, busybox: str, name: str, tmp_path: Path, alive: bool) -> None:
        create(engine, busybox, name, Cmd=["sleep", "300"])
        if alive:
            start(engine, name)
        target = f"../../../../../../../..{tmp_path}/escaped"
        _ask(engine, "PUT", name, "/tmp", body=tar_of(lambda tar: add_file(tar, target, b"x")))
        assert not (tmp_path / "escaped").exists()

    @pytest.mark.claim("rule-archive-confined")
    @pytest.mark.parametrize("alive", [False, True])
    @pytest.mark.parametrize("kind", ["in-the-tar", "in-the-container"])
    def test_links_that_climb(
        self, engine: Engine, busybox: str, name: str, tmp_path: Path, alive: bool, kind: str
    ) -> None:
        """Neither a link that comes with the tar nor one that was there leads out."""
        if kind == "in-the-container":
            finished(engine, busybox, name, ["sh", "-c", f"[ -e /tmp/l ] && exec sleep 300; ln -s {tmp_path} /tmp/l"])
        else:
            create(engine, busybox, name, Cmd=["sleep", "300"])
        if alive:
            start(engine, name)

        def build(tar: tarfile.TarFile) -> None:
            if kind == "in-the-tar":
                add_link(tar, "l", str(tmp_path))
            add_file(tar, "l/escaped", b"x")

        _ask(engine, "PUT", name, "/tmp", body=tar_of(build))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.claim("rule-archive-confined")
    def test_a_path_that_is_a_link(self, engine: Engine, busybox: str, name: str, tmp_path: Path) -> None:
        finished(engine, busybox, name, ["sh", "-c", f"ln -s {tmp_path} /tmp/l; mkdir -p {tmp_path}"])
        reply = _ask(engine, "PUT", name, "/tmp/l", body=tar_of(lambda tar: add_file(tar, "escaped", b"x")))
        assert reply.status == 200 and list(tmp_path.iterdir()) == []
        assert content(_get(engine, name, f"{tmp_path}/escaped")[1].body, "escaped") == b"x"

    @pytest.mark.claim("rule-events")
    def test_it_is_told(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name)
        with events(engine, container=[name]) as stream:
            _ask(engine, "PUT", name, "/tmp", body=tar_of(lambda tar: add_file(tar, "file", b"x")))
            wait_until(lambda: len(stream.lines()) >= 1, what="the event")
        assert [row["Action"] for row in stream.lines()] == ["extract-to-dir"]


@pytest.mark.claim("GET /containers/{id}/archive", "PUT /containers/{id}/archive")
class TestDockerCp:
    def test_there_and_back(self, engine: Engine, busybox: str, name: str, tmp_path: Path) -> None:
        run(engine, busybox, name)
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "file").write_text("text")
        engine.docker("cp", f"{tmp_path}/in", f"{name}:/tmp/copied", check=True)
        assert engine.docker("exec", name, "cat", "/tmp/copied/file").out == "text"
        engine.docker("cp", f"{name}:/tmp/copied", f"{tmp_path}/out", check=True)
        assert (tmp_path / "out" / "file").read_text() == "text"

    def test_a_file_under_another_name(self, engine: Engine, busybox: str, name: str, tmp_path: Path) -> None:
        run(engine, busybox, name)
        (tmp_path / "one").write_text("1")
        engine.docker("cp", f"{tmp_path}/one", f"{name}:/etc/two", check=True)
        assert engine.docker("exec", name, "cat", "/etc/two").out == "1"

    def test_as_a_stream(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        body = tar_of(lambda tar: add_file(tar, "piped", b"p"))
        assert engine.docker("cp", "-", f"{name}:/tmp", input=body).code == 0
        assert engine.docker("exec", name, "cat", "/tmp/piped").out == "p"
        import subprocess

        done = subprocess.run(
            ["docker", "cp", f"{name}:/tmp/piped", "-"],
            env={**engine.environment(), "DOCKER_HOST": engine.host}, capture_output=True, check=True,
        )  # fmt: skip
        assert content(done.stdout, "piped") == b"p"

    def test_a_link_of_the_container_is_not_followed_to_the_host(
        self, engine: Engine, busybox: str, name: str, tmp_path: Path
    ) -> None:
        run(engine, busybox, name, ["sh", "-c", f"ln -s {tmp_path} /tmp/l; echo up; sleep 300"])
        said(engine, name, "up")
        (tmp_path / "source").write_text("x")
        before = sorted(tmp_path.iterdir())
        engine.docker("cp", f"{tmp_path}/source", f"{name}:/tmp/l/escaped")
        assert sorted(tmp_path.iterdir()) == before

    def test_of_what_is_not_there(self, engine: Engine, busybox: str, name: str, tmp_path: Path) -> None:
        create(engine, busybox, name)
        done = engine.docker("cp", f"{name}:/nope", str(tmp_path))
        assert done.code == 1
        assert f"Could not find the file /nope in container {name}" in done.err
