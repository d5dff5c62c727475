"""Containers on version 2: each limit as the host sees it, as the container sees it, and what it does."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pyker.execdriver.base import ContainerProcess
from pyker.libcontainer.cgroups import open_cgroup
from pyker.libcontainer.spec import ContainerSpec, Resources, Throttle
from tests.kernel.containerbench import MOUNTS, NAMESPACES, RULES, Bench, Recorder, bench, eventually

pytestmark = pytest.mark.requires("root", "overlay", "busybox", "cgroup-v2")

MB = 1 << 20
# One buffer of that size, filled by the kernel: quick under emulation too.
EAT = "dd if=/dev/zero of=/dev/null bs={bytes} count=1"
"""Has the shell hold so many bytes."""


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("warm")) as made:
        yield made


@pytest.fixture
def containers(warm: Bench) -> Iterator[Bench]:
    yield warm
    warm.renew()


def limited(containers: Bench, *args: str, **limits: object) -> ContainerSpec:
    spec = containers.spec(*args, namespaces=dict.fromkeys((*NAMESPACES, "cgroup"), ""), mounts=MOUNTS)
    return msgspec.structs.replace(spec, resources=Resources(devices=RULES, **limits))  # type: ignore[arg-type]


def outside(spec: ContainerSpec, name: str) -> str:
    return Path(open_cgroup(spec.cgroup_path).paths()[""], name).read_text().strip()


def inside(containers: Bench, process: ContainerProcess, name: str) -> str:
    return containers.exec(process, "cat", f"/sys/fs/cgroup/{name}").stdout.decode().strip()


def value(text: str, key: str) -> int:
    """From a file of ``key number`` lines."""
    return int(dict(line.split() for line in text.splitlines())[key])


@pytest.mark.parametrize(
    ("limits", "name", "expected"),
    [
        ({"memory_bytes": 64 * MB}, "memory.max", str(64 * MB)),
        ({"memory_bytes": 64 * MB, "memory_swap_bytes": 96 * MB}, "memory.swap.max", str(32 * MB)),
        ({"memory_reservation_bytes": 32 * MB}, "memory.low", str(32 * MB)),
        ({"cpu_shares": 512}, "cpu.weight", "20"),
        ({"cpu_quota_us": 20_000, "cpu_period_us": 100_000}, "cpu.max", "20000 100000"),
        ({"cpuset_cpus": "0"}, "cpuset.cpus", "0"),
        ({"pids_limit": 7}, "pids.max", "7"),
    ],
)
def test_a_limit_is_seen_from_both_sides(
    containers: Bench, limits: dict[str, object], name: str, expected: str
) -> None:
    spec = limited(containers, "sleep", "60", **limits)
    process, _ = containers.start(spec)
    assert outside(spec, name) == inside(containers, process, name) == expected
    process.signal(9)


def test_the_container_sees_its_own_cgroup_as_the_top(containers: Bench) -> None:
    spec = limited(containers, "sleep", "60")
    process, _ = containers.start(spec)
    assert containers.exec(process, "cat", "/proc/self/cgroup").lines == ["0::/"]
    assert inside(containers, process, "cgroup.procs").split()[0] == "1"
    refused = containers.exec(
        process, "sh", "-c", "echo 0 > /sys/fs/cgroup/cgroup.procs; echo max > /sys/fs/cgroup/pids.max"
    )
    assert refused.stderr.count(b"Read-only file system") == 2
    process.signal(9)


def test_memory_that_runs_out_ends_the_container_and_is_told(containers: Bench) -> None:
    eat = EAT.format(bytes=64 * MB).split()
    spec = limited(containers, *eat, memory_bytes=24 * MB, memory_swap_bytes=24 * MB)
    _, watcher = containers.start(spec)
    record = watcher.wait()
    assert (record.exit_code, record.oom_killed) == (137, True)
    assert watcher.ooms >= 1


def test_a_child_that_runs_out_of_memory_is_told_while_the_container_goes_on(containers: Bench) -> None:
    script = f"({EAT.format(bytes=64 * MB)}); echo child $?; exec sleep 60"
    spec = limited(containers, "sh", "-c", script, memory_bytes=24 * MB, memory_swap_bytes=24 * MB)
    process, watcher = containers.start(spec)
    eventually(lambda: watcher.ooms >= 1, "the news of the child's end", 60)
    assert value(outside(spec, "memory.events"), "oom_kill") >= 1
    eventually(lambda: "child 137" in containers.log_of(spec), "what the container says of it", 60)
    assert watcher.record is None
    assert value(inside(containers, process, "memory.events"), "oom_kill") >= 1
    process.signal(9)
    record = watcher.wait()
    assert (record.exit_code, record.oom_killed) == (137, True)


def test_within_the_limit_nothing_is_killed(containers: Bench) -> None:
    limits = {"memory_bytes": 96 * MB, "memory_swap_bytes": 96 * MB}
    process = limited(containers, "sh", "-c", f"{EAT.format(bytes=4 * MB)} 2>/dev/null && echo fits", **limits)
    ran = containers.run_spec(process)
    assert (ran.lines, ran.record.exit_code, ran.record.oom_killed) == (["fits"], 0, False)


def _until_throttled(spec: ContainerSpec, watcher: Recorder) -> int:
    eventually(lambda: value(outside(spec, "cpu.stat"), "nr_throttled") >= 3, "a throttled period", 60)
    assert watcher.record is None
    return value(outside(spec, "cpu.stat"), "usage_usec")


def test_a_quota_holds_the_container_back(containers: Bench) -> None:
    """A busy loop with a tenth of one CPU: throttled in period after period, and never above its share."""
    spec = limited(containers, "sh", "-c", "while :; do :; done", cpu_quota_us=10_000, cpu_period_us=100_000)
    process, watcher = containers.start(spec)
    first, since = _until_throttled(spec, watcher), time.monotonic()
    before = value(outside(spec, "cpu.stat"), "nr_periods")
    eventually(lambda: value(outside(spec, "cpu.stat"), "nr_periods") >= before + 10, "ten periods", 60)
    spent_s = (value(outside(spec, "cpu.stat"), "usage_usec") - first) / 1e6
    # A tenth, and one period's worth that may have been due.
    assert spent_s <= (time.monotonic() - since) * 0.1 + 0.05
    assert open_cgroup(spec.cgroup_path).stats()["throttled_periods"]
    process.signal(9)


def test_a_cpuset_is_what_the_scheduler_goes_by(containers: Bench) -> None:
    ran = containers.run_spec(limited(containers, "grep", "Cpus_allowed_list", "/proc/self/status", cpuset_cpus="0"))
    assert ran.lines[0].split() == ["Cpus_allowed_list:", "0"]


def test_too_many_processes_are_refused(containers: Bench) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; echo never"
    spec = limited(containers, "sh", "-c", script, pids_limit=4)
    ran = containers.run_spec(spec)
    assert b"can't fork" in ran.stderr
    assert ran.lines == []


def _disk_of(path: Path) -> tuple[int, int] | None:
    """The whole disk below the file system of ``path``; throttles are for disks, not for their parts."""
    device = os.stat(path).st_dev
    if os.major(device) == 0:
        # btrfs and the like number their file systems themselves: the mount names the disk.
        found = subprocess.run(["findmnt", "-nvo", "SOURCE", "-T", path], capture_output=True, text=True, check=True)
        device = os.stat(found.stdout.strip()).st_rdev if found.stdout.startswith("/dev/") else device
    sysfs = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if not sysfs.exists():
        return None
    place = sysfs.resolve()
    if (place / "partition").exists():
        place = place.parent
    major, minor = (place / "dev").read_text().split(":")
    return int(major), int(minor)


def test_writes_are_throttled(containers: Bench) -> None:
    """The kernel lets a burst of a slice through at most: four times the rate takes more than two seconds."""
    disk = _disk_of(containers.folder)
    assert disk is not None, "the tests' folder is on no disk: set TMPDIR"
    rate = MB
    spec = limited(
        containers,
        *("dd", "if=/dev/zero", "of=/made", "bs=256k", "count=16", "oflag=direct"),
        write_bps=(Throttle(*disk, rate),),
        read_iops=(Throttle(*disk, 5000),),
    )
    began = time.monotonic()
    process, watcher = containers.start(spec)
    line = outside(spec, "io.max")
    assert line.startswith(f"{disk[0]}:{disk[1]} ")
    assert {"rbps=max", f"wbps={rate}", "riops=5000", "wiops=max"} <= set(line.split())
    record = watcher.wait()
    assert record.exit_code == 0, containers.log_of(spec)
    assert time.monotonic() - began > 2
    del process


def test_limits_change_while_it_runs(containers: Bench) -> None:
    spec = limited(containers, "sleep", "60", memory_bytes=64 * MB, memory_swap_bytes=64 * MB, pids_limit=9)
    process, _ = containers.start(spec)
    open_cgroup(spec.cgroup_path).set(Resources(memory_bytes=128 * MB, memory_swap_bytes=128 * MB, pids_limit=-1))
    assert inside(containers, process, "memory.max") == str(128 * MB)
    assert (inside(containers, process, "memory.swap.max"), inside(containers, process, "pids.max")) == ("0", "max")
    process.signal(9)


def test_where_birth_in_a_cgroup_is_refused_it_moves(containers: Bench) -> None:
    """A kernel before Linux 5.7 answers E2BIG; the same result, later."""
    import errno

    from pyker.libcontainer import cradle
    from pyker.libcontainer import syscalls as sc

    def refuse(flags: int, *, exit_signal: int = 17, cgroup_fd: int = -1) -> tuple[int, int]:
        if cgroup_fd >= 0:
            raise OSError(errno.E2BIG, "clone3")
        return sc.clone3(flags, exit_signal=exit_signal)

    cgroup = open_cgroup(f"{containers.parent}/moved")
    read, write = os.pipe()
    pid, pidfd = cradle._clone(refuse, 0, cgroup.birth_fd())
    if pid == 0:
        cgroup.join()
        os.write(write, b"in")
        os.read(read, 0)
        time.sleep(60)
        os._exit(0)
    try:
        assert os.read(read, 2) == b"in"
        assert cgroup.pids() == [pid]
    finally:
        sc.pidfd_send_signal(pidfd, 9)
        os.waitpid(pid, 0)
        for fd in (pidfd, read, write):
            os.close(fd)
        cgroup.remove()
