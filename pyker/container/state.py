"""The state machine of a container: each function takes a snapshot and returns the next one.

created -> running <-> paused -> exited -> running ...; running -> restarting -> running; anything but running ->
removing -> (gone), or dead when removal failed halfway.
"""

from __future__ import annotations

from msgspec import UNSET
from msgspec.structs import replace

from pyker.api.gotime import format_time, parse_time
from pyker.container.record import Container, Health, HealthLogEntry, NetworkSettings, State
from pyker.errors import Conflict
from pyker.libcontainer.spec import ExitRecord
from pyker.networkdriver.bridge import mac_of
from pyker.types.config import ContainerConfig, EndpointSettings, HealthConfig

_SHELL = ("/bin/sh", "-c")
_PROBES_KEPT = 5


def nanoseconds(text: str) -> int:
    """A moment of a record as nanoseconds since 1970; Go's zero time and "" give 0."""
    return parse_time(text) if text and not text.startswith("0001-") else 0


def health_command(config: ContainerConfig) -> tuple[str, ...] | None:
    """What a container's health check runs; None if it has none."""
    check = config.healthcheck
    if not isinstance(check, HealthConfig):
        return None
    match check.test or ():
        case ("CMD", *command) if command:
            return tuple(command)
        case ("CMD-SHELL", text, *_):
            shell = _SHELL if config.shell is UNSET or not config.shell else config.shell
            return (*shell, text)
        case _:
            return None


def is_starting(container: Container, start_period_ns: int, now_ns: int) -> bool:
    """Whether it has not been healthy yet, and is still within the time that it was given to start."""
    health = container.state.health
    if health is None or health.status != "starting":
        return False
    return now_ns - nanoseconds(container.state.started_at) < start_period_ns


def probed(container: Container, entry: HealthLogEntry, retries: int, start_period_ns: int, now_ns: int) -> Container:
    """A health check has said something. A failure while the container is starting does not count."""
    health = container.state.health
    if health is None:
        return container
    if entry.exit_code == 0:
        status, streak = "healthy", 0
    else:
        streak = health.failing_streak + (not is_starting(container, start_period_ns, now_ns))
        status = "unhealthy" if streak >= retries else health.status
    told = Health(status=status, failing_streak=streak, log=(*health.log, entry)[-_PROBES_KEPT:])
    return replace(container, state=replace(container.state, health=told))


def _new_health(container: Container) -> Health | None:
    """What a run begins with: what earlier probes said is kept."""
    if health_command(container.config) is None:
        return None
    before = container.state.health
    return Health(status="starting", log=before.log if before is not None else ())


def started(container: Container, pid: int, now_ns: int) -> Container:
    """The command runs. What an earlier run left (exit code, error) is forgotten."""
    state = State(
        status="running",
        running=True,
        pid=pid,
        started_at=format_time(now_ns),
        finished_at=container.state.finished_at,
        health=_new_health(container),
    )
    return replace(container, state=state, has_been_started_before=True, has_been_manually_stopped=False)


def start_failed(container: Container, exit_code: int, message: str) -> Container:
    """The command could not be run: the status stays what it was, with the reason beside it."""
    state = replace(container.state, exit_code=exit_code, error=message, running=False, pid=0, restarting=False)
    if state.status in ("running", "restarting"):
        state = replace(state, status="exited")
    return disconnected(replace(container, state=state))


def disconnected(container: Container) -> Container:
    """Its addresses and ports are others' now; what was asked for stays, for the next start."""
    settings = container.network_settings
    asked = {name: as_asked(endpoint) for name, endpoint in settings.networks.items()}
    kept = NetworkSettings(sandbox_id=settings.sandbox_id, sandbox_key=settings.sandbox_key, networks=asked)
    return replace(container, network_settings=kept)


def as_asked(endpoint: EndpointSettings) -> EndpointSettings:
    """An endpoint without what a run got: only a MAC address that does not follow from the address was asked for."""
    derived = bool(endpoint.ip_address) and endpoint.mac_address == mac_of(endpoint.ip_address)
    return EndpointSettings(
        ipam_config=endpoint.ipam_config,
        links=endpoint.links,
        aliases=endpoint.aliases,
        driver_opts=endpoint.driver_opts,
        gw_priority=endpoint.gw_priority,
        network_id=endpoint.network_id,
        mac_address="" if derived else endpoint.mac_address,
    )


def exited(container: Container, record: ExitRecord) -> Container:
    """The command ended."""
    state = replace(
        container.state,
        status="exited",
        running=False,
        paused=False,
        restarting=False,
        pid=0,
        exit_code=record.exit_code,
        oom_killed=container.state.oom_killed or record.oom_killed,
        finished_at=format_time(record.ended_ns),
        health=None if container.state.health is None else replace(container.state.health, status="unhealthy"),
    )
    return disconnected(replace(container, state=state))


def restarting(container: Container, record: ExitRecord) -> Container:
    """The command ended and will be started again after a pause; clients see it as running."""
    ended = exited(container, record)
    state = replace(ended.state, status="restarting", running=True, restarting=True)
    return replace(ended, state=state, restart_count=container.restart_count + 1)


def paused(container: Container) -> Container:
    """Every process is frozen. Raises Conflict unless it runs."""
    if not container.state.running or container.state.restarting:
        raise Conflict(f"Container {container.id} is not running")
    if container.state.paused:
        raise Conflict(f"Container {container.id} is already paused")
    return replace(container, state=replace(container.state, status="paused", paused=True))


def resumed(container: Container) -> Container:
    """The processes go on."""
    return replace(container, state=replace(container.state, status="running", paused=False))


def removing(container: Container) -> Container:
    """Removal began; nothing else may be done with it."""
    return replace(container, state=replace(container.state, status="removing", removal_in_progress=True))


def dead(container: Container, error: str) -> Container:
    """Removal failed halfway; it can be tried again."""
    state = replace(container.state, status="dead", dead=True, removal_in_progress=False, error=error)
    return replace(container, state=state)


def oom_killed(container: Container) -> Container:
    """The kernel killed something in the container for want of memory."""
    return replace(container, state=replace(container.state, oom_killed=True))
