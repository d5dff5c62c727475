"""What this kernel's cgroups can limit: for ``info``, and for warning at create instead of failing at start."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

from pyker.errors import NotSupported
from pyker.libcontainer.cgroups import files
from pyker.libcontainer.cgroups.layout import Layout
from pyker.libcontainer.cgroups.layout import layout as mounted


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """Each field says whether that limit works here; ``cpus`` and ``mems`` are the lists that a cpuset may use."""

    version: int
    memory: bool = False
    swap: bool = False
    memory_reservation: bool = False
    memory_swappiness: bool = False
    oom_kill_disable: bool = False
    kernel_memory: bool = False
    kernel_memory_tcp: bool = False
    cpu_shares: bool = False
    cpu_cfs: bool = False
    cpu_realtime: bool = False
    cpuset: bool = False
    cpus: str = ""
    mems: str = ""
    pids: bool = False
    blkio_weight: bool = False
    blkio_weight_device: bool = False
    blkio_throttle: bool = False
    devices: bool = False
    freezer: bool = False


def _first(directory: str, *names: str) -> str:
    for name in names:
        if files.exists(directory, name):
            return files.read(directory, name).strip()
    return ""


def _version_1(found: Layout) -> Support:
    at = found.controllers
    memory, cpu, cpuset, blkio = (at.get(name, "") for name in ("memory", "cpu", "cpuset", "blkio"))

    def has(directory: str, *names: str) -> bool:
        return bool(directory) and any(files.exists(directory, name) for name in names)

    return Support(
        version=1,
        memory=has(memory, "memory.limit_in_bytes", "memory.usage_in_bytes"),
        swap=has(memory, "memory.memsw.limit_in_bytes"),
        memory_reservation=has(memory, "memory.soft_limit_in_bytes"),
        memory_swappiness=has(memory, "memory.swappiness"),
        oom_kill_disable=has(memory, "memory.oom_control"),
        kernel_memory=has(memory, "memory.kmem.limit_in_bytes"),
        kernel_memory_tcp=has(memory, "memory.kmem.tcp.limit_in_bytes"),
        cpu_shares=has(cpu, "cpu.shares"),
        cpu_cfs=has(cpu, "cpu.cfs_quota_us"),
        cpu_realtime=has(cpu, "cpu.rt_runtime_us"),
        cpuset=bool(cpuset),
        cpus=_first(cpuset, "cpuset.effective_cpus", "cpuset.cpus") if cpuset else "",
        mems=_first(cpuset, "cpuset.effective_mems", "cpuset.mems") if cpuset else "",
        pids="pids" in at,
        blkio_weight=has(blkio, "blkio.weight", "blkio.bfq.weight"),
        blkio_weight_device=has(blkio, "blkio.weight_device", "blkio.bfq.weight_device"),
        blkio_throttle=has(blkio, "blkio.throttle.read_bps_device"),
        devices="devices" in at,
        freezer="freezer" in at,
    )


def _counts_swap(top: str) -> bool:
    """The root has no limits: a child that has memory.max shows whether memory.swap.max goes with it.

    Without any such child, Linux 6.1 and later count swap always.
    """
    with os.scandir(top) as entries:
        children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    limited = [child for child in children if files.exists(child, "memory.max")]
    if limited:
        return any(files.exists(child, "memory.swap.max") for child in limited)
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor.split("-")[0])) >= (6, 1)


def _version_2(found: Layout) -> Support:
    top = found.unified
    controllers = set(files.read(top, "cgroup.controllers").split())
    block = "/sys/class/block"
    weights = os.path.isdir(block) and any(
        os.path.exists(f"{block}/{name}/queue/iosched") for name in os.listdir(block)
    )
    return Support(
        version=2,
        memory="memory" in controllers,
        swap="memory" in controllers and _counts_swap(top),
        memory_reservation="memory" in controllers,
        cpu_shares="cpu" in controllers,
        cpu_cfs="cpu" in controllers,
        cpuset="cpuset" in controllers,
        cpus=_first(top, "cpuset.cpus.effective"),
        mems=_first(top, "cpuset.mems.effective"),
        pids="pids" in controllers,
        blkio_weight="io" in controllers and weights,
        blkio_weight_device="io" in controllers and weights,
        blkio_throttle="io" in controllers,
        devices=True,
        freezer=True,
    )


def probe(found: Layout) -> Support:
    """Look at the files of one layout's top directories."""
    return _version_1(found) if found.version == 1 else _version_2(found)


@functools.cache
def supported() -> Support:
    """What can be limited here, found out once a process. Nothing can where no hierarchy is mounted."""
    try:
        return probe(mounted())
    except NotSupported:
        return Support(version=0)
