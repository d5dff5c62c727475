"""``pyker`` alone, on a real engine: networks of one's own, what containers changed, and what nobody needs any more."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import Engine, Output, Pyker

pytestmark = pytest.mark.requires("root", "overlay", "nftables", "busybox")

BUSYBOX = "pyker.local/busybox"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Pyker(tmp_path_factory.mktemp("objects") / "engine")
    engine.start()
    yield engine
    engine.stop()


def pyker(engine: Engine, *arguments: str, code: int = 0) -> Output:
    done = engine.docker(*arguments, cli=(sys.executable, "-m", "pyker"))
    assert done.code == code, done
    return done


def test_a_network_of_ones_own(engine: Engine) -> None:
    made = pyker(engine, "network", "create", "--subnet", "10.77.0.0/24", "--label", "a=b", "own").out.strip()
    assert pyker(engine, "network", "inspect", "-f", "{{.Id}} {{.Labels.a}}", "own").out == f"{made} b\n"
    pyker(engine, "run", "-d", "--name", "c1", BUSYBOX, "sleep", "100")
    pyker(engine, "network", "connect", "--ip", "10.77.0.9", "--alias", "nine", "own", "c1")
    assert "10.77.0.9/24" in pyker(engine, "exec", "c1", "ip", "address").out
    assert "active endpoints" in pyker(engine, "network", "rm", "own", code=1).err
    pyker(engine, "network", "disconnect", "own", "c1")
    assert "10.77.0.9" not in pyker(engine, "exec", "c1", "ip", "address").out
    assert pyker(engine, "network", "prune", "-f", "--filter", "label=a=c").out == ""
    assert pyker(engine, "network", "prune", "-f").out == "Deleted Networks:\nown\n\n"
    assert pyker(engine, "network", "rm", "own", code=1).err.startswith(
        "Error response from daemon: network own not found"
    )
    pyker(engine, "rm", "-f", "c1")


def test_what_a_container_changed(engine: Engine, tmp_path: Path) -> None:
    pyker(engine, "run", "--name", "c2", BUSYBOX, "sh", "-c", "echo text > /made; rm /etc/group")
    assert pyker(engine, "diff", "c2").out == "C /etc\nD /etc/group\nA /made\n"
    pyker(engine, "export", "-o", str(tmp_path / "c2.tar"), "c2")
    with tarfile.open(tmp_path / "c2.tar") as archive:
        assert "made" in archive.getnames() and "etc/group" not in archive.getnames()
    assert pyker(engine, "update", "--memory", "64m", "--memory-swap", "64m", "--restart", "always", "c2").out == "c2\n"
    template = "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}"
    assert pyker(engine, "inspect", "-f", template, "c2").out == "67108864 always\n"
    identity = pyker(engine, "inspect", "-f", "{{.Id}}", "c2").out.strip()
    pruned = pyker(engine, "container", "prune", "-f").out
    assert pruned.startswith(f"Deleted Containers:\n{identity}\n\nTotal reclaimed space: ")
    assert "pyker.local/busybox" not in pyker(engine, "image", "prune", "-f").out
    assert f"untagged: {BUSYBOX}:latest\n" in pyker(engine, "image", "prune", "-af").out
    assert pyker(engine, "images", "-q").out == ""
