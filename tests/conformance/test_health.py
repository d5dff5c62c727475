"""Health checks: what they run, what they make of it, and who is told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.conftest import Shelf
from tests.support.asking import filters, get
from tests.support.containers import create, events, run, start
from tests.support.engines import Engine
from tests.support.sandbox import wait_until

pytestmark = pytest.mark.claim("rule-health")

_MS = 1_000_000
_QUICK = {"Interval": 50 * _MS, "Timeout": 20_000 * _MS, "Retries": 2}


def _health(engine: Engine, name: str) -> dict[str, Any]:
    value: Any = engine.state(name)["Health"]
    assert isinstance(value, dict)
    return value


def _becomes(engine: Engine, name: str, status: str) -> dict[str, Any]:
    wait_until(lambda: _health(engine, name)["Status"] == status, timeout=30, what=status)
    return _health(engine, name)


def test_a_check_that_succeeds(engine: Engine, busybox: str, name: str) -> None:
    run(engine, busybox, name, Healthcheck={"Test": ["CMD", "echo", "fine"], **_QUICK})
    found = _becomes(engine, name, "healthy")
    assert found["FailingStreak"] == 0
    entry = found["Log"][0]
    assert (entry["ExitCode"], entry["Output"]) == (0, "fine\n")
    assert sorted(entry) == ["End", "ExitCode", "Output", "Start"] and entry["Start"] < entry["End"]
    row = get(engine, f"/containers/json?{filters(name=[name])}")[0]
    assert row["Status"].endswith(" (healthy)")


def test_a_check_that_fails(engine: Engine, busybox: str, name: str) -> None:
    run(engine, busybox, name, Healthcheck={"Test": ["CMD-SHELL", "echo bad >&2; exit 3"], **_QUICK})
    found = _becomes(engine, name, "unhealthy")
    assert found["FailingStreak"] >= 2
    assert (found["Log"][0]["ExitCode"], found["Log"][0]["Output"]) == (3, "bad\n")
    assert get(engine, f"/containers/json?{filters(name=[name])}")[0]["Status"].endswith(" (unhealthy)")
    assert engine.state(name)["Running"] is True


def test_it_starts_as_starting(engine: Engine, busybox: str, name: str) -> None:
    check = {"Test": ["CMD", "true"], "Interval": 3_600_000 * _MS}
    run(engine, busybox, name, Healthcheck=check)
    assert _health(engine, name) == {"Status": "starting", "FailingStreak": 0, "Log": []}
    row = get(engine, f"/containers/json?{filters(name=[name])}")[0]
    assert row["Status"].endswith(" (health: starting)")


@pytest.mark.parametrize("test", [None, ["NONE"]], ids=["nothing", "none"])
def test_none_at_all(engine: Engine, busybox: str, name: str, test: list[str] | None) -> None:
    run(engine, busybox, name, **({"Healthcheck": {"Test": test}} if test else {}))
    assert "Health" not in engine.state(name)


def test_one_that_takes_too_long(engine: Engine, busybox: str, name: str) -> None:
    check = {"Test": ["CMD-SHELL", "sleep 290"], "Interval": 50 * _MS, "Timeout": 200 * _MS, "Retries": 1}
    run(engine, busybox, name, Healthcheck=check)
    found = _becomes(engine, name, "unhealthy")
    assert found["Log"][0]["ExitCode"] == -1
    assert found["Log"][0]["Output"].startswith("Health check exceeded timeout (200ms)")


def test_one_whose_command_is_missing(engine: Engine, busybox: str, name: str) -> None:
    run(engine, busybox, name, Healthcheck={"Test": ["CMD", "no-such"], **_QUICK})
    found = _becomes(engine, name, "unhealthy")
    assert 'exec: "no-such": executable file not found in $PATH' in found["Log"][0]["Output"]


def test_it_comes_and_goes(engine: Engine, busybox: str, name: str) -> None:
    run(engine, busybox, name, Healthcheck={"Test": ["CMD", "test", "-e", "/ok"], **_QUICK})
    _becomes(engine, name, "unhealthy")
    engine.docker("exec", name, "touch", "/ok", check=True)
    assert _becomes(engine, name, "healthy")["FailingStreak"] == 0
    engine.docker("exec", name, "rm", "/ok", check=True)
    _becomes(engine, name, "unhealthy")


def test_failures_during_the_start_do_not_count(engine: Engine, busybox: str, name: str) -> None:
    check = {"Test": ["CMD", "test", "-e", "/ok"], "Interval": 50 * _MS, "Retries": 1, "StartPeriod": 3_600_000 * _MS}
    run(engine, busybox, name, Healthcheck=check)
    wait_until(lambda: len(_health(engine, name)["Log"]) >= 3, timeout=30, what="three checks")
    found = _health(engine, name)
    assert (found["Status"], found["FailingStreak"]) == ("starting", 0)
    engine.docker("exec", name, "touch", "/ok", check=True)
    _becomes(engine, name, "healthy")
    engine.docker("exec", name, "rm", "/ok", check=True)
    _becomes(engine, name, "unhealthy")


def test_the_last_five_are_kept(engine: Engine, busybox: str, name: str) -> None:
    script = "echo x >> /count; wc -l < /count"
    run(engine, busybox, name, Healthcheck={"Test": ["CMD-SHELL", script], **_QUICK})
    wait_until(lambda: [e for e in _health(engine, name)["Log"] if int(e["Output"]) >= 8], timeout=30, what="eight")
    kept = [int(entry["Output"]) for entry in _health(engine, name)["Log"]]
    assert len(kept) == 5 and kept == list(range(kept[0], kept[0] + 5))


def test_long_output_is_cut(engine: Engine, busybox: str, name: str) -> None:
    script = "head -c 10000 /dev/zero | tr '\\0' x"
    run(engine, busybox, name, Healthcheck={"Test": ["CMD-SHELL", script], **_QUICK})
    text = _becomes(engine, name, "healthy")["Log"][0]["Output"]
    assert text.startswith("x" * 4096) and len(text) <= 4096 + 10


@pytest.mark.claim("rule-events")
def test_it_is_told(engine: Engine, busybox: str, name: str) -> None:
    create(engine, busybox, name, Cmd=["sleep", "300"], Healthcheck={"Test": ["CMD", "true"], **_QUICK})
    with events(engine, container=[name]) as stream:
        start(engine, name)
        wait_until(
            lambda: any(row["Action"].startswith("health_status") for row in stream.lines()),
            timeout=30,
            what="the event",
        )
        actions = [row["Action"].strip() for row in stream.lines()]
    assert actions[0] == "start"
    assert {"exec_create: true", "exec_start: true", "exec_die", "health_status: healthy"} <= set(actions)
    assert actions.count("health_status: healthy") == 1


@pytest.mark.claim("GET /containers/json")
def test_it_can_be_asked_for(engine: Engine, busybox: str, name: str) -> None:
    run(engine, busybox, name, Healthcheck={"Test": ["CMD", "false"], **_QUICK})
    _becomes(engine, name, "unhealthy")
    query = filters(name=[name], health=["unhealthy"])
    assert len(get(engine, f"/containers/json?{query}")) == 1
    assert get(engine, f"/containers/json?{filters(name=[name], health=['healthy'])}") == []


def test_what_the_image_asks_for(engine: Engine, shelf: Shelf, name: str) -> None:
    """Unless the request says something else of it."""
    check = {"Test": ["CMD", "true"], "Interval": 50 * _MS, "Retries": 7}
    reference = shelf.add(f"health/own-{name}:1", label=f"health-{name}", config={"Healthcheck": check})
    engine.docker("pull", "-q", reference, check=True)
    run(engine, reference, name, Healthcheck={"Retries": 3})
    config: Any = engine.inspect(name)["Config"]
    assert config["Healthcheck"] == {**check, "Retries": 3}
    _becomes(engine, name, "healthy")


def test_it_runs_as_the_container_does(engine: Engine, busybox: str, name: str) -> None:
    check = {"Test": ["CMD-SHELL", "id -un; echo $A; pwd; exit 1"], **_QUICK}
    run(engine, busybox, name, User="www", Env=["A=1"], WorkingDir="/tmp", Healthcheck=check)
    assert _becomes(engine, name, "unhealthy")["Log"][0]["Output"] == "www\n1\n/tmp\n"


def test_it_ends_with_the_run_and_starts_with_the_next(engine: Engine, busybox: str, name: str) -> None:
    run(engine, busybox, name, Healthcheck={"Test": ["CMD", "false"], **_QUICK})
    _becomes(engine, name, "unhealthy")
    engine.request("POST", f"/containers/{name}/stop?t=0")
    assert _health(engine, name)["Status"] == "unhealthy"
    start(engine, name)
    assert _health(engine, name)["FailingStreak"] in {0, 1, 2}
    _becomes(engine, name, "unhealthy")
