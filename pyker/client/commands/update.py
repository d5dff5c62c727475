"""``pyker update``. Source: Docker API POST /containers/{id}/update."""

from __future__ import annotations

from pyker.client.command import Command
from pyker.client.commands.lifecycle import SEVERAL, container_path
from pyker.client.container.body import restart_policy
from pyker.client.container.flags import SHARED
from pyker.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

_NAMES = (
    "blkio-weight",
    "cpu-period",
    "cpu-quota",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cpu-shares",
    "cpus",
    "cpuset-cpus",
    "cpuset-mems",
    "memory",
    "memory-reservation",
    "memory-swap",
    "pids-limit",
    "restart",
)
_FLAGS = tuple(flag for flag in SHARED if flag.name in _NAMES)


def _update(around: Surroundings, options: Options) -> int:
    if not any(options.given(name) for name in _NAMES):
        raise Failure("you must provide one or more flags when using this command")
    policy = {"Name": "", "MaximumRetryCount": 0}
    if options.given("restart") and options.text("restart"):
        policy = restart_policy(options.text("restart"))
    body: dict[str, Any] = {
        "CpuShares": options.number("cpu-shares"),
        "Memory": options.number("memory"),
        "NanoCpus": options.number("cpus"),
        "CgroupParent": "",
        "BlkioWeight": options.number("blkio-weight"),
        "BlkioWeightDevice": None,
        "BlkioDeviceReadBps": None,
        "BlkioDeviceWriteBps": None,
        "BlkioDeviceReadIOps": None,
        "BlkioDeviceWriteIOps": None,
        "CpuPeriod": options.number("cpu-period"),
        "CpuQuota": options.number("cpu-quota"),
        "CpuRealtimePeriod": options.number("cpu-rt-period"),
        "CpuRealtimeRuntime": options.number("cpu-rt-runtime"),
        "CpusetCpus": options.text("cpuset-cpus"),
        "CpusetMems": options.text("cpuset-mems"),
        "Devices": None,
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "MemoryReservation": options.number("memory-reservation"),
        "MemorySwap": options.number("memory-swap"),
        "MemorySwappiness": None,
        "OomKillDisable": None,
        "PidsLimit": options.number("pids-limit") if options.given("pids-limit") else None,
        "Ulimits": None,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "RestartPolicy": policy,
    }
    warnings: list[str] = []
    failed = False
    for name in options.arguments:
        try:
            warnings += around.client.json("POST", container_path(name, "update"), body=body).get("Warnings") or []
        except Failure as failure:
            around.err(failure.message)
            failed = True
            continue
        around.out(name)
    if warnings:
        around.out("\n".join(warnings))
    return 1 if failed else 0


COMMANDS = {
    "update": Command(_update, SEVERAL, flags=_FLAGS, least=1, aliases=("container update", "update")),
}
