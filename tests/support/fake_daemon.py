"""A scripted daemon: it answers with what a test lays down, and remembers every request.

It listens on a Unix socket, or on loopback with or without TLS, speaks enough HTTP/1.1 for the docker CLI and for
Pyker's client, and can hijack a connection. It knows no containers: replies are laid down by method and path.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

CONTAINER_ID = "c0ffee" + "0" * 58
EXEC_ID = "e0ec" + "1" * 60


@dataclass
class Request:
    """One request as it came; ``path`` is without its version."""

    method: str
    path: str
    version: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """What to answer. ``chunks`` sends a chunked body piece by piece; ``hijack`` takes the socket over."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] | None = None
    hijack: Callable[[Stream], None] | None = None
    wait_for: threading.Event | None = None
    raw: Callable[[Stream], None] | None = None


class Stream:
    """A hijacked connection: stdcopy frames out, raw bytes in."""

    def __init__(self, sock: socket.socket, ahead: bytes) -> None:
        self.sock = sock
        self._ahead = ahead

    def frame(self, stream: int, data: bytes) -> None:
        self.sock.sendall(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data)

    def raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self, size: int = 65536) -> bytes:
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        return self.sock.recv(size)

    def read_all(self) -> bytes:
        parts = []
        while data := self.read():
            parts.append(data)
        return b"".join(parts)


def answer(value: object, status: int = 200) -> Reply:
    """A JSON reply, with the line end that daemons send."""
    return Reply(status, json.dumps(value).encode() + b"\n")


def refusal(status: int, message: str) -> Reply:
    """An error as daemons report it."""
    return answer({"message": message}, status)


Handler = Callable[[Request], Reply]


class FakeDaemon:
    """Listens until closed. ``on`` lays down a reply; the last one laid down for a path wins."""

    def __init__(
        self, path: str = "", *, api_version: str = "1.50", context: ssl.SSLContext | None = None, tcp: bool = False
    ) -> None:
        self.api_version = api_version
        self.requests: list[Request] = []
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []
        self._lock = threading.Lock()
        self._context = context
        self._connections: list[socket.socket] = []
        self._count = 0
        self._closed = False
        if tcp or context is not None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.host = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(path)
            self._listener.listen(64)
            self.host = f"unix://{path}"
        self.on("HEAD", "/_ping", lambda _request: Reply())
        self.on("GET", "/_ping", lambda _request: Reply(body=b"OK", content_type="text/plain"))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> FakeDaemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._closed = True
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._thread.join(5)

    def on(self, method: str, pattern: str, reply: Reply | Handler | object) -> None:
        """Answer ``method`` on paths that match ``pattern`` whole; a plain value is sent as JSON."""
        if isinstance(reply, Reply):
            fixed = reply
            handler: Handler = lambda _request: fixed  # noqa: E731
        elif callable(reply):
            handler = reply
        else:
            value = reply
            handler = lambda _request: answer(value)  # noqa: E731
        with self._lock:
            self._routes.insert(0, (method, re.compile(pattern), handler))

    def raw(self, methods: str, pattern: str, write: Callable[[Stream], None]) -> None:
        """Let ``write`` answer with bytes of its own, and close."""
        for method in methods.split("|"):
            self.on(method, pattern, Reply(raw=write))

    def lines(self, *, ping: bool = False) -> list[str]:
        """``METHOD path?query`` of every request so far."""
        with self._lock:
            found = list(self.requests)
        return [
            f"{item.method} {item.path}"
            + ("?" + "&".join(f"{k}={v}" for k, v in item.query.items()) if item.query else "")
            for item in found
            if ping or item.path != "/_ping"
        ]

    def only(self, method: str, pattern: str) -> Request:
        """The one request that matches. Raises AssertionError if there are none or several."""
        with self._lock:
            found = [item for item in self.requests if item.method == method and re.fullmatch(pattern, item.path)]
        assert len(found) == 1, f"{len(found)} requests match {method} {pattern}: {self.lines()}"
        return found[0]

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._count += 1
                number = self._count
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with self._lock:
                self._connections.append(connection)
            ahead = b""
            while True:
                while b"\r\n\r\n" not in ahead:
                    data = connection.recv(65536)
                    if not data:
                        return
                    ahead += data
                head, _, ahead = ahead.partition(b"\r\n\r\n")
                request, ahead = self._read(connection, head, ahead, number)
                with self._lock:
                    self.requests.append(request)
                if not self._reply(connection, request, ahead):
                    return
        except OSError:
            return
        finally:
            connection.close()

    def _read(self, connection: socket.socket, head: bytes, ahead: bytes, number: int) -> tuple[Request, bytes]:
        first, *rest = head.decode("latin-1").split("\r\n")
        method, target, _protocol = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while True:
                while b"\r\n" not in ahead:
                    ahead += connection.recv(65536)
                line, _, ahead = ahead.partition(b"\r\n")
                size = int(line, 16)
                while len(ahead) < size + 2:
                    ahead += connection.recv(65536)
                body, ahead = body + ahead[:size], ahead[size + 2 :]
                if size == 0:
                    break
        else:
            length = int(headers.get("content-length", "0"))
            while len(ahead) < length:
                data = connection.recv(65536)
                if not data:
                    break
                ahead += data
            body, ahead = ahead[:length], ahead[length:]
        parts = urlsplit(target)
        version = ""
        path = unquote(parts.path)
        if match := re.fullmatch(r"/v([0-9.]+)(/.*)", path):
            version, path = match[1], match[2]
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return Request(method, path, version, query, headers, body, number), ahead

    def _find(self, request: Request) -> Reply:
        with self._lock:
            routes = list(self._routes)
        for method, pattern, handler in routes:
            if method == request.method and pattern.fullmatch(request.path):
                return handler(request)
        return refusal(404, "page not found")

    def _reply(self, connection: socket.socket, request: Request, ahead: bytes) -> bool:
        reply = self._find(request)
        headers = {"Api-Version": self.api_version, "Ostype": "linux", "Docker-Experimental": "false"}
        if reply.raw is not None:
            reply.raw(Stream(connection, ahead))
            return False
        if reply.hijack is not None:
            upgraded = "upgrade" in request.headers.get("connection", "").lower()
            head = (
                "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
                if upgraded
                else "HTTP/1.1 200 OK\r\n"
            )
            connection.sendall((head + f"Content-Type: {reply.content_type}\r\n\r\n").encode())
            reply.hijack(Stream(connection, ahead))
            return False
        headers["Content-Type"] = reply.content_type
        headers.update(reply.headers)
        if reply.chunks is not None or reply.wait_for is not None:
            headers["Transfer-Encoding"] = "chunked"
        elif reply.status not in (204, 304):
            headers["Content-Length"] = str(len(reply.body))
        head = f"HTTP/1.1 {reply.status} Status\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
        connection.sendall(head.encode())
        if request.method == "HEAD":
            return True
        if reply.wait_for is not None:
            if not reply.wait_for.wait(30):
                return False
            self._chunk(connection, reply.body)
            connection.sendall(b"0\r\n\r\n")
            return True
        if reply.chunks is not None:
            for chunk in reply.chunks:
                self._chunk(connection, chunk)
            connection.sendall(b"0\r\n\r\n")
            return True
        if reply.status not in (204, 304):
            connection.sendall(reply.body)
        return True

    @staticmethod
    def _chunk(connection: socket.socket, data: bytes) -> None:
        connection.sendall(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def lay_down_container(
    daemon: FakeDaemon,
    *,
    output: Callable[[Stream], None] | None = None,
    exit_code: int = 0,
    tty: bool = False,
    identifier: str = CONTAINER_ID,
) -> None:
    """Lay down what ``run`` needs: create, attach, wait, start. The wait is answered once the container was started."""
    started = threading.Event()
    ended = threading.Event()

    def attach(stream: Stream) -> None:
        started.wait(30)
        if output is not None:
            output(stream)
        ended.set()

    def start(_request: Request) -> Reply:
        started.set()
        if not any("/attach" in line for line in daemon.lines()):
            ended.set()
        return Reply(204)

    content_type = "application/vnd.docker.raw-stream" if tty else "application/vnd.docker.multiplexed-stream"
    status = json.dumps({"StatusCode": exit_code}).encode()
    daemon.on("POST", "/containers/create", lambda _request: answer({"Id": identifier, "Warnings": []}, 201))
    daemon.on("POST", "/containers/[^/]+/attach", Reply(content_type=content_type, hijack=attach))
    daemon.on("POST", "/containers/[^/]+/wait", Reply(body=status, wait_for=ended))
    daemon.on("POST", "/containers/[^/]+/start", start)
    daemon.on("POST", "/containers/[^/]+/resize", Reply(200))
    daemon.on("POST", "/containers/[^/]+/kill", Reply(204))
