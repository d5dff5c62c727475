"""The worker processes: how many, how long, what they send back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pyker.errors import Corrupt, KernelError
from pyker.graphdriver.archive import pool
from pyker.graphdriver.archive.pool import WorkerPool
from tests.support import layers
from tests.support.layers import file, folder, members
from tests.support.sandbox import own_children, wait_until

pytestmark = pytest.mark.requires("root")


def workers() -> set[int]:
    """The pids of this process's workers, zombies too. Those of earlier tests may go at any time."""
    found = set()
    for pid in own_children(os.getpid()):
        with suppress(FileNotFoundError, ProcessLookupError):
            if (
                b"archive.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
                or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
            ):
                found.add(pid)
    return found


def copy(workers: WorkerPool, source: Path, target: Path) -> None:
    target.mkdir()
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, target)]
    try:
        workers.run({"operation": "copy"}, fds)
    finally:
        for fd in fds:
            os.close(fd)


def test_no_more_than_asked_for_and_none_left(tmp_path: Path) -> None:
    before = workers()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "f").write_text("x")
    with WorkerPool(2) as made:
        threads = [threading.Thread(target=copy, args=(made, tmp_path / "in", tmp_path / f"{n}")) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all((tmp_path / f"{n}" / "f").read_text() == "x" for n in range(6))
        assert 1 <= len(workers() - before) <= 2
    assert not workers() - before


def test_idle_workers_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_IDLE_S", 0.05)
    before = workers()
    (tmp_path / "in").mkdir()
    with WorkerPool(1) as made:
        copy(made, tmp_path / "in", tmp_path / "out")
        wait_until(lambda: not workers() - before, what="the end of the idle worker")
        copy(made, tmp_path / "in", tmp_path / "again")


def test_a_worker_ends_with_its_daemon(tmp_path: Path) -> None:
    """Also when that is killed."""
    script = (
        "import os, sys\n"
        "from pyker.graphdriver.archive.pool import WorkerPool\n"
        f"os.mkdir('{tmp_path}/a'); os.mkdir('{tmp_path}/b')\n"
        f"fds = [os.open(p, os.O_RDONLY) for p in ('{tmp_path}/a', '{tmp_path}/b')]\n"
        "pool = WorkerPool(1); pool.run({'operation': 'copy'}, fds)\n"
        "print(pool._idle[0].process.pid, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        worker = int(daemon.stdout.readline())
        daemon.kill()
    wait_until(
        lambda: not os.path.exists(f"/proc/{worker}/exe") or not os.path.lexists(f"/proc/{worker}"),
        what="the end of the worker",
    )


def test_errors_keep_their_class(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"\x1f\x8bnot gzip at all")
    (tmp_path / "target").mkdir()
    with WorkerPool(1) as made:
        fds = [
            os.open(tmp_path / "blob", os.O_RDONLY),
            os.open(tmp_path / "target", os.O_RDONLY),
            os.open(tmp_path / "split", os.O_RDWR | os.O_CREAT),
        ]
        with pytest.raises(Corrupt, match="gzip"):
            made.run({"operation": "apply", "whiteouts": "overlay"}, fds)
        with pytest.raises(KernelError, match="Not a directory"):
            made.run({"operation": "copy"}, [fds[0], fds[1]])
        for fd in fds:
            os.close(fd)


def test_a_worker_starts_light() -> None:
    """It is there within a pull: what it imports shows in every first layer."""
    script = "import sys, pyker.graphdriver.archive.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"msgspec", "sqlite3", "requests", "pyroute2", "http", "asyncio"} & set(loaded)


def test_a_copy_is_the_same(tmp_path: Path) -> None:
    """For vfs: owners, attributes, links, devices, holes."""
    source = tmp_path / "source"
    layers.apply_bytes(
        members(
            folder("d", 0o2751, uid=4), file("d/f", b"data", mode=0o4755, uid=5),
            layers.hardlink("d/g", "d/f", mode=0o4755, uid=5),
            layers.symlink("s", "d"), layers.entry("null", b"3", devmajor=1, devminor=3), layers.entry("p", b"6"),
        ),
        source,
    )  # fmt: skip
    os.setxattr(source / "d" / "f", "user.note", b"kept")
    with open(source / "holes", "wb") as out:
        out.seek(10_000_000)
        out.write(b"end")
    with WorkerPool(1) as made:
        copy(made, source, tmp_path / "copy")
    assert layers.tree(tmp_path / "copy") == layers.tree(source)
    assert (tmp_path / "copy" / "holes").stat().st_blocks < 1000


def test_packing_a_folder(tmp_path: Path) -> None:
    """A tar of what is there now, read back by GNU tar; overlayfs's marks become whiteouts."""
    source = tmp_path / "source"
    long = "deep/" + "n" * 90 + "/" + "m" * 120
    layers.apply_bytes(
        members(
            folder("d", 0o751, uid=4), file("d/f", b"data" * 1000, mode=0o4755, uid=5),
            layers.hardlink("d/g", "d/f", mode=0o4755, uid=5),
            layers.symlink("s", "x" * 150), layers.entry("null", b"3", devmajor=1, devminor=3), file(long, b"long"),
            file(".wh.gone"), folder("o"), file("o/.wh..wh..opq"),
        ),
        source,
    )  # fmt: skip
    os.setxattr(source / "d" / "f", "user.note", b"kept")
    os.utime(source / "d" / "f", ns=(1, 1_600_000_000_123_456_789))
    tars = {}
    with WorkerPool(1) as made:
        for whiteouts in ("none", "overlay"):
            out = tmp_path / f"{whiteouts}.tar"
            fds = [os.open(source, os.O_RDONLY), os.open(out, os.O_WRONLY | os.O_CREAT)]
            done = made.run({"operation": "pack", "whiteouts": whiteouts}, fds)
            for fd in fds:
                os.close(fd)
            assert done["size"] == out.stat().st_size
            tars[whiteouts] = out
    oracle = tmp_path / "oracle"
    oracle.mkdir()
    flags = ["--xattrs", "--xattrs-include=*", "-xpf", str(tars["none"])]
    subprocess.run(["tar", "-C", str(oracle), *flags], check=True)
    expected = layers.tree(source)
    del expected["o"]
    found = layers.tree(oracle)
    del found["o"]
    assert found == expected
    again = tmp_path / "again"
    layers.apply_file(tars["overlay"], again)
    found, expected = layers.tree(again), layers.tree(source)
    # A whiteout is no file: it has no time of its own.
    assert found.pop("gone")[0] == expected.pop("gone")[0]
    assert found == expected
    assert layers.assemble(again) == tars["overlay"].read_bytes()


def test_the_daemon_waits_without_work(tmp_path: Path) -> None:
    """While a worker is busy this process has next to nothing to do."""
    blob = tmp_path / "blob"
    blob.write_bytes(members(file("big", bytes(150_000_000))))
    (tmp_path / "target").mkdir()
    with WorkerPool(1) as made:
        fds = [
            os.open(blob, os.O_RDONLY),
            os.open(tmp_path / "target", os.O_RDONLY),
            os.open(tmp_path / "split", os.O_RDWR | os.O_CREAT),
        ]
        seen: list[int] = []
        before = time.process_time()
        made.run({"operation": "apply", "whiteouts": "overlay"}, fds, progress=seen.append)
        spent = time.process_time() - before
        for fd in fds:
            os.close(fd)
    assert spent < 0.2
    assert seen == sorted(seen) and seen[-1] > 100_000_000
