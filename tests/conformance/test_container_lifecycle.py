"""start, stop, kill, restart, pause, wait, rename, top, rm: from every state, with the reference engine's words."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.asking import filters, get, message
from tests.support.compare import Alike
from tests.support.containers import Waiting, create, events, finished, joined, output, run, said, start, wait
from tests.support.engines import Engine
from tests.support.sandbox import wait_until

_DEAF = ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done"]


def _post(engine: Engine, path: str, body: object = None) -> tuple[int, str]:
    reply = engine.request("POST", path, body)
    return reply.status, message(reply) if reply.body else ""


def _brief(engine: Engine, name: str) -> tuple[object, object]:
    state = engine.state(name)
    return state["Status"], state["ExitCode"]


# start


@pytest.mark.claim("POST /containers/{id}/start", "rule-start-status")
class TestStart:
    def test_with_settings_in_the_body(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name, Cmd=["true"])
        assert _post(engine, f"/containers/{name}/start", {"HostConfig": {}}) == (
            400,
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        )
        assert engine.state(name)["Status"] == "created"

    def test_with_an_empty_object_in_the_body(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name, Cmd=["true"])
        assert _post(engine, f"/containers/{name}/start", {}) == (204, "")

    def test_of_a_paused_container(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        assert _post(engine, f"/containers/{name}/pause") == (204, "")
        words = "cannot start a paused container, try unpause instead"
        assert _post(engine, f"/containers/{name}/start") == (409, words)

    def test_again_after_the_end(self, engine: Engine, busybox: str, name: str) -> None:
        """What was written stays, the log goes on, and times and code are those of the last run."""
        command = ["sh", "-c", "echo x >> /count; wc -l < /count; exit $(wc -l < /count)"]
        assert finished(engine, busybox, name, command) == 1
        first = engine.state(name)
        start(engine, name)
        assert wait(engine, name) == 2
        second = engine.state(name)
        assert joined(output(engine, name), 1) == b"1\n2\n"
        assert [str(second[key]) > str(first[key]) for key in ("StartedAt", "FinishedAt")] == [True, True]
        assert engine.inspect(name)["RestartCount"] == 0

    def test_asked_many_times_at_once(self, engine: Engine, busybox: str, name: str) -> None:
        from concurrent.futures import ThreadPoolExecutor

        create(engine, busybox, name, Cmd=["sleep", "300"])
        with events(engine, container=[name]) as stream:
            with ThreadPoolExecutor(6) as pool:
                path = f"/containers/{name}/start"
                statuses = set(pool.map(lambda _: engine.request("POST", path).status, range(6)))
            _post(engine, f"/containers/{name}/pause")
            wait_until(lambda: any(row["Action"] == "pause" for row in stream.lines()), what="the last event")
        # Who asked while another start was under way may hear that it is done.
        assert 204 in statuses and statuses <= {204, 304}
        assert [row["Action"] for row in stream.lines()] == ["start", "pause"]


@pytest.mark.claim("POST /containers/{id}/start", "rule-start-failure")
@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["no-such-command"], 127, 'exec: "no-such-command": executable file not found in $PATH'),
        ([""], 127, 'exec: "": executable file not found in $PATH'),
        (["/no/such"], 127, "/no/such: no such file or directory"),
        (["/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
        (["/etc"], 126, 'exec: "/etc": '),
    ],
    ids=["path", "empty", "absolute", "no-program", "folder"],
)
def test_commands_that_do_not_start(alike: Alike, command: list[str], code: int, words: str) -> None:
    image = alike.pulled()

    def refused(engine: Engine) -> tuple[int, str, dict[str, object]]:
        create(engine, image, alike.name, Cmd=command)
        status, said_so = _post(engine, f"/containers/{alike.name}/start")
        state = engine.state(alike.name)
        return status, said_so, {key: state[key] for key in ("Status", "ExitCode", "Pid", "Error", "StartedAt")}

    status, said_so, state = alike.agree(refused)
    assert status == 400 and words in said_so
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("created", code, 0)
    assert words in str(state["Error"]) and state["StartedAt"] == "0001-01-01T00:00:00Z"


@pytest.mark.claim("POST /containers/{id}/start", "rule-start-failure", "rule-auto-remove")
def test_one_that_cannot_start_and_was_to_go(engine: Engine, busybox: str, name: str) -> None:
    create(engine, busybox, name, Cmd=["no-such-command"], HostConfig={"AutoRemove": True})
    assert engine.request("POST", f"/containers/{name}/start").status == 400
    wait_until(lambda: engine.request("GET", f"/containers/{name}/json").status == 404, what="the removal")


@pytest.mark.claim("POST /containers/{id}/start", "rule-start-failure")
def test_the_working_folder_is_no_folder(engine: Engine, busybox: str, name: str) -> None:
    """The reference engine makes the folder when the container is created, and says so then."""
    body = {"Image": busybox, "Cmd": ["true"], "WorkingDir": "/etc/passwd"}
    reply = engine.request("POST", f"/containers/create?name={name}", body)
    if reply.status == 201:
        reply = engine.request("POST", f"/containers/{name}/start")
        assert engine.state(name)["Status"] == "created"
    assert reply.status >= 400 and "not a directory" in message(reply)


# stop


@pytest.mark.claim("POST /containers/{id}/stop", "rule-stop", "rule-stop-status")
class TestStop:
    def test_of_one_that_was_never_started(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name)
        assert _post(engine, f"/containers/{name}/stop") == (304, "")

    def test_of_one_that_listens(self, engine: Engine, busybox: str, name: str) -> None:
        command = ["sh", "-c", "trap 'echo asked; exit 5' TERM; echo up; while :; do sleep 0.05; done"]
        run(engine, busybox, name, command)
        said(engine, name, "up")
        assert _post(engine, f"/containers/{name}/stop") == (204, "")
        assert _brief(engine, name) == ("exited", 5)
        assert joined(output(engine, name), 1) == b"up\nasked\n"

    def test_of_one_that_does_not(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name, _DEAF)
        said(engine, name, "deaf")
        assert _post(engine, f"/containers/{name}/stop?t=0") == (204, "")
        assert _brief(engine, name) == ("exited", 137)

    def test_its_own_time_and_signal(self, engine: Engine, busybox: str, name: str) -> None:
        command = ["sh", "-c", "trap '' TERM; trap 'exit 9' INT; echo up; while :; do sleep 0.05; done"]
        run(engine, busybox, name, command, StopSignal="SIGINT", StopTimeout=30)
        said(engine, name, "up")
        assert _post(engine, f"/containers/{name}/stop") == (204, "")
        assert _brief(engine, name) == ("exited", 9)

    def test_of_one_that_is_paused(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        _post(engine, f"/containers/{name}/pause")
        assert _post(engine, f"/containers/{name}/stop?t=0") == (204, "")
        state = engine.state(name)
        assert (state["Status"], state["Paused"], state["ExitCode"]) == ("exited", False, 137)

    def test_of_one_that_would_be_restarted(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name, HostConfig={"RestartPolicy": {"Name": "always"}})
        assert _post(engine, f"/containers/{name}/stop?t=0") == (204, "")
        state = engine.state(name)
        assert (state["Status"], state["Restarting"], state["ExitCode"]) == ("exited", False, 137)

    def test_a_time_that_is_no_number(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        status, words = _post(engine, f"/containers/{name}/stop?t=soon")
        assert status in {400, 500} and words == 'strconv.Atoi: parsing "soon": invalid syntax'
        assert engine.state(name)["Running"] is True


# kill


@pytest.mark.claim("POST /containers/{id}/kill", "rule-kill")
class TestKill:
    def test_without_a_signal(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        assert _post(engine, f"/containers/{name}/kill") == (204, "")
        assert wait(engine, name) == 137

    def test_with_one_that_is_caught(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name, ["sh", "-c", "trap 'echo again' HUP; echo up; while :; do sleep 0.05; done"])
        said(engine, name, "up")
        assert _post(engine, f"/containers/{name}/kill?signal=HUP") == (204, "")
        said(engine, name, "again")
        assert engine.state(name)["Running"] is True

    @pytest.mark.parametrize("signal", ["0", "SIGNONE", "KILLED"])
    def test_with_one_that_is_none(self, engine: Engine, busybox: str, name: str, signal: str) -> None:
        run(engine, busybox, name)
        assert _post(engine, f"/containers/{name}/kill?signal={signal}") == (400, f"Invalid signal: {signal}")
        assert engine.state(name)["Running"] is True

    @pytest.mark.parametrize("signal", ["RTMIN%2B1", "sigwinch", "28"])
    def test_with_one_that_means_nothing_to_it(self, engine: Engine, busybox: str, name: str, signal: str) -> None:
        run(engine, busybox, name)
        assert _post(engine, f"/containers/{name}/kill?signal={signal}") == (204, "")
        assert engine.state(name)["Running"] is True

    def test_of_one_that_is_paused(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        _post(engine, f"/containers/{name}/pause")
        assert _post(engine, f"/containers/{name}/kill") == (204, "")
        assert wait(engine, name) == 137
        assert engine.state(name)["Paused"] is False


# restart


@pytest.mark.claim("POST /containers/{id}/restart", "rule-restart")
class TestRestart:
    def test_of_one_that_was_never_started(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name, Cmd=["sleep", "300"])
        assert _post(engine, f"/containers/{name}/restart") == (204, "")
        assert engine.state(name)["Status"] == "running"

    def test_of_one_that_ended(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "[ -e /again ] && exec sleep 300; touch /again; exit 3"])
        assert _post(engine, f"/containers/{name}/restart") == (204, "")
        assert _brief(engine, name) == ("running", 0)

    def test_of_one_that_is_paused(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        _post(engine, f"/containers/{name}/pause")
        assert _post(engine, f"/containers/{name}/restart?t=0") == (204, "")
        state = engine.state(name)
        assert (state["Status"], state["Paused"]) == ("running", False)

    def test_asks_first(self, engine: Engine, busybox: str, name: str) -> None:
        command = ["sh", "-c", "trap 'echo asked; exit' TERM; echo up; while :; do sleep 0.05; done"]
        run(engine, busybox, name, command)
        said(engine, name, "up")
        assert _post(engine, f"/containers/{name}/restart?t=30") == (204, "")
        said(engine, name, "asked")
        assert engine.inspect(name)["RestartCount"] == 0

    def test_of_an_unknown_one(self, engine: Engine) -> None:
        assert _post(engine, "/containers/no-such/restart") == (404, "No such container: no-such")

    def test_its_events(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        with events(engine, container=[name]) as stream:
            _post(engine, f"/containers/{name}/restart?t=0")
            wait_until(lambda: any(row["Action"] == "restart" for row in stream.lines()), what="the event")
        found = [row["Action"] for row in stream.lines()]
        assert [each for each in found if each != "kill"] == ["die", "stop", "start", "restart"], found


# restart policies


@pytest.mark.claim("rule-restart-policies")
class TestRestartPolicies:
    def test_on_failure_ends_with_success(self, engine: Engine, busybox: str, name: str) -> None:
        command = ["sh", "-c", "echo x >> /count; [ $(wc -l < /count) = 3 ]"]
        run(engine, busybox, name, command, HostConfig={"RestartPolicy": {"Name": "on-failure"}})
        wait_until(lambda: _brief(engine, name) == ("exited", 0), timeout=30, what="success")
        assert engine.inspect(name)["RestartCount"] == 2

    def test_on_failure_without_a_failure(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name, ["true"], HostConfig={"RestartPolicy": {"Name": "on-failure"}})
        wait_until(lambda: _brief(engine, name) == ("exited", 0), what="the end")
        assert engine.inspect(name)["RestartCount"] == 0

    @pytest.mark.parametrize("policy", ["always", "unless-stopped"])
    def test_always_even_after_success(self, engine: Engine, busybox: str, name: str, policy: str) -> None:
        run(engine, busybox, name, ["true"], HostConfig={"RestartPolicy": {"Name": policy}})
        wait_until(lambda: int(str(engine.inspect(name)["RestartCount"])) >= 2, timeout=30, what="two restarts")

    def test_a_killed_one_is_restarted_only_by_the_engine(self, engine: Engine, busybox: str, name: str) -> None:
        """Killed from outside it comes again; killed by request it was meant to end."""
        import os
        import signal

        pid = run(engine, busybox, name, HostConfig={"RestartPolicy": {"Name": "always"}})
        os.kill(pid, signal.SIGKILL)

        def again() -> bool:
            state = engine.state(name)
            return state["Status"] == "running" and state["Pid"] not in (0, pid)

        wait_until(again, timeout=30, what="another process")
        _post(engine, f"/containers/{name}/kill")
        wait_until(lambda: _brief(engine, name)[0] == "exited", what="the end")

    def test_it_waits_between(self, engine: Engine, busybox: str, name: str) -> None:
        """Between two runs it is restarting, which counts as running; the pauses become longer."""
        run(engine, busybox, name, ["sh", "-c", "exit 6"], HostConfig={"RestartPolicy": {"Name": "always"}})

        def between() -> bool:
            state = engine.state(name)
            return (state["Status"], state["Restarting"], state["Running"]) == ("restarting", True, True)

        wait_until(between, timeout=30, what="a pause between two runs", every=0.005)
        rows = get(engine, f"/containers/json?{filters(name=[name])}")
        if rows and rows[0]["State"] == "restarting":
            assert rows[0]["Status"].startswith("Restarting (6) ")
        assert _post(engine, f"/containers/{name}/stop?t=0")[0] == 204
        assert engine.state(name)["Restarting"] is False


# pause


@pytest.mark.claim("POST /containers/{id}/pause", "POST /containers/{id}/unpause", "rule-pause")
class TestPause:
    def test_nothing_moves(self, engine: Engine, busybox: str, name: str) -> None:
        pid = run(engine, busybox, name, ["sh", "-c", "while :; do :; done"])
        assert _post(engine, f"/containers/{name}/pause") == (204, "")
        state = engine.state(name)
        assert (state["Status"], state["Running"], state["Paused"], state["Pid"]) == ("paused", True, True, pid)

        def used() -> tuple[str, str]:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return fields[11], fields[12]

        before = used()
        finished(engine, busybox, f"{name}-meanwhile", ["sh", "-c", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done"])
        engine.request("DELETE", f"/containers/{name}-meanwhile")
        assert used() == before
        assert _post(engine, f"/containers/{name}/unpause") == (204, "")
        wait_until(lambda: used() != before, what="movement")

    def test_twice(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        container = engine.inspect(name)["Id"]
        _post(engine, f"/containers/{name}/pause")
        assert _post(engine, f"/containers/{name}/pause") == (409, f"Container {container} is already paused")

    def test_of_one_that_does_not_run(self, engine: Engine, busybox: str, name: str) -> None:
        container = create(engine, busybox, name)
        assert _post(engine, f"/containers/{name}/pause") == (409, f"Container {container} is not running")
        assert _post(engine, f"/containers/{name}/unpause") == (500, f"Container {container} is not paused")

    def test_unpause_of_one_that_moves(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        container = engine.inspect(name)["Id"]
        assert _post(engine, f"/containers/{name}/unpause") == (500, f"Container {container} is not paused")

    def test_of_unknown_ones(self, engine: Engine) -> None:
        for verb in ("pause", "unpause"):
            assert _post(engine, f"/containers/no-such/{verb}") == (404, "No such container: no-such")

    def test_events(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        with events(engine, container=[name]) as stream:
            _post(engine, f"/containers/{name}/pause")
            _post(engine, f"/containers/{name}/unpause")
            wait_until(lambda: len(stream.lines()) == 2, what="two events")
        assert [row["Action"] for row in stream.lines()] == ["pause", "unpause"]


# wait


@pytest.mark.claim("POST /containers/{id}/wait", "rule-wait", "rule-wait-header")
class TestWait:
    def test_the_answer_of_api_1_41(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "exit 4"])
        reply = engine.request("POST", f"/v1.41/containers/{name}/wait")
        assert (reply.status, reply.json()) == (200, {"Error": None, "StatusCode": 4})

    def test_not_running_is_at_once(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name)
        value: Any = engine.request("POST", f"/containers/{name}/wait?condition=not-running").json()
        assert value["StatusCode"] == 0

    @pytest.mark.parametrize("condition", ["", "not-running", "next-exit", "removed"])
    def test_the_header_comes_before_the_end(self, engine: Engine, busybox: str, name: str, condition: str) -> None:
        command = ["sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"]
        run(engine, busybox, name, command, HostConfig={"AutoRemove": condition == "removed"})
        said(engine, name, "up")
        with Waiting(engine, "POST", f"/containers/{name}/wait?condition={condition}") as waiting:
            assert waiting.status == 200 and waiting.pending and waiting.body == b""
            _post(engine, f"/containers/{name}/stop")
            assert json.loads(waiting.result())["StatusCode"] == 3

    def test_next_exit_is_not_the_last_one(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "[ -e /again ] && exit 8; touch /again; exit 7"])
        with Waiting(engine, "POST", f"/containers/{name}/wait?condition=next-exit") as waiting:
            assert waiting.status == 200 and waiting.pending
            start(engine, name)
            assert json.loads(waiting.result())["StatusCode"] == 8

    def test_removed_waits_for_the_removal(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "exit 2"])
        with Waiting(engine, "POST", f"/containers/{name}/wait?condition=removed") as waiting:
            assert waiting.pending
            engine.request("DELETE", f"/containers/{name}")
            assert json.loads(waiting.result())["StatusCode"] == 2

    def test_several_at_once(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name, ["sh", "-c", "trap 'exit 6' TERM; echo up; while :; do sleep 0.05; done"])
        said(engine, name, "up")
        found: list[int] = []
        threads = [threading.Thread(target=lambda: found.append(wait(engine, name))) for _ in range(5)]
        for thread in threads:
            thread.start()
        _post(engine, f"/containers/{name}/stop")
        for thread in threads:
            thread.join(30)
        assert found == [6] * 5

    def test_the_output_is_complete_when_it_answers(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "seq 20000; echo last"])
        assert joined(output(engine, name), 1).endswith(b"\n20000\nlast\n")


# rename


@pytest.mark.claim("POST /containers/{id}/rename", "rule-rename")
class TestRename:
    def test_to_nothing(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name)
        words = "Neither old nor new names may be empty"
        assert _post(engine, f"/containers/{name}/rename?name=") == (400, words)

    @pytest.mark.parametrize("new", ["a", "-bad", "with%20space"])
    def test_to_what_cannot_be(self, engine: Engine, busybox: str, name: str, new: str) -> None:
        create(engine, busybox, name)
        shown = new.replace("%20", " ")
        assert _post(engine, f"/containers/{name}/rename?name={new}") == (
            400,
            f"Error when allocating new name: Invalid container name (/{shown}), "
            "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        )
        assert engine.inspect(name)["Name"] == f"/{name}"

    def test_to_the_same(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name)
        words = "Renaming a container with the same name as its current name"
        assert _post(engine, f"/containers/{name}/rename?name={name}") == (400, words)

    def test_to_anothers(self, engine: Engine, busybox: str, names: Callable[[], str]) -> None:
        first, second = names(), names()
        container = create(engine, busybox, first)
        create(engine, busybox, second)
        assert _post(engine, f"/containers/{second}/rename?name={first}") == (
            409,
            f'Error when allocating new name: Conflict. The container name "/{first}" is already in use by container '
            f'"{container}". You have to remove (or rename) that container to be able to reuse that name.',
        )
        assert engine.inspect(first)["Id"] == container and engine.inspect(second)["Name"] == f"/{second}"

    def test_of_a_running_one(self, engine: Engine, busybox: str, names: Callable[[], str]) -> None:
        old, new = names(), names()
        pid = run(engine, busybox, old)
        container = engine.inspect(old)["Id"]
        with events(engine, type=["container"], event=["rename"]) as stream:
            assert _post(engine, f"/containers/{old}/rename?name={new}") == (204, "")
            wait_until(lambda: len(stream.lines()) >= 1, what="the event")
        mine = [row for row in stream.lines() if row["Actor"]["ID"] == container]
        attributes = mine[0]["Actor"]["Attributes"]
        assert (attributes["name"], attributes["oldName"]) == (new, f"/{old}")
        assert engine.inspect(new)["Id"] == container and engine.state(new)["Pid"] == pid
        assert engine.request("GET", f"/containers/{old}/json").status == 404
        create(engine, busybox, old)

    def test_of_an_unknown_one(self, engine: Engine) -> None:
        assert _post(engine, "/containers/no-such/rename?name=other") == (404, "No such container: no-such")


# top


@pytest.mark.claim("GET /containers/{id}/top", "rule-top")
class TestTop:
    def test_every_process_once(self, engine: Engine, busybox: str, name: str) -> None:
        pid = run(engine, busybox, name, ["sh", "-c", "sleep 291 & sleep 292 & wait"])
        children = Path(f"/proc/{pid}/task/{pid}/children")

        def lines() -> list[bytes]:
            return [Path(f"/proc/{child}/cmdline").read_bytes() for child in children.read_text().split()]

        # They are shells that are about to become their commands at first.
        wait_until(lambda: lines() == [b"sleep\x00291\x00", b"sleep\x00292\x00"], what="two children")
        value = get(engine, f"/containers/{name}/top?ps_args=-o+pid,ppid,args")
        assert value["Titles"] == ["PID", "PPID", "COMMAND"]
        rows = {int(row[0]): (int(row[1]), row[2]) for row in value["Processes"]}
        first, second = map(int, children.read_text().split())
        assert set(rows) == {pid, first, second}
        assert rows[first] == (pid, "sleep 291") and rows[second] == (pid, "sleep 292")

    def test_in_another_shape(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        assert get(engine, f"/containers/{name}/top?ps_args=aux")["Titles"] == [
            "USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND",
        ]  # fmt: skip

    def test_without_the_pid(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        reply = engine.request("GET", f"/containers/{name}/top?ps_args=-o+cmd")
        assert (reply.status, message(reply)) == (500, "Couldn't find PID field in ps output")

    def test_with_what_ps_does_not_know(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        reply = engine.request("GET", f"/containers/{name}/top?ps_args=--bogus")
        assert (reply.status, message(reply)) == (500, "ps: error: unknown gnu long option")

    def test_of_one_that_does_not_run(self, engine: Engine, busybox: str, name: str) -> None:
        container = create(engine, busybox, name)
        reply = engine.request("GET", f"/containers/{name}/top")
        assert (reply.status, message(reply)) == (409, f"Container {container} is not running")


# rm


@pytest.mark.claim("DELETE /containers/{id}", "rule-remove")
class TestRemove:
    def test_of_a_paused_one(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        container = engine.inspect(name)["Id"]
        _post(engine, f"/containers/{name}/pause")
        reply = engine.request("DELETE", f"/containers/{name}")
        assert (reply.status, message(reply)) == (
            409,
            f"You cannot remove a paused container {container}. "
            "Unpause and then stop the container before attempting removal or force remove",
        )
        assert engine.request("DELETE", f"/containers/{name}?force=1").status == 204

    def test_nothing_is_left_of_it(self, engine: Engine, busybox: str, name: str) -> None:
        container = create(engine, busybox, name, Cmd=["sleep", "300"])
        pid = start(engine, name)
        value: Any = engine.inspect(name)
        folder = Path(value["HostnamePath"]).parent
        layer = Path(value["GraphDriver"]["Data"]["UpperDir"])
        assert folder.is_dir() and layer.is_dir()
        assert engine.request("DELETE", f"/containers/{container[:12]}?force=true").status == 204
        assert not folder.exists() and not layer.exists() and not Path(f"/proc/{pid}").exists()
        reply = engine.request("DELETE", f"/containers/{name}?force=1")
        assert (reply.status, message(reply)) == (404, f"No such container: {name}")

    @pytest.mark.claim("rule-volume-remove")
    @pytest.mark.parametrize(("query", "kept"), [("", True), ("?v=1", False)])
    def test_anonymous_volumes(self, engine: Engine, busybox: str, name: str, query: str, kept: bool) -> None:
        create(engine, busybox, name, Volumes={"/anon": {}})
        value: Any = engine.inspect(name)["Mounts"]
        engine.request("DELETE", f"/containers/{name}{query}")
        assert Path(value[0]["Source"]).exists() is kept
        engine.request("DELETE", f"/volumes/{value[0]['Name']}")

    @pytest.mark.claim("rule-volume-remove")
    def test_named_volumes_stay(self, engine: Engine, busybox: str, name: str, volume: str) -> None:
        create(engine, busybox, name, HostConfig={"Binds": [f"{volume}:/v"]})
        engine.request("DELETE", f"/containers/{name}?v=1&force=1")
        assert (engine.data_root / "volumes" / volume / "_data").is_dir()

    def test_asked_many_times_at_once(self, engine: Engine, busybox: str, name: str) -> None:
        """One removes it; the others hear that it is being done, or is done."""
        from concurrent.futures import ThreadPoolExecutor

        run(engine, busybox, name)
        with ThreadPoolExecutor(5) as pool:
            replies = list(pool.map(lambda _: engine.request("DELETE", f"/containers/{name}?force=1"), range(5)))
        assert [reply.status for reply in replies].count(204) == 1
        for reply in replies:
            if reply.status == 409:
                assert message(reply).startswith("removal of container ") and message(reply).endswith(
                    " is already in progress"
                )
            else:
                assert reply.status in {204, 404}


@pytest.mark.claim("rule-auto-remove", "rule-volume-remove")
@pytest.mark.parametrize("how", ["exit", "stop", "kill"])
def test_a_container_that_goes_at_its_end(engine: Engine, busybox: str, name: str, how: str) -> None:
    command = ["sleep", "300"] if how != "exit" else ["true"]
    create(engine, busybox, name, Cmd=command, Volumes={"/anon": {}}, HostConfig={"AutoRemove": True})
    value: Any = engine.inspect(name)["Mounts"]
    with Waiting(engine, "POST", f"/containers/{name}/wait?condition=removed") as waiting:
        engine.request("POST", f"/containers/{name}/start")
        if how != "exit":
            assert engine.request("POST", f"/containers/{name}/{how}?t=0").status == 204
        assert json.loads(waiting.result())["StatusCode"] == (0 if how == "exit" else 137)
    assert engine.request("GET", f"/containers/{name}/json").status == 404
    assert not Path(value[0]["Source"]).exists()
