"""Cgroup version 1: one directory in each controller's hierarchy. Source: kernel admin-guide/cgroup-v1."""

from __future__ import annotations

import errno
import itertools
import os
import select
import time

from pyker.errors import KernelError, NotSupported
from pyker.libcontainer.cgroups import files
from pyker.libcontainer.cgroups.layout import Layout
from pyker.libcontainer.cgroups.removal import remove_directory
from pyker.libcontainer.spec import DeviceRule, Resources

FREEZE_TIMEOUT_S = 10.0


def device_line(rule: DeviceRule) -> str:
    """A rule as devices.allow and devices.deny read it. Source: cgroup-v1 devices."""
    if rule.kind == "a" and rule.major == -1 and rule.minor == -1 and set(rule.access) == set("rwm"):
        return "a"
    major = "*" if rule.major == -1 else str(rule.major)
    minor = "*" if rule.minor == -1 else str(rule.minor)
    return f"{rule.kind} {major}:{minor} {rule.access}"


class CgroupV1:
    """A container's directories, at the same ``path`` below each mount point."""

    version = 1

    def __init__(self, path: str, layout: Layout) -> None:
        self.path = path
        self._layout = layout
        self._directories = tuple(mountpoint + path for mountpoint in layout.mountpoints())
        self._unified = layout.unified + path if layout.unified else ""

    def _directory(self, controller: str) -> str:
        mountpoint = self._layout.controllers.get(controller)
        if mountpoint is None:
            raise NotSupported(
                f"cgroup controller {controller!r} is not mounted",
                hint=f"mount it, or drop the limit: mount -t cgroup -o {controller} cgroup /sys/fs/cgroup/{controller}",
            )
        return mountpoint + self.path

    def paths(self) -> dict[str, str]:
        """The directory of each controller and of ``name=systemd``; "" names the v2 directory of a hybrid machine."""
        hierarchies = self._layout.controllers | self._layout.named
        directories = {name: mountpoint + self.path for name, mountpoint in hierarchies.items()}
        return directories | ({"": self._unified} if self._unified else {})

    def create(self, resources: Resources) -> None:
        """Make the directories, as far as they are missing, and set the limits. Raises: KernelError, NotSupported."""
        for directory in self._directories:
            self._make(directory)
        cpuset = self._layout.controllers.get("cpuset")
        if cpuset is not None:
            self._fill_cpuset(cpuset)
        self.set(resources)

    def _make(self, directory: str) -> None:
        try:
            files.make(directory)
            return
        except FileNotFoundError:
            pass
        for end in range(1, len(directory) + 1):
            if end == len(directory) or (directory[end] == "/" and not os.path.isdir(directory[:end])):
                files.make(directory[:end])

    def _fill_cpuset(self, mountpoint: str) -> None:
        """No process can enter a cpuset without CPUs and memory nodes: copy the parent's, from the top down."""
        parent = mountpoint
        for part in self.path.strip("/").split("/"):
            child = f"{parent}/{part}"
            for name in ("cpuset.cpus", "cpuset.mems"):
                if not files.read(child, name):
                    files.write(child, name, files.read(parent, name))
            parent = child

    def add(self, pid: int) -> None:
        """Move a process, with all its threads. Waits for an RCU grace period: prefer ``join`` where one can.

        Raises: KernelError.
        """
        for directory in self._directories:
            files.write(directory, "cgroup.procs", str(pid))

    def join(self) -> None:
        """Move the calling thread, which must be its process's only one.

        A thread that moves itself by ``tasks`` skips the kernel's global lock and its RCU grace period
        (cgroup_procs_write_start), which would cost 5 ms. Raises: KernelError.
        """
        for directory in self._directories:
            files.write(directory, "tasks", "0")

    def birth_fd(self) -> int:
        """On a hybrid machine the v2 directory, which holds no limits, but by which systemd tells units apart.

        Moving into it later has no way around the grace period. -1 without a v2 hierarchy. Raises: KernelError.
        """
        if not self._unified:
            return -1
        self._make(self._unified)
        return files.open_directory(self._unified)

    def pids(self) -> list[int]:
        """Every process inside, and in cgroups below."""
        found: list[int] = []
        top = self._directories[0] if "pids" not in self._layout.controllers else self._directory("pids")
        for directory, _, names in os.walk(top):
            if "cgroup.procs" in names:
                found += [int(line) for line in files.read(directory, "cgroup.procs").split()]
        return found

    # Limits

    def set(self, resources: Resources) -> None:
        """Set the limits that are given, and leave the others as they are. Raises: KernelError, NotSupported."""
        self._set_memory(resources)
        self._set_cpu(resources)
        if resources.cpuset_cpus:
            files.write(self._directory("cpuset"), "cpuset.cpus", resources.cpuset_cpus)
        if resources.cpuset_mems:
            files.write(self._directory("cpuset"), "cpuset.mems", resources.cpuset_mems)
        if resources.pids_limit:
            maximum = str(resources.pids_limit) if resources.pids_limit > 0 else "max"
            files.write(self._directory("pids"), "pids.max", maximum)
        self._set_blkio(resources)
        for allow, rules in itertools.groupby(resources.devices, key=lambda rule: rule.allow):
            name = "devices.allow" if allow else "devices.deny"
            files.write_each(self._directory("devices"), name, [device_line(rule) for rule in rules])

    def _set_memory(self, resources: Resources) -> None:
        limit, both = resources.memory_bytes, resources.memory_swap_bytes
        if limit == -1 and both == 0:
            both = -1
        if limit or both:
            self._set_memory_and_swap(self._directory("memory"), limit, both)
        if resources.memory_reservation_bytes:
            files.write(
                self._directory("memory"), "memory.soft_limit_in_bytes", str(resources.memory_reservation_bytes)
            )
        if resources.memory_swappiness is not None:
            files.write(self._directory("memory"), "memory.swappiness", str(resources.memory_swappiness))
        if resources.oom_kill_disable:
            files.write(self._directory("memory"), "memory.oom_control", "1")

    def _set_memory_and_swap(self, directory: str, limit: int, both: int) -> None:
        """memory <= memory plus swap must hold after every single write, so the order depends on the direction."""
        swap_accounted = files.exists(directory, "memory.memsw.limit_in_bytes")
        values = [("memory.limit_in_bytes", limit), ("memory.memsw.limit_in_bytes", both if swap_accounted else 0)]
        if limit and both and swap_accounted:
            now = files.number(directory, "memory.memsw.limit_in_bytes")
            if both == -1 or now < limit:
                values.reverse()
        for name, value in values:
            if not value:
                continue
            try:
                files.write(directory, name, str(value))
            except KernelError as error:
                if error.errno != errno.EBUSY:
                    raise
                usage = files.number(directory, "memory.usage_in_bytes")
                peak = files.number(directory, "memory.max_usage_in_bytes")
                raise KernelError(
                    f"unable to set memory limit to {value} (current usage: {usage}, peak usage: {peak})",
                    syscall="write",
                    errno=errno.EBUSY,
                    stage="cgroup",
                ) from error

    def _set_cpu(self, resources: Resources) -> None:
        values = [
            ("cpu.rt_period_us", resources.cpu_realtime_period_us),
            ("cpu.rt_runtime_us", resources.cpu_realtime_runtime_us),
            ("cpu.shares", resources.cpu_shares),
        ]
        for name, value in values:
            if value:
                files.write(self._directory("cpu"), name, str(value))
        period, quota = resources.cpu_period_us, resources.cpu_quota_us
        pair = [(name, value) for name, value in (("cpu.cfs_period_us", period), ("cpu.cfs_quota_us", quota)) if value]
        for attempt, (name, value) in enumerate(pair):
            try:
                files.write(self._directory("cpu"), name, str(value))
            except KernelError as error:
                # A new period can be out of proportion to the old quota: then the quota goes first.
                if error.errno != errno.EINVAL or attempt > 0 or len(pair) < 2:
                    raise
                for late, late_value in reversed(pair):
                    files.write(self._directory("cpu"), late, str(late_value))
                return

    def _set_blkio(self, resources: Resources) -> None:
        if resources.blkio_weight or resources.blkio_weight_device:
            directory = self._directory("blkio")
            prefix = "blkio.bfq" if files.exists(directory, "blkio.bfq.weight") else "blkio"
            if resources.blkio_weight:
                files.write(directory, f"{prefix}.weight", str(resources.blkio_weight))
            for weight in resources.blkio_weight_device:
                files.write(directory, f"{prefix}.weight_device", f"{weight.major}:{weight.minor} {weight.weight}")
        for name, throttles in (
            ("blkio.throttle.read_bps_device", resources.read_bps),
            ("blkio.throttle.write_bps_device", resources.write_bps),
            ("blkio.throttle.read_iops_device", resources.read_iops),
            ("blkio.throttle.write_iops_device", resources.write_iops),
        ):
            for throttle in throttles:
                files.write(self._directory("blkio"), name, f"{throttle.major}:{throttle.minor} {throttle.rate}")

    # Freezing, killing, memory exhaustion

    def freeze(self) -> None:
        """Stop every process inside; returns when all have stopped. Raises: KernelError after ten seconds.

        A process that forks while being frozen, or sleeps in the kernel, can hold the state at FREEZING: a thaw in
        between lets it move on.
        """
        directory = self._directory("freezer")
        deadline = time.monotonic() + FREEZE_TIMEOUT_S
        pause_s = 0.0002
        attempt = 0
        while time.monotonic() < deadline:
            attempt += 1
            if attempt % 25 == 24:
                files.write(directory, "freezer.state", "THAWED")
                select.select([], [], [], 0.001)
            files.write(directory, "freezer.state", "FROZEN")
            if files.read(directory, "freezer.state") == "FROZEN":
                return
            select.select([], [], [], pause_s)
            pause_s = min(pause_s * 2, 0.02)
        files.write(directory, "freezer.state", "THAWED")
        raise KernelError(f"cgroup: {directory} does not freeze", errno=errno.ETIMEDOUT, stage="cgroup")

    def thaw(self) -> None:
        """Let every process go on. Raises: KernelError."""
        files.write(self._directory("freezer"), "freezer.state", "THAWED")

    def frozen(self) -> bool:
        """Whether ``freeze`` is in force."""
        return files.read(self._directory("freezer"), "freezer.state") != "THAWED"

    def oom_fd(self) -> int | None:
        """An eventfd that the kernel signals when memory is exhausted, and also once when the cgroup goes.

        The caller closes it, and tells the two apart by ``oom_count``. None without a memory controller.
        """
        if "memory" not in self._layout.controllers:
            return None
        directory = self._directory("memory")
        eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                files.write(directory, "cgroup.event_control", f"{eventfd} {control}")
            finally:
                os.close(control)
        except OSError as error:
            os.close(eventfd)
            raise KernelError.from_oserror(error, syscall="open", stage="cgroup") from error
        except KernelError:
            os.close(eventfd)
            raise
        return eventfd

    def oom_count(self) -> int:
        """How many processes the kernel killed here for want of memory; 0 once the cgroup is gone."""
        if "memory" not in self._layout.controllers:
            return 0
        return files.table(self._directory("memory"), "memory.oom_control").get("oom_kill", 0)

    def stats(self) -> dict[str, object]:
        """Readings, as ``readings`` names them. Raises: KernelError if the cgroup is gone."""
        from pyker.libcontainer.cgroups import readings

        return readings.v1(self.paths())

    def remove(self) -> None:
        """Delete the directories; missing ones are fine. Waits two seconds for dying processes. Raises: KernelError."""
        for directory in (*self._directories, *filter(None, [self._unified])):
            remove_directory(directory)

    def remove_parent(self) -> None:
        """Delete the directories above, as long as they are empty."""
        parent = os.path.dirname(self.path.rstrip("/"))
        while parent not in ("", "/"):
            for mountpoint in (*self._layout.mountpoints(), *filter(None, [self._layout.unified])):
                try:
                    os.rmdir(mountpoint + parent)
                except OSError:
                    continue
            parent = os.path.dirname(parent)
