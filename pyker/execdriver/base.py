"""What an execdriver is: it runs a container's processes, watches them, and finds them again after a restart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pyker.libcontainer.spec import ContainerSpec, ExitRecord, ProcessSpec, Resources
from pyker.types.probe import Probe


@dataclass(frozen=True, slots=True)
class StreamFlags:
    """Which of a process's streams an attached client takes part in.

    ``mark``: sixteen bytes come first that tell up to where the process's log was written when the client came: the
    inode of the file and its size, both big-endian. Only for a process that has a log.
    """

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    mark: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """A socket that carries one client's streams; the driver owns ``fd`` from now on.

    To the client flow stdcopy frames (raw bytes if the process has a tty); from it flows stdin. A shutdown(SHUT_WR)
    by the client ends stdin and nothing else. Source: Docker API v1.45 POST /containers/{id}/attach.
    """

    fd: int
    flags: StreamFlags


class Watcher(Protocol):
    """Who is told what becomes of a process. Called from the driver's own thread: be brief."""

    def on_exit(self, record: ExitRecord) -> None:
        """The process ended, all its output was delivered, and the exit record is on disk."""
        ...

    def on_oom(self) -> None:
        """The kernel killed something in the container for want of memory."""
        ...


class Process(Protocol):
    """A process that was started, or adopted: a container's init or an exec."""

    @property
    def pid(self) -> int:
        """As the host sees it."""
        ...

    @property
    def stages(self) -> dict[str, int]: ...

    def signal(self, signum: int) -> None:
        """Send a signal (by pidfd). Raises NotFound if the process is gone."""
        ...

    def attach(self, attachment: Attachment) -> None:
        """Add a client to the running process's streams."""
        ...

    def resize(self, height: int, width: int) -> None:
        """Set the terminal's size, if there is a terminal."""
        ...

    def close_stdin(self) -> None: ...


class ContainerProcess(Process, Protocol):
    """The init of a container. ``stages`` are the nanoseconds its start took, by stage; empty for an adopted one."""

    def pause(self) -> None:
        """Freeze every process of the container."""
        ...

    def resume(self) -> None:
        """Let every process go on. Raises NotFound if the container has ended meanwhile."""
        ...

    def update(self, resources: Resources) -> None:
        """Set the limits that are given in ``resources``, live."""
        ...

    def stats(self) -> dict[str, object]:
        """Cgroup readings: keys cpu_total_ns, cpu_user_ns, cpu_system_ns, throttled..., memory_usage_bytes, ..."""
        ...

    def pids(self) -> list[int]:
        """Every process of the container, as the host numbers them."""
        ...


class ExecDriver(Protocol):
    """One way of running containers."""

    name: str

    def probe(self) -> Probe: ...

    def run(
        self,
        spec: ContainerSpec,
        watcher: Watcher,
        attachments: tuple[Attachment, ...] = (),
        on_pid: Callable[[int], None] | None = None,
    ) -> ContainerProcess:
        """Start a container; returns when its command has been executed (execve succeeded).

        ``attachments`` are connected before the command runs, so that no byte is lost. Raises KernelError with stage
        "exec" when the command cannot be executed: errno ENOENT (not found), EACCES (not executable) and so on; on
        any error nothing is left behind (no process, cgroup or mount).
        """
        ...

    def exec(
        self, container_id: str, process: ProcessSpec, watcher: Watcher, attachments: tuple[Attachment, ...] = ()
    ) -> Process:
        """Run one more process in all namespaces, the cgroup and the root of a running container."""
        ...

    def adopt(self, container_id: str, state_dir: str, watcher: Watcher) -> ContainerProcess | ExitRecord | None:
        """After a restart of the daemon: the process if it lives, its exit record if it ended, None if unknown."""
        ...

    def cleanup(self, container_id: str, state_dir: str) -> None:
        """Remove what a container that ended may have left (cgroups, sockets). Safe to repeat."""
        ...

    def close(self) -> None:
        """Let go of the launcher and of every monitor's connection. Containers go on running."""
        ...
