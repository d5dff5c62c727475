"""What version 2 writes for each limit, against a folder that stands for a cgroup with all controllers."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyker.errors import KernelError, NotSupported
from pyker.libcontainer.cgroups import Cgroup, open_cgroup, support
from pyker.libcontainer.cgroups.layout import Layout
from pyker.libcontainer.spec import Resources, Throttle, Weight

CONTROLLERS = "cpuset cpu io memory hugetlb pids"
FILES = [
    "cgroup.procs",
    "cgroup.freeze",
    "cgroup.kill",
    "cpu.weight",
    "cpu.max",
    "cpuset.cpus",
    "cpuset.mems",
    "io.max",
    "io.weight",
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "pids.max",
]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text(CONTROLLERS + "\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "cpuset.cpus.effective").write_text("0-3\n")
    (tmp_path / "cpuset.mems.effective").write_text("0\n")
    return tmp_path


@pytest.fixture
def leaf(top: Path) -> Path:
    parent = top / "pyker"
    parent.mkdir()
    (parent / "cgroup.controllers").write_text(CONTROLLERS)
    (parent / "cgroup.subtree_control").write_text(CONTROLLERS)
    directory = parent / "c1"
    directory.mkdir()
    (directory / "cgroup.controllers").write_text(CONTROLLERS)
    for name in FILES:
        (directory / name).write_text("")
    (directory / "cpu.max").write_text("max 100000\n")
    return directory


def cgroup(top: Path) -> Cgroup:
    return open_cgroup("/pyker/c1", Layout(unified=str(top)))


@pytest.mark.parametrize(
    ("resources", "name", "line"),
    [
        (Resources(memory_bytes=67108864), "memory.max", "67108864"),
        (Resources(memory_bytes=100, memory_swap_bytes=300), "memory.swap.max", "200"),
        (Resources(memory_bytes=-1), "memory.max", "max"),
        (Resources(memory_bytes=-1), "memory.swap.max", "max"),
        (Resources(memory_reservation_bytes=50), "memory.low", "50"),
        (Resources(cpu_shares=1024), "cpu.weight", "39"),
        (Resources(cpu_quota_us=150000, cpu_period_us=100000), "cpu.max", "150000 100000"),
        (Resources(cpuset_cpus="0-1"), "cpuset.cpus", "0-1"),
        (Resources(cpuset_mems="0"), "cpuset.mems", "0"),
        (Resources(pids_limit=77), "pids.max", "77"),
        (Resources(pids_limit=-1), "pids.max", "max"),
        (Resources(blkio_weight=500), "io.weight", "4950"),
        (Resources(blkio_weight_device=(Weight(8, 0, 1000),)), "io.weight", "8:0 10000"),
        (Resources(read_bps=(Throttle(8, 0, 1048576),)), "io.max", "8:0 rbps=1048576"),
        (Resources(write_iops=(Throttle(8, 16, 10),)), "io.max", "8:16 wiops=10"),
    ],
)
def test_each_limit(top: Path, leaf: Path, resources: Resources, name: str, line: str) -> None:
    cgroup(top).create(resources)
    assert (leaf / name).read_text() == line


def test_a_period_alone_keeps_the_quota(top: Path, leaf: Path) -> None:
    cgroup(top).set(Resources(cpu_period_us=50000))
    assert (leaf / "cpu.max").read_text().startswith("max 50000")


def test_bfq_takes_the_weight_as_it_is(top: Path, leaf: Path) -> None:
    (leaf / "io.bfq.weight").write_text("")
    cgroup(top).set(Resources(blkio_weight=500))
    assert (leaf / "io.bfq.weight").read_text() == "500"
    assert (leaf / "io.weight").read_text() == ""


def test_nothing_asked_for_nothing_written(top: Path, leaf: Path) -> None:
    before = {path.name: path.read_text() for path in leaf.iterdir()}
    cgroup(top).create(Resources())
    assert {path.name: path.read_text() for path in leaf.iterdir()} == before


def test_a_missing_controller_is_named(top: Path, leaf: Path) -> None:
    (leaf / "cgroup.controllers").write_text("cpu")
    (leaf / "memory.max").unlink()
    with pytest.raises(NotSupported, match="'memory'"):
        cgroup(top).set(Resources(memory_bytes=1 << 20))


def test_a_kernel_that_does_not_count_swap(top: Path, leaf: Path) -> None:
    (leaf / "memory.swap.max").unlink()
    cgroup(top).create(Resources(memory_bytes=100, memory_swap_bytes=200))
    assert (leaf / "memory.max").read_text() == "100"
    (top / "system.slice").mkdir()
    (top / "system.slice" / "memory.max").write_text("max")
    assert not support.probe(Layout(unified=str(top))).swap
    (top / "system.slice" / "memory.swap.max").write_text("max")
    assert support.probe(Layout(unified=str(top))).swap


def test_what_version_2_lacks_is_ignored(top: Path, leaf: Path) -> None:
    cgroup(top).set(Resources(memory_swappiness=60, oom_kill_disable=True, cpu_realtime_runtime_us=1000))
    assert not (leaf / "memory.swappiness").exists()


def test_stats(top: Path, leaf: Path) -> None:
    (leaf / "cpu.stat").write_text(
        "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\nnr_periods 9\nnr_throttled 4\nthrottled_usec 700\n"
    )
    (leaf / "memory.current").write_text("4096\n")
    (leaf / "memory.peak").write_text("8192\n")
    (leaf / "memory.max").write_text("1048576\n")
    (leaf / "memory.stat").write_text("anon 1\ninactive_file 512\n")
    (leaf / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\n")
    (leaf / "pids.current").write_text("7\n")
    (leaf / "pids.max").write_text("max\n")
    (leaf / "io.stat").write_text("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n254:0 \n")
    found = cgroup(top).stats()
    assert found["cpu_total_ns"] == 5_000_000
    assert (found["cpu_user_ns"], found["cpu_system_ns"]) == (3_000_000, 2_000_000)
    assert (found["throttling_periods"], found["throttled_periods"], found["throttled_ns"]) == (9, 4, 700_000)
    assert (found["memory_usage_bytes"], found["memory_max_usage_bytes"]) == (4096, 8192)
    assert found["memory_limit_bytes"] == 1048576
    assert found["memory_stats"] == {"anon": 1, "inactive_file": 512}
    assert (found["pids_current"], found["pids_limit"]) == (7, 0)
    blkio = found["blkio"]
    assert isinstance(blkio, dict)
    assert blkio["io_service_bytes_recursive"] == [
        {"major": 8, "minor": 0, "op": "read", "value": 10},
        {"major": 8, "minor": 0, "op": "write", "value": 20},
    ]
    assert [entry["value"] for entry in blkio["io_serviced_recursive"]] == [1, 2]
    assert cgroup(top).oom_count() == 1


def test_stats_of_a_cgroup_that_is_gone(top: Path) -> None:
    with pytest.raises(KernelError):
        cgroup(top).stats()


def test_support(top: Path) -> None:
    found = support.probe(Layout(unified=str(top)))
    assert found.version == 2
    assert (found.memory, found.pids, found.cpuset, found.cpu_cfs, found.blkio_throttle) == (True,) * 5
    assert (found.cpus, found.mems) == ("0-3", "0")
    assert (found.memory_swappiness, found.oom_kill_disable, found.cpu_realtime) == (False,) * 3
    (top / "cgroup.controllers").write_text("cpu")
    found = support.probe(Layout(unified=str(top)))
    assert (found.memory, found.pids, found.cpu_shares) == (False, False, True)
