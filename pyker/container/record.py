"""The record of one container: an immutable snapshot, replaced as a whole when something changes.

On disk it is ``containers/<id>/config.v2.json`` and ``hostconfig.json``, with the reference's field names.
"""

from __future__ import annotations

from msgspec import Struct, field

from pyker.types.config import ContainerConfig, EndpointSettings, HostConfig, PortBinding, Wire
from pyker.types.ids import ContainerId, ImageId

ZERO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time: clients read it as "not yet"."""


class HealthLogEntry(Wire, frozen=True):
    """One probe; times are RFC 3339 with nanoseconds."""

    start: str
    end: str
    exit_code: int
    output: str


class Health(Wire, frozen=True):
    """``status`` is starting, healthy or unhealthy; ``log`` keeps the last five probes."""

    status: str
    failing_streak: int = 0
    log: tuple[HealthLogEntry, ...] = ()


class State(Wire, frozen=True):
    """``status`` is created, running, paused, restarting, removing, exited or dead. Times are RFC 3339, UTC."""

    status: str = "created"
    running: bool = False
    paused: bool = False
    restarting: bool = False
    oom_killed: bool = field(default=False, name="OOMKilled")
    dead: bool = False
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: str = ZERO_TIME
    finished_at: str = ZERO_TIME
    health: Health | None = None
    removal_in_progress: bool = False


class MountPoint(Wire, frozen=True):
    """One mount as inspect shows it. ``type`` is bind, volume or tmpfs.

    ``anonymous`` and ``bound`` are ours, not on the wire: ``bound`` is the folder that a volume stands for, if it does.
    """

    type: str
    source: str
    destination: str
    name: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = field(default=True, name="RW")
    propagation: str = ""
    anonymous: bool = False
    bound: str = ""


class NetworkSettings(Wire, frozen=True):
    """Endpoints by network name, and published ports by ``80/tcp`` (None: exposed, not published)."""

    sandbox_id: str = field(default="", name="SandboxID")
    sandbox_key: str = ""
    networks: dict[str, EndpointSettings] = field(default_factory=dict)
    ports: dict[str, tuple[PortBinding, ...] | None] = field(default_factory=dict)


class Container(Struct, frozen=True, kw_only=True, rename="pascal"):
    """Everything that Pyker knows of one container. ``name`` has no leading slash. ``created`` is RFC 3339, UTC.

    ``links`` are the containers that it is linked to on the default bridge, by alias: they may get other names.
    """

    id: ContainerId = field(name="ID")
    name: str
    created: str
    path: str
    args: tuple[str, ...]
    config: ContainerConfig
    host_config: HostConfig
    image: ImageId
    state: State = State()
    driver: str
    platform: str = "linux"
    log_path: str = ""
    restart_count: int = 0
    has_been_manually_stopped: bool = False
    has_been_started_before: bool = False
    network_settings: NetworkSettings = NetworkSettings()
    mount_points: tuple[MountPoint, ...] = ()
    hostname_path: str = ""
    hosts_path: str = ""
    resolv_conf_path: str = ""
    seccomp_profile: str = ""
    app_armor_profile: str = ""
    no_new_privileges: bool = False
    links: dict[str, ContainerId] = field(default_factory=dict)
