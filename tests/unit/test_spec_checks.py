"""What a create request is refused for, or warned of, in words recorded from the reference engine (20.10)."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from msgspec import convert

from pyker.daemon.spec_checks import check_resources, validate
from pyker.errors import InvalidParameter, NotSupported
from pyker.libcontainer.cgroups.support import Support
from pyker.types.config import ContainerConfig, HostConfig

pytestmark = pytest.mark.requires("seccomp")

MB = 1 << 20
CPUS = os.cpu_count()

FULL = Support(
    version=1, memory=True, swap=True, memory_reservation=True, memory_swappiness=True, oom_kill_disable=True,
    kernel_memory=True, cpu_shares=True, cpu_cfs=True, cpu_realtime=True, cpuset=True, cpus="0-1", mems="0", pids=True,
    blkio_weight=True, blkio_weight_device=True, blkio_throttle=True, devices=True, freezer=True,
)  # fmt: skip
NOTHING = Support(version=2)


def check(config: dict[str, Any] | None = None, host: dict[str, Any] | None = None) -> tuple[str, ...]:
    return validate(convert(config or {}, ContainerConfig), convert(host or {}, HostConfig))


def resources(host: dict[str, Any], can: Support = FULL) -> list[str]:
    return list(check_resources(convert(host, HostConfig), can))


def lacks(what: str, consequence: str) -> str:
    return f"Your kernel does not support {what} or the cgroup is not mounted. {consequence}"


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"Memory": 1000}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": -5}, "Minimum memory limit allowed is 6MB"),
        (
            {"Memory": 64 * MB, "MemorySwap": 32 * MB},
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        ({"MemorySwap": 32 * MB}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
        ({"MemorySwappiness": 101}, "Invalid value: 101, valid memory swappiness range is 0-100"),
        ({"MemoryReservation": 1000}, "Minimum memory reservation allowed is 6MB"),
        (
            {"Memory": 32 * MB, "MemoryReservation": 64 * MB},
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        ({"KernelMemory": 1}, "Minimum kernel memory limit allowed is 6MB"),
        (
            {"NanoCpus": (CPUS or 1) * 10**9 + 1},
            f"Range of CPUs is from 0.01 to {CPUS}.00, as there are only {CPUS} CPUs available",
        ),
        ({"NanoCpus": -1}, f"Range of CPUs is from 0.01 to {CPUS}.00, as there are only {CPUS} CPUs available"),
        ({"NanoCpus": 1, "CpuPeriod": 1}, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        ({"NanoCpus": 1, "CpuQuota": 1}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        (
            {"CpuPeriod": 10},
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        ({"CpuQuota": 10}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ({"CpuShares": -1}, "shares: invalid argument"),
        (
            {"CpuRealtimePeriod": 1000, "CpuRealtimeRuntime": 2000},
            "cpu real-time runtime cannot be higher than cpu real-time period",
        ),
        ({"CpusetCpus": "0-9"}, "Requested CPUs are not available - requested 0-9, available: 0-1"),
        ({"CpusetCpus": "x"}, "Invalid value x for cpuset cpus: invalid format: x"),
        ({"CpusetCpus": "0,0-"}, "Invalid value 0,0- for cpuset cpus: invalid format: 0-"),
        ({"CpusetMems": "3"}, "Requested memory nodes are not available - requested 3, available: 0"),
        ({"CpusetCpus": "0-99999999"}, "Invalid value 0-99999999 for cpuset cpus: invalid format: 0-99999999"),
        ({"BlkioWeight": 5}, "Range of blkio weight is from 10 to 1000"),
        (
            {"IOMaximumBandwidth": 5},
            "Invalid QoS settings: linux does not support configuration of maximum bandwidth",
        ),
        ({"IOMaximumIOps": 5}, "Invalid QoS settings: linux does not support configuration of maximum IOPs"),
    ],
)
def test_limits_refused(host: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        resources(host)
    assert caught.value.message == message


@pytest.mark.parametrize(
    "host",
    [
        {},
        {"Memory": 64 * MB, "MemorySwap": -1},
        {"Memory": 64 * MB, "MemorySwap": 64 * MB},
        {"MemorySwap": -1},
        {"MemorySwappiness": -1},
        {"MemorySwappiness": 60},
        {"NanoCpus": 10**9},
        {"CpuQuota": -1},
        {"CpuPeriod": 100000, "CpuQuota": 50000},
        {"CpusetCpus": "0,1", "CpusetMems": "0"},
        {"PidsLimit": -1},
        {"BlkioWeight": 500},
    ],
)
def test_limits_accepted(host: dict[str, Any]) -> None:
    assert resources(host) == []


@pytest.mark.parametrize(
    ("host", "warning"),
    [
        ({"Memory": 64 * MB}, lacks("memory limit capabilities", "Limitation discarded.")),
        ({"MemorySwappiness": 5}, lacks("memory swappiness capabilities", "Memory swappiness discarded.")),
        ({"MemoryReservation": 64 * MB}, lacks("memory soft limit capabilities", "Limitation discarded.")),
        ({"OomKillDisable": True}, "Your kernel does not support OomKillDisable. OomKillDisable discarded."),
        ({"PidsLimit": 5}, lacks("PIDs limit capabilities", "PIDs limit discarded.")),
        ({"CpuShares": 5}, lacks("CPU shares", "Shares discarded.")),
        ({"CpuQuota": 5000}, "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded."),
        ({"CpusetCpus": "0"}, lacks("cpuset", "Cpuset discarded.")),
        ({"BlkioWeight": 500}, lacks("Block I/O weight", "Weight discarded.")),
        (
            {"BlkioWeightDevice": [{"Path": "/dev/null", "Weight": 5}]},
            lacks("Block I/O weight_device", "Weight-device discarded."),
        ),
        (
            {"BlkioDeviceReadBps": [{"Path": "/dev/null", "Rate": 5}]},
            lacks("BPS Block I/O read limit", "Block I/O BPS read limit discarded."),
        ),
        (
            {"BlkioDeviceWriteIOps": [{"Path": "/dev/null", "Rate": 5}]},
            lacks("IOPS Block write limit", "Block I/O IOPS write limit discarded."),
        ),
    ],
)
def test_a_kernel_that_cannot(host: dict[str, Any], warning: str) -> None:
    assert warning in resources(host, NOTHING)


def test_swap_without_accounting() -> None:
    found = resources({"Memory": 64 * MB, "MemorySwap": 128 * MB}, replace(FULL, swap=False))
    assert found == [lacks("swap limit capabilities", "Memory limited without swap.")]


def test_cpus_without_the_scheduler_are_refused() -> None:
    with pytest.raises(InvalidParameter, match=r"^NanoCPUs can not be set, as your kernel does not support CPU CFS"):
        resources({"NanoCpus": 10**9}, NOTHING)


def test_other_warnings() -> None:
    assert resources({"OomKillDisable": True}) == [
        "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running "
        "out of resources."
    ]
    assert resources({"KernelMemory": 64 * MB}) == [
        "Specifying a kernel memory limit is deprecated and will be removed in a future release."
    ]


@pytest.mark.parametrize(
    ("config", "host", "message"),
    [
        ({"WorkingDir": "rel"}, {}, "the working directory 'rel' is invalid, it needs to be an absolute path"),
        ({"Env": ["=x"]}, {}, "invalid environment variable: =x"),
        ({"Env": [""]}, {}, "invalid environment variable: "),
        ({"StopSignal": "SIGFOO"}, {}, "Invalid signal: SIGFOO"),
        ({"Healthcheck": {"Interval": 5}}, {}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"Healthcheck": {"Timeout": -1}}, {}, "Timeout in Healthcheck cannot be less than 1ms"),
        ({"Healthcheck": {"Retries": -1}}, {}, "Retries in Healthcheck cannot be negative"),
        ({}, {"IpcMode": "foo"}, "invalid IPC mode: foo"),
        ({}, {"Isolation": "hyperv"}, "Invalid isolation: \"hyperv\" - linux only supports 'default'"),
        ({}, {"PidMode": "container:"}, "invalid PID mode: container:"),
        ({}, {"UTSMode": "container:x"}, "invalid UTS mode: container:x"),
        ({}, {"CgroupnsMode": "foo"}, "invalid cgroup namespace mode: foo"),
        ({}, {"ShmSize": -1}, "SHM size can not be less than 0"),
        ({}, {"OomScoreAdj": 2000}, "Invalid value 2000, range for oom score adj is [-1000, 1000]"),
        ({}, {"SecurityOpt": ["foo"]}, 'invalid --security-opt 1: "foo"'),
        ({}, {"SecurityOpt": ["foo=bar"]}, 'invalid --security-opt 2: "foo=bar"'),
        ({}, {"SecurityOpt": ["no-new-privileges=maybe"]}, 'invalid --security-opt 2: "no-new-privileges=maybe"'),
        ({}, {"CapAdd": ["FOO"]}, 'invalid CapAdd: unknown capability: "CAP_FOO"'),
        ({}, {"CapDrop": ["FOO"]}, 'invalid CapDrop: unknown capability: "CAP_FOO"'),
        ({}, {"Ulimits": [{"Name": "foo", "Soft": 1, "Hard": 1}]}, "invalid ulimit type: foo"),
        (
            {},
            {"Ulimits": [{"Name": "nofile", "Soft": 5, "Hard": 1}]},
            "ulimit soft limit must be less than or equal to hard limit: 5 > 1",
        ),
        ({}, {"Tmpfs": {"/x": "foo"}}, 'invalid tmpfs option ["foo"]'),
        ({}, {"Tmpfs": {"x": ""}}, "invalid mount path: 'x' mount path must be absolute"),
        ({}, {"Runtime": "foo"}, "Unknown runtime specified foo"),
        ({}, {"LogConfig": {"Type": "foo"}}, 'error looking up logging plugin foo: plugin "foo" not found'),
        (
            {},
            {"LogConfig": {"Type": "json-file", "Config": {"foo": "1"}}},
            "unknown log opt 'foo' for json-file log driver",
        ),
        (
            {},
            {"LogConfig": {"Type": "json-file", "Config": {"max-size": "x"}}},
            "failed to initialize logging driver: invalid size: 'x'",
        ),
        (
            {},
            {"LogConfig": {"Type": "json-file", "Config": {"max-file": "0"}}},
            "failed to initialize logging driver: max-file cannot be less than 1",
        ),
        (
            {},
            {"LogConfig": {"Type": "json-file", "Config": {"compress": "true"}}},
            "failed to initialize logging driver: compress cannot be true when max-file is less than 2 or max-size is "
            "not set",
        ),
        ({}, {"DeviceCgroupRules": ["foo"]}, "invalid device cgroup rule format: 'foo'"),
        ({}, {"DeviceCgroupRules": ["c 1:* x"]}, "invalid device cgroup rule format: 'c 1:* x'"),
        ({}, {"Sysctls": {"vm.swappiness": "1"}}, 'sysctl "vm.swappiness" is not in a separate kernel namespace'),
        (
            {},
            {"Sysctls": {"net.ipv4.ip_forward": "1"}, "NetworkMode": "host"},
            'sysctl "net.ipv4.ip_forward" not allowed in host network namespace',
        ),
        (
            {},
            {"Sysctls": {"kernel.msgmax": "1"}, "IpcMode": "host"},
            'sysctl "kernel.msgmax" is not allowed in the hosts ipc namespace',
        ),
        ({}, {"CgroupParent": "../x"}, "invalid cgroup parent '../x': it must not contain '..'"),
    ],
)
def test_refused(config: dict[str, Any], host: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        check(config, host)
    assert caught.value.message == message


@pytest.mark.parametrize("name", ["../../etc/passwd", "net/../../../x", "/abs", "net.ipv4 ip"])
def test_a_sysctl_names_nothing_but_a_sysctl(name: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid sysctl"):
        check({}, {"Sysctls": {name: "1"}})


@pytest.mark.parametrize(
    "host",
    [
        {"SecurityOpt": ["label=disable", "label=user:x", "disable", "apparmor=unconfined", "no-new-privileges:true"]},
        {"SecurityOpt": ["seccomp=unconfined"]},
        {"SecurityOpt": ["seccomp=builtin"]},
        {"IpcMode": "shareable", "PidMode": "container:x", "CgroupnsMode": "private", "UsernsMode": "host"},
        {"Sysctls": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "1", "fs.mqueue.msg_max": "1"}},
        {"Tmpfs": {"/x": "size=1m,mode=755,exec,uid=1"}},
        {"LogConfig": {"Type": "none"}},
        {"LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3", "labels": "a"}}},
    ],
)
def test_accepted(host: dict[str, Any]) -> None:
    assert check({"Env": ["A", "B="], "StopSignal": "RTMIN+3"}, host) == ()


def test_apparmor_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyker.libcontainer import apparmor

    monkeypatch.setattr(apparmor, "enabled", lambda: False)
    with pytest.raises(NotSupported, match=r"^apparmor isn't enabled in this kernel$"):
        check({}, {"SecurityOpt": ["apparmor=mine"]})


def test_what_this_machine_cannot_give_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyker.libcontainer import capabilities

    few = frozenset(capabilities.DEFAULT)
    monkeypatch.setattr(capabilities, "bounding_set", lambda: few)
    found = check(
        {},
        {"CapAdd": ["SYS_RESOURCE"], "OomScoreAdj": -1000, "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 1 << 40}]},
    )
    assert len(found) == 3
    assert "CAP_SYS_RESOURCE was asked for" in found[0]
    assert "ulimit nofile" in found[1]
    assert "oom-score-adj -1000" in found[2]
