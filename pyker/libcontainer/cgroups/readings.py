"""What a cgroup says of its consumption, version 1 and version 2 under one set of names.

Keys: ``cpu_total_ns``, ``cpu_user_ns``, ``cpu_system_ns``, ``cpu_percpu_ns`` (list, empty on v2),
``throttling_periods``, ``throttled_periods``, ``throttled_ns``; ``memory_usage_bytes``, ``memory_max_usage_bytes``,
``memory_limit_bytes``, ``memory_failcnt``, ``memory_stats`` (the kernel's own names); ``pids_current``, ``pids_limit``
(0: no limit); ``blkio`` (by the reference's table names, each a list of ``{"major", "minor", "op", "value"}``).
"""

from __future__ import annotations

import os

from pyker.errors import KernelError
from pyker.libcontainer.cgroups import files

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

_BLKIO_V1 = {
    "io_service_bytes_recursive": ("blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive"),
    "io_serviced_recursive": ("blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive"),
    "io_queue_recursive": ("blkio.bfq.io_queued_recursive", "blkio.io_queued_recursive"),
    "io_service_time_recursive": ("blkio.bfq.io_service_time_recursive", "blkio.io_service_time_recursive"),
    "io_wait_time_recursive": ("blkio.bfq.io_wait_time_recursive", "blkio.io_wait_time_recursive"),
    "io_merged_recursive": ("blkio.bfq.io_merged_recursive", "blkio.io_merged_recursive"),
    "io_time_recursive": ("blkio.bfq.time_recursive", "blkio.time_recursive"),
    "sectors_recursive": ("blkio.bfq.sectors_recursive", "blkio.sectors_recursive"),
}


def v1(paths: dict[str, str]) -> dict[str, object]:
    """Read the directories of one v1 cgroup, by controller. Raises: KernelError if it is gone."""
    found: dict[str, object] = {}
    if (directory := paths.get("cpuacct")) is not None:
        ticks = files.table(directory, "cpuacct.stat")
        found["cpu_total_ns"] = int(files.read(directory, "cpuacct.usage"))
        found["cpu_user_ns"] = ticks.get("user", 0) * _TICK_NS
        found["cpu_system_ns"] = ticks.get("system", 0) * _TICK_NS
        found["cpu_percpu_ns"] = [int(word) for word in files.read(directory, "cpuacct.usage_percpu").split()]
    if (directory := paths.get("cpu")) is not None:
        stat = files.table(directory, "cpu.stat")
        found["throttling_periods"] = stat.get("nr_periods", 0)
        found["throttled_periods"] = stat.get("nr_throttled", 0)
        found["throttled_ns"] = stat.get("throttled_time", 0)
    if (directory := paths.get("memory")) is not None:
        found["memory_usage_bytes"] = int(files.read(directory, "memory.usage_in_bytes"))
        found["memory_max_usage_bytes"] = files.number(directory, "memory.max_usage_in_bytes")
        found["memory_limit_bytes"] = _capped(files.number(directory, "memory.limit_in_bytes"))
        found["memory_failcnt"] = files.number(directory, "memory.failcnt")
        found["memory_stats"] = files.table(directory, "memory.stat")
    if (directory := paths.get("pids")) is not None:
        found["pids_current"] = int(files.read(directory, "pids.current"))
        found["pids_limit"] = files.number(directory, "pids.max")
    if (directory := paths.get("blkio")) is not None:
        found["blkio"] = {name: _blkio_v1(directory, choices) for name, choices in _BLKIO_V1.items()}
    return found


def _capped(limit: int) -> int:
    """A container without a limit has the machine's memory, and that is what clients show."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return limit if 0 < limit < total else total


def _blkio_v1(directory: str, choices: tuple[str, ...]) -> list[dict[str, object]]:
    """The first file that says something; lines are ``major:minor op value`` or ``major:minor value``."""
    for name in choices:
        if not files.exists(directory, name):
            continue
        entries: list[dict[str, object]] = []
        for line in files.read(directory, name).splitlines():
            words = line.split()
            major, colon, minor = words[0].partition(":") if words else ("", "", "")
            if not colon or len(words) < 2:
                continue
            op = words[1] if len(words) == 3 else ""
            entries.append({"major": int(major), "minor": int(minor), "op": op, "value": int(words[-1])})
        if entries:
            return entries
    return []


def v2(directory: str) -> dict[str, object]:
    """Read one v2 cgroup; a controller that is not enabled leaves its keys out. Raises: KernelError if it is gone."""
    if not os.path.isdir(directory):
        raise KernelError(f"cgroup: {directory} is gone", errno=2, stage="cgroup")
    found: dict[str, object] = {}
    cpu = files.table(directory, "cpu.stat")
    if cpu:
        found["cpu_total_ns"] = cpu.get("usage_usec", 0) * 1000
        found["cpu_user_ns"] = cpu.get("user_usec", 0) * 1000
        found["cpu_system_ns"] = cpu.get("system_usec", 0) * 1000
        found["cpu_percpu_ns"] = []
        found["throttling_periods"] = cpu.get("nr_periods", 0)
        found["throttled_periods"] = cpu.get("nr_throttled", 0)
        found["throttled_ns"] = cpu.get("throttled_usec", 0) * 1000
    if files.exists(directory, "memory.current"):
        found["memory_usage_bytes"] = files.number(directory, "memory.current")
        found["memory_max_usage_bytes"] = files.number(directory, "memory.peak")
        found["memory_limit_bytes"] = _capped(files.number(directory, "memory.max"))
        found["memory_failcnt"] = files.table(directory, "memory.events").get("oom", 0)
        found["memory_stats"] = files.table(directory, "memory.stat")
    if files.exists(directory, "pids.current"):
        found["pids_current"] = files.number(directory, "pids.current")
        found["pids_limit"] = files.number(directory, "pids.max")
    if files.exists(directory, "io.stat"):
        found["blkio"] = _io_stat(files.read(directory, "io.stat"))
    return found


def _io_stat(text: str) -> dict[str, list[dict[str, object]]]:
    """io.stat's ``8:0 rbytes=1 wbytes=2 rios=3 wios=4`` in the shape of version 1. Source: cgroup-v2 io.stat."""
    sizes: list[dict[str, object]] = []
    counts: list[dict[str, object]] = []
    for line in text.splitlines():
        device, *pairs = line.split()
        major, colon, minor = device.partition(":")
        if not colon:
            continue
        values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        for target, key, op in (
            (sizes, "rbytes", "read"),
            (sizes, "wbytes", "write"),
            (counts, "rios", "read"),
            (counts, "wios", "write"),
        ):
            if key in values:
                target.append({"major": int(major), "minor": int(minor), "op": op, "value": int(values[key])})
    return {"io_service_bytes_recursive": sizes, "io_serviced_recursive": counts}
