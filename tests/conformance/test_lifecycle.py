"""Create, start, stop, kill, restart, wait, rm: statuses, texts and states that clients depend on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.conftest import Shelf
from tests.support.containers import Waiting, listed_as_ended
from tests.support.engines import Engine, Reply
from tests.support.sandbox import wait_until


def _message(reply: Reply) -> str:
    value: Any = reply.json()
    return str(value["message"])


def _create(engine: Engine, image: str, name: str = "", **body: object) -> str:
    reply = engine.request(
        "POST", f"/containers/create?name={name}" if name else "/containers/create", {"Image": image, **body}
    )
    assert reply.status == 201, reply
    value: Any = reply.json()
    assert value["Warnings"] == []
    return str(value["Id"])


@pytest.mark.claim("POST /containers/create", "rule-create-reply", "engine-create-handler", "run-first-status")
def test_create_leaves_it_created(engine: Engine, busybox: str, name: str) -> None:
    _create(engine, busybox, name, Cmd=["true"])
    state = engine.state(name)
    assert (state["Status"], state["Running"], state["Pid"]) == ("created", False, 0)
    assert state["StartedAt"] == state["FinishedAt"] == "0001-01-01T00:00:00Z"


@pytest.mark.claim("POST /containers/{id}/start", "rule-start-status", "break-status-words", "start-is-another-request")
def test_start_is_204_and_then_304(engine: Engine, busybox: str, name: str) -> None:
    _create(engine, busybox, name, Cmd=["sleep", "60"])
    assert engine.request("POST", f"/containers/{name}/start").status == 204
    again = engine.request("POST", f"/containers/{name}/start")
    assert (again.status, again.body) == (304, b"")


@pytest.mark.claim("POST /containers/{id}/stop", "rule-stop-status", "break-status-words")
def test_stop_is_204_and_then_304(engine: Engine, busybox: str, name: str) -> None:
    _create(engine, busybox, name, Cmd=["sh", "-c", 'trap "exit 5" TERM; echo up; while :; do sleep 0.1; done'])
    engine.request("POST", f"/containers/{name}/start")
    wait_until(lambda: "up" in engine.docker("logs", name).out, what="the trap")
    assert engine.request("POST", f"/containers/{name}/stop?t=10").status == 204
    assert engine.state(name)["ExitCode"] == 5
    assert engine.request("POST", f"/containers/{name}/stop").status == 304


@pytest.mark.claim("POST /containers/{id}/stop", "rule-stop")
def test_stop_kills_after_its_time(engine: Engine, busybox: str, name: str) -> None:
    _create(engine, busybox, name, Cmd=["sleep", "60"])
    engine.request("POST", f"/containers/{name}/start")
    assert engine.request("POST", f"/containers/{name}/stop?t=1").status == 204
    state = engine.state(name)
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)


@pytest.mark.claim("POST /containers/{id}/stop", "rule-stop")
def test_stop_signal_of_the_container(engine: Engine, busybox: str, name: str) -> None:
    script = 'trap "exit 7" USR1; echo up; while :; do sleep 0.1; done'
    _create(engine, busybox, name, Cmd=["sh", "-c", script], StopSignal="SIGUSR1")
    engine.request("POST", f"/containers/{name}/start")
    wait_until(lambda: "up" in engine.docker("logs", name).out, what="the trap")
    engine.request("POST", f"/containers/{name}/stop?t=10")
    assert engine.state(name)["ExitCode"] == 7


@pytest.mark.claim("POST /containers/{id}/kill", "rule-kill")
def test_kill_of_a_stopped_container_is_409(engine: Engine, busybox: str, name: str) -> None:
    container = _create(engine, busybox, name, Cmd=["true"])
    reply = engine.request("POST", f"/containers/{name}/kill")
    assert (reply.status, _message(reply)) == (
        409,
        f"Cannot kill container: {name}: Container {container} is not running",
    )


@pytest.mark.claim("POST /containers/{id}/kill", "rule-kill")
@pytest.mark.parametrize("signal", ["HUP", "SIGHUP", "1", "hup"])
def test_signals_by_any_name(engine: Engine, busybox: str, name: str, signal: str) -> None:
    script = 'trap "exit 9" HUP; echo up; while :; do sleep 0.1; done'
    _create(engine, busybox, name, Cmd=["sh", "-c", script])
    engine.request("POST", f"/containers/{name}/start")
    wait_until(lambda: "up" in engine.docker("logs", name).out, what="the trap")
    assert engine.request("POST", f"/containers/{name}/kill?signal={signal}").status == 204
    assert engine.docker("wait", name).out == "9\n"


@pytest.mark.claim("POST /containers/{id}/kill", "rule-kill")
def test_unknown_signal_is_400(engine: Engine, busybox: str, name: str) -> None:
    _create(engine, busybox, name, Cmd=["sleep", "60"])
    engine.request("POST", f"/containers/{name}/start")
    reply = engine.request("POST", f"/containers/{name}/kill?signal=SIGFOO")
    assert (reply.status, _message(reply)) == (400, "Invalid signal: SIGFOO")


@pytest.mark.claim("POST /containers/{id}/restart", "rule-restart")
def test_restart_gives_another_process(engine: Engine, busybox: str, name: str) -> None:
    _create(engine, busybox, name, Cmd=["sleep", "60"])
    engine.request("POST", f"/containers/{name}/start")
    before = engine.state(name)["Pid"]
    assert engine.request("POST", f"/containers/{name}/restart?t=0").status == 204
    state = engine.state(name)
    assert state["Running"] is True and state["Pid"] != before


@pytest.mark.claim("DELETE /containers/{id}", "rule-remove", "break-status-words")
def test_remove_of_a_running_container_is_409(engine: Engine, busybox: str, name: str) -> None:
    container = _create(engine, busybox, name, Cmd=["sleep", "60"])
    engine.request("POST", f"/containers/{name}/start")
    reply = engine.request("DELETE", f"/containers/{name}")
    assert reply.status == 409
    assert _message(reply) == (
        f"You cannot remove a running container {container}. "
        "Stop the container before attempting removal or force remove"
    )
    assert engine.request("DELETE", f"/containers/{name}?force=1").status == 204
    assert engine.request("GET", f"/containers/{container}/json").status == 404


@pytest.mark.claim("rule-errors-are-json", "break-status-words")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/containers/nosuch/json"),
        ("POST", "/containers/nosuch/start"),
        ("POST", "/containers/nosuch/stop"),
        ("POST", "/containers/nosuch/wait"),
        ("GET", "/containers/nosuch/logs?stdout=1"),
        ("DELETE", "/containers/nosuch"),
    ],
)
def test_unknown_container_is_404(engine: Engine, method: str, path: str) -> None:
    reply = engine.request(method, path)
    assert (reply.status, _message(reply)) == (404, "No such container: nosuch")


@pytest.mark.claim("POST /containers/{id}/attach", "rule-attach-errors")
def test_attach_to_an_unknown_container_is_404(engine: Engine) -> None:
    """The reference answers in plain text here; its words are what clients show."""
    reply = engine.request("POST", "/containers/nosuch/attach?stream=1&stdout=1")
    assert reply.status == 404 and b"No such container: nosuch" in reply.body


@pytest.mark.claim("POST /containers/{id}/kill", "rule-errors-are-json")
def test_kill_of_an_unknown_container_says_so_twice(engine: Engine) -> None:
    reply = engine.request("POST", "/containers/nosuch/kill")
    assert (reply.status, _message(reply)) == (404, "Cannot kill container: nosuch: No such container: nosuch")


@pytest.mark.claim("POST /containers/create", "rule-create-name-taken")
def test_name_in_use_is_409(engine: Engine, busybox: str, name: str) -> None:
    container = _create(engine, busybox, name)
    reply = engine.request("POST", f"/containers/create?name={name}", {"Image": busybox})
    assert reply.status == 409
    assert _message(reply) == (
        f'Conflict. The container name "/{name}" is already in use by container "{container}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )


@pytest.mark.claim("POST /containers/create", "rule-container-names")
@pytest.mark.parametrize("bad", ["a", "-x", "sp%20ace", "sl/ash"])
def test_bad_names_are_400(engine: Engine, busybox: str, bad: str) -> None:
    reply = engine.request("POST", f"/containers/create?name={bad}", {"Image": busybox})
    assert reply.status == 400
    assert "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed" in _message(reply)


@pytest.mark.claim("POST /containers/create", "rule-create-missing-image")
def test_unknown_image_is_404(engine: Engine) -> None:
    reply = engine.request("POST", "/containers/create", {"Image": "nosuch:1"})
    assert (reply.status, _message(reply)) == (404, "No such image: nosuch:1")


@pytest.mark.claim("POST /containers/create", "rule-create-validation")
@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"HostConfig": {"Memory": 1000}}, 400, "Minimum memory limit allowed is 6MB"),
        ({"WorkingDir": "rel"}, 400, "the working directory 'rel' is invalid, it needs to be an absolute path"),
        (
            {"HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}},
            400,
            "maximum retry count cannot be used with restart policy 'always'",
        ),
        (
            {"HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}},
            400,
            "can't create 'AutoRemove' container with restart policy",
        ),
        ({"HostConfig": {"CapAdd": ["CAP_FOO"]}}, 400, 'invalid CapAdd: unknown capability: "CAP_FOO"'),
        ({"StopSignal": "SIGFOO"}, 400, "Invalid signal: SIGFOO"),
        ({"Env": ["=x"]}, 400, "invalid environment variable: =x"),
    ],
)
def test_what_cannot_be_right_is_refused(
    engine: Engine, busybox: str, body: dict[str, object], status: int, message: str
) -> None:
    before = engine.request("GET", "/containers/json?all=1").json()
    reply = engine.request("POST", "/containers/create", {"Image": busybox, **body})
    assert (reply.status, _message(reply)) == (status, message)
    assert engine.request("GET", "/containers/json?all=1").json() == before


@pytest.mark.claim("rule-content-type", "server-reads-and-parses")
def test_broken_json_is_refused(engine: Engine) -> None:
    """Old reference engines say 500, newer ones 400."""
    headers = {"Content-Type": "application/json"}
    for body in (b'{"Image": ', b'{"Image" 3}', b"[]", b'{"Env": 3}'):
        assert engine.request("POST", "/containers/create", body, headers=headers).status in {400, 500}


@pytest.mark.claim("rule-content-type")
def test_other_content_type_is_400(engine: Engine) -> None:
    reply = engine.request("POST", "/containers/create", b"{}", headers={"Content-Type": "text/plain"})
    assert reply.status == 400
    assert _message(reply) == "Content-Type specified (text/plain) must be 'application/json'"


@pytest.mark.claim("rule-json-keys", "break-filters-and-booleans")
def test_keys_of_any_case_and_null_values(engine: Engine, busybox: str, name: str) -> None:
    body = {"image": busybox, "CMD": ["sleep", "60"], "env": None, "hostconfig": {"memory": 67108864}, "Unknown": 1}
    reply = engine.request("POST", f"/containers/create?name={name}", body)
    assert reply.status == 201, reply
    value: Any = engine.inspect(name)
    assert value["HostConfig"]["Memory"] == 67108864
    assert value["Config"]["Cmd"] == ["sleep", "60"]


@pytest.mark.claim("POST /containers/{id}/wait", "rule-wait")
def test_wait_tells_the_exit_code(engine: Engine, busybox: str, name: str) -> None:
    _create(engine, busybox, name, Cmd=["sh", "-c", "exit 6"])
    engine.request("POST", f"/containers/{name}/start")
    value: Any = engine.request("POST", f"/containers/{name}/wait").json()
    assert value["StatusCode"] == 6


@pytest.mark.claim("POST /containers/{id}/wait", "rule-wait", "rule-wait-header")
def test_next_exit_waits_for_one_that_is_not_running_yet(engine: Engine, busybox: str, name: str) -> None:
    _create(engine, busybox, name, Cmd=["sh", "-c", "exit 4"])
    with Waiting(engine, "POST", f"/containers/{name}/wait?condition=next-exit") as waiting:
        # Its head has come: from here on it waits, whoever is slow.
        assert waiting.status == 200 and waiting.pending
        engine.request("POST", f"/containers/{name}/start")
        assert json.loads(waiting.result())["StatusCode"] == 4


@pytest.mark.claim("POST /containers/{id}/wait", "gate-1.42-wait-condition")
def test_bad_wait_condition_is_400(engine: Engine, busybox: str, name: str) -> None:
    _create(engine, busybox, name)
    if engine.kind == "docker":
        version: Any = engine.request("GET", "/version").json()
        if tuple(map(int, version["ApiVersion"].split("."))) < (1, 42):
            pytest.skip("400 since API 1.42")
    assert engine.request("POST", f"/containers/{name}/wait?condition=bogus").status == 400


@pytest.mark.claim("GET /containers/{id}/json", "rule-ids")
def test_ids_by_prefix_and_by_name(engine: Engine, busybox: str, name: str) -> None:
    container = _create(engine, busybox, name)
    for way in (container, container[:12], container[:6], name):
        assert engine.inspect(way)["Id"] == container


@pytest.mark.claim("GET /containers/json", "rule-filters-dialects", "break-filters-and-booleans", "rule-status-text")
def test_ps_shows_what_runs(engine: Engine, busybox: str, name: str) -> None:
    engine.docker(
        "run", "-d", "--name", name, "-l", f"mine={name}", "-p", "127.0.0.1::80", busybox, "sleep", "60", check=True
    )
    rows: Any = engine.request("GET", f'/containers/json?filters={{"label":["mine={name}"]}}').json()
    assert [row["Names"] for row in rows] == [[f"/{name}"]]
    row = rows[0]
    assert (row["Image"], row["Command"], row["State"]) == (busybox, "sleep 60", "running")
    assert row["Status"].startswith(("Up ", "Less than"))
    assert row["Ports"][0]["PrivatePort"] == 80 and row["Ports"][0]["IP"] == "127.0.0.1"
    assert isinstance(row["Created"], int)
    both: Any = engine.request("GET", f'/containers/json?filters={{"label":{{"mine={name}":true}}}}').json()
    assert [row["Id"] for row in both] == [row["Id"] for row in rows]


@pytest.mark.claim("GET /containers/json", "rule-limit-minus-one", "rule-status-text", "rule-booleans-in-query")
def test_stopped_containers_are_listed_with_all_only(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "--name", name, busybox, "sh", "-c", "exit 3")
    listed_as_ended(engine, name)
    running: Any = engine.request("GET", "/containers/json?limit=-1").json()
    every: Any = engine.request("GET", "/containers/json?all=True&limit=-1").json()
    assert [f"/{name}"] not in [row["Names"] for row in running]
    mine = next(row for row in every if row["Names"] == [f"/{name}"])
    assert mine["Status"].startswith("Exited (3)")


@pytest.mark.claim("GET /containers/json", "rule-filters-unknown")
def test_unknown_filter_is_400(engine: Engine) -> None:
    reply = engine.request("GET", '/containers/json?filters={"foo":["x"]}')
    assert (reply.status, _message(reply)) == (400, "Invalid filter 'foo'")


@pytest.mark.claim("GET /containers/{id}/logs", "rule-logs", "break-logs")
def test_logs_tell_what_was_said(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "--name", name, busybox, "sh", "-c", "echo 1; echo 2 >&2; echo 3; printf tail")
    done = engine.docker("logs", name)
    assert (done.out, done.err) == ("1\n3\ntail", "2\n")
    assert engine.docker("logs", "--tail", "1", name).out == "tail"
    stamped = engine.docker("logs", "-t", name).out.splitlines()
    assert all(line[:2] == "20" and "T" in line.split()[0] and line.split()[0].endswith("Z") for line in stamped)


@pytest.mark.claim("GET /containers/{id}/logs", "rule-logs-follow", "break-logs")
def test_logs_follow_until_the_end(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, busybox, "sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done")
    assert engine.docker("logs", "-f", name, timeout=20).out == "1\n2\n3\n4\n5\n"


@pytest.mark.claim("GET /containers/{id}/logs", "rule-logs")
def test_logs_need_a_stream(engine: Engine, busybox: str, name: str) -> None:
    _create(engine, busybox, name)
    reply = engine.request("GET", f"/containers/{name}/logs")
    assert (reply.status, _message(reply)) == (400, "Bad parameters: you must choose at least one stream")


@pytest.mark.claim("GET /containers/{id}/logs", "rule-log-file")
def test_long_lines_come_out_whole(engine: Engine, busybox: str, name: str) -> None:
    script = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo end"
    done = engine.docker("run", "--name", name, busybox, "sh", "-c", script)
    assert done.out == "x" * 100000 + "\nend\n"
    assert engine.docker("logs", name).out == done.out


@pytest.mark.claim("break-wait-short-runs", "rule-drain", "rule-wait-header")
def test_no_output_is_lost_in_a_hundred_short_runs(engine: Engine, busybox: str) -> None:
    for number in range(25):
        done = engine.docker("run", "--rm", "--network", "none", busybox, "sh", "-c", f"echo {number}; exit {number}")
        assert (done.code, done.out) == (number, f"{number}\n")


@pytest.mark.claim(
    "POST /containers/{id}/exec", "POST /exec/{id}/start", "rule-exec", "execdriver-exec", "job-process-in-container"
)
def test_exec_runs_inside(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "-e", "A=inherited", busybox, "sleep", "60", check=True)
    done = engine.docker("exec", "-e", "B=given", "-w", "/tmp", name, "sh", "-c", "echo $A $B; pwd; exit 8")
    assert (done.code, done.out) == (8, "inherited given\n/tmp\n")
    assert engine.docker("exec", "-u", "www", name, "id", "-un").out == "www\n"
    assert engine.docker("exec", "-i", name, "cat", input="typed").out == "typed"


@pytest.mark.claim("POST /exec/{id}/start", "rule-exec-joins", "execdriver-exec")
def test_exec_shares_every_namespace_and_the_cgroup(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "-m", "64m", busybox, "sleep", "60", check=True)
    script = (
        "for n in mnt uts ipc pid net cgroup; do a=$(readlink /proc/1/ns/$n); b=$(readlink /proc/self/ns/$n); "
        "[ $a = $b ] || echo $n differs; done; md5sum < /proc/1/cgroup; md5sum < /proc/self/cgroup; "
        "grep Seccomp: /proc/self/status; grep CapEff /proc/self/status"
    )
    lines = engine.docker("exec", name, "sh", "-c", script).out.splitlines()
    assert len(lines) == 4 and lines[0] == lines[1], lines
    assert lines[2].split() == ["Seccomp:", "2"] and lines[3].split() == ["CapEff:", "00000000a80425fb"]


@pytest.mark.claim("POST /exec/{id}/start", "rule-exec-errors")
def test_exec_of_an_unknown_command(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, busybox, "sleep", "60", check=True)
    done = engine.docker("exec", name, "nosuch")
    assert done.code in {126, 127}
    assert 'exec: "nosuch": executable file not found in $PATH' in done.out + done.err


@pytest.mark.claim("POST /containers/{id}/exec", "rule-exec-errors")
def test_exec_in_a_stopped_container_is_409(engine: Engine, busybox: str, name: str) -> None:
    container = _create(engine, busybox, name)
    reply = engine.request("POST", f"/containers/{name}/exec", {"Cmd": ["true"]})
    assert (reply.status, _message(reply)) == (409, f"Container {container} is not running")


@pytest.mark.claim("GET /exec/{id}/json", "POST /containers/{id}/exec", "POST /exec/{id}/start", "rule-exec")
def test_exec_inspect_before_and_after(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, busybox, "sleep", "60", check=True)
    made: Any = engine.request("POST", f"/containers/{name}/exec", {"Cmd": ["sh", "-c", "exit 3"]}).json()
    before: Any = engine.request("GET", f"/exec/{made['Id']}/json").json()
    assert (before["Running"], before["ExitCode"]) == (False, None)
    assert engine.request("POST", f"/exec/{made['Id']}/start", {"Detach": True}).status == 200

    def ended() -> bool:
        value: Any = engine.request("GET", f"/exec/{made['Id']}/json").json()
        return value["ExitCode"] == 3 and value["Running"] is False

    wait_until(ended, what="the end of the exec")


@pytest.mark.claim("POST /containers/{id}/attach", "rule-hijack", "break-attach-half-close")
def test_attach_sees_output_and_gives_input(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("create", "-i", "--name", name, busybox, "sh", "-c", "read x; echo got $x", check=True)
    done = engine.docker("start", "-a", "-i", name, input="word\n")
    assert done.out == "got word\n", done


@pytest.mark.claim("POST /containers/{id}/pause", "POST /containers/{id}/unpause", "rule-pause", "rule-exec-errors")
def test_pause_freezes(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, busybox, "sleep", "60", check=True)
    assert engine.request("POST", f"/containers/{name}/pause").status == 204
    assert engine.state(name)["Status"] == "paused"
    reply = engine.request("POST", f"/containers/{name}/exec", {"Cmd": ["true"]})
    assert reply.status == 409 and "is paused, unpause the container before exec" in _message(reply)
    assert engine.request("POST", f"/containers/{name}/unpause").status == 204
    # News of the pause may reach the reference after that, and those of its end soon after.
    wait_until(lambda: engine.state(name)["Status"] == "running", what="its going on")


@pytest.mark.claim("rule-restart-policies")
def test_restart_policy_counts(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "--restart", "on-failure:2", busybox, "sh", "-c", "exit 4", check=True)

    def settled() -> bool:
        value: Any = engine.inspect(name)
        return value["RestartCount"] == 2 and value["State"]["Status"] == "exited"

    wait_until(settled, timeout=20, what="two restarts")
    assert engine.state(name)["ExitCode"] == 4


@pytest.mark.claim("GET /containers/{id}/top", "rule-top")
def test_top_lists_the_processes(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, busybox, "sleep", "61", check=True)

    def top() -> Any:
        return engine.request("GET", f"/containers/{name}/top").json()

    # At first it is a runtime that is about to become the command.
    wait_until(lambda: top()["Processes"][0][-1] == "sleep 61", what="the command")
    value = top()
    assert value["Titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert int(value["Processes"][0][1]) == engine.state(name)["Pid"]


@pytest.mark.claim("POST /containers/{id}/rename", "rule-rename")
def test_rename(engine: Engine, busybox: str, name: str) -> None:
    container = _create(engine, busybox, name)
    assert engine.request("POST", f"/containers/{name}/rename?name={name}-new").status == 204
    assert engine.inspect(f"{name}-new")["Id"] == container
    assert engine.request("GET", f"/containers/{name}/json").status == 404
    engine.request("POST", f"/containers/{name}-new/rename?name={name}")


@pytest.mark.claim("DELETE /images/{name}", "rule-image-conflict")
def test_image_of_a_container_cannot_be_removed(engine: Engine, shelf: Shelf, name: str) -> None:
    reference = shelf.add("lifecycle/held:1", label="held by a container")
    engine.docker("pull", "-q", reference, check=True)
    container = _create(engine, reference, name)
    value: Any = engine.request("GET", f"/images/{reference}/json").json()
    hexid = value["Id"].removeprefix("sha256:")[:12]
    reply = engine.request("DELETE", f"/images/{hexid}")
    assert reply.status == 409
    assert f"image is being used by stopped container {container[:12]}" in _message(reply)
