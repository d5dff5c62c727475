"""A daemon by itself: it starts or says why not, dies at any moment, and its successor finds everything again."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Engine, Pyker
from tests.support.sandbox import Sandbox, wait_until
from tests.support.traffic import A, resolve, upstream

pytestmark = pytest.mark.requires("root", "overlay", "nftables", "busybox", "docker-cli")

BUSYBOX = "pyker.local/busybox"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Pyker(tmp_path_factory.mktemp("daemon") / "engine")
    engine.start()
    engine.docker("pull", BUSYBOX, check=True)
    yield engine
    engine.stop()


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "engine" in request.fixturenames:
        request.getfixturevalue("engine").remove_containers()


def create(engine: Engine, *command: str, name: str = "", **host: object) -> str:
    """A container's ID, by the raw API."""
    body = {"Image": BUSYBOX, "Cmd": list(command), "HostConfig": host}
    reply = engine.request("POST", f"/containers/create?name={name}", body)
    assert reply.status == 201, reply
    value = reply.json()
    assert isinstance(value, dict)
    return str(value["Id"])


def daemon(sandbox: Sandbox, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a daemon that is expected to refuse."""
    process = sandbox.popen(
        [sys.executable, "-m", "pyker", "daemon", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    out, err = process.communicate(timeout=30)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_a_second_daemon_on_the_same_root_is_refused(engine: Engine, tmp_path: Path) -> None:
    done = daemon(
        engine.sandbox,
        f"--data-root={engine.data_root}",
        f"--exec-root={tmp_path}/exec",
        f"--pidfile={tmp_path}/pid",
        f"--host=unix://{tmp_path}/s",
    )
    assert done.returncode == 1
    assert "pid file found, ensure pyker is not running or delete" in done.stderr
    assert f"process {engine.pid} uses the data root" in done.stderr
    assert engine.request("GET", "/_ping").status == 200


def test_a_second_daemon_with_the_same_pid_file_is_refused(engine: Engine, tmp_path: Path) -> None:
    done = daemon(
        engine.sandbox, f"--data-root={tmp_path}/data", f"--exec-root={tmp_path}/exec", f"--host=unix://{tmp_path}/s"
    )
    assert done.returncode == 1
    assert "pid file found, ensure pyker is not running or delete /run/pyker.pid" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "env", "text"),
    [
        (["--nope"], {}, "unknown flag: --nope"),
        (["--data-root=/proc/nope"], {}, "mkdir /proc/nope"),
        ([], {"DOCKER_DRIVER": "aufs"}, "driver not supported: 'aufs'"),
        (["--storage-driver=nope"], {}, "driver not supported: 'nope'"),
        (["--exec-driver=nope"], {}, "unknown execdriver 'nope'"),
        (["--host=unix:///no/such/folder/s"], {}, "can't listen on unix:///no/such/folder/s"),
        (["--config-file=/no/such/file"], {}, "open /no/such/file: no such file or directory"),
    ],
)
def test_a_daemon_that_cannot_start_says_why(
    tmp_path: Path, arguments: list[str], env: dict[str, str], text: str
) -> None:
    given = {argument.partition("=")[0] for argument in arguments}
    defaults = {
        "--data-root": tmp_path / "data",
        "--exec-root": tmp_path / "exec",
        "--pidfile": tmp_path / "pid",
        "--host": f"unix://{tmp_path}/s",
    }
    rest = [f"{name}={value}" for name, value in defaults.items() if name not in given]
    sandbox = Sandbox()
    try:
        done = daemon(sandbox, *arguments, *rest, env=env)
    finally:
        sandbox.close()
    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_containers_outlive_the_daemon(engine: Engine, number: signal.Signals) -> None:
    counting = "i=0; while true; do echo line $i; i=$((i+1)); usleep 20000; done"
    lives = engine.docker("run", "-d", "-p", "18080:80", BUSYBOX, "sh", "-c", counting, check=True).out.strip()
    ends = engine.docker("run", "-d", BUSYBOX, "sh", "-c", "read x < /dev/tty; usleep 300000; exit 7").out.strip()
    goes = engine.docker("run", "-d", "--rm", "-v", "/data", BUSYBOX, "sh", "-c", "usleep 300000").out.strip()
    always = engine.docker("run", "-d", "--restart=always", BUSYBOX, "sh", "-c", "usleep 300000; exit 9").out.strip()
    never = engine.docker("create", BUSYBOX, "true", check=True).out.strip()
    pid = engine.state(lives)["Pid"]
    assert engine.daemon is not None
    engine.daemon.send_signal(number)
    engine.daemon.wait(20)
    assert Path(f"/proc/{pid}/ns/net").exists()

    def all_ended() -> bool:
        folder = Path("/proc")
        running = [path.read_bytes() for path in folder.glob("[0-9]*/cgroup") if path.exists()]
        return not any(identifier.encode() in text for identifier in (ends, goes, always) for text in running)

    wait_until(all_ended, timeout=20, what="the end of the short-lived containers", every=0.02)
    engine.start()
    assert engine.state(lives)["Pid"] == pid
    assert engine.state(ends)["ExitCode"] == 7
    assert engine.request("GET", f"/containers/{goes}/json").status == 404
    assert engine.state(never)["Status"] == "created"
    wait_until(lambda: bool(engine.state(always)["Running"]), timeout=10, what="the restart", every=0.02)
    ports = engine.inspect(lives)["NetworkSettings"]
    assert isinstance(ports, dict)
    assert ports["Ports"]["80/tcp"][0]["HostPort"] == "18080"
    before = engine.docker("logs", lives, check=True).out.splitlines()
    assert before[:2] == ["line 0", "line 1"]
    wait_until(
        lambda: len(engine.docker("logs", lives).out.splitlines()) > len(before),
        timeout=10,
        what="new lines in the log",
        every=0.05,
    )
    assert engine.docker("exec", lives, "echo", "inside", check=True).out == "inside\n"
    clash = engine.docker("run", "--rm", "-p", "18080:80", BUSYBOX, "true")
    assert "port is already allocated" in clash.err
    assert engine.docker("stop", "-t", "0", lives, check=True).out.strip() == lives
    assert engine.state(lives)["ExitCode"] == 137
    engine.docker("run", "--rm", "-p", "18080:80", BUSYBOX, "true", check=True)


def test_attach_works_again_after_the_daemon_was_killed(engine: Engine) -> None:
    engine.docker("create", "-i", "--name", "echoes", BUSYBOX, "cat", check=True)
    engine.docker("start", "echoes", check=True)
    engine.kill()
    engine.start()
    done = engine.docker("attach", "echoes", input="still here\n")
    assert done.out == "still here\n"


def test_the_next_daemon_answers_for_names_again(engine: Engine) -> None:
    """Also by a name that it was given meanwhile, on networks that it joins then, and with its own servers."""
    engine.docker("network", "create", "--subnet", "10.84.0.0/24", "front", check=True)
    flags = ["--network", "front", "--network-alias", "www", "--dns", "10.84.0.1"]
    engine.docker("run", "-d", "--name", "web", *flags, BUSYBOX, "sleep", "1000", check=True)
    engine.docker("rename", "web", "shop", check=True)
    for number in (signal.SIGKILL, signal.SIGTERM):
        assert engine.daemon is not None
        engine.daemon.send_signal(number)
        engine.daemon.wait(20)
        engine.start()
        for name in ("shop", "www", "shop.front"):
            assert resolve(engine, "shop", name)["answers"] == [[A, "10.84.0.2", 600]]
        with upstream(engine, "10.84.0.1", "elsewhere.test", "192.0.2.55"):
            assert resolve(engine, "shop", "elsewhere.test")["answers"] == [[A, "192.0.2.55", 60]]
            assert resolve(engine, "shop", "web")["code"] == 3
    engine.docker("rm", "-f", "shop", check=True)
    engine.docker("network", "rm", "front", check=True)


def test_the_next_daemon_goes_on_with_health_checks(engine: Engine) -> None:
    """One that is under way neither holds the daemon up nor counts."""

    def health() -> Any:
        return engine.state("checked")["Health"]

    script = "echo x >> /count; test ! -e /slow || sleep 300"
    flags = ["--health-cmd", script, "--health-interval", "50ms", "--health-timeout", "1m", "--name", "checked"]
    engine.docker("run", "-d", *flags, BUSYBOX, "sleep", "1000", check=True)
    wait_until(lambda: health()["Status"] == "healthy", what="health")
    engine.docker("exec", "checked", "touch", "/slow", check=True)
    wait_until(lambda: "sleep 300" in engine.docker("top", "checked").out, what="a slow check")
    assert engine.daemon is not None
    began = time.monotonic()
    engine.daemon.terminate()
    engine.daemon.wait(20)
    assert time.monotonic() - began < 5
    engine.start()
    assert health()["Status"] == "healthy"
    assert [entry["ExitCode"] for entry in health()["Log"]] == [0] * len(health()["Log"])
    wait_until(lambda: "sleep 300" in engine.docker("top", "checked").out, what="the next daemon's check")
    jobs = engine.docker("jobs", cli=(sys.executable, "-m", "pyker")).out
    assert "health_probe" in jobs


def test_no_health_check_while_paused(engine: Engine) -> None:
    flags = ["--health-cmd", "echo x >> /count", "--health-interval", "20ms", "--name", "checked"]
    engine.docker("run", "-d", *flags, BUSYBOX, "sleep", "1000", check=True)
    wait_until(lambda: engine.state("checked")["Health"]["Status"] == "healthy", what="health")  # type: ignore[index]
    engine.docker("pause", "checked", check=True)
    wait_until(lambda: health_log(engine) == health_log(engine, after_s=0.2), what="an end of checks")
    engine.docker("unpause", "checked", check=True)
    before = health_log(engine)
    wait_until(lambda: health_log(engine) != before, what="a check after the pause")
    assert all(entry["ExitCode"] == 0 for entry in health_log(engine))


def health_log(engine: Engine, *, after_s: float = 0) -> list[dict[str, Any]]:
    """What the last checks said."""
    time.sleep(after_s)
    health: Any = engine.state("checked")["Health"]
    return list(health["Log"])


class Waiting(threading.Thread):
    """A client in ``wait``; ``headers`` is set when the answer's head has come."""

    def __init__(self, engine: Engine, container: str, condition: str) -> None:
        super().__init__(daemon=True)
        self.headers = threading.Event()
        self.code = -1
        self._path = f"/containers/{container}/wait?condition={condition}"
        self._socket = engine.socket
        self.start()
        assert self.headers.wait(10)

    def run(self) -> None:
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self._socket)
        connection.request("POST", self._path)
        reply = connection.getresponse()
        self.headers.set()
        self.code = json.loads(reply.read())["StatusCode"]
        connection.close()


def attach(engine: Engine, container: str) -> socket.socket:
    """A hijacked connection to a container's output."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(engine.socket)
    client.sendall(
        f"POST /v1.41/containers/{container}/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: x\r\n"
        "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 101")
    return client


def frames(client: socket.socket) -> dict[int, bytes]:
    """Everything until the end of the stream, by stream."""
    data = b""
    while piece := client.recv(65536):
        data += piece
    client.close()
    found: dict[int, bytes] = {1: b"", 2: b""}
    while data:
        stream, size = struct.unpack(">BxxxL", data[:8])
        found[stream] += data[8 : 8 + size]
        data = data[8 + size :]
    return found


@pytest.mark.parametrize("condition", ["next-exit", "removed"])
def test_no_output_and_no_exit_code_is_lost_in_many_short_runs(engine: Engine, condition: str) -> None:
    for number in range(40):
        container = create(
            engine, "sh", "-c", f"echo out {number}; echo err {number} >&2; exit {number}", AutoRemove=True
        )
        client = attach(engine, container)
        waiting = Waiting(engine, container, condition)
        assert engine.request("POST", f"/containers/{container}/start").status == 204
        assert frames(client) == {1: b"out %d\n" % number, 2: b"err %d\n" % number}
        waiting.join(20)
        assert waiting.code == number


def test_many_at_once_leave_nothing(engine: Engine) -> None:
    wrong: list[str] = []

    def one(number: int) -> None:
        container = create(engine, "sh", "-c", f"exit {number}", AutoRemove=True)
        waiting = Waiting(engine, container, "removed")
        engine.request("POST", f"/containers/{container}/start")
        waiting.join(60)
        if waiting.code != number:
            wrong.append(f"{number}: {waiting.code}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert wrong == []
    assert engine.request("GET", "/containers/json?all=1").json() == []
    folder = engine.data_root / "containers"
    wait_until(lambda: not list(folder.iterdir()), timeout=20, what="the deletion of what was removed", every=0.02)


def test_two_starts_and_a_forced_removal_at_once(engine: Engine) -> None:
    for _ in range(10):
        container = create(engine, "sleep", "100")
        statuses: list[int] = []
        threads = [
            threading.Thread(
                target=lambda: statuses.append(engine.request("POST", f"/containers/{container}/start").status)  # noqa: B023
            )
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        removed = engine.request("DELETE", f"/containers/{container}?force=1").status
        for thread in threads:
            thread.join(30)
        assert removed == 204
        assert set(statuses) <= {204, 304, 404, 409}, statuses
        assert engine.request("GET", f"/containers/{container}/json").status == 404


def test_hello_tells_which_steps_were_taken(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "pyker.local/hello", check=True)
    assert "Pull complete" in done.err
    for step in ("create", "start", "mount_rootfs", "allocate_interface bridge", "execdriver_run"):
        assert step in done.out
    assert "ms" in done.out


def test_a_full_disk_leaves_nothing_and_is_survived(tmp_path: Path) -> None:
    image, mountpoint = tmp_path / "disk", tmp_path / "mnt"
    mountpoint.mkdir()
    subprocess.run(["truncate", "-s", "48M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    sandbox = Sandbox()
    engine = Pyker(tmp_path / "engine", sandbox=sandbox)
    engine.data_root = mountpoint / "data"
    try:
        assert sandbox.popen(["mount", "-o", "loop", str(image), str(mountpoint)]).wait() == 0
        engine.start()
        engine.docker("pull", BUSYBOX, check=True)

        def listing() -> str:
            names = f"find {mountpoint}/data/containers {mountpoint}/data/overlay2 -mindepth 1 -maxdepth 1 | wc -l"
            process = sandbox.popen(["sh", "-c", names], stdout=subprocess.PIPE)
            return process.communicate()[0].decode().strip()

        engine.docker("run", "--rm", BUSYBOX, "true", check=True)
        before = listing()
        fill = f"dd if=/dev/zero of={mountpoint}/fill bs=64k; dd if=/dev/zero of={mountpoint}/fill2 bs=512"
        sandbox.popen(["sh", "-c", fill], stderr=subprocess.DEVNULL).wait()
        failed = engine.docker("run", "--rm", BUSYBOX, "true")
        assert failed.code == 125
        assert "no space left on device" in failed.err
        assert listing() == before
        sandbox.popen(["sh", "-c", f"rm {mountpoint}/fill {mountpoint}/fill2"]).wait()
        engine.docker("run", "--rm", BUSYBOX, "true", check=True)
    finally:
        engine.stop()
        sandbox.close()
