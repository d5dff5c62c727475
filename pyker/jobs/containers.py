"""Jobs about containers. ``container`` is always what the user typed: an ID, a unique prefix of one, or a name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pyker.container.record import Container, HealthLogEntry
from pyker.engine.job import Job
from pyker.types.config import ContainerConfig, EndpointSettings, HostConfig, NetworkingConfig
from pyker.types.ids import ContainerId, ExecId


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerCreated:
    """``warnings`` is never None on the wire."""

    id: ContainerId
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateContainer(Job[ContainerCreated]):
    """Make a container, not yet started. Source: Docker API v1.45 POST /containers/create; seed: docker run, step 1."""

    name: ClassVar[str] = "create"
    config: ContainerConfig
    host_config: HostConfig
    networking: NetworkingConfig = NetworkingConfig()
    container_name: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartContainer(Job[None]):
    """Run a container's command. Raises NotModified if it runs already. Seed: docker run, step 2."""

    name: ClassVar[str] = "start"
    container: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopContainer(Job[None]):
    """Signal, wait ``timeout_s`` (None: the container's own or 10; -1: for ever), then SIGKILL."""

    name: ClassVar[str] = "stop"
    container: str
    timeout_s: int | None = None
    signal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartContainer(Job[None]):
    """Stop if it runs, and start."""

    name: ClassVar[str] = "restart"
    container: str
    timeout_s: int | None = None
    signal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillContainer(Job[None]):
    """Send one signal, by name or number."""

    name: ClassVar[str] = "kill"
    container: str
    signal: str = "KILL"


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseContainer(Job[None]):
    """Freeze every process."""

    name: ClassVar[str] = "pause"
    container: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpauseContainer(Job[None]):
    """Thaw."""

    name: ClassVar[str] = "unpause"
    container: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveContainer(Job[None]):
    """Delete a container; ``volumes`` deletes its anonymous volumes too."""

    name: ClassVar[str] = "rm"
    container: str
    force: bool = False
    volumes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveLink(Job[None]):
    """Undo the link ``container/alias``; both containers stay."""

    name: ClassVar[str] = "unlink"
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedContainers:
    """The IDs of what was removed, and how many bytes that freed."""

    ids: tuple[ContainerId, ...] = ()
    reclaimed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneContainers(Job[PrunedContainers]):
    """Remove every container that does not run."""

    name: ClassVar[str] = "container_prune"
    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameContainer(Job[None]):
    """Give a container another name."""

    name: ClassVar[str] = "rename"
    container: str
    new_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitResult:
    """``error`` is empty unless waiting itself, or the removal waited for, failed."""

    exit_code: int
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitContainer(Job[WaitResult]):
    """Block until ``condition``: not-running, next-exit or removed.

    Calls ``ctx.stdio.stdout("application/json")`` before it blocks, so that the client sees the header at once, and
    registers the waiter before that.
    """

    name: ClassVar[str] = "wait"
    container: str
    condition: str = "not-running"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRow:
    """A container as ps shows it. Sizes are bytes, -1 when not asked for; ``linked_names`` are what others call it."""

    container: Container
    image_name: str
    linked_names: tuple[str, ...] = ()
    size_rw: int = -1
    size_root_fs: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ListContainers(Job[tuple[ContainerRow, ...]]):
    """Newest first. ``limit`` 0 or less means all that match."""

    name: ClassVar[str] = "containers"
    all: bool = False
    limit: int = 0
    size: bool = False
    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    """A container as inspect shows it."""

    container: Container
    exec_ids: tuple[ExecId, ...] = ()
    graphdriver_name: str = ""
    graphdriver_data: dict[str, str] = field(default_factory=dict)
    size_rw: int = -1
    size_root_fs: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectContainer(Job[ContainerView]):
    """Everything about one container."""

    name: ClassVar[str] = "container_inspect"
    container: str
    size: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLogs(Job[None]):
    """Write what a container said to ``ctx.stdio.stdout``: stdcopy frames, or raw bytes if it has a terminal.

    ``tail`` -1 means all. ``since_ns``, ``until_ns`` are nanoseconds since 1970 (0: not given).
    """

    name: ClassVar[str] = "logs"
    container: str
    stdout: bool = False
    stderr: bool = False
    follow: bool = False
    timestamps: bool = False
    details: bool = False
    tail: int = -1
    since_ns: int = 0
    until_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachContainer(Job[None]):
    """Join a container's streams on ``ctx.stdio.hijack()``; returns when the client or the process is done."""

    name: ClassVar[str] = "attach"
    container: str
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    stream: bool = False
    logs: bool = False
    detach_keys: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeContainer(Job[None]):
    """Set the size of a container's terminal, in characters."""

    name: ClassVar[str] = "resize"
    container: str
    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTable:
    """What ``ps`` prints, in columns."""

    titles: tuple[str, ...]
    processes: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopContainer(Job[ProcessTable]):
    """The processes of a container, as the host sees them."""

    name: ClassVar[str] = "top"
    container: str
    ps_args: str = "-ef"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateExec(Job[ExecId]):
    """Prepare one more process in a running container. Source: Docker API v1.45 POST /containers/{id}/exec."""

    name: ClassVar[str] = "exec_create"
    container: str
    command: tuple[str, ...]
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    tty: bool = False
    console_size: tuple[int, int] = (0, 0)
    detach_keys: str = ""
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    privileged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StartExec(Job[None]):
    """Run a prepared exec; unless ``detach``, its streams go over ``ctx.stdio.hijack()`` until it ends."""

    name: ClassVar[str] = "exec_start"
    exec_id: str
    detach: bool = False
    tty: bool = False
    console_size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeExec(Job[None]):
    """Set the size of an exec's terminal."""

    name: ClassVar[str] = "exec_resize"
    exec_id: str
    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthProbe(Job[HealthLogEntry]):
    """Run a container's health check once; an exec that takes longer than ``timeout_ns`` is ended."""

    name: ClassVar[str] = "health_probe"
    service: ClassVar[bool] = True
    container: str
    command: tuple[str, ...]
    timeout_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecView:
    """An exec as inspect shows it; ``exit_code`` None until it ended."""

    id: ExecId
    container_id: ContainerId
    running: bool
    exit_code: int | None
    pid: int
    request: CreateExec
    can_remove: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectExec(Job[ExecView]):
    """How an exec is doing."""

    name: ClassVar[str] = "exec_inspect"
    exec_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateContainer(Job[tuple[str, ...]]):
    """Change limits and restart policy; what ``host_config`` leaves out stays. Returns warnings."""

    name: ClassVar[str] = "update"
    container: str
    host_config: HostConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStats(Job[None]):
    """Write what a container uses to the caller's stdout, as JSON: again and again, or once.

    ``one_shot``: once, without a first reading to compare with.
    """

    name: ClassVar[str] = "stats"
    container: str
    stream: bool = True
    one_shot: bool = False


# Children of start, as the document tells them: the network first, then the exec driver.


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRootfs(Job[None]):
    """A child of start: describe the container's root file system to the exec driver."""

    name: ClassVar[str] = "mount_rootfs"
    container: ContainerId


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocateInterface(Job[dict[str, EndpointSettings]]):
    """A child of start: networkdriver makes the sandbox, its interfaces, addresses and published ports."""

    name: ClassVar[str] = "allocate_interface"
    container: ContainerId
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseInterface(Job[None]):
    """Take the sandbox of a container down again."""

    name: ClassVar[str] = "release_interface"
    container: ContainerId


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProcess(Job[int]):
    """A child of start: execdriver makes namespaces and cgroups and runs the command; returns its pid."""

    name: ClassVar[str] = "execdriver_run"
    container: ContainerId
    driver: str = "native"
