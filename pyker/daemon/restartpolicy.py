"""When a container that ended is started again, and after what pause. Source: ``docker run --restart``."""

from __future__ import annotations

from pyker.container.record import Container
from pyker.errors import InvalidParameter
from pyker.types.config import HostConfig, RestartPolicy
from pyker.types.ids import ContainerId

_FIRST_S = 0.1
_LONGEST_S = 60.0
_STABLE_S = 10.0
_NAMES = ("", "no", "always", "unless-stopped", "on-failure")


def check_restart_policy(host_config: HostConfig) -> None:
    """Raises InvalidParameter for a policy that cannot be."""
    policy = host_config.restart_policy
    if host_config.auto_remove and policy.name not in ("", "no"):
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
    if policy.name not in _NAMES:
        raise InvalidParameter(f"invalid restart policy '{policy.name}'")
    if policy.name != "on-failure" and policy.maximum_retry_count != 0:
        raise InvalidParameter(f"maximum retry count cannot be used with restart policy '{policy.name}'")
    if policy.maximum_retry_count < 0:
        raise InvalidParameter("maximum retry count cannot be negative")


class RestartPauses:
    """The pause before each container's next start: doubled each time, and short again after a run that held."""

    def __init__(self) -> None:
        self._pauses: dict[ContainerId, float] = {}

    def next_pause_s(self, container: Container, exit_code: int, ran_s: float) -> float | None:
        """How long to wait before the container is started again; None if it is not."""
        if container.has_been_manually_stopped or not wants_restart(container, exit_code):
            self._pauses.pop(container.id, None)
            return None
        last = self._pauses.get(container.id, 0.0)
        pause = _FIRST_S if ran_s >= _STABLE_S or last == 0.0 else min(last * 2, _LONGEST_S)
        self._pauses[container.id] = pause
        return pause

    def forget(self, container_id: ContainerId) -> None:
        """The next pause is the first one again."""
        self._pauses.pop(container_id, None)


def wants_restart(container: Container, exit_code: int) -> bool:
    """Whether the policy says so, leaving aside that somebody may have stopped it by hand."""
    policy: RestartPolicy = container.host_config.restart_policy
    match policy.name:
        case "always" | "unless-stopped":
            return True
        case "on-failure":
            limit = policy.maximum_retry_count
            return exit_code != 0 and (limit == 0 or container.restart_count < limit)
        case _:
            return False


def starts_with_daemon(container: Container) -> bool:
    """Whether the container is started when the daemon starts: ``always`` even if it was stopped by hand."""
    match container.host_config.restart_policy.name:
        case "always":
            return container.has_been_started_before
        case "unless-stopped":
            return container.has_been_started_before and not container.has_been_manually_stopped
        case _:
            return False
