"""The job ``stats``: what a container uses, one JSON object a sample.

Source: Docker API v1.45 GET /containers/{id}/stats; proc(5) /proc/stat, /proc/net/dev.
"""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec

from pyker.api.gotime import ZERO_TIME, format_time
from pyker.container.record import Container
from pyker.container.store import ContainerStore
from pyker.daemon.create import network_name
from pyker.daemon.processes import Processes
from pyker.engine.job import JobContext
from pyker.errors import KernelError, NotFound
from pyker.jobs.containers import ContainerStats

_INTERVAL_S = 1.0
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_BLKIO = (
    "io_service_bytes_recursive",
    "io_serviced_recursive",
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)
_NO_CPU = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}
Sample = dict[str, Any]


class StatsHandlers:
    """Reads cgroups and network counters."""

    def __init__(self, store: ContainerStore, processes: Processes) -> None:
        self._store = store
        self._processes = processes

    def stats(self, job: ContainerStats, ctx: JobContext) -> None:
        """Write a sample a second until the container or the caller goes; or one, after a first to compare with."""
        container = self._store.get(job.container)
        ctx.subject = container.id
        last = self._sample(container)
        write = ctx.stdio.stdout("application/json")
        if not job.stream:
            if container.state.running and not job.one_shot and not ctx.cancel.wait(_INTERVAL_S):
                last = _after(last, self._sample(self._store.find(container.id) or container))
            write(_line(last))
            return
        while True:
            write(_line(last))
            if ctx.cancel.wait(_INTERVAL_S):
                return
            now = self._store.find(container.id)
            if now is None:
                return
            last = _after(last, self._sample(now))

    def _sample(self, container: Container) -> Sample:
        """One object; of a container that does not run, nothing but zeros."""
        empty = _shape(container)
        process = self._processes.find(container.id) if container.state.running else None
        if process is None:
            return empty
        try:
            read = process.stats()
            networks = _networks(process.pid) if _has_network(container) else {}
        except (KernelError, NotFound, OSError):
            # It has just ended.
            return empty
        return {**empty, **_filled(read), **({"networks": networks} if networks else {})}


def _has_network(container: Container) -> bool:
    return network_name(container.host_config.network_mode) not in ("host", "none")


def _shape(container: Container) -> Sample:
    return {
        "read": ZERO_TIME,
        "preread": ZERO_TIME,
        "pids_stats": {},
        "blkio_stats": dict.fromkeys(_BLKIO),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _NO_CPU,
        "precpu_stats": _NO_CPU,
        "memory_stats": {},
        "name": f"/{container.name}",
        "id": container.id,
    }


def _after(before: Sample, sample: Sample) -> Sample:
    """``sample`` with what the one before said of processors."""
    if sample["read"] == ZERO_TIME or before["read"] == ZERO_TIME:
        return sample
    return {**sample, "preread": before["read"], "precpu_stats": before["cpu_stats"]}


def _filled(read: dict[str, Any]) -> Sample:
    blkio = read.get("blkio", {})
    usage: dict[str, Any] = {
        "total_usage": read.get("cpu_total_ns", 0),
        "usage_in_kernelmode": read.get("cpu_system_ns", 0),
        "usage_in_usermode": read.get("cpu_user_ns", 0),
    }
    if read.get("cpu_percpu_ns"):
        usage["percpu_usage"] = read["cpu_percpu_ns"]
    memory = {
        "usage": read.get("memory_usage_bytes", 0),
        "max_usage": read.get("memory_max_usage_bytes", 0),
        "stats": read.get("memory_stats", {}),
        "failcnt": read.get("memory_failcnt", 0),
        "limit": read.get("memory_limit_bytes", 0),
    }
    pids = {"current": read.get("pids_current", 0), "limit": read.get("pids_limit", 0)}
    return {
        "read": format_time(time.time_ns()),
        "pids_stats": {key: value for key, value in pids.items() if value},
        "blkio_stats": {name: blkio.get(name, []) for name in _BLKIO},
        "cpu_stats": {
            "cpu_usage": usage,
            "system_cpu_usage": _system_ns(),
            "online_cpus": os.sysconf("SC_NPROCESSORS_ONLN"),
            "throttling_data": {
                "periods": read.get("throttling_periods", 0),
                "throttled_periods": read.get("throttled_periods", 0),
                "throttled_time": read.get("throttled_ns", 0),
            },
        },
        "memory_stats": {key: value for key, value in memory.items() if key != "failcnt" or value},
    }


def _system_ns() -> int:
    """All that the machine's processors have done, and not done, since it started."""
    with open("/proc/stat", encoding="ascii") as file:
        words = file.readline().split()
    return sum(int(word) for word in words[1:8]) * _TICK_NS


def _networks(pid: int) -> dict[str, dict[str, int]]:
    """The counters of each interface but loopback, as the container sees it."""
    found = {}
    with open(f"/proc/{pid}/net/dev", encoding="ascii", errors="replace") as file:
        for line in file.read().splitlines()[2:]:
            name, _, rest = line.partition(":")
            if name.strip() == "lo":
                continue
            values = [int(word) for word in rest.split()]
            found[name.strip()] = {
                f"{way}_{what}": values[start + number]
                for way, start in (("rx", 0), ("tx", 8))
                for number, what in enumerate(("bytes", "packets", "errors", "dropped"))
            }
    return found


def _line(sample: Sample) -> bytes:
    return msgspec.json.encode(sample) + b"\n"
