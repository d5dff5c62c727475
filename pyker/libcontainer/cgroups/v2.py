"""Cgroup version 2: one directory holds every controller. Source: kernel Documentation/admin-guide/cgroup-v2.rst."""

from __future__ import annotations

import errno
import os
import select

from pyker.errors import KernelError, NotSupported
from pyker.libcontainer import syscalls
from pyker.libcontainer.cgroups import files, values
from pyker.libcontainer.cgroups.layout import Layout
from pyker.libcontainer.cgroups.removal import remove_directory
from pyker.libcontainer.spec import Resources, Throttle

WANTED = ("memory", "io", "cpu", "cpuset", "pids")
"""What is switched on for containers; devices need no controller, and freezing is part of the core.

The first two go to cgroups without processes only. Switched on after one of the others, which also work on threads,
they would not be refused but leave the cgroup half threaded (cgroup-v2 "Threads").
"""

FREEZE_TIMEOUT_S = 10.0


def _own_path() -> str:
    """The v2 cgroup of the calling process, as its own cgroup namespace shows it; "" if that cannot be read."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            return next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "")
    except OSError:
        return ""


class CgroupV2:
    """A container's directory below the v2 mount point."""

    version = 2

    def __init__(self, path: str, layout: Layout) -> None:
        self.path = path
        self._mountpoint = layout.unified
        self._directory = layout.unified + path

    def paths(self) -> dict[str, str]:
        """The one directory, under the name ""."""
        return {"": self._directory}

    def create(self, resources: Resources) -> None:
        """Make the directory, switch controllers on above it, and set the limits. Raises: KernelError, NotSupported."""
        self._make()
        if set(self._available(self._mountpoint)) - set(self._available(self._directory)):
            self._enable_above(make=False)
        self.set(resources)

    def _make(self) -> None:
        try:
            files.make(self._directory)
        except FileNotFoundError:
            self._enable_above(make=True)
            files.make(self._directory)

    def _available(self, directory: str) -> list[str]:
        there = files.read(directory, "cgroup.controllers").split()
        return [name for name in WANTED if name in there]

    def _enable_above(self, *, make: bool) -> None:
        """Enable what each level has for its children, from the top to our parent."""
        directory = self._mountpoint
        for part in ["", *self.path.strip("/").split("/")[:-1]]:
            directory = f"{directory}/{part}" if part else directory
            if make:
                files.make(directory)
            present = files.read(directory, "cgroup.subtree_control").split()
            for controller in self._available(directory):
                if controller not in present:
                    self._enable(directory, controller)

    def _enable(self, directory: str, controller: str) -> None:
        """One at a time: a controller that cannot be (cpu, while real-time processes live below) takes none with it."""
        try:
            files.write(directory, "cgroup.subtree_control", f"+{controller}")
        except KernelError as error:
            if error.errno == errno.EBUSY:
                raise KernelError(
                    f"cgroup: {directory} has processes of its own, so {controller!r} cannot be enabled below it",
                    syscall="write",
                    errno=errno.EBUSY,
                    stage="cgroup",
                    hint="move them into a cgroup below first (cgroup-v2: no internal processes)",
                ) from error
            if error.errno not in (errno.EINVAL, errno.ENOENT, errno.EOPNOTSUPP):
                raise

    def add(self, pid: int) -> None:
        """Move a process, with all its threads. Raises: KernelError."""
        files.write(self._directory, "cgroup.procs", str(pid))

    def join(self) -> None:
        """Move the calling process, unless it was born inside. Raises: KernelError.

        Moving costs an RCU grace period, 5 ms and more, which ``birth_fd`` saves.
        """
        if self.path != _own_path():
            files.write(self._directory, "cgroup.procs", "0")

    def birth_fd(self) -> int:
        """The directory, made if it is missing, for a process to be born in. Raises: KernelError."""
        self._make()
        return files.open_directory(self._directory)

    def pids(self) -> list[int]:
        """Every process inside, and in cgroups below."""
        found: list[int] = []
        for directory, _, names in os.walk(self._directory):
            if "cgroup.procs" in names:
                found += [int(line) for line in files.read(directory, "cgroup.procs").split()]
        return found

    # Limits

    def _write(self, controller: str, name: str, value: str) -> None:
        """Raises: NotSupported if the controller is not enabled here, else KernelError."""
        if not files.exists(self._directory, name) and controller not in self._available(self._directory):
            raise NotSupported(
                f"cgroup controller {controller!r} is not available",
                hint=f"is it in {self._mountpoint}/cgroup.controllers? a boot option may disable it",
            )
        files.write(self._directory, name, value)

    def set(self, resources: Resources) -> None:
        """Set the limits that are given, and leave the others as they are.

        What version 2 does not have is ignored: swappiness, disabling the OOM killer, real-time budgets.
        Raises: KernelError, NotSupported, InvalidParameter.
        """
        self._set_memory(resources)
        if weight := values.cpu_weight(resources.cpu_shares):
            self._write("cpu", "cpu.weight", str(weight))
        if line := values.cpu_max(resources.cpu_quota_us, resources.cpu_period_us):
            if resources.cpu_period_us and not resources.cpu_quota_us:
                line = f"{files.read(self._directory, 'cpu.max').split()[0]} {resources.cpu_period_us}"
            self._write("cpu", "cpu.max", line)
        if resources.cpuset_cpus:
            self._write("cpuset", "cpuset.cpus", resources.cpuset_cpus)
        if resources.cpuset_mems:
            self._write("cpuset", "cpuset.mems", resources.cpuset_mems)
        if resources.pids_limit:
            self._write("pids", "pids.max", values.limit(max(resources.pids_limit, -1)))
        self._set_io(resources)
        if resources.devices:
            from pyker.libcontainer.cgroups import device_filter

            device_filter.attach(self._directory, resources.devices)

    def _set_memory(self, resources: Resources) -> None:
        limit, both = resources.memory_bytes, resources.memory_swap_bytes
        if limit == -1 and both == 0:
            both = -1
        swap = values.swap_max(limit, both)
        # Before Linux 6.1 swap is counted only if the kernel was told so at boot; create has warned of that.
        if swap and files.exists(self._directory, "memory.swap.max"):
            self._write("memory", "memory.swap.max", swap)
        if limit:
            self._write("memory", "memory.max", values.limit(limit))
        if resources.memory_reservation_bytes:
            self._write("memory", "memory.low", values.limit(resources.memory_reservation_bytes))

    def _set_io(self, resources: Resources) -> None:
        if resources.blkio_weight:
            if files.exists(self._directory, "io.bfq.weight"):
                self._write("io", "io.bfq.weight", str(resources.blkio_weight))
            else:
                self._write("io", "io.weight", str(values.io_weight(resources.blkio_weight)))
        for weight in resources.blkio_weight_device:
            if files.exists(self._directory, "io.bfq.weight"):
                self._write("io", "io.bfq.weight", f"{weight.major}:{weight.minor} {weight.weight}")
            else:
                value = values.io_weight(weight.weight)
                self._write("io", "io.weight", f"{weight.major}:{weight.minor} {value}")
        limits: tuple[tuple[str, tuple[Throttle, ...]], ...] = (
            ("rbps", resources.read_bps),
            ("wbps", resources.write_bps),
            ("riops", resources.read_iops),
            ("wiops", resources.write_iops),
        )
        for key, throttles in limits:
            for throttle in throttles:
                self._write("io", "io.max", f"{throttle.major}:{throttle.minor} {key}={throttle.rate}")

    # Freezing, killing, memory exhaustion

    def freeze(self) -> None:
        """Stop every process inside; returns when all have stopped. Raises: KernelError after ten seconds."""
        files.write(self._directory, "cgroup.freeze", "1")
        fd = os.open(f"{self._directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poller = select.poll()
            poller.register(fd, select.POLLPRI)
            while not self.frozen():
                if not poller.poll(FREEZE_TIMEOUT_S * 1000):
                    files.write(self._directory, "cgroup.freeze", "0")
                    raise KernelError(
                        f"cgroup: {self._directory} does not freeze", errno=errno.ETIMEDOUT, stage="cgroup"
                    )
        finally:
            os.close(fd)

    def thaw(self) -> None:
        """Let every process go on. Raises: KernelError."""
        files.write(self._directory, "cgroup.freeze", "0")

    def frozen(self) -> bool:
        """Whether every process inside has stopped."""
        return files.table(self._directory, "cgroup.events").get("frozen", 0) == 1

    def kill(self) -> None:
        """SIGKILL to every process inside, and below, at once. Raises: KernelError before Linux 5.14."""
        files.write(self._directory, "cgroup.kill", "1")

    def oom_fd(self) -> int | None:
        """An inotify descriptor that turns readable when memory.events changes; the caller drains and closes it.

        Not every change is a kill: compare ``oom_count``. None without the memory controller.
        """
        if not files.exists(self._directory, "memory.events"):
            return None
        try:
            fd = syscalls.inotify_init1(syscalls.IN_CLOEXEC | syscalls.IN_NONBLOCK)
            try:
                syscalls.inotify_add_watch(fd, f"{self._directory}/memory.events", syscalls.IN_MODIFY)
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            raise KernelError.from_oserror(error, syscall=syscalls.call_of(error), stage="cgroup") from error
        return fd

    def oom_count(self) -> int:
        """How many processes the kernel killed here for want of memory; 0 once the cgroup is gone."""
        return files.table(self._directory, "memory.events").get("oom_kill", 0)

    def stats(self) -> dict[str, object]:
        """Readings, as ``readings`` names them. Raises: KernelError if the cgroup is gone."""
        from pyker.libcontainer.cgroups import readings

        return readings.v2(self._directory)

    def remove(self) -> None:
        """Delete the directory; missing is fine. Waits a bounded time for dying processes. Raises: KernelError."""
        remove_directory(self._directory)

    def remove_parent(self) -> None:
        """Delete the directories above, as long as they are empty."""
        parent = os.path.dirname(self.path.rstrip("/"))
        while parent not in ("", "/"):
            try:
                os.rmdir(self._mountpoint + parent)
            except OSError:
                return
            parent = os.path.dirname(parent)
