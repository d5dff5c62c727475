"""The whole engine with the graphdriver btrfs: pull, run, write, again after a restart, removed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commits import check_commit
from tests.support.engines import Pyker

pytestmark = pytest.mark.requires("root", "btrfs", "loop", "nftables", "busybox", "docker-cli")

BUSYBOX = "pyker.local/busybox"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Pyker]:
    """Its data root is a btrfs, mounted in its own namespace."""
    made = Pyker(tmp_path / "engine", flags=["--storage-driver=btrfs"])
    made.data_root.mkdir(parents=True)
    image = tmp_path / "btrfs.img"
    with open(image, "wb") as file:
        file.truncate(512 << 20)
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True)
    assert made.sandbox.run(["mount", "-o", "loop", str(image), str(made.data_root)]).returncode == 0
    yield made
    made.stop()


def subvolumes(engine: Pyker) -> set[str]:
    done = engine.sandbox.run(["ls", str(engine.data_root / "btrfs/subvolumes")])
    return set(done.stdout.decode().split())


def test_a_containers_life(engine: Pyker) -> None:
    engine.start()
    engine.docker("pull", "-q", BUSYBOX, check=True)
    info = engine.docker("info", "--format", "{{.Driver}} {{.DriverStatus}}").out
    assert info.startswith("btrfs [[Btrfs ")
    ran = engine.docker(
        "run", "--name", "bt1", BUSYBOX, "sh", "-c", "echo kept > /made; rm /etc/group; ls /etc | wc -l"
    )
    assert ran.code == 0, ran.err
    before = subvolumes(engine)
    engine.docker("run", "--rm", BUSYBOX, "sh", "-c", "test ! -e /made && test -e /etc/group", check=True)
    assert subvolumes(engine) == before
    engine.kill()
    engine.start()
    assert engine.docker("start", "-a", "bt1").code == 0
    engine.docker("rm", "bt1", check=True)
    assert len(before - subvolumes(engine)) == 1
    engine.docker("rmi", BUSYBOX, check=True)
    assert subvolumes(engine) == set()


def test_commit(engine: Pyker) -> None:
    """The layer holds what was changed and no more, though a container's layer is a whole tree."""
    engine.start()
    engine.docker("pull", "-q", BUSYBOX, check=True)
    check_commit(engine, BUSYBOX)


def test_a_read_only_root(engine: Pyker) -> None:
    engine.start()
    engine.docker("pull", "-q", BUSYBOX, check=True)
    done = engine.docker("run", "--rm", "--read-only", BUSYBOX, "touch", "/made")
    assert "Read-only file system" in done.err


def test_a_data_root_on_another_file_system_is_refused_by_name(tmp_path: Path) -> None:
    other = Pyker(tmp_path / "engine", flags=["--storage-driver=btrfs"])
    try:
        with pytest.raises(RuntimeError, match=r"driver not supported: 'btrfs': .* is on \w+, not on btrfs"):
            other.start()
    finally:
        other.stop()
