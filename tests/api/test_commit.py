"""``commit`` on the graphdrivers that work on any file system, and what it refuses."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commits import check_commit
from tests.support.engines import Pyker
from tests.support.sandbox import wait_until

pytestmark = pytest.mark.requires("root", "overlay", "nftables", "busybox", "docker-cli")

BUSYBOX = "pyker.local/busybox"


@pytest.fixture(params=["overlay2", "vfs"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pyker]:
    made = Pyker(tmp_path / "engine", flags=[f"--storage-driver={request.param}"])
    made.start()
    made.docker("pull", "-q", BUSYBOX, check=True)
    yield made
    made.stop()


def test_commit(engine: Pyker) -> None:
    check_commit(engine, BUSYBOX)


def test_what_cannot_be_committed_leaves_nothing(engine: Pyker) -> None:
    own = (sys.executable, "-m", "pyker")
    engine.docker("create", "--name", "c1", BUSYBOX, check=True)
    before = engine.request("GET", "/images/json?all=1").body
    for arguments, words in (
        (["c1", "scratch"], "'scratch' is a reserved name"),
        (["-c", "RUN x", "c1"], "run is not a valid change command"),
        (["no-such"], "No such container: no-such"),
        (["c1", "Bad"], "must be lowercase"),
    ):
        done = engine.docker("commit", *arguments, cli=own)
        assert done.code == 1
        assert words in done.err
    assert engine.request("GET", "/images/json?all=1").body == before
    if engine.docker("info", "-f", "{{.Driver}}").out.strip() == "overlay2":
        engine.docker("create", "--name", "machine", "host", "true", cli=own, check=True)
        done = engine.docker("commit", "machine", cli=own)
        assert done.code == 1
        assert "export it, and import that" in done.err


def test_one_that_is_killed_meanwhile(engine: Pyker) -> None:
    """It was frozen for the commit, and there is nothing left to thaw."""
    script = (
        "for n in $(seq 400); do echo $n > /file$n; done; dd if=/dev/zero of=/big bs=1M count=64; echo up; sleep 600"
    )
    engine.docker("run", "-d", "--name", "c1", BUSYBOX, "sh", "-c", script, check=True)
    wait_until(lambda: "up" in engine.docker("logs", "c1").out, timeout=30, what="its files")
    replies: list[Any] = []
    committing = threading.Thread(target=lambda: replies.append(engine.request("POST", "/commit?container=c1")))
    committing.start()
    wait_until(lambda: engine.state("c1")["Paused"] is True, what="the freezing", every=0.001)
    engine.docker("kill", "c1", check=True)
    committing.join(60)
    assert replies[0].status == 201, replies
    assert engine.state("c1")["Status"] == "exited"


def test_pykers_own_commit(engine: Pyker) -> None:
    own = (sys.executable, "-m", "pyker")
    engine.docker("run", "--name", "c1", BUSYBOX, "touch", "/made", cli=own, check=True)
    flags = ["-a", "Ada", "-m", "why", "-c", 'CMD ["cat", "/made"]', "-p=false"]
    done = engine.docker("commit", *flags, "c1", "own/made:7", cli=own, check=True)
    shown = engine.docker("inspect", "-f", "{{.ID}} {{.Author}} {{.Comment}} {{.Config.Cmd}}", "own/made:7").out
    assert shown == f"{done.out.strip()} Ada why [cat /made]\n"
    assert engine.docker("run", "--rm", "own/made:7", cli=own).code == 0
