"""Version 2 with its controllers, as systemd machines have it: limits that hold, exhaustion that is told, figures."""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.errors import KernelError
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import Cgroup, open_cgroup, support
from pyker.libcontainer.cgroups.layout import layout as mounted
from pyker.libcontainer.spec import Resources
from tests.support.forked import Sleeper, in_child

pytestmark = pytest.mark.requires("root", "cgroup-v2")

PARENT = f"/pyker-test-{os.getpid()}"
MB = 1 << 20


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    found = open_cgroup(f"{PARENT}/deep/c1")
    assert found.version == 2
    yield found
    found.remove()
    found.remove_parent()
    assert not os.path.exists(mounted().unified + PARENT)


def text(cgroup: Cgroup, name: str) -> str:
    return Path(cgroup.paths()[""], name).read_text().strip()


@pytest.mark.claim("libcontainer-cgroups", "limit-memory", "limit-cpu", "limit-processes", "limit-block-io")
@pytest.mark.parametrize(
    ("resources", "name", "value"),
    [
        (Resources(memory_bytes=64 * MB), "memory.max", str(64 * MB)),
        (Resources(memory_bytes=64 * MB, memory_swap_bytes=96 * MB), "memory.swap.max", str(32 * MB)),
        (Resources(memory_bytes=-1), "memory.max", "max"),
        (Resources(memory_reservation_bytes=32 * MB), "memory.low", str(32 * MB)),
        (Resources(cpu_shares=1024), "cpu.weight", "39"),
        (Resources(cpu_quota_us=50000, cpu_period_us=100000), "cpu.max", "50000 100000"),
        (Resources(cpu_period_us=50000), "cpu.max", "max 50000"),
        (Resources(cpuset_cpus="0"), "cpuset.cpus", "0"),
        (Resources(pids_limit=9), "pids.max", "9"),
        (Resources(pids_limit=-1), "pids.max", "max"),
    ],
)
def test_limits(cgroup: Cgroup, resources: Resources, name: str, value: str) -> None:
    cgroup.create(resources)
    assert text(cgroup, name) == value


def test_controllers_are_on_at_every_level(cgroup: Cgroup) -> None:
    cgroup.create(Resources())
    have = set(text(cgroup, "cgroup.controllers").split())
    assert {"cpu", "io", "memory", "pids"} & set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()) <= have


def test_born_inside_before_the_limits_are_there(cgroup: Cgroup) -> None:
    """The order of a start: the directory, the clone, then controllers and limits."""
    fd = cgroup.birth_fd()
    pid, pidfd = sc.clone3(0, cgroup_fd=fd)
    if pid == 0:
        signal.pause()
        os._exit(1)
    try:
        cgroup.create(Resources(pids_limit=5, memory_bytes=32 * MB))
        assert cgroup.pids() == [pid]
        assert (text(cgroup, "pids.max"), text(cgroup, "pids.current")) == ("5", "1")
    finally:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)
        os.close(fd)


def test_pids_limit_stops_a_fork(cgroup: Cgroup) -> None:
    cgroup.create(Resources(pids_limit=1))

    def forks() -> int:
        cgroup.join()
        try:
            pid = os.fork()
        except OSError as error:
            return error.errno or 0
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return 0

    assert in_child(forks) == errno.EAGAIN


def test_out_of_memory_is_seen(cgroup: Cgroup) -> None:
    cgroup.create(Resources(memory_bytes=16 * MB, memory_swap_bytes=16 * MB))
    fd = cgroup.oom_fd()
    assert fd is not None
    try:
        assert cgroup.oom_count() == 0
        pid = os.fork()
        if pid == 0:
            cgroup.join()
            kept = [bytearray(b"x" * MB) for _ in range(64)]
            os._exit(len(kept))
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        assert select.select([fd], [], [], 10)[0] == [fd]
        assert os.read(fd, 4096)
        assert cgroup.oom_count() == 1
    finally:
        os.close(fd)


def test_limits_change_live(cgroup: Cgroup) -> None:
    cgroup.create(Resources(memory_bytes=64 * MB, memory_swap_bytes=64 * MB))
    with Sleeper(cgroup.join):
        cgroup.set(Resources(memory_bytes=128 * MB, memory_swap_bytes=256 * MB, cpu_shares=2, pids_limit=3))
        assert text(cgroup, "memory.max") == str(128 * MB)
        assert text(cgroup, "memory.swap.max") == str(128 * MB)
        assert (text(cgroup, "cpu.weight"), text(cgroup, "pids.max")) == ("1", "3")


@pytest.mark.claim("execdriver-accounts")
def test_stats_tell_of_work_done(cgroup: Cgroup) -> None:
    cgroup.create(Resources(memory_bytes=64 * MB, pids_limit=50))

    held = []

    def work() -> None:
        cgroup.join()
        held.append(bytearray(b"x" * (8 * MB)))
        for _ in range(50_000):
            len(held)

    with Sleeper(work):
        found = cgroup.stats()
    total, usage = found["cpu_total_ns"], found["memory_usage_bytes"]
    assert isinstance(total, int)
    assert isinstance(usage, int)
    assert total > 0
    assert 8 * MB < usage <= 64 * MB
    assert (found["memory_limit_bytes"], found["pids_current"], found["pids_limit"]) == (64 * MB, 1, 50)
    stat = found["memory_stats"]
    assert isinstance(stat, dict)
    assert "inactive_file" in stat


def test_a_parent_with_processes_of_its_own_is_explained(cgroup: Cgroup) -> None:
    cgroup.create(Resources())
    below = open_cgroup(f"{PARENT}/deep/c1/inner/x")
    with Sleeper(cgroup.join), pytest.raises(KernelError) as caught:
        below.create(Resources(memory_bytes=MB * 16))
    assert "processes of its own" in caught.value.message
    assert caught.value.errno == errno.EBUSY
    assert text(cgroup, "cgroup.type") == "domain"


def test_support_says_what_the_controllers_say() -> None:
    found = support.supported()
    names = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    assert (found.version, found.memory, found.pids) == (2, "memory" in names, "pids" in names)
    assert found.cpus
