"""What a health check's answers make of a container's state."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from pyker.api.gotime import format_time
from pyker.container import state
from pyker.container.record import Container, HealthLogEntry
from pyker.types.config import ContainerConfig, HealthConfig
from tests.support.fake_engine_room import EngineRoom

_SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("test", "shell", "command"),
    [
        (("CMD", "a", "b"), None, ("a", "b")),
        (("CMD-SHELL", "a b"), None, ("/bin/sh", "-c", "a b")),
        (("CMD-SHELL", "a b"), ("/bin/ash", "-ec"), ("/bin/ash", "-ec", "a b")),
        (("NONE",), None, None),
        (("CMD",), None, None),
        ((), None, None),
        (("SOMETHING", "else"), None, None),
    ],
)
def test_what_is_run(test: tuple[str, ...], shell: tuple[str, ...] | None, command: tuple[str, ...] | None) -> None:
    config = ContainerConfig(healthcheck=HealthConfig(test=test), shell=shell)
    assert state.health_command(config) == command


def test_nothing_is_run_without_a_check() -> None:
    assert state.health_command(ContainerConfig()) is None


@pytest.fixture
def container(tmp_path: Path) -> Container:
    room = EngineRoom(str(tmp_path))
    name = room.create("forever", healthcheck=HealthConfig(test=("CMD", "true")))
    made = room.store.get(name)
    room.engine.close()
    room.store.close()
    return state.started(made, 7, 100 * _SECOND)


def _after(container: Container, *codes: int, retries: int = 3, period_s: int = 0, at_s: int = 100) -> Container:
    for code in codes:
        entry = HealthLogEntry(start=format_time(0), end=format_time(1), exit_code=code, output=str(code))
        container = state.probed(container, entry, retries, period_s * _SECOND, at_s * _SECOND)
    return container


def _told(container: Container) -> tuple[str, int]:
    assert container.state.health is not None
    return container.state.health.status, container.state.health.failing_streak


def test_it_takes_so_many_failures_in_a_row(container: Container) -> None:
    assert _told(container) == ("starting", 0)
    assert _told(_after(container, 1, 1)) == ("starting", 2)
    assert _told(_after(container, 1, 1, 0)) == ("healthy", 0)
    assert _told(_after(container, 0, 1, 1)) == ("healthy", 2)
    assert _told(_after(container, 0, 1, 1, -1)) == ("unhealthy", 3)
    assert _told(_after(container, 1, 1, 1, 0)) == ("healthy", 0)


def test_failures_count_once_the_time_to_start_is_over_or_a_check_succeeded(container: Container) -> None:
    assert _told(_after(container, 1, 1, 1, period_s=10, at_s=109)) == ("starting", 0)
    assert _told(_after(container, 1, 1, 1, period_s=10, at_s=110)) == ("unhealthy", 3)
    assert _told(_after(container, 0, 1, 1, 1, period_s=10, at_s=101)) == ("unhealthy", 3)


def test_the_next_run_starts_anew_and_knows_what_was_said(container: Container) -> None:
    again = state.started(_after(container, 1, 1, 1, 1, 1, 1, 7), 8, 200 * _SECOND)
    assert _told(again) == ("starting", 0)
    assert again.state.health is not None
    assert [entry.exit_code for entry in again.state.health.log] == [1, 1, 1, 1, 7]


def test_without_a_check_there_is_no_health(container: Container) -> None:
    plain = replace(container, config=replace(container.config, healthcheck=None))
    assert state.started(plain, 8, 200 * _SECOND).state.health is None
