"""changes, export and commit: what became of an image in a container, as a list, as a tar, and as an image."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.asking import content, files_of, get, message
from tests.support.containers import create, events, finished, joined, output, run, said
from tests.support.engines import Engine
from tests.support.sandbox import wait_until

MODIFIED, ADDED, DELETED = 0, 1, 2


def _changes(engine: Engine, name: str) -> dict[str, int]:
    value: Any = get(engine, f"/containers/{name}/changes")
    assert value is None or all(sorted(row) == ["Kind", "Path"] for row in value)
    return {row["Path"]: row["Kind"] for row in value or ()}


@pytest.mark.claim("GET /containers/{id}/changes", "rule-changes")
class TestChanges:
    def test_none(self, engine: Engine, busybox: str, name: str) -> None:
        """null, and neither the engine's own files nor what is mounted."""
        script = "touch /dev/shm/x; echo x >> /etc/hosts; echo x >> /etc/resolv.conf"
        finished(engine, busybox, name, ["sh", "-c", script])
        assert get(engine, f"/containers/{name}/changes") is None

    def test_of_every_kind(self, engine: Engine, busybox: str, name: str) -> None:
        script = (
            "touch /new; rm /etc/passwd; echo x >> /etc/group; mkdir -p /a/b; touch /tmp/t; "
            "rm -r /home; mkdir /home; touch /home/q; chmod 700 /root; ln -s new /link; mv /usr/bin /usr/moved"
        )
        finished(engine, busybox, name, ["sh", "-c", script])
        assert _changes(engine, name) == {
            "/new": ADDED,
            "/link": ADDED,
            "/etc": MODIFIED,
            "/etc/passwd": DELETED,
            "/etc/group": MODIFIED,
            "/a": ADDED,
            "/a/b": ADDED,
            "/tmp": MODIFIED,
            "/tmp/t": ADDED,
            "/home": MODIFIED,
            "/home/q": ADDED,
            "/root": MODIFIED,
            "/usr": MODIFIED,
            "/usr/bin": DELETED,
            "/usr/moved": ADDED,
        }

    def test_a_folder_that_was_made_anew(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "rm -r /var; mkdir /var; touch /var/q"])
        assert _changes(engine, name) == {"/var": MODIFIED, "/var/q": ADDED, "/var/tmp": DELETED}

    def test_what_was_written_and_taken_back(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "touch /gone; rm /gone; rm -r /usr; mkdir -p /usr/bin"])
        assert "/gone" not in _changes(engine, name)

    def test_while_it_runs(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name, ["sh", "-c", "touch /x; echo up; sleep 300"])
        said(engine, name, "up")
        assert _changes(engine, name) == {"/x": ADDED}

    def test_volumes_are_only_their_places(self, engine: Engine, busybox: str, name: str, tmp_path: Path) -> None:
        host = {"Binds": [f"{tmp_path}:/bound"]}
        finished(engine, busybox, name, ["touch", "/vol/x", "/bound/x"], HostConfig=host, Volumes={"/vol": {}})
        assert _changes(engine, name) == {"/vol": ADDED, "/bound": ADDED}

    def test_of_an_unknown_one(self, engine: Engine) -> None:
        reply = engine.request("GET", "/containers/no-such/changes")
        assert (reply.status, message(reply)) == (404, "No such container: no-such")

    def test_docker_diff(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "touch /etc/new; rm /etc/passwd"])
        assert sorted(engine.docker("diff", name, check=True).out.splitlines()) == [
            "A /etc/new", "C /etc", "D /etc/passwd",
        ]  # fmt: skip


@pytest.mark.claim("GET /containers/{id}/export", "rule-export")
class TestExport:
    def test_the_whole_tree(self, engine: Engine, busybox: str, name: str, tmp_path: Path) -> None:
        script = (
            "touch /new; chown 33:10 /new; chmod 2755 /new; rm /etc/passwd; touch /vol/x /bound/x; ln /new /hard; "
            "ln -s new /sym; echo x > /dev/shm/x"
        )
        finished(
            engine,
            busybox,
            name,
            ["sh", "-c", script],
            HostConfig={"Binds": [f"{tmp_path}:/bound"]},
            Volumes={"/vol": {}},
        )
        reply = engine.request("GET", f"/containers/{name}/export")
        assert reply.status == 200
        found = dict(files_of(reply.body))
        names = {each.strip("/") for each in found}
        assert {"new", "hard", "sym", "bin/busybox", "etc/group", "vol", "bound", "dev", "proc"} <= names
        assert not {"etc/passwd", "vol/x", "bound/x", "dev/shm/x"} & names
        pair = [entry for entry in found.values() if entry.name.strip("/") in {"new", "hard"}]
        assert sorted(entry.type for entry in pair) == [tarfile.REGTYPE, tarfile.LNKTYPE]
        real = next(entry for entry in pair if entry.isreg())
        assert (real.uid, real.gid, real.mode & 0o7777) == (33, 10, 0o2755)

    def test_while_it_runs(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name, ["sh", "-c", "echo text > /x; echo up; sleep 300"])
        said(engine, name, "up")
        with events(engine, container=[name]) as stream:
            body = engine.request("GET", f"/containers/{name}/export").body
            wait_until(lambda: len(stream.lines()) == 1, what="the event")
        assert content(body, "x") == b"text\n"
        assert [row["Action"] for row in stream.lines()] == ["export"]

    def test_of_an_unknown_one(self, engine: Engine) -> None:
        reply = engine.request("GET", "/containers/no-such/export")
        assert (reply.status, message(reply)) == (404, "No such container: no-such")

    def test_docker_export(self, engine: Engine, busybox: str, name: str, tmp_path: Path) -> None:
        create(engine, busybox, name)
        engine.docker("export", "-o", f"{tmp_path}/out.tar", name, check=True)
        assert "etc/passwd" in files_of((tmp_path / "out.tar").read_bytes())


@pytest.fixture
def made(engine: Engine, repository: str) -> Iterator[str]:
    """A name for an image that a commit makes."""
    yield repository


@pytest.mark.claim("POST /commit", "rule-commit")
class TestCommit:
    def _commit(self, engine: Engine, name: str, made: str, query: str = "", body: object = None) -> dict[str, Any]:
        reply = engine.request("POST", f"/commit?container={name}&repo={made}&tag=1{query}", body)
        assert reply.status == 201, reply
        value: Any = reply.json()
        assert list(value) == ["Id"]
        found: Any = get(engine, f"/images/{made}:1/json")
        assert found["Id"] == value["Id"]
        return dict(found)

    def test_what_it_is_made_of(self, engine: Engine, busybox: str, name: str, made: str) -> None:
        container = create(
            engine, busybox, name, Cmd=["sh", "-c", "echo text > /made; rm /etc/passwd"], Labels={"a": "b"}
        )
        engine.request("POST", f"/containers/{name}/start")
        engine.request("POST", f"/containers/{name}/wait")
        image = self._commit(engine, name, made, "&comment=words&author=me")
        base: Any = get(engine, f"/images/{busybox}/json")
        assert (image["Comment"], image["Author"], image["Parent"]) == ("words", "me", base["Id"])
        assert image["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"] and image["RepoTags"] == [f"{made}:1"]
        assert image["Config"]["Cmd"] == ["sh", "-c", "echo text > /made; rm /etc/passwd"]
        assert image["Config"]["Labels"] == {"a": "b", "test": "busybox"}
        assert image.get("Container", container) == container

    def test_it_runs(self, engine: Engine, busybox: str, names: Any, made: str) -> None:
        first, second = names(), names()
        finished(engine, busybox, first, ["sh", "-c", "echo text > /made; rm /etc/passwd; rm -r /home; mkdir /home"])
        self._commit(engine, first, made)
        finished(engine, f"{made}:1", second, ["sh", "-c", "cat /made; ls /etc/passwd; ls /home | wc -l"])
        found = output(engine, second)
        assert joined(found, 1) == b"text\n0\n" and b"No such file" in joined(found, 2)
        engine.request("DELETE", f"/containers/{second}")

    def test_changes(self, engine: Engine, busybox: str, name: str, made: str) -> None:
        create(engine, busybox, name)
        lines = [
            'CMD ["ls"]', "ENV A=1", "EXPOSE 80", "LABEL c=d", "USER www", "VOLUME /v", "WORKDIR /w",
            'ENTRYPOINT ["x"]', "ONBUILD RUN y",
        ]  # fmt: skip
        image = self._commit(engine, name, made, "".join(f"&changes={quote(line)}" for line in lines))
        config = image["Config"]
        assert (config["Cmd"], config["Entrypoint"], config["OnBuild"]) == (["ls"], ["x"], ["RUN y"])
        assert config["Env"][-1] == "A=1" and config["ExposedPorts"] == {"80/tcp": {}}
        assert config["Labels"] == {"c": "d", "test": "busybox"}
        assert (config["User"], config["Volumes"], config["WorkingDir"]) == ("www", {"/v": {}}, "/w")

    @pytest.mark.parametrize(
        ("change", "words"),
        [("RUN x", "run is not a valid change command"), ("BOGUS x", "bogus is not a valid change command")],
    )
    def test_changes_that_cannot_be(
        self, engine: Engine, busybox: str, name: str, made: str, change: str, words: str
    ) -> None:
        create(engine, busybox, name)
        reply = engine.request("POST", f"/commit?container={name}&repo={made}&changes={quote(change)}")
        assert (reply.status, message(reply)) == (400, words)

    def test_a_configuration_of_ones_own(self, engine: Engine, busybox: str, name: str, made: str) -> None:
        create(engine, busybox, name, Cmd=["sleep", "1"], Env=["A=1"])
        body = {"Cmd": ["echo", "own"], "Env": ["B=2"], "Labels": {"q": "r"}}
        config = self._commit(engine, name, made, body=body)["Config"]
        assert config["Cmd"] == ["echo", "own"] and "B=2" in config["Env"] and config["Labels"]["q"] == "r"

    def test_of_a_running_one(self, engine: Engine, busybox: str, name: str, made: str) -> None:
        """It is paused meanwhile, and goes on."""
        run(engine, busybox, name, ["sh", "-c", "echo x > /x; echo up; sleep 300"])
        said(engine, name, "up")
        with events(engine, container=[name]) as stream:
            self._commit(engine, name, made)
            wait_until(lambda: any(row["Action"] == "commit" for row in stream.lines()), what="the event")
        assert engine.state(name)["Status"] == "running"
        event = next(row for row in stream.lines() if row["Action"] == "commit")
        assert event["Actor"]["Attributes"]["imageID"].startswith("sha256:")

    def test_without_a_name(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name)
        value: Any = engine.request("POST", f"/commit?container={name}").json()
        try:
            image: Any = get(engine, f"/images/{value['Id']}/json")
            assert image["RepoTags"] == []
        finally:
            engine.request("DELETE", f"/images/{value['Id']}?force=1")

    def test_of_an_unknown_one(self, engine: Engine) -> None:
        reply = engine.request("POST", "/commit?container=no-such")
        assert (reply.status, message(reply)) == (404, "No such container: no-such")

    def test_a_repository_that_cannot_be(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name)
        reply = engine.request("POST", f"/commit?container={name}&repo=BAD")
        assert reply.status in {400, 500}
        # Newer engines name it.
        assert re.fullmatch(
            r"invalid reference format: repository name (\(library/BAD\) )?must be lowercase", message(reply)
        )

    def test_docker_commit(self, engine: Engine, busybox: str, name: str, made: str) -> None:
        create(engine, busybox, name)
        done = engine.docker("commit", "-m", "words", "-a", "me", "-c", 'CMD ["ls"]', name, f"{made}:1", check=True)
        image: Any = get(engine, f"/images/{made}:1/json")
        assert done.out == f"{image['Id']}\n" and image["Config"]["Cmd"] == ["ls"]
