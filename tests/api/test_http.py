"""HTTP itself: keep-alive, pipelining, bodies, limits, errors, streams, disconnects, hijacking."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time

import pytest

from pyker.engine.job import JobContext
from pyker.errors import (
    Cancelled,
    Conflict,
    Forbidden,
    InvalidParameter,
    KernelError,
    NotFound,
    NotModified,
    NotSupported,
    PykerError,
    Unauthorized,
    Unavailable,
)
from pyker.jobs.containers import (
    AttachContainer,
    ContainerCreated,
    ContainerLogs,
    CreateContainer,
    StartContainer,
    StopContainer,
    WaitContainer,
    WaitResult,
)
from pyker.jobs.images import ImportImage, Pull
from pyker.jobs.system import Version, VersionInfo
from pyker.types.events import Progress
from tests.support.api import TIMEOUT_S, Api

INFO = VersionInfo(version="0.1.0", git_commit="", build_time="", kernel_version="6.1")


def test_ping_is_what_clients_negotiate_by(api: Api) -> None:
    answer = api.request("GET", "/_ping")
    assert (answer.status, answer.body) == (200, b"OK")
    assert answer.headers["api-version"] == "1.45"
    assert answer.headers["ostype"] == "linux"
    assert answer.headers["docker-experimental"] == "false"
    assert answer.headers["builder-version"] == "1"
    assert answer.headers["swarm"] == "inactive"
    assert answer.headers["cache-control"] == "no-cache, no-store, must-revalidate"
    assert answer.headers["pragma"] == "no-cache"
    assert answer.headers["server"].startswith("Docker/")
    for path in ("/_ping", "/v1.41/_ping"):
        head = api.request("HEAD", path)
        assert (head.status, head.headers["content-length"], head.headers["api-version"]) == (200, "0", "1.45")


def test_pings_on_one_connection_all_get_the_same_answer(api: Api) -> None:
    with api.connect() as wire:
        answers = [wire.request("GET", "/_ping") for _ in range(50)]
        assert {(answer.status, answer.body) for answer in answers} == {(200, b"OK")}
        assert wire.request("GET", "/v1.41/_ping").body == b"OK"
        assert wire.request("GET", "/nope").status == 404
        assert wire.request("GET", "/_ping").body == b"OK"


@pytest.mark.claim("rule-keep-alive")
def test_pipelined_requests_are_answered_in_order(api: Api) -> None:
    api.record(Version, INFO)
    with api.connect() as wire:
        ping = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"
        wire.send(ping + b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n" + ping + b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wire.answer().body == b"OK"
        assert wire.answer().json()["Version"] == "0.1.0"
        assert wire.answer().body == b"OK"
        assert wire.answer().status == 404


def test_a_head_in_pieces_is_one_request(api: Api) -> None:
    with api.connect() as wire:
        for byte in b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n":
            wire.send(bytes([byte]))
        assert wire.answer().message == "page not found"


def test_connection_close_is_obeyed(api: Api) -> None:
    with api.connect() as wire:
        assert wire.request("GET", "/_ping", connection="close").headers["connection"] == "close"
        assert wire.rest() == b""
        # HTTP/1.0 keeps nothing open unless asked to.
    with api.connect() as wire:
        wire.send(b"GET /_ping HTTP/1.0\r\n\r\n")
        assert wire.rest().endswith(b"\r\n\r\nOK")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 140_000, 431),
    ],
)
def test_what_is_no_acceptable_http_is_refused_and_the_connection_ends(api: Api, sent: bytes, status: int) -> None:
    with api.connect() as wire:
        wire.send(sent)
        answer = wire.answer()
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        assert wire.rest() == b""


def test_a_head_that_does_not_come_is_given_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyker.server.request.HEAD_TIMEOUT_S", 0.05)
    with api.connect() as wire:
        wire.send(b"GET /version HTTP/1.1\r\nHost:")
        assert wire.answer().status == 408
        assert wire.rest() == b""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidParameter("no"), 400),
        (Unauthorized("no"), 401),
        (Forbidden("no"), 403),
        (NotFound("no"), 404),
        (Conflict("no"), 409),
        (KernelError("no"), 500),
        (NotSupported("no"), 501),
        (Unavailable("no"), 503),
        (RuntimeError("no"), 500),
    ],
)
def test_each_error_has_its_status_and_its_words(api: Api, error: Exception, status: int) -> None:
    def fail(job: StartContainer, ctx: JobContext) -> None:
        raise error

    api.on(StartContainer, fail)
    answer = api.request("POST", "/containers/x/start")
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert answer.body == b'{"message":"no"}\n'


def test_not_modified_has_no_body(api: Api) -> None:
    def fail(job: StartContainer, ctx: JobContext) -> None:
        raise NotModified("runs already")

    api.on(StartContainer, fail)
    with api.connect() as wire:
        answer = wire.request("POST", "/containers/x/start")
        assert (answer.status, answer.headers.get("content-length")) == (304, None)
        assert wire.request("GET", "/_ping").body == b"OK"


def test_versions_too_new_and_too_old_are_refused(api: Api) -> None:
    api.record(Version, INFO)
    new = api.request("GET", "/v1.99/version")
    assert (new.status, new.message) == (
        400,
        "client version 1.99 is too new. Maximum supported API version is 1.45",
    )
    old = api.request("GET", "/v1.12/version")
    assert (old.status, old.message) == (
        400,
        "client version 1.12 is too old. Minimum supported API version is 1.24,"
        " please upgrade your client to a newer version",
    )
    assert api.request("GET", "/v1.99/nope").message == "page not found"
    for path in ("/version", "/v1.24/version", "/v1.45/version"):
        assert api.request("GET", path).status == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/nope"), ("PUT", "/version"), ("GET", "/v1.41"), ("GET", "/v1.41/x/y")]
)
def test_unknown_paths_and_methods_are_page_not_found(api: Api, method: str, path: str) -> None:
    answer = api.request(method, path)
    assert (answer.status, answer.message) == (404, "page not found")


def test_options_and_double_slashes(api: Api) -> None:
    assert api.request("OPTIONS", "/version").status == 200
    moved = api.request("GET", "//version")
    assert (moved.status, moved.headers["location"]) == (301, "/version")
    assert api.request("GET", "/version?a=%zz").message == 'invalid URL escape "%zz"'


# Bodies.


@pytest.mark.claim("rule-chunked-bodies")
def test_chunked_bodies_are_read_as_they_come(api: Api) -> None:
    api.on(ImportImage, lambda job, ctx: f"sha256:{len(ctx.stdio.stdin().read())}")
    with api.connect() as wire:
        wire.send(b"POST /images/create?fromSrc=- HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            wire.send(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        wire.send(b"0\r\n\r\n")
        assert wire.answer().body == b'{"status":"sha256:655360"}\r\n'
        assert wire.request("GET", "/_ping").body == b"OK"


def test_reads_give_exactly_what_was_asked_for(api: Api) -> None:
    sizes: list[int] = []

    def take(job: ImportImage, ctx: JobContext) -> str:
        stdin = ctx.stdio.stdin()
        while piece := stdin.read(100_000):
            sizes.append(len(piece))
        return "sha256:0"

    api.on(ImportImage, take)
    api.request("POST", "/images/create?fromSrc=-", os.urandom(250_001))
    assert sizes == [100_000, 100_000, 50_001]


@pytest.mark.claim("rule-chunked-bodies")
def test_a_client_that_asks_before_it_sends_is_told_to_go_on_only_if_the_body_is_wanted(api: Api) -> None:
    created = api.record(CreateContainer, ContainerCreated(id="ab" * 32))  # type: ignore[arg-type]
    body = b'{"Image":"bb:1"}'
    head = (
        f"Host: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with api.connect() as wire:
        wire.send(b"POST /containers/create HTTP/1.1\r\n" + head)
        assert wire.line() == b"HTTP/1.1 100 Continue\r\n"
        assert wire.line() == b"\r\n"
        wire.send(body)
        assert wire.answer().status == 201
    assert created[0].config.image == "bb:1"
    with api.connect() as wire:
        wire.send(b"POST /nope HTTP/1.1\r\n" + head)
        assert wire.head().status == 404


def test_a_body_that_nobody_reads_does_not_spoil_the_next_request(api: Api) -> None:
    api.record(StopContainer)
    with api.connect() as wire:
        assert wire.request("POST", "/containers/x/stop", b"x" * 100_000).status == 204
        assert wire.request("GET", "/_ping").body == b"OK"


def test_a_body_that_is_cut_off_is_an_error_not_a_short_body(api: Api) -> None:
    outcome: list[str] = []
    done = threading.Event()

    def take(job: ImportImage, ctx: JobContext) -> str:
        try:
            outcome.append(f"read {len(ctx.stdio.stdin().read())}")
        except Exception as error:
            outcome.append(type(error).__name__)
            raise
        finally:
            done.set()
        return "sha256:0"

    api.on(ImportImage, take)
    with api.connect() as wire:
        wire.send(b"POST /images/create?fromSrc=- HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        wire.sock.shutdown(socket.SHUT_WR)
        assert done.wait(TIMEOUT_S)
    assert outcome == ["Cancelled"]


# Streams.


def test_progress_is_streamed_in_records(api: Api) -> None:
    go_on = threading.Event()

    def pull(job: Pull, ctx: JobContext) -> None:
        ctx.emit(Progress(status="Pulling from library/x", id="latest"))
        ctx.emit(Progress(status="Pulling fs layer", id="209f9f88587e"))
        assert go_on.wait(TIMEOUT_S)
        ctx.emit(Progress(status="Downloading", id="209f9f88587e", current=500_000, total=1_000_000))
        ctx.emit(Progress(aux={"Tag": "1"}))

    api.on(Pull, pull)
    with api.connect() as wire:
        wire.send(b"POST /v1.41/images/create?fromImage=x&tag=latest HTTP/1.1\r\nHost: x\r\n\r\n")
        head = wire.head()
        assert (head.status, head.headers["content-type"]) == (200, "application/json")
        assert wire.chunk() == b'{"status":"Pulling from library/x","id":"latest"}\r\n'
        assert wire.chunk() == b'{"status":"Pulling fs layer","progressDetail":{},"id":"209f9f88587e"}\r\n'
        go_on.set()
        downloading = json.loads(wire.chunk())
        assert downloading["progressDetail"] == {"current": 500_000, "total": 1_000_000}
        assert downloading["progress"] == f"[{'=' * 25}>{' ' * 25}]    500kB/1MB"
        assert wire.chunk() == b'{"progressDetail":{},"aux":{"Tag":"1"}}\r\n'
        assert wire.chunk() == b""


def test_an_error_before_progress_is_a_status_and_after_it_a_record(api: Api) -> None:
    def pull(job: Pull, ctx: JobContext) -> None:
        if job.image == "late":
            ctx.emit(Progress(status="Pulling from library/late", id="1"))
        raise NotFound("manifest for x not found")

    api.on(Pull, pull)
    early = api.request("POST", "/images/create?fromImage=early&tag=1")
    assert (early.status, early.message) == (404, "manifest for x not found")
    late = api.request("POST", "/images/create?fromImage=late&tag=1")
    assert late.status == 200
    assert json.loads(late.body.splitlines()[-1]) == {
        "errorDetail": {"message": "manifest for x not found"},
        "error": "manifest for x not found",
    }


def test_byte_counts_are_told_at_most_ten_times_a_second_and_ends_always(api: Api) -> None:
    def pull(job: Pull, ctx: JobContext) -> None:
        for current in range(0, 100_001, 10):
            ctx.emit(Progress(status="Downloading", id="209f9f88587e", current=current, total=100_000))
        ctx.emit(Progress(status="Download complete", id="209f9f88587e"))

    api.on(Pull, pull)
    records = [json.loads(line) for line in api.request("POST", "/images/create?fromImage=x&tag=1").body.splitlines()]
    assert len(records) < 100
    assert records[-1]["status"] == "Download complete"
    assert records[-2]["progressDetail"]["current"] == 100_000


@pytest.mark.claim("rule-wait-header")
def test_wait_sends_its_head_before_the_result(api: Api) -> None:
    exited = threading.Event()

    def wait(job: WaitContainer, ctx: JobContext) -> WaitResult:
        ctx.stdio.stdout("application/json")
        assert exited.wait(TIMEOUT_S)
        return WaitResult(exit_code=137)

    api.on(WaitContainer, wait)
    with api.connect() as wire:
        wire.send(b"POST /v1.41/containers/x/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wire.head().status == 200
        exited.set()
        assert json.loads(wire.chunk()) == {"StatusCode": 137, "Error": None}
        assert wire.chunk() == b""
        assert wire.request("GET", "/_ping").body == b"OK"


@pytest.mark.claim("rule-disconnect")
@pytest.mark.parametrize("half_close", [True, False])
def test_a_client_that_leaves_cancels_a_job_that_ends_with_it(api: Api, half_close: bool) -> None:
    cancelled = threading.Event()

    def logs(job: ContainerLogs, ctx: JobContext) -> None:
        ctx.stdio.stdout()(b"first line\n")
        if ctx.cancel.wait(TIMEOUT_S):
            cancelled.set()
            raise Cancelled("nobody listens")

    api.on(ContainerLogs, logs)
    wire = api.connect()
    wire.send(b"GET /containers/x/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    wire.head()
    assert wire.chunk() == b"first line\n"
    assert not cancelled.is_set()
    if half_close:
        wire.sock.shutdown(socket.SHUT_WR)
    else:
        wire.sock.close()
    assert cancelled.wait(TIMEOUT_S)
    wire.sock.close()


@pytest.mark.claim("rule-disconnect")
def test_a_client_that_leaves_does_not_cancel_a_stop(api: Api) -> None:
    inside, go_on, outcome = threading.Event(), threading.Event(), []
    done = threading.Event()

    def stop(job: StopContainer, ctx: JobContext) -> None:
        inside.set()
        go_on.wait(TIMEOUT_S)
        outcome.append(ctx.cancel.cancelled)
        done.set()

    api.on(StopContainer, stop)
    wire = api.connect()
    wire.send(b"POST /containers/x/stop HTTP/1.1\r\nHost: x\r\n\r\n")
    assert inside.wait(TIMEOUT_S)
    wire.sock.close()
    go_on.set()
    assert done.wait(TIMEOUT_S)
    assert outcome == [False]


def test_an_error_in_a_stream_ends_it_without_spoiling_the_connection(api: Api) -> None:
    def logs(job: ContainerLogs, ctx: JobContext) -> None:
        ctx.stdio.stdout()(b"one\n")
        raise PykerError("the log is broken")

    api.on(ContainerLogs, logs)
    with api.connect() as wire:
        answer = wire.request("GET", "/containers/x/logs?stdout=1")
        assert answer.body == b"one\n"
        assert wire.request("GET", "/_ping").body == b"OK"


def test_an_http_1_0_client_gets_a_stream_without_chunks(api: Api) -> None:
    api.on(ContainerLogs, lambda job, ctx: ctx.stdio.stdout()(b"one\n"))
    with api.connect() as wire:
        wire.send(b"GET /containers/x/logs?stdout=1 HTTP/1.0\r\n\r\n")
        head, _, body = wire.rest().partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert body == b"one\n"


# Hijacked connections.


def _echo(job: AttachContainer, ctx: JobContext) -> None:
    client = ctx.stdio.hijack(multiplexed=True)
    received = b""
    while data := client.recv(65536):
        received += data
    client.send(b"you said " + received)
    client.close()


UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"


@pytest.mark.claim("job-streams", "rule-half-close")
@pytest.mark.parametrize(
    ("version", "headers", "first", "content_type"),
    [
        (b"/v1.41", UPGRADE, b"HTTP/1.1 101 UPGRADED\r\n", "application/vnd.docker.raw-stream"),
        (b"/v1.42", UPGRADE, b"HTTP/1.1 101 UPGRADED\r\n", "application/vnd.docker.multiplexed-stream"),
        (b"/v1.42", b"", b"HTTP/1.1 200 OK\r\n", "application/vnd.docker.raw-stream"),
    ],
)
def test_a_hijacked_connection_carries_bytes_both_ways_after_a_half_close(
    api: Api, version: bytes, headers: bytes, first: bytes, content_type: str
) -> None:
    api.on(AttachContainer, _echo)
    with api.connect() as wire:
        wire.send(b"POST " + version + b"/containers/x/attach?stream=1 HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
        head = wire.head()
        assert head.raw.startswith(first)
        assert head.headers["content-type"] == content_type
        wire.send(b"hello")
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.rest() == b"you said hello"


@pytest.mark.parametrize(
    "body",
    [
        b'Content-Length: 7\r\n\r\n{"a":1}',
        b'Transfer-Encoding: chunked\r\n\r\n4\r\n{"a"\r\n3;ext=1\r\n:1}\r\n0\r\n\r\n',
    ],
)
def test_a_body_before_the_streams_is_not_taken_for_input(api: Api, body: bytes) -> None:
    """The parser hands a body after an Upgrade header over as the tail."""
    api.on(AttachContainer, _echo)
    with api.connect() as wire:
        request = b"POST /containers/x/attach?stream=1 HTTP/1.1\r\nHost: x\r\n" + UPGRADE + body
        for start in range(0, len(request), 50):
            wire.send(request[start : start + 50])
        wire.send(b"early ")
        assert wire.head().status == 101
        wire.send(b"late")
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.rest() == b"you said early late"


@pytest.mark.parametrize("early", [b"", b"early"])
def test_who_polls_a_hijacked_connection_sees_the_client_leave(api: Api, early: bytes) -> None:
    """A half-close is input's end; a close is a hang-up, whether or not bytes came before the answer."""
    seen: list[str] = []
    half_closed, done = threading.Event(), threading.Event()

    def attach(job: AttachContainer, ctx: JobContext) -> None:
        client = ctx.stdio.hijack(multiplexed=False)
        poll = select.poll()
        poll.register(client.fileno(), select.POLLIN)
        received = b""
        while True:
            ((_, event),) = poll.poll(TIMEOUT_S * 1000)
            if event & select.POLLHUP:
                seen.append("left")
                break
            data = client.recv(100)
            received += data
            if not data:
                seen.append("half-closed")
                half_closed.set()
                poll.modify(client.fileno(), 0)
        seen.append(received.decode())
        done.set()

    api.on(AttachContainer, attach)
    wire = api.connect()
    wire.send(b"POST /containers/x/attach HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n" + early)
    assert wire.head().status == 101
    wire.send(b"late")
    wire.sock.shutdown(socket.SHUT_WR)
    assert half_closed.wait(TIMEOUT_S)
    assert not done.is_set()
    wire.sock.close()
    assert done.wait(TIMEOUT_S)
    assert seen == ["half-closed", "left", early.decode() + "late"]


def test_what_cannot_be_hijacked_is_answered_as_http_and_the_connection_goes_on(api: Api) -> None:
    def refuse(job: AttachContainer, ctx: JobContext) -> None:
        raise NotFound("No such container: x")

    api.on(AttachContainer, refuse)
    with api.connect() as wire:
        wire.send(b"POST /containers/x/attach HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n")
        assert wire.answer().message == "No such container: x"
        assert wire.request("GET", "/_ping").body == b"OK"


def test_an_upgrade_that_means_nothing_here_is_ignored(api: Api) -> None:
    api.record(Version, INFO)
    with api.connect() as wire:
        wire.send(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n")
        assert wire.answer().json()["ApiVersion"] == "1.45"
        assert wire.request("GET", "/_ping").body == b"OK"


def test_closing_a_hijacked_connection_wakes_who_reads_from_it(api: Api) -> None:
    returned = threading.Event()

    def attach(job: AttachContainer, ctx: JobContext) -> None:
        client = ctx.stdio.hijack(multiplexed=False)

        def read() -> None:
            assert client.recv(100) == b""
            returned.set()

        reader = threading.Thread(target=read)
        reader.start()
        client.send(b"bye")
        client.close()
        reader.join(TIMEOUT_S)

    api.on(AttachContainer, attach)
    with api.connect() as wire:
        wire.send(b"POST /containers/x/attach HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n")
        assert wire.head().status == 101
        assert wire.rest() == b"bye"
    assert returned.wait(TIMEOUT_S)


# Who asks.


def test_the_actor_is_the_peer_of_the_socket(api: Api) -> None:
    actors: list[str] = []
    api.on(StartContainer, lambda job, ctx: actors.append(str(ctx.actor)))
    api.request("POST", "/containers/x/start")
    assert actors == [f"uid={os.getuid()} pid={os.getpid()}"]


@pytest.mark.claim("job-environment")
def test_the_environment_says_which_version_was_asked_for(api: Api) -> None:
    seen: list[dict[str, str]] = []
    api.on(StartContainer, lambda job, ctx: seen.append(ctx.env))
    api.request("POST", "/v1.41/containers/x/start", user_agent="test/1")
    assert seen == [{"api_version": "1.41", "user_agent": "test/1"}]


@pytest.mark.claim("server-accepts-many")
def test_many_clients_at_once(api: Api) -> None:
    api.record(Version, INFO)
    wrong: list[object] = []

    def ask() -> None:
        with api.connect() as wire:
            for _ in range(20):
                if wire.request("GET", "/_ping").body != b"OK" or wire.request("GET", "/version").status != 200:
                    wrong.append("an answer")

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
        assert not thread.is_alive()
    assert wrong == []


def test_closing_ends_hijacked_connections(api: Api) -> None:
    ended = threading.Event()

    def attach(job: AttachContainer, ctx: JobContext) -> None:
        client = ctx.stdio.hijack(multiplexed=False)
        client.send(b"hello")
        while client.recv(100):
            continue
        ended.set()

    api.on(AttachContainer, attach)
    with api.connect() as wire:
        wire.send(b"POST /containers/x/attach HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n")
        assert wire.head().status == 101
        assert wire.exactly(5) == b"hello"
        started = time.monotonic()
        api.engine.close(grace_s=TIMEOUT_S)
        assert ended.is_set()
        assert time.monotonic() - started < TIMEOUT_S / 2
        assert wire.rest() == b""


def test_closing_ends_streams_removes_the_socket_and_refuses_clients(api: Api) -> None:
    def logs(job: ContainerLogs, ctx: JobContext) -> None:
        ctx.stdio.stdout()(b"first\n")
        ctx.cancel.wait(TIMEOUT_S)

    api.on(ContainerLogs, logs)
    wire = api.connect()
    wire.send(b"GET /containers/x/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    wire.head()
    assert wire.chunk() == b"first\n"
    api.engine.close(grace_s=5.0)
    assert wire.chunk() == b""
    wire.sock.close()
    assert not os.path.exists(api.path)
