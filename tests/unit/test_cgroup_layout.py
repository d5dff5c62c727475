"""Finding the hierarchies, and the conversions between the two versions."""

from __future__ import annotations

import pytest

from pyker.errors import InvalidParameter, NotSupported
from pyker.libcontainer.cgroups import open_cgroup, values
from pyker.libcontainer.cgroups.layout import Layout, parse

V1 = """\
23 28 0:22 / /proc rw - proc proc rw
31 23 0:28 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:13 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/memory rw shared:14 - cgroup cgroup rw,memory
35 31 0:32 / /sys/fs/cgroup/with\\040space rw - cgroup cgroup rw,pids
36 31 0:31 / /second/memory rw - cgroup cgroup rw,memory
"""
V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"


def test_version_1() -> None:
    found = parse(V1)
    assert found.version == 1
    assert found.controllers == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
        "pids": "/sys/fs/cgroup/with space",
    }
    assert found.named == {"name=systemd": "/sys/fs/cgroup/systemd"}
    assert found.unified == ""
    assert found.mountpoints().count("/sys/fs/cgroup/cpu,cpuacct") == 1


def test_version_2() -> None:
    found = parse(V2)
    assert (found.version, found.unified, found.controllers) == (2, "/sys/fs/cgroup", {})


def test_hybrid_is_version_1_with_a_unified_mount() -> None:
    found = parse(V1 + "40 31 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n")
    assert (found.version, found.unified) == (1, "/sys/fs/cgroup/unified")


def test_nothing_mounted() -> None:
    with pytest.raises(NotSupported):
        parse("23 28 0:22 / /proc rw - proc proc rw\n")


@pytest.mark.parametrize("path", ["relative", "/", "", "/a/../b", "/a//b", "/./a"])
def test_bad_paths(path: str) -> None:
    with pytest.raises(InvalidParameter):
        open_cgroup(path, Layout(unified="/sys/fs/cgroup"))


def test_the_layout_decides_the_version() -> None:
    assert open_cgroup("/pyker/x/", parse(V2)).paths() == {"": "/sys/fs/cgroup/pyker/x"}
    assert open_cgroup("/pyker/x", parse(V1)).paths()["memory"] == "/sys/fs/cgroup/memory/pyker/x"


@pytest.mark.parametrize(
    ("shares", "weight"), [(0, 0), (2, 1), (1024, 39), (262144, 10000), (1, 1), (512, 20), (999999, 10000)]
)
def test_cpu_weight(shares: int, weight: int) -> None:
    assert values.cpu_weight(shares) == weight


@pytest.mark.parametrize(
    ("quota", "period", "line"),
    [(0, 0, ""), (50000, 100000, "50000 100000"), (-1, 100000, "max 100000"), (50000, 0, "50000"), (-1, 0, "max")],
)
def test_cpu_max(quota: int, period: int, line: str) -> None:
    assert values.cpu_max(quota, period) == line


@pytest.mark.parametrize(("old", "new"), [(0, 0), (10, 1), (1000, 10000), (500, 4950)])
def test_io_weight(old: int, new: int) -> None:
    assert values.io_weight(old) == new


@pytest.mark.parametrize(
    ("memory", "both", "swap"), [(100, 0, ""), (100, 300, "200"), (100, 100, "0"), (100, -1, "max"), (-1, -1, "max")]
)
def test_swap_max(memory: int, both: int, swap: str) -> None:
    assert values.swap_max(memory, both) == swap


@pytest.mark.parametrize(("memory", "both"), [(100, 50), (0, 50)])
def test_swap_max_refused(memory: int, both: int) -> None:
    with pytest.raises(InvalidParameter):
        values.swap_max(memory, both)
