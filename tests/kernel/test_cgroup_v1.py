"""Version 1 on the real hierarchies: directories, limits, freezing, memory exhaustion, removal."""

from __future__ import annotations

import errno
import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.errors import KernelError
from pyker.libcontainer import devices
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import Cgroup, open_cgroup, support
from pyker.libcontainer.cgroups.layout import layout as mounted
from pyker.libcontainer.spec import DeviceRule, Resources
from tests.support.forked import Sleeper, in_child

pytestmark = pytest.mark.requires("root", "cgroup-v1")

PARENT = f"/pyker-test-{os.getpid()}"


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    found = open_cgroup(f"{PARENT}/c1")
    yield found
    found.remove()
    found.remove_parent()
    assert not [mount for mount in mounted().mountpoints() if os.path.exists(mount + PARENT)]


def text(cgroup: Cgroup, controller: str, name: str) -> str:
    return Path(cgroup.paths()[controller], name).read_text().strip()


def test_made_in_every_hierarchy_and_gone_again(cgroup: Cgroup) -> None:
    cgroup.create(Resources())
    for mount in mounted().mountpoints():
        assert os.path.isdir(f"{mount}{PARENT}/c1")
    cgroup.create(Resources())
    cgroup.remove()
    for mount in mounted().mountpoints():
        assert not os.path.exists(f"{mount}{PARENT}/c1")
    cgroup.remove()


def test_cpuset_can_be_entered(cgroup: Cgroup) -> None:
    cgroup.create(Resources())
    assert text(cgroup, "cpuset", "cpuset.cpus") == Path("/sys/fs/cgroup/cpuset/cpuset.cpus").read_text().strip()
    assert text(cgroup, "cpuset", "cpuset.mems") != ""


@pytest.mark.claim("libcontainer-cgroups", "limit-memory", "limit-cpu", "limit-processes", "limit-block-io")
@pytest.mark.parametrize(
    ("resources", "controller", "name", "value"),
    [
        (Resources(memory_bytes=64 << 20), "memory", "memory.limit_in_bytes", str(64 << 20)),
        (
            Resources(memory_bytes=64 << 20, memory_swap_bytes=96 << 20),
            "memory",
            "memory.memsw.limit_in_bytes",
            str(96 << 20),
        ),
        (Resources(memory_reservation_bytes=32 << 20), "memory", "memory.soft_limit_in_bytes", str(32 << 20)),
        (Resources(memory_swappiness=7), "memory", "memory.swappiness", "7"),
        (Resources(cpu_shares=512), "cpu", "cpu.shares", "512"),
        (Resources(cpu_quota_us=150000, cpu_period_us=100000), "cpu", "cpu.cfs_quota_us", "150000"),
        (Resources(cpu_quota_us=2000, cpu_period_us=5000), "cpu", "cpu.cfs_period_us", "5000"),
        (Resources(cpuset_cpus="0"), "cpuset", "cpuset.cpus", "0"),
        (Resources(pids_limit=33), "pids", "pids.max", "33"),
        (Resources(pids_limit=-1), "pids", "pids.max", "max"),
    ],
)
def test_limits(cgroup: Cgroup, resources: Resources, controller: str, name: str, value: str) -> None:
    cgroup.create(resources)
    assert text(cgroup, controller, name) == value


def test_memory_goes_up_and_down_live(cgroup: Cgroup) -> None:
    """memory <= memory plus swap at every step, whichever way the pair moves."""
    cgroup.create(Resources(memory_bytes=64 << 20, memory_swap_bytes=64 << 20))
    for memory, both in ((128, 256), (32, 40), (32, 32), (200, 200)):
        cgroup.set(Resources(memory_bytes=memory << 20, memory_swap_bytes=both << 20))
        assert text(cgroup, "memory", "memory.limit_in_bytes") == str(memory << 20)
        assert text(cgroup, "memory", "memory.memsw.limit_in_bytes") == str(both << 20)
    cgroup.set(Resources(memory_bytes=-1))
    assert int(text(cgroup, "memory", "memory.memsw.limit_in_bytes")) > 1 << 50


def test_a_period_and_a_quota_that_do_not_fit_the_old_ones(cgroup: Cgroup) -> None:
    cgroup.create(Resources(cpu_quota_us=1000, cpu_period_us=1000))
    cgroup.set(Resources(cpu_quota_us=900_000, cpu_period_us=1_000_000))
    assert text(cgroup, "cpu", "cpu.cfs_quota_us") == "900000"
    cgroup.set(Resources(cpu_quota_us=1000, cpu_period_us=1000))
    assert text(cgroup, "cpu", "cpu.cfs_period_us") == "1000"


def test_a_refused_value_names_file_and_value(cgroup: Cgroup) -> None:
    with pytest.raises(KernelError) as caught:
        cgroup.create(Resources(cpuset_cpus="4000"))
    assert "cpuset.cpus" in caught.value.message
    assert "'4000'" in caught.value.message
    assert caught.value.stage == "cgroup"


def test_join_moves_the_caller_everywhere(cgroup: Cgroup) -> None:
    cgroup.create(Resources())

    def joined() -> str:
        cgroup.join()
        return Path("/proc/self/cgroup").read_text()

    lines = in_child(joined).splitlines()
    mine = [line for line in lines if not line.startswith("0::")]
    assert mine
    assert all(line.endswith(f":{PARENT}/c1") for line in mine)


@pytest.mark.requires("cgroup2")
def test_born_in_the_unified_hierarchy_of_a_hybrid_machine(cgroup: Cgroup) -> None:
    fd = cgroup.birth_fd()
    try:
        pid, pidfd = sc.clone3(0, cgroup_fd=fd)
        if pid == 0:
            signal.pause()
            os._exit(1)
        try:
            assert f"0::{PARENT}/c1" in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        finally:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(pidfd)
    finally:
        os.close(fd)
    cgroup.create(Resources())
    cgroup.remove()
    assert not os.path.exists(cgroup.paths()[""])


def test_add_and_pids(cgroup: Cgroup) -> None:
    cgroup.create(Resources())
    with Sleeper() as child:
        cgroup.add(child.pid)
        assert cgroup.pids() == [child.pid]
        assert text(cgroup, "memory", "cgroup.procs") == str(child.pid)


def test_pids_below_count_too(cgroup: Cgroup) -> None:
    cgroup.create(Resources())
    below = f"{cgroup.paths()['pids']}/below"
    os.mkdir(below)
    with Sleeper() as child:
        Path(below, "cgroup.procs").write_text(str(child.pid))
        assert cgroup.pids() == [child.pid]
    cgroup.remove()
    assert not os.path.exists(below)


@pytest.mark.claim("limit-processes")
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


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_freeze_and_thaw(cgroup: Cgroup) -> None:
    cgroup.create(Resources())

    def spin() -> None:
        cgroup.join()
        signal.signal(signal.SIGTERM, lambda *_: os._exit(7))

    with Sleeper(spin) as child:
        assert not cgroup.frozen()
        cgroup.freeze()
        assert cgroup.frozen()
        assert text(cgroup, "freezer", "freezer.state") == "FROZEN"
        os.kill(child.pid, signal.SIGTERM)
        assert os.waitpid(child.pid, os.WNOHANG) == (0, 0)
        cgroup.thaw()
        assert os.waitstatus_to_exitcode(child.wait()) == 7


def test_out_of_memory_is_seen(cgroup: Cgroup) -> None:
    cgroup.create(Resources(memory_bytes=8 << 20, memory_swap_bytes=8 << 20))
    fd = cgroup.oom_fd()
    assert fd is not None
    try:
        assert cgroup.oom_count() == 0
        assert select.select([fd], [], [], 0)[0] == []

        def greedy() -> None:
            cgroup.join()
            kept = [bytearray(b"x" * (1 << 20)) for _ in range(64)]
            os._exit(len(kept))

        pid = os.fork()
        if pid == 0:
            greedy()
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        assert select.select([fd], [], [], 5)[0] == [fd]
        assert os.read(fd, 4096)
        assert cgroup.oom_count() == 1
    finally:
        os.close(fd)


def test_the_kill_of_one_child_counts(cgroup: Cgroup) -> None:
    """The first process lives on; what the kernel killed below it is still an event."""
    cgroup.create(Resources(memory_bytes=16 << 20, memory_swap_bytes=16 << 20))

    def parent() -> int:
        cgroup.join()
        pid = os.fork()
        if pid == 0:
            Path("/proc/self/oom_score_adj").write_text("1000")
            kept = [bytearray(b"x" * (1 << 20)) for _ in range(64)]
            os._exit(len(kept))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert in_child(parent) == -signal.SIGKILL
    assert cgroup.oom_count() == 1


@pytest.mark.claim("execdriver-accounts")
def test_stats_tell_of_work_done(cgroup: Cgroup) -> None:
    cgroup.create(Resources(memory_bytes=64 << 20, pids_limit=50))

    def work() -> None:
        cgroup.join()
        held = bytearray(b"x" * (8 << 20))
        for _ in range(200_000):
            len(held)

    with Sleeper(work):
        found = cgroup.stats()
    total, usage = found["cpu_total_ns"], found["memory_usage_bytes"]
    assert isinstance(total, int)
    assert isinstance(usage, int)
    assert total > 0
    assert 0 < usage <= 64 << 20
    assert found["memory_limit_bytes"] == 64 << 20
    assert (found["pids_current"], found["pids_limit"]) == (1, 50)
    percpu = found["cpu_percpu_ns"]
    assert isinstance(percpu, list)
    assert len(percpu) == os.sysconf("SC_NPROCESSORS_CONF")
    stat = found["memory_stats"]
    assert isinstance(stat, dict)
    assert "total_inactive_file" in stat


def test_removal_waits_for_dying_processes(cgroup: Cgroup) -> None:
    cgroup.create(Resources())
    child = Sleeper(cgroup.join)
    timer = threading.Timer(0.05, child.end)
    timer.start()
    try:
        cgroup.remove()
    finally:
        timer.join()
    assert not os.path.exists(cgroup.paths()["memory"])


def test_removal_of_a_living_cgroup_names_who_lives(cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyker.libcontainer.cgroups import removal

    cgroup.create(Resources())
    with Sleeper(cgroup.join) as child:
        with pytest.raises(KernelError) as caught:
            removal.remove_directory(cgroup.paths()["pids"], timeout_s=0.02)
        assert str(child.pid) in caught.value.message
        assert caught.value.errno == errno.EBUSY


def test_default_device_rules(cgroup: Cgroup, tmp_path: Path) -> None:
    """null works; the loop control device, which no rule names, does not; any node may be made."""
    cgroup.create(Resources(devices=devices.DEFAULT_RULES))
    loop = tmp_path / "loop"

    def tries() -> list[int]:
        cgroup.join()
        results = []
        os.mknod(loop, 0o600 | 0o020000, os.makedev(10, 237))
        for path in ("/dev/null", "/dev/zero", "/dev/urandom", str(loop), "/dev/kmsg"):
            try:
                os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
                results.append(0)
            except OSError as error:
                results.append(error.errno or 0)
        return results

    assert in_child(tries) == [0, 0, 0, errno.EPERM, errno.EPERM]


def test_a_rule_added_later_opens_a_device(cgroup: Cgroup) -> None:
    cgroup.create(Resources(devices=devices.DEFAULT_RULES))
    cgroup.set(Resources(devices=(DeviceRule(allow=True, kind="c", major=1, minor=11, access="r"),)))

    def tries() -> list[int]:
        cgroup.join()
        results = []
        for flags in (os.O_RDONLY, os.O_WRONLY):
            try:
                os.close(os.open("/dev/kmsg", flags | os.O_NONBLOCK))
                results.append(0)
            except OSError as error:
                results.append(error.errno or 0)
        return results

    assert in_child(tries) == [0, errno.EPERM]


def test_support_says_what_the_files_say() -> None:
    found = support.supported()
    assert found.version == 1
    assert found.memory == os.path.exists("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    assert found.blkio_weight == any(
        os.path.exists(f"/sys/fs/cgroup/blkio/{name}") for name in ("blkio.weight", "blkio.bfq.weight")
    )
    assert found.cpus == Path("/sys/fs/cgroup/cpuset/cpuset.effective_cpus").read_text().strip()
