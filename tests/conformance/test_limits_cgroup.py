"""Limits, as the kernel's files show them: at creation, with defaults, and what happens to those who pass them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.cgroups import cgroup
from tests.support.containers import create, events, finished, run, wait
from tests.support.engines import Engine, remove_cgroups
from tests.support.sandbox import wait_until

pytestmark = pytest.mark.claim("rule-resources")

MIB = 1 << 20


@pytest.mark.requires("cgroup-v1")
@pytest.mark.parametrize(
    ("limits", "controller", "files"),
    [
        ({}, "memory", {"memory.limit_in_bytes": "9223372036854771712", "memory.oom_control": "oom_kill_disable 0"}),
        (
            {"Memory": 64 * MIB},
            "memory",
            {"memory.limit_in_bytes": str(64 * MIB), "memory.memsw.limit_in_bytes": str(128 * MIB)},
        ),
        ({"Memory": 64 * MIB, "MemorySwap": 64 * MIB}, "memory", {"memory.memsw.limit_in_bytes": str(64 * MIB)}),
        ({"Memory": 64 * MIB, "MemorySwap": -1}, "memory", {"memory.memsw.limit_in_bytes": "9223372036854771712"}),
        ({"MemoryReservation": 32 * MIB}, "memory", {"memory.soft_limit_in_bytes": str(32 * MIB)}),
        ({"Memory": 64 * MIB, "MemorySwappiness": 7}, "memory", {"memory.swappiness": "7"}),
        ({"Memory": 64 * MIB, "OomKillDisable": True}, "memory", {"memory.oom_control": "oom_kill_disable 1"}),
        ({"NanoCpus": 1_500_000_000}, "cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000"}),
        ({"CpuPeriod": 50000, "CpuQuota": 20000}, "cpu", {"cpu.cfs_period_us": "50000", "cpu.cfs_quota_us": "20000"}),
        ({"CpuShares": 512}, "cpu", {"cpu.shares": "512"}),
        ({}, "cpu", {"cpu.shares": "1024", "cpu.cfs_quota_us": "-1"}),
        ({"CpusetCpus": "0", "CpusetMems": "0"}, "cpuset", {"cpuset.cpus": "0", "cpuset.mems": "0"}),
        ({"PidsLimit": 17}, "pids", {"pids.max": "17"}),
        ({"PidsLimit": -1}, "pids", {"pids.max": "max"}),
        ({"PidsLimit": 0}, "pids", {"pids.max": "max"}),
    ],
    ids=[
        "memory-unlimited", "memory", "no-swap", "swap-unlimited", "reservation", "swappiness", "no-oom-killer", "cpus",
        "period-and-quota", "shares", "cpu-unlimited", "cpuset", "pids", "pids-unlimited", "pids-zero",
    ],
)  # fmt: skip
def test_limits_on_cgroups_1(
    engine: Engine, busybox: str, name: str, limits: dict[str, object], controller: str, files: dict[str, str]
) -> None:
    folder = cgroup(run(engine, busybox, name, HostConfig=limits), controller)
    assert {file: (folder / file).read_text().splitlines()[0] for file in files} == files


@pytest.mark.requires("cgroup-v2")
@pytest.mark.parametrize(
    ("limits", "files"),
    [
        ({"Memory": 64 * MIB}, {"memory.max": str(64 * MIB), "memory.swap.max": str(64 * MIB)}),
        ({"Memory": 64 * MIB, "MemorySwap": 64 * MIB}, {"memory.swap.max": "0"}),
        ({"Memory": 64 * MIB, "MemorySwap": -1}, {"memory.swap.max": "max"}),
        ({"MemoryReservation": 32 * MIB}, {"memory.low": str(32 * MIB)}),
        ({"NanoCpus": 1_500_000_000}, {"cpu.max": "150000 100000"}),
        ({"CpuShares": 512}, {"cpu.weight": "20"}),
        ({"CpusetCpus": "0"}, {"cpuset.cpus": "0"}),
        ({"PidsLimit": 17}, {"pids.max": "17"}),
        ({"PidsLimit": -1}, {"pids.max": "max"}),
    ],
    ids=["memory", "no-swap", "swap-unlimited", "reservation", "cpus", "shares", "cpuset", "pids", "pids-unlimited"],
)
def test_limits_on_cgroups_2(
    engine: Engine, busybox: str, name: str, limits: dict[str, object], files: dict[str, str]
) -> None:
    folder = cgroup(run(engine, busybox, name, HostConfig=limits), "memory")
    assert {file: (folder / file).read_text().strip() for file in files} == files


def test_inspect_shows_what_was_left_out(engine: Engine, busybox: str, name: str) -> None:
    create(engine, busybox, name, HostConfig={"Memory": 64 * MIB, "PidsLimit": 0})
    host: Any = engine.inspect(name)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (64 * MIB, 128 * MIB, None)
    assert (host["ShmSize"], host["OomKillDisable"]) == (64 * MIB, False)


def test_the_groups_are_below_the_engines_parent(engine: Engine, busybox: str, name: str) -> None:
    folder = cgroup(run(engine, busybox, name), "pids")
    assert folder.name == engine.inspect(name)["Id"]
    assert folder.parent == Path("/sys/fs/cgroup/pids" + engine.cgroup_parent) or folder.parent == Path(
        "/sys/fs/cgroup" + engine.cgroup_parent
    )


def test_a_parent_of_ones_own(engine: Engine, busybox: str, name: str) -> None:
    parent = f"{engine.cgroup_parent}/own-{name}"
    try:
        folder = cgroup(run(engine, busybox, name, HostConfig={"CgroupParent": parent}), "pids")
        assert str(folder).endswith(f"{parent}/{engine.inspect(name)['Id']}")
    finally:
        engine.request("DELETE", f"/containers/{name}?force=1")
        # The container's cgroup goes with it; the parent belongs to who named it.
        remove_cgroups(parent)


def test_the_command_and_its_children_are_inside(engine: Engine, busybox: str, name: str) -> None:
    pid = run(engine, busybox, name, ["sh", "-c", "sleep 299 & sleep 300 & wait"])
    folder = cgroup(pid, "pids")
    wait_until(lambda: len((folder / "cgroup.procs").read_text().split()) == 3, what="two children")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert {str(pid), *children} == set((folder / "cgroup.procs").read_text().split())


@pytest.mark.claim("rule-resources", "rule-kill")
def test_what_is_left_in_the_container_dies_with_its_command(engine: Engine, busybox: str, name: str) -> None:
    pid = run(engine, busybox, name, ["sh", "-c", "sleep 299 & sleep 300 & wait"])
    folder = cgroup(pid, "pids")
    wait_until(lambda: len((folder / "cgroup.procs").read_text().split()) == 3, what="two children")
    others = [int(each) for each in (folder / "cgroup.procs").read_text().split()]
    engine.request("POST", f"/containers/{name}/kill")
    wait(engine, name)
    wait_until(lambda: not any(Path(f"/proc/{other}").exists() for other in others), what="the end of all processes")


_TIGHT = {"Memory": 16 * MIB, "MemorySwap": 16 * MIB}


@pytest.mark.claim("rule-oom")
def test_out_of_memory_of_the_command(engine: Engine, busybox: str, name: str) -> None:
    command = ["awk", 'BEGIN { x = "0123456789abcdef"; while (1) x = x x }']
    assert finished(engine, busybox, name, command, HostConfig=_TIGHT) == 137
    # The reference hears of it by another way than of the end.
    wait_until(lambda: engine.state(name)["OOMKilled"] is True, what="OOMKilled")
    state = engine.state(name)
    assert (state["ExitCode"], state["Status"]) == (137, "exited")


@pytest.mark.claim("rule-oom", "rule-events", "GET /events")
def test_out_of_memory_is_an_event(engine: Engine, busybox: str, name: str) -> None:
    command = ["awk", 'BEGIN { x = "0123456789abcdef"; while (1) x = x x }']
    with events(engine, container=[name], event=["oom", "die"]) as stream:
        finished(engine, busybox, name, command, HostConfig=_TIGHT)
        wait_until(lambda: len(stream.lines()) >= 2, what="two events")
        assert sorted(row["Action"] for row in stream.lines()) == ["die", "oom"]


def test_one_processor_for_two(engine: Engine, busybox: str, name: str) -> None:
    pid = run(engine, busybox, name, HostConfig={"CpusetCpus": "0"})
    allowed = Path(f"/proc/{pid}/status").read_text().partition("Cpus_allowed_list:")[2].split()[0]
    assert allowed == "0"


@pytest.mark.claim("rule-resources", "DELETE /containers/{id}")
@pytest.mark.parametrize("how", ["exit", "remove"])
def test_groups_are_given_back(engine: Engine, busybox: str, name: str, how: str) -> None:
    pid = run(engine, busybox, name, HostConfig={"Memory": 64 * MIB})
    folders = [cgroup(pid, controller) for controller in ("memory", "pids", "cpu")]
    assert all(folder.is_dir() for folder in folders)
    if how == "exit":
        engine.request("POST", f"/containers/{name}/kill")
        wait(engine, name)
    else:
        engine.request("DELETE", f"/containers/{name}?force=1")
    wait_until(lambda: not any(folder.exists() for folder in folders), what="the removal of the cgroups")
