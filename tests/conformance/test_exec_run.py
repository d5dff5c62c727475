"""exec: a process more in a running container; how it is made, run, sized and asked about."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.asking import get, message, post
from tests.support.cgroups import cgroup
from tests.support.containers import Frame, Hijack, create, events, frames, joined, run, wait
from tests.support.engines import Engine
from tests.support.sandbox import wait_until

_OUTPUT = {"AttachStdout": True, "AttachStderr": True}
_FAILED = "OCI runtime exec failed: exec failed: unable to start container process: "


def _made(engine: Engine, name: str, *command: str, **body: object) -> str:
    """``POST /containers/{id}/exec``; returns the exec's ID."""
    value = post(engine, f"/containers/{name}/exec", {"Cmd": list(command), **_OUTPUT, **body}, status=201)
    return str(value["Id"])


def _done(
    engine: Engine, name: str, *command: str, typed: bytes | None = None, **body: object
) -> tuple[int, list[Frame]]:
    """Run it to its end: the exit code, and what it said."""
    exec_id = _made(engine, name, *command, **body)
    with Hijack(engine, f"/exec/{exec_id}/start", {"Detach": False}) as stream:
        if typed is not None:
            stream.send(typed)
        stream.close_input()
        said = frames(stream.rest())
    value = get(engine, f"/exec/{exec_id}/json")
    assert value["Running"] is False
    return value["ExitCode"], said


def _running(engine: Engine, name: str, *command: str, **body: object) -> tuple[str, int]:
    """Started and left alone: its ID and pid."""
    exec_id = _made(engine, name, *command, **body)
    assert engine.request("POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    wait_until(lambda: get(engine, f"/exec/{exec_id}/json")["Pid"] != 0, what="a pid")
    pid = int(get(engine, f"/exec/{exec_id}/json")["Pid"])
    # Until then it is a runtime that is about to become the command.
    line = b"".join(word.encode() + b"\0" for word in command)
    wait_until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes() == line, what="the command")
    return exec_id, pid


def _status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.split() for key, _, value in (line.partition(":") for line in lines)}


@pytest.mark.claim("POST /containers/{id}/exec", "rule-exec", "rule-exec-errors")
class TestMaking:
    def test_the_reply(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        value = post(engine, f"/containers/{name}/exec", {"Cmd": ["true"]}, status=201)
        assert list(value) == ["Id"] and len(value["Id"]) == 64
        assert engine.inspect(name)["ExecIDs"] == [value["Id"]]

    @pytest.mark.parametrize("body", [{}, {"Cmd": []}, {"Cmd": None}], ids=["nothing", "empty", "null"])
    def test_without_a_command(self, engine: Engine, busybox: str, name: str, body: dict[str, object]) -> None:
        run(engine, busybox, name)
        reply = engine.request("POST", f"/containers/{name}/exec", body)
        assert (reply.status, message(reply)) == (400, "No exec command specified")

    def test_in_one_that_is_paused(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        engine.request("POST", f"/containers/{name}/pause")
        reply = engine.request("POST", f"/containers/{name}/exec", {"Cmd": ["true"]})
        words = f"Container {name} is paused, unpause the container before exec"
        assert (reply.status, message(reply)) == (409, words)

    def test_in_one_that_is_unknown(self, engine: Engine) -> None:
        reply = engine.request("POST", "/containers/no-such/exec", {"Cmd": ["true"]})
        assert (reply.status, message(reply)) == (404, "No such container: no-such")

    def test_paused_in_the_meantime(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        exec_id = _made(engine, name, "true")
        engine.request("POST", f"/containers/{name}/pause")
        reply = engine.request("POST", f"/exec/{exec_id}/start", {"Detach": True})
        assert reply.status == 409 and "is paused, unpause the container before exec" in message(reply)

    def test_ended_in_the_meantime(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        exec_id = _made(engine, name, "true")
        engine.request("POST", f"/containers/{name}/kill")
        wait(engine, name)
        assert engine.request("POST", f"/exec/{exec_id}/start", {"Detach": True}).status in {404, 409}


@pytest.mark.claim("POST /exec/{id}/start", "rule-exec", "rule-stream-frames", "rule-hijack")
class TestStreams:
    def test_both_apart(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        code, said = _done(engine, name, "sh", "-c", "echo o; echo e >&2; exit 3")
        assert (code, sorted(said)) == (3, [Frame(1, b"o\n"), Frame(2, b"e\n")])

    def test_only_what_was_asked_for(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        code, said = _done(engine, name, "sh", "-c", "echo o; echo e >&2", AttachStdout=False)
        assert (code, said) == (0, [Frame(2, b"e\n")])

    def test_input_and_its_end(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        code, said = _done(engine, name, "sh", "-c", "wc -c; echo after", typed=b"x" * 200000, AttachStdin=True)
        assert (code, joined(said, 1)) == (0, b"200000\nafter\n")

    def test_a_megabyte(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        code, said = _done(engine, name, "head", "-c", "1048576", "/dev/zero")
        assert code == 0 and joined(said, 1) == b"\0" * 1048576

    @pytest.mark.parametrize(("upgrade", "line"), [(True, "101 UPGRADED"), (False, "200 OK")])
    def test_with_and_without_an_upgrade(
        self, engine: Engine, busybox: str, name: str, upgrade: bool, line: str
    ) -> None:
        run(engine, busybox, name)
        exec_id = _made(engine, name, "echo", "x")
        with Hijack(engine, f"/v1.41/exec/{exec_id}/start", {"Detach": False}, upgrade=upgrade) as stream:
            assert stream.line == f"HTTP/1.1 {line}"
            assert stream.headers["content-type"] == "application/vnd.docker.raw-stream"
            assert frames(stream.rest()) == [Frame(1, b"x\n")]

    def test_a_terminal(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        exec_id = _made(engine, name, "sh", "-c", "tty; echo e >&2; echo $TERM", Tty=True)
        with Hijack(engine, f"/exec/{exec_id}/start", {"Detach": False, "Tty": True}) as stream:
            assert stream.rest() == b"/dev/pts/0\r\ne\r\nxterm\r\n"

    @pytest.mark.claim("rule-detach-keys")
    def test_keys_that_detach(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        exec_id = _made(engine, name, "cat", Tty=True, AttachStdin=True, DetachKeys="ctrl-a,b")
        with Hijack(engine, f"/exec/{exec_id}/start", {"Detach": False, "Tty": True}) as stream:
            stream.send(b"abc")
            stream.until(b"abc")
            stream.send(b"\x01b")
            # Old reference engines tell of it in the stream.
            rest = stream.rest()
            assert rest == b"" or rest.endswith(b"read escape sequence\r\n")
        assert engine.state(name)["Running"] is True

    def test_one_who_leaves_leaves_it_running(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        exec_id = _made(engine, name, "sh", "-c", "echo up; sleep 300")
        with Hijack(engine, f"/exec/{exec_id}/start", {"Detach": False}) as stream:
            stream.until(b"up")
        assert get(engine, f"/exec/{exec_id}/json")["Running"] is True


@pytest.mark.claim("POST /exec/{id}/start", "rule-exec", "rule-exec-errors")
class TestStarting:
    def test_left_alone(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        exec_id = _made(engine, name, "sh", "-c", "sleep 300")
        reply = engine.request("POST", f"/exec/{exec_id}/start", {"Detach": True})
        assert (reply.status, reply.body) == (200, b"")
        assert get(engine, f"/exec/{exec_id}/json")["Running"] is True

    def test_twice(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        exec_id = _made(engine, name, "true")
        words = f"Error: Exec command {exec_id} has already run"
        with Hijack(engine, f"/exec/{exec_id}/start", {"Detach": False}) as stream:
            stream.rest()
        with Hijack(engine, f"/exec/{exec_id}/start", {"Detach": False}) as stream:
            assert (stream.status, joined(frames(stream.rest()), 1)) == (101, words.encode() + b"\r\n")
        reply = engine.request("POST", f"/exec/{exec_id}/start", {"Detach": True})
        assert (reply.status, message(reply)) == (409, words)

    @pytest.mark.parametrize(
        ("command", "body", "words"),
        [
            ("no-such", {}, f'{_FAILED}exec: "no-such": executable file not found in $PATH: unknown'),
            ("", {}, f'{_FAILED}exec: "": executable file not found in $PATH: unknown'),
            ("/etc", {}, f'{_FAILED}exec: "/etc": permission denied: unknown'),
            (
                "true",
                {"WorkingDir": "/no/such"},
                f'{_FAILED}chdir to cwd ("/no/such") set in config.json failed: no such file or directory: unknown',
            ),
            ("true", {"User": "no-such"}, "unable to find user no-such: no matching entries in passwd file"),
        ],
        ids=["path", "empty", "folder", "cwd", "user"],
    )
    def test_what_cannot_run(
        self, engine: Engine, busybox: str, name: str, command: str, body: dict[str, object], words: str
    ) -> None:
        """Who is attached reads it in the stream; who is not gets an error."""
        run(engine, busybox, name)
        code, said = _done(engine, name, command, **body)
        assert joined(said, 1).decode() == f"{words}\r\n" and code in {126, 127}
        exec_id = _made(engine, name, command, **body)
        reply = engine.request("POST", f"/exec/{exec_id}/start", {"Detach": True})
        assert reply.status in {400, 500} and message(reply) == words
        assert get(engine, f"/exec/{exec_id}/json")["ExitCode"] in {126, 127}

    def test_unknown_ones(self, engine: Engine) -> None:
        for method, path, body in (
            ("POST", "/exec/no-such/start", {"Detach": True}),
            ("GET", "/exec/no-such/json", None),
            ("POST", "/exec/no-such/resize?h=1&w=1", None),
        ):
            reply = engine.request(method, path, body)
            assert (reply.status, message(reply)) == (404, "No such exec instance: no-such")

    def test_many_at_once(self, engine: Engine, busybox: str, name: str) -> None:
        from concurrent.futures import ThreadPoolExecutor

        run(engine, busybox, name)
        with ThreadPoolExecutor(5) as pool:
            done = list(pool.map(lambda n: _done(engine, name, "sh", "-c", f"echo {n}; exit {n}"), range(10)))
        assert done == [(number, [Frame(1, b"%d\n" % number)]) for number in range(10)]


@pytest.mark.claim("GET /exec/{id}/json", "rule-exec")
class TestInspect:
    def test_before(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        exec_id = _made(engine, name, "sh", "-c", "x", Env=["A=1"], User="www", Privileged=True, Tty=True)
        value = get(engine, f"/exec/{exec_id}/json")
        assert value.pop("ContainerID") == engine.inspect(name)["Id"]
        assert value == {
            "ID": exec_id,
            "Running": False,
            "ExitCode": None,
            "ProcessConfig": {
                "tty": True, "entrypoint": "sh", "arguments": ["-c", "x"], "privileged": True, "user": "www",
            },
            "OpenStdin": False,
            "OpenStderr": True,
            "OpenStdout": True,
            "CanRemove": False,
            "DetachKeys": "",
            "Pid": 0,
        }  # fmt: skip

    def test_meanwhile_and_afterwards(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        exec_id, pid = _running(engine, name, "sleep", "298")
        command = Path(f"/proc/{pid}/cmdline")
        wait_until(lambda: command.read_bytes() == b"sleep\x00298\x00", what="the command")
        value = get(engine, f"/exec/{exec_id}/json")
        assert (value["Running"], value["ExitCode"]) == (True, None)
        os.kill(pid, 15)
        wait_until(lambda: get(engine, f"/exec/{exec_id}/json")["Running"] is False, what="the end")
        assert get(engine, f"/exec/{exec_id}/json")["ExitCode"] == 143


@pytest.mark.claim("POST /exec/{id}/start", "rule-exec-joins", "execdriver-exec")
class TestWhereItRuns:
    def test_namespaces_and_cgroups(self, engine: Engine, busybox: str, name: str) -> None:
        pid = run(engine, busybox, name, HostConfig={"Memory": 64 << 20})
        _, inner = _running(engine, name, "sleep", "298")
        for kind in ("mnt", "uts", "ipc", "pid", "net", "cgroup", "user"):
            assert os.readlink(f"/proc/{inner}/ns/{kind}") == os.readlink(f"/proc/{pid}/ns/{kind}"), kind
        for controller in ("memory", "pids", "cpu", "devices"):
            assert cgroup(inner, controller) == cgroup(pid, controller)
        assert os.path.samefile(f"/proc/{inner}/root", f"/proc/{pid}/root")

    @pytest.mark.parametrize(
        "host",
        [
            {},
            {"CapAdd": ["NET_ADMIN"], "CapDrop": ["CHOWN"]},
            {"SecurityOpt": ["no-new-privileges", "seccomp=unconfined"]},
        ],
        ids=["plain", "capabilities", "security"],
    )
    def test_confinement(self, engine: Engine, busybox: str, name: str, host: dict[str, object]) -> None:
        pid = run(engine, busybox, name, HostConfig=host)
        _, inner = _running(engine, name, "sleep", "298")
        one, two = _status(pid), _status(inner)
        keys = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups")
        assert {key: two[key] for key in keys} == {key: one[key] for key in keys}

    def test_limits_and_score(self, engine: Engine, busybox: str, name: str) -> None:
        # Not nofile: Go's runtime raises its own, and so runc's child now and then undoes what its parent has set.
        limits = [{"Name": "cpu", "Soft": 111, "Hard": 222}]
        pid = run(engine, busybox, name, HostConfig={"Ulimits": limits, "OomScoreAdj": 250})
        _, inner = _running(engine, name, "sleep", "298")
        for file in ("limits", "oom_score_adj"):
            assert Path(f"/proc/{inner}/{file}").read_text() == Path(f"/proc/{pid}/{file}").read_text(), file

    @pytest.mark.parametrize(
        ("user", "ids", "home"),
        [("www", ("33", "33"), "/var/www"), ("1234:10", ("1234", "10"), "/"), ("", ("0", "0"), "/root")],
    )
    def test_another_user(
        self, engine: Engine, busybox: str, name: str, user: str, ids: tuple[str, str], home: str
    ) -> None:
        run(engine, busybox, name)
        code, said = _done(
            engine, name, "sh", "-c", "id -u; id -g; echo $HOME; grep CapEff /proc/self/status", User=user
        )
        uid, gid, shown, effective = joined(said, 1).decode().splitlines()
        assert (code, (uid, gid), shown) == (0, ids, home)
        assert effective.split()[1] == ("00000000a80425fb" if not user else "0" * 16)

    def test_the_containers_user_environment_and_folder(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name, User="www", Env=["A=container", "B=container"], WorkingDir="/tmp")
        _, said = _done(engine, name, "sh", "-c", "id -un; echo $A $B $C; pwd", Env=["B=own", "C=own"])
        assert joined(said, 1) == b"www\ncontainer own own\n/tmp\n"

    def test_it_ends_with_the_container(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        _, inner = _running(engine, name, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
        engine.request("POST", f"/containers/{name}/kill")
        wait(engine, name)
        wait_until(lambda: not Path(f"/proc/{inner}").exists(), what="the end of the exec")

    def test_the_container_does_not_end_with_it(self, engine: Engine, busybox: str, name: str) -> None:
        pid = run(engine, busybox, name)
        assert _done(engine, name, "sh", "-c", "kill -9 $$")[0] == 137
        assert engine.state(name)["Pid"] == pid

    def test_what_it_leaves_is_the_containers(self, engine: Engine, busybox: str, name: str) -> None:
        """A process in the background outlives the exec, in the container."""
        pid = run(engine, busybox, name)
        assert _done(engine, name, "sh", "-c", "sleep 297 >/dev/null 2>&1 </dev/null &")[0] == 0
        procs = cgroup(pid, "pids") / "cgroup.procs"
        wait_until(lambda: len(procs.read_text().split()) == 2, what="two processes")

    def test_no_descriptor_of_the_engine_is_left_open(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        _, inner = _running(engine, name, "sleep", "298")
        assert sorted(os.listdir(f"/proc/{inner}/fd"), key=int) == ["0", "1", "2"]


@pytest.mark.claim("POST /exec/{id}/resize", "rule-resize")
class TestResize:
    def test_at_once(self, engine: Engine, busybox: str, name: str) -> None:
        """As clients do it, who ask again if it was too early."""
        run(engine, busybox, name)
        exec_id = _made(engine, name, "sh", "-c", "echo up; read x; stty size", Tty=True, AttachStdin=True)
        with Hijack(engine, f"/exec/{exec_id}/start", {"Detach": False, "Tty": True}) as stream:
            path = f"/exec/{exec_id}/resize?h=30&w=100"
            wait_until(lambda: engine.request("POST", path).status == 200, what="the resize")
            stream.until(b"up")
            stream.send(b"\n")
            assert stream.rest().endswith(b"30 100\r\n")

    def test_of_one_that_has_ended(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        exec_id = _made(engine, name, "true", Tty=True)
        with Hijack(engine, f"/exec/{exec_id}/start", {"Detach": False, "Tty": True}) as stream:
            stream.rest()
        reply = engine.request("POST", f"/exec/{exec_id}/resize?h=30&w=100")
        # The reference has forgotten the terminal, or the process, or neither yet.
        assert reply.status in {404, 409, 500}
        said = ("cannot resize a stopped container", "no such exec", "process does not exist")
        assert message(reply).removeprefix("NotFound: ").startswith(said)

    def test_to_what_is_no_number(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        exec_id = _made(engine, name, "true", Tty=True)
        reply = engine.request("POST", f"/exec/{exec_id}/resize?h=x&w=100")
        assert (reply.status, message(reply)) == (400, 'strconv.Atoi: parsing "x": invalid syntax')


@pytest.mark.claim("rule-exec", "rule-events")
def test_events(engine: Engine, busybox: str, name: str) -> None:
    run(engine, busybox, name)
    with events(engine, container=[name]) as stream:
        _done(engine, name, "sh", "-c", "exit 3")
        wait_until(lambda: len(stream.lines()) >= 3, what="three events")
        found = stream.lines()
    assert [row["Action"] for row in found] == ["exec_create: sh -c exit 3", "exec_start: sh -c exit 3", "exec_die"]
    attributes = found[2]["Actor"]["Attributes"]
    assert (attributes["exitCode"], attributes["name"]) == ("3", name)
    assert len({row["Actor"]["Attributes"]["execID"] for row in found}) == 1


@pytest.mark.claim("rule-exec-joins")
def test_in_a_container_that_shares_namespaces(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    first, second = names(), names()
    there = run(engine, busybox, first)
    create(
        engine,
        busybox,
        second,
        Cmd=["sleep", "300"],
        HostConfig={"NetworkMode": f"container:{first}", "PidMode": "host"},
    )
    engine.request("POST", f"/containers/{second}/start")
    _, inner = _running(engine, second, "sleep", "298")
    assert os.readlink(f"/proc/{inner}/ns/net") == os.readlink(f"/proc/{there}/ns/net")
    assert os.readlink(f"/proc/{inner}/ns/pid") == os.readlink(f"/proc/{engine.pid}/ns/pid")
