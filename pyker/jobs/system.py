"""Jobs about the engine as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pyker.container.volumes import Volume
from pyker.engine.job import Job, JobRecord
from pyker.jobs.containers import ContainerRow
from pyker.jobs.images import ImageView
from pyker.types.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeApi(Job[None]):
    """Listen on ``hosts`` and serve the API until cancelled. Seed: "serveapi" is a job like any other."""

    name: ClassVar[str] = "serveapi"
    service: ClassVar[bool] = True
    hosts: tuple[str, ...]
    tls: bool = False
    tls_verify: bool = False
    tls_ca_cert: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    socket_group: str = "docker"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInfo:
    """What ``GET /version`` needs beyond constants; see pyker.server.routes.system for the rendering."""

    version: str
    git_commit: str
    build_time: str
    kernel_version: str
    components: tuple[tuple[str, str, dict[str, str]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Version(Job[VersionInfo]):
    """Say what is running."""

    name: ClassVar[str] = "version"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemInfo:
    """``fields`` are those of ``GET /info``, by their names on the wire, complete for the newest API version."""

    fields: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Info(Job[SystemInfo]):
    """Describe the host, the drivers and the counts."""

    name: ClassVar[str] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeUsage:
    """A volume, how many containers have it, and its size in bytes."""

    volume: Volume
    containers: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsage:
    """What takes how much of the disk. Images and containers carry their own sizes."""

    layers_size: int = 0
    images: tuple[ImageView, ...] = ()
    containers: tuple[ContainerRow, ...] = ()
    volumes: tuple[VolumeUsage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureDisk(Job[DiskUsage]):
    """Measure those of ``kinds``: image, container, volume."""

    name: ClassVar[str] = "system_df"
    kinds: frozenset[str] = frozenset({"image", "container", "volume"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvents(Job[None]):
    """Write events to ``ctx.stdio.stdout("application/json")`` as newline-separated JSON until cancelled.

    ``since_ns`` and ``until_ns`` are nanoseconds since 1970 (0: not given).
    """

    name: ClassVar[str] = "events"
    since_ns: int = 0
    until_ns: int = 0
    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListJobs(Job[tuple[JobRecord, ...]]):
    """Read the journal: the newest ``limit`` root jobs, or with ``tree`` the whole tree that holds that job."""

    name: ClassVar[str] = "jobs"
    journaled: ClassVar[bool] = False
    limit: int = 50
    tree: str = ""
    running: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLogged(Job[None]):
    """Publish one event on the bus, for parts that only know jobs."""

    name: ClassVar[str] = "log_event"
    journaled: ClassVar[bool] = False
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthResult:
    """``status`` is what the user reads."""

    status: str
    identity_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth(Job[AuthResult]):
    """Check credentials against a registry. Source: Docker API v1.45 POST /auth."""

    name: ClassVar[str] = "auth"
    secret: ClassVar[frozenset[str]] = frozenset({"password", "identity_token"})
    username: str = ""
    password: str = ""
    server_address: str = ""
    identity_token: str = ""
