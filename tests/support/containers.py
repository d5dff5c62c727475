"""Containers over the API alone: made, started, attached to, read frame by frame."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tests.support.asking import filters
from tests.support.engines import Engine, Reply
from tests.support.sandbox import wait_until

TIMEOUT_S = 30.0


def create(engine: Engine, image: str, name: str, *, version: str = "", **body: object) -> str:
    """``POST /containers/create``; returns the ID."""
    reply = engine.request("POST", f"{version}/containers/create?name={name}", {"Image": image, **body})
    assert reply.status == 201, reply
    value: Any = reply.json()
    return str(value["Id"])


def start(engine: Engine, container: str) -> int:
    """``POST /containers/{id}/start``; returns the pid, 0 if it has ended already."""
    reply = engine.request("POST", f"/containers/{container}/start")
    assert reply.status == 204, reply
    return int(str(engine.state(container)["Pid"]))


def run(engine: Engine, image: str, name: str, command: Sequence[str] = ("sleep", "300"), **body: object) -> int:
    """Create and start; returns the pid."""
    create(engine, image, name, version="", Cmd=list(command), **body)
    return start(engine, name)


def wait(engine: Engine, container: str) -> int:
    """``POST /containers/{id}/wait``; returns the exit code."""
    value: Any = engine.request("POST", f"/containers/{container}/wait").json()
    return int(value["StatusCode"])


def finished(engine: Engine, image: str, name: str, command: Sequence[str], **body: object) -> int:
    """Create, start, and wait for the end; returns the exit code."""
    run(engine, image, name, command, **body)
    code = wait(engine, name)
    listed_as_ended(engine, name)
    return code


def listed_as_ended(engine: Engine, container: str) -> None:
    """Wait until the list says so too: docker 28 brings it up to date after it has told those who wait."""

    def listed() -> bool:
        rows: Any = engine.request("GET", f"/containers/json?all=1&{filters(name=[f'^/{container}$'])}").json()
        return [row["State"] for row in rows] == ["exited"]

    wait_until(listed, timeout=TIMEOUT_S, what=f"the end of {container} in the list")


def output(engine: Engine, container: str, query: str = "stdout=1&stderr=1") -> list[Frame]:
    """``GET /containers/{id}/logs`` of a container without a terminal, as frames."""
    reply = engine.request("GET", f"/containers/{container}/logs?{query}")
    assert reply.status == 200, reply
    return frames(reply.body)


def said(engine: Engine, container: str, text: str) -> None:
    """Wait until the container's log has ``text``."""
    path = f"/containers/{container}/logs?stdout=1&stderr=1"
    wait_until(lambda: text.encode() in engine.request("GET", path).body, timeout=TIMEOUT_S, what=repr(text))


class Frame(NamedTuple):
    """One piece of a multiplexed stream: 1 is stdout, 2 is stderr."""

    stream: int
    data: bytes


def frames(data: bytes) -> list[Frame]:
    """The frames of a multiplexed stream, checked to be whole."""
    found = []
    while data:
        assert data[1:4] == b"\0\0\0" and len(data) >= 8, data[:40]
        size = int.from_bytes(data[4:8], "big")
        assert len(data) >= 8 + size, "the last frame is cut"
        found.append(Frame(data[0], data[8 : 8 + size]))
        data = data[8 + size :]
    return found


def joined(found: Sequence[Frame], stream: int) -> bytes:
    """What came on one stream."""
    return b"".join(frame.data for frame in found if frame.stream == stream)


class Hijack:
    """A request whose connection becomes a stream in both directions. Use it with ``with``."""

    def __init__(self, engine: Engine, path: str, body: object = None, *, upgrade: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(engine.socket)
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(data)}"]
        lines += ["Content-Type: application/json"] if data else []
        lines += ["Connection: Upgrade", "Upgrade: tcp"] if upgrade else []
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = self.socket.recv(1)
            assert piece, head
            head += piece
        first, *rest = head.decode().split("\r\n")
        self.line = first
        self.status = int(first.split()[1])
        self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in rest if line)}

    def __enter__(self) -> Hijack:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close_input(self) -> None:
        """No more input: the end of stdin, not of the output."""
        with contextlib.suppress(OSError):
            # The other end may have said all and gone.
            self.socket.shutdown(socket.SHUT_WR)

    def rest(self) -> bytes:
        """Everything until the engine closes."""
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := self.socket.recv(65536):
                found += piece
        return found

    def until(self, text: bytes) -> bytes:
        """Everything up to the read that brought ``text``."""
        found = b""
        while text not in found:
            piece = self.socket.recv(65536)
            assert piece, f"the stream ended without {text!r}: {found!r}"
            found += piece
        return found


class Waiting:
    """A request in a thread of its own, whose head has come, and whose body comes when it may. Use it with ``with``."""

    def __init__(self, engine: Engine, method: str, path: str) -> None:
        self._connection = http.client.HTTPConnection("localhost", timeout=TIMEOUT_S)
        self._connection.sock = socket.socket(socket.AF_UNIX)
        self._connection.sock.settimeout(TIMEOUT_S)
        self._connection.sock.connect(engine.socket)
        self._connection.request(method, path)
        self._reply = self._connection.getresponse()
        self.status = self._reply.status
        self._body = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            while piece := self._reply.read1(65536):
                self._body += piece

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT_S)
        self._connection.close()

    @property
    def body(self) -> bytes:
        """What has come so far."""
        return self._body

    @property
    def pending(self) -> bool:
        """Whether the body has not ended."""
        return self._thread.is_alive()

    def result(self) -> bytes:
        """The whole body."""
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), f"no end after {TIMEOUT_S} s: {self._body!r}"
        return self._body

    def lines(self) -> list[Any]:
        """The whole lines of JSON that have come so far."""
        whole, _, _ = self._body.rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines() if line.strip()]


@contextlib.contextmanager
def events(engine: Engine, **wanted: Sequence[str]) -> Iterator[Waiting]:
    """The stream of events from now on, of those that the filters let through."""
    with Waiting(engine, "GET", f"/events?{filters(**wanted)}") as stream:
        yield stream


def path_stat(reply: Reply) -> dict[str, Any]:
    """The stat of a path in the header of an archive's reply."""
    value: Any = json.loads(base64.b64decode(reply.headers["x-docker-container-path-stat"]))
    assert isinstance(value, dict)
    return value
