"""``info``: what it says of limits that a kernel lacks, and of an API that is open to others."""

from __future__ import annotations

import pytest

from pyker.daemon.options import parse_options
from pyker.daemon.system import cgroup_limits, open_api_warnings
from pyker.libcontainer.cgroups.support import Support


def test_a_kernel_without_cgroups_has_no_limits_and_says_so() -> None:
    fields, warnings = cgroup_limits(Support(version=0))
    assert fields["CgroupDriver"] == "none"
    assert not any(value for value in fields.values() if isinstance(value, bool))
    assert [warning.removeprefix("WARNING: No ").removesuffix(" support") for warning in warnings] == [
        "memory limit",
        "cpu shares",
        "cpu cfs quota",
        "cpu cfs period",
        "cpuset",
        "pids limit",
    ]


def test_only_what_is_missing_is_warned_of() -> None:
    support = Support(version=2, memory=True, cpu_shares=True, cpu_cfs=True, cpuset=True, pids=True)
    fields, warnings = cgroup_limits(support)
    assert warnings == ["WARNING: No swap limit support"]
    assert (fields["CgroupVersion"], fields["SwapLimit"], fields["MemoryLimit"]) == ("2", False, True)


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["-H", "tcp://0.0.0.0:2375"], "WARNING: API is accessible on http://0.0.0.0:2375 without encryption."),
        (["-H", "tcp://[::]:2375"], "WARNING: API is accessible on http://[::]:2375 without encryption."),
        (
            ["-H", "tcp://10.0.0.1:2376", "--tls"],
            "WARNING: API is accessible on https://10.0.0.1:2376 without TLS client verification.",
        ),
        (["-H", "tcp://10.0.0.1:2376", "--tlsverify"], ""),
        (["-H", "tcp://127.0.0.1:2375"], ""),
        (["-H", "tcp://[::1]:2375"], ""),
        (["-H", "tcp://localhost:2375"], ""),
        (["-H", "unix:///run/x.sock"], ""),
    ],
)
def test_an_open_api_is_warned_of(arguments: list[str], first: str) -> None:
    warnings = open_api_warnings(parse_options(arguments, {}))
    assert [warning.splitlines()[0] for warning in warnings] == ([first] if first else [])
