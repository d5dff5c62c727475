"""``run``, ``exec``, ``start``, ``attach`` and ``logs`` against a scripted daemon: requests, streams, exit codes.

Where the stock CLI is at hand, both are asked and compared.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import CLIENTS, environment, in_our_name, run_client
from tests.support.fake_daemon import (
    CONTAINER_ID,
    EXEC_ID,
    FakeDaemon,
    Reply,
    Request,
    Stream,
    answer,
    lay_down_container,
    refusal,
)

BOTH = [
    "pyker",
    pytest.param("docker", marks=pytest.mark.requires("docker-cli-28")),
]
DEADLINE_S = 20


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(str(tmp_path / "s")) as fake:
        yield fake


@pytest.mark.parametrize("client", BOTH)
def test_run_asks_in_the_order_that_engines_rely_on(daemon: FakeDaemon, client: str) -> None:
    def output(stream: Stream) -> None:
        stream.frame(1, b"to stdout\n")
        stream.frame(2, b"to stderr\n")

    lay_down_container(daemon, output=output, exit_code=3)
    told = run_client(client, daemon.host, ["run", "--rm", "--name", "c1", "img", "cmd"])
    assert told == (3, "to stdout\n", "to stderr\n")
    path = f"/containers/{CONTAINER_ID}"
    assert daemon.lines(ping=True) == [
        "HEAD /_ping",
        "POST /containers/create?name=c1",
        f"POST {path}/attach?stderr=1&stdout=1&stream=1",
        f"POST {path}/wait?condition=removed",
        f"POST {path}/start",
    ]
    ping, create, attach, *_ = daemon.requests
    assert ping.connection == create.connection != attach.connection
    assert attach.headers["upgrade"] == "tcp" and attach.headers["connection"] == "Upgrade"


@pytest.mark.parametrize("client", BOTH)
def test_run_detached_prints_the_id_and_does_not_attach(daemon: FakeDaemon, client: str) -> None:
    lay_down_container(daemon)
    told = run_client(client, daemon.host, ["run", "-d", "img"])
    assert told == (0, CONTAINER_ID + "\n", "")
    assert [line.rpartition("/")[2] for line in daemon.lines()] == ["create", "wait?condition=next-exit", "start"]


@pytest.mark.parametrize("client", BOTH)
def test_stdin_goes_over_whole_and_its_end_leaves_the_output_open(daemon: FakeDaemon, client: str) -> None:
    received = []

    def output(stream: Stream) -> None:
        received.append(stream.read_all())
        for _ in range(64):
            stream.frame(1, b"x" * 65536)
        stream.frame(1, b"the end\n")

    lay_down_container(daemon, output=output)
    sent = os.urandom(3_000_000)
    told = run_client(client, daemon.host, ["run", "-i", "img", "cat"], stdin=sent)
    assert received == [sent]
    assert told.code == 0 and len(told.out) == 64 * 65536 + 8 and told.out.endswith("the end\n")


def test_a_container_that_writes_before_it_reads_locks_nobody_up(daemon: FakeDaemon) -> None:
    received = []

    def output(stream: Stream) -> None:
        for _ in range(160):
            stream.frame(1, b"y" * 65536)
        received.append(len(stream.read_all()))

    lay_down_container(daemon, output=output)
    told = run_client("pyker", daemon.host, ["run", "-i", "img"], stdin=b"z" * 8_000_000)
    assert told.code == 0 and len(told.out) == 160 * 65536 and received == [8_000_000]


@pytest.mark.parametrize("client", BOTH)
@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        ('exec: "nosuch": executable file not found in $PATH: unknown', 400, 127),
        ('exec: "/x": stat /x: no such file or directory: unknown', 400, 127),
        ('exec: "/etc": permission denied: unknown', 400, 126),
        ('exec: "/etc": is a directory: unknown', 400, 126),
        ("driver failed: port is already allocated", 500, 125),
    ],
)
def test_a_failed_start_has_the_status_that_scripts_test(
    daemon: FakeDaemon, client: str, message: str, status: int, code: int
) -> None:
    lay_down_container(daemon)
    daemon.on("POST", "/containers/[^/]+/attach", Reply(hijack=lambda _stream: None))
    daemon.on("POST", "/containers/[^/]+/start", refusal(status, message))
    told = run_client(client, daemon.host, ["run", "img", "cmd"])
    assert told.code == code
    assert in_our_name(told.err) == (
        f"pyker: Error response from daemon: {message}\n\nRun 'pyker run --help' for more information\n"
    )


def _pulling(daemon: FakeDaemon) -> None:
    """The image is missing until it was pulled."""
    pulled = threading.Event()
    lay_down_container(daemon, output=lambda stream: stream.frame(1, b"ran\n"))

    def create(_request: Request) -> Reply:
        if not pulled.is_set():
            return refusal(404, "No such image: img:latest")
        return answer({"Id": CONTAINER_ID, "Warnings": ["mind the gap"]}, 201)

    def pull(_request: Request) -> Reply:
        pulled.set()
        records = [
            b'{"status":"Pulling from library/img","id":"latest"}\r\n',
            b'{"status":"Pulling fs layer","progressDetail":{},"id":"28252775b295"}\r\n',
            b'{"status":"Downloading","progressDetail":{"current":1,"total":2},"progress":"[=> ]","id"',
            b':"28252775b295"}\r\n{"status":"Pull complete","progressDetail":{},"id":"28252775b295"}\r\n',
            b'{"status":"Digest: sha256:00"}\r\n{"status":"Status: Downloaded newer image for img:latest"}\r\n',
        ]
        return Reply(chunks=records)

    daemon.on("POST", "/containers/create", create)
    daemon.on("POST", "/images/create", pull)


@pytest.mark.parametrize("client", BOTH)
def test_a_missing_image_is_pulled_with_the_lines_on_stderr(daemon: FakeDaemon, client: str) -> None:
    _pulling(daemon)
    told = run_client(client, daemon.host, ["run", "img"])
    assert told.code == 0 and told.out == "ran\n"
    assert told.err.splitlines() == [
        "Unable to find image 'img:latest' locally",
        "latest: Pulling from library/img",
        "28252775b295: Pulling fs layer",
        "28252775b295: Pull complete",
        "Digest: sha256:00",
        "Status: Downloaded newer image for img:latest",
        "WARNING: mind the gap",
    ]
    pull = daemon.only("POST", "/images/create")
    assert pull.query == {"fromImage": "docker.io/library/img", "tag": "latest"}
    assert pull.headers["x-registry-auth"] == "e30="


@pytest.mark.parametrize("client", BOTH)
@pytest.mark.parametrize(
    ("flags", "code", "pulls"),
    [(["--pull", "never"], 125, 0), (["--pull", "always"], 0, 1), (["-q"], 0, 1), (["--pull", "missing"], 0, 1)],
)
def test_pull_policies(daemon: FakeDaemon, client: str, flags: list[str], code: int, pulls: int) -> None:
    _pulling(daemon)
    told = run_client(client, daemon.host, ["run", *flags, "img"])
    assert told.code == code
    assert sum("/images/create" in line for line in daemon.lines()) == pulls
    if "-q" in flags:
        assert told.err == "WARNING: mind the gap\n"


@pytest.mark.parametrize("client", BOTH)
def test_pull_prints_the_document_s_lines(daemon: FakeDaemon, client: str) -> None:
    _pulling(daemon)
    told = run_client(client, daemon.host, ["pull", "img"])
    assert told.out.splitlines() == [
        "Using default tag: latest",
        "latest: Pulling from library/img",
        "28252775b295: Pulling fs layer",
        "28252775b295: Pull complete",
        "Digest: sha256:00",
        "Status: Downloaded newer image for img:latest",
        "docker.io/library/img:latest",
    ]
    assert run_client(client, daemon.host, ["pull", "-q", "h:5000/a/b:1"]).out == "h:5000/a/b:1\n"


@pytest.mark.parametrize("client", BOTH)
def test_an_error_in_the_stream_of_a_pull_is_an_error(daemon: FakeDaemon, client: str) -> None:
    record = b'{"errorDetail":{"message":"no space left on device"},"error":"no space left on device"}\r\n'
    daemon.on("POST", "/images/create", Reply(chunks=[b'{"status":"Pulling","id":"latest"}\r\n', record]))
    told = run_client(client, daemon.host, ["pull", "img:1"])
    assert (told.code, told.out, told.err) == (1, "latest: Pulling\n", "no space left on device\n")
    daemon.on("POST", "/containers/create", refusal(404, "No such image: img:1"))
    told = run_client(client, daemon.host, ["run", "img:1"])
    assert told.code == 125 and "no space left on device" in told.err


@pytest.mark.parametrize("client", BOTH)
def test_credentials_go_to_the_registry_they_are_for(daemon: FakeDaemon, client: str, tmp_path: Path) -> None:
    import base64
    import json

    helper = tmp_path / "docker-credential-fake"
    helper.write_text(
        '#!/bin/sh\nread server\necho "{\\"ServerURL\\":\\"$server\\",\\"Username\\":\\"h\\",\\"Secret\\":\\"s\\"}"\n'
    )
    helper.chmod(0o755)
    auth = base64.b64encode(b"user:pa:ss").decode()
    config = {
        "auths": {"h:5000": {"auth": auth}},
        "credHelpers": {"helped:5000": "fake"},
        "HttpHeaders": {"X-Mine": "1"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    daemon.on("POST", "/images/create", Reply(chunks=[]))
    for name in ("h:5000/a", "helped:5000/b", "other:5000/c"):
        path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        assert run_client(client, daemon.host, ["pull", "-q", name], config=str(tmp_path), env=path).code == 0
    pulls = [item for item in daemon.requests if item.path == "/images/create"]
    sent = [json.loads(base64.urlsafe_b64decode(item.headers["x-registry-auth"])) for item in pulls]
    assert [(item.get("username"), item.get("password")) for item in sent] == [
        ("user", "pa:ss"),
        ("h", "s"),
        (None, None),
    ]
    assert all(item.headers["x-mine"] == "1" for item in pulls)


@pytest.mark.parametrize("client", BOTH)
def test_a_signal_is_handed_on_and_the_container_s_status_returned(daemon: FakeDaemon, client: str) -> None:
    killed = threading.Event()
    lay_down_container(daemon, output=lambda stream: (stream.frame(1, b"up\n"), killed.wait(DEADLINE_S)), exit_code=143)

    def kill(_request: Request) -> Reply:
        killed.set()
        return Reply(204)

    daemon.on("POST", "/containers/[^/]+/kill", kill)
    process = subprocess.Popen(
        [*CLIENTS[client], "run", "img"], env=environment(daemon.host), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 143
    assert daemon.only("POST", "/containers/[^/]+/kill").query["signal"].removeprefix("SIG") in ("TERM", "15")


class Terminal:
    """A client on a pseudo-terminal of 30 rows and 100 columns."""

    def __init__(self, command: list[str], host: str) -> None:
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            import fcntl
            import struct
            import termios

            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
            env = environment(host, TERM="xterm")
            os.execvpe(command[0], command, env)
        self.seen = b""

    def until(self, text: bytes) -> bytes:
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.seen:
            ready, _, _ = select.select([self.end], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {text!r} in {self.seen!r}"
            try:
                data = os.read(self.end, 65536)
            except OSError:
                data = b""
            assert data, f"ended without {text!r}: {self.seen!r}"
            self.seen += data
        return self.seen

    def type(self, keys: bytes) -> None:
        os.write(self.end, keys)

    def close(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self.end)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("client", BOTH)
def test_a_terminal_is_raw_sized_and_gives_keys_not_signals(daemon: FakeDaemon, client: str) -> None:
    received = bytearray()
    enough = threading.Event()

    def output(stream: Stream) -> None:
        stream.raw(b"prompt# ")
        while len(received) < 3:
            received.extend(stream.read())
        enough.set()
        stream.raw(b"bye\r\n")

    lay_down_container(daemon, output=output, tty=True, exit_code=5)
    terminal = Terminal([*CLIENTS[client], "run", "-it", "img"], daemon.host)
    terminal.until(b"prompt# ")
    terminal.type(b"a\x03\r")
    terminal.until(b"bye\r\n")
    assert terminal.close() == 5
    assert bytes(received) == b"a\x03\r"
    resizes = [item for item in daemon.requests if item.path.endswith("/resize")]
    assert resizes and resizes[0].query == {"h": "30", "w": "100"}
    create = daemon.only("POST", "/containers/create").json
    assert create["Tty"] and create["HostConfig"]["ConsoleSize"] == [30, 100]


@pytest.mark.parametrize("client", BOTH)
def test_the_detach_keys_leave_the_container_alone(daemon: FakeDaemon, client: str) -> None:
    received = bytearray()

    def output(stream: Stream) -> None:
        stream.raw(b"prompt# ")
        received.extend(stream.read_all())

    lay_down_container(daemon, output=output, tty=True, exit_code=9)
    terminal = Terminal([*CLIENTS[client], "run", "-it", "img"], daemon.host)
    terminal.until(b"prompt# ")
    terminal.type(b"x\x10y\x10\x11")
    assert terminal.close() == 0
    assert bytes(received) == b"x\x10y"
    assert not [line for line in daemon.lines() if "kill" in line or line.startswith("DELETE")]


def test_the_terminal_is_as_it_was_afterwards(daemon: FakeDaemon) -> None:
    if shutil.which("stty") is None:
        pytest.skip("needs stty")
    lay_down_container(daemon, output=lambda stream: stream.raw(b"out\r\n"), tty=True)
    modes = "stty -a | grep -o '.icanon\\|.echo '"
    command = f"{modes}; {' '.join(CLIENTS['pyker'])} run -it img; {modes}; echo END"
    terminal = Terminal(["sh", "-c", command], daemon.host)
    text = terminal.until(b"END")
    terminal.close()
    before, _, after = text.partition(b"out\r\n")
    assert before.split() == after.split()[:-1] and b"-icanon" not in after


@pytest.mark.parametrize("client", BOTH)
def test_terminal_input_from_no_terminal_is_refused(daemon: FakeDaemon, client: str) -> None:
    lay_down_container(daemon)
    told = run_client(client, daemon.host, ["run", "-it", "img"])
    assert (told.code, told.err) == (1, "the input device is not a TTY\n")
    assert not [line for line in daemon.lines() if "create" in line]


def _lay_down_exec(daemon: FakeDaemon, output: object, exit_code: int = 0) -> None:
    daemon.on("GET", "/containers/c1/json", answer({"Id": CONTAINER_ID, "Config": {"Tty": False}}))
    daemon.on("POST", "/containers/[^/]+/exec", answer({"Id": EXEC_ID}, 201))

    def start(request: Request) -> Reply:
        if request.json["Detach"]:
            return Reply()
        return Reply(content_type="application/vnd.docker.multiplexed-stream", hijack=output)  # type: ignore[arg-type]

    daemon.on("POST", "/exec/[^/]+/start", start)
    daemon.on("GET", "/exec/[^/]+/json", answer({"ID": EXEC_ID, "ExitCode": exit_code, "Running": False}))


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["-i"],
        ["-d"],
        ["-e", "A=1", "-w", "/tmp", "-u", "1:2", "--privileged"],
        ["--detach-keys", "ctrl-a"],
        ["-id"],
    ],
)
@pytest.mark.requires("docker-cli-28")
def test_exec_posts_what_the_stock_cli_posts(daemon: FakeDaemon, flags: list[str]) -> None:
    def output(stream: Stream) -> None:
        stream.frame(1, b"got " + stream.read_all())
        stream.frame(2, b"err\n")

    _lay_down_exec(daemon, output, exit_code=9)
    seen = {}
    for client in ("docker", "pyker"):
        before = len(daemon.requests)
        told = run_client(client, daemon.host, ["exec", *flags, "c1", "cmd", "-x"], stdin=b"input\n")
        requests = [item for item in daemon.requests[before:] if item.path != "/_ping"]
        seen[client] = (told, [(item.method, item.path, item.query, item.body and item.json) for item in requests])
    assert seen["pyker"] == seen["docker"]
    assert seen["pyker"][0].code == (0 if any("d" in flag[:3] and flag[:2] != "--" for flag in flags) else 9)


@pytest.mark.parametrize("client", BOTH)
def test_exec_with_a_terminal(daemon: FakeDaemon, client: str) -> None:
    received = bytearray()

    def output(stream: Stream) -> None:
        stream.raw(b"$ ")
        received.extend(stream.read())
        stream.raw(b"done\r\n")

    _lay_down_exec(daemon, output, exit_code=4)
    daemon.on("POST", "/exec/[^/]+/start", Reply(content_type="application/vnd.docker.raw-stream", hijack=output))
    daemon.on("POST", "/exec/[^/]+/resize", Reply(200))
    terminal = Terminal([*CLIENTS[client], "exec", "-it", "c1", "sh"], daemon.host)
    terminal.until(b"$ ")
    terminal.type(b"\x03")
    terminal.until(b"done\r\n")
    assert terminal.close() == 4 and received == b"\x03"
    start = daemon.only("POST", "/exec/[^/]+/start").json
    assert start == {"Detach": False, "Tty": True, "ConsoleSize": [30, 100]}


@pytest.mark.parametrize("client", BOTH)
def test_start_attached_returns_the_container_s_status(daemon: FakeDaemon, client: str) -> None:
    lay_down_container(daemon, output=lambda stream: stream.frame(1, b"again\n"), exit_code=6)
    view = {"Id": CONTAINER_ID, "Config": {"Tty": False, "OpenStdin": False}, "HostConfig": {"AutoRemove": False}}
    daemon.on("GET", "/containers/c1/json", answer({**view, "State": {}}))
    assert run_client(client, daemon.host, ["start", "-a", "c1"]) == (6, "again\n", "")


@pytest.mark.parametrize("client", BOTH)
def test_attach_joins_what_runs_and_refuses_what_does_not(daemon: FakeDaemon, client: str) -> None:
    lay_down_container(daemon, output=lambda stream: stream.frame(1, b"joined\n"), exit_code=2)
    view = {"Id": CONTAINER_ID, "Config": {"Tty": False, "OpenStdin": False}, "State": {"Running": False}}
    daemon.on("GET", "/containers/c1/json", answer(view))
    told = run_client(client, daemon.host, ["attach", "c1"])
    assert told.code == 1 and "stopped container" in told.err
    daemon.on("GET", "/containers/c1/json", answer({**view, "State": {"Running": True}}))
    ready = threading.Event()
    ready.set()
    daemon.on("POST", "/containers/[^/]+/wait", Reply(body=b'{"StatusCode":2}', wait_for=ready))
    daemon.on(
        "POST",
        "/containers/[^/]+/attach",
        Reply(content_type="application/vnd.docker.multiplexed-stream", hijack=lambda s: s.frame(1, b"joined\n")),
    )
    assert run_client(client, daemon.host, ["attach", "c1"]) == (2, "joined\n", "")


@pytest.mark.parametrize("client", BOTH)
def test_logs_come_apart_or_raw(daemon: FakeDaemon, client: str) -> None:
    frames = b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n"
    daemon.on("GET", "/containers/c1/json", answer({"Id": CONTAINER_ID, "Config": {"Tty": False}}))
    daemon.on("GET", "/containers/[^/]+/logs", Reply(chunks=[frames[:5], frames[5:17], frames[17:]]))
    assert run_client(client, daemon.host, ["logs", "-t", "-n", "5", "-f", "--details", "c1"]) == (0, "out\n", "err\n")
    query = daemon.only("GET", "/containers/[^/]+/logs").query
    assert query == {"details": "1", "follow": "1", "stderr": "1", "stdout": "1", "tail": "5", "timestamps": "1"}
    daemon.on("GET", "/containers/c1/json", answer({"Id": CONTAINER_ID, "Config": {"Tty": True}}))
    daemon.on("GET", "/containers/[^/]+/logs", Reply(chunks=[b"raw\r\n"]))
    assert run_client(client, daemon.host, ["logs", "c1"]).out == "raw\r\n"


@pytest.mark.parametrize(
    "value",
    [
        "10m",
        "1h30m",
        "1700000000",
        "1700000000.5",
        "2024-01-02T03:04:05Z",
        "2024-01-02",
        "2024-01-02T03:04:05.25+01:00",
    ],
)
@pytest.mark.requires("docker-cli-28")
def test_logs_since_means_what_it_means_to_the_stock_cli(daemon: FakeDaemon, value: str) -> None:
    daemon.on("GET", "/containers/c1/json", answer({"Id": CONTAINER_ID, "Config": {"Tty": True}}))
    daemon.on("GET", "/containers/[^/]+/logs", Reply(chunks=[]))
    for client in ("docker", "pyker"):
        assert run_client(client, daemon.host, ["logs", "--since", value, "c1"]).code == 0
    stock, ours = (float(item.query["since"]) for item in daemon.requests if item.path.endswith("/logs"))
    assert abs(stock - ours) <= (3 if value.endswith("m") else 0)


@pytest.mark.parametrize("client", BOTH)
def test_cidfile_holds_the_id_and_is_not_overwritten(daemon: FakeDaemon, client: str, tmp_path: Path) -> None:
    lay_down_container(daemon)
    path = tmp_path / f"{client}.cid"
    assert run_client(client, daemon.host, ["create", "--cidfile", str(path), "img"]).code == 0
    assert path.read_text() == CONTAINER_ID
    told = run_client(client, daemon.host, ["create", "--cidfile", str(path), "img"])
    assert told.code == 1 and "container ID file found" in told.err
    daemon.on("POST", "/containers/create", refusal(500, "no"))
    other = tmp_path / "other"
    assert run_client(client, daemon.host, ["create", "--cidfile", str(other), "img"]).code == 1
    assert run_client(client, daemon.host, ["run", "--cidfile", str(other), "img"]).code == 125
    assert not other.exists()
