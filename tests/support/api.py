"""An ApiServer with handlers of the test's own, and a client that shows the bytes."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from pyker.engine.engine import Engine
from pyker.engine.job import Job, JobContext, JobFuture
from pyker.jobs.system import ServeApi
from pyker.server.serveapi import ApiServer

TIMEOUT_S = 10.0


@dataclass
class Answer:
    """One answer; header names are lower case. ``raw`` is everything as it came."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json()["message"])


class Api:
    """A server on a unix socket (and what else a test asks for) with an engine that starts out empty."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.engine = Engine()
        self.server = ApiServer(self.engine)
        self.engine.register(ServeApi, self.server.serve)
        self.path = str(folder / "api.sock")
        hosts = (f"unix://{self.path}", *options.pop("hosts", ()))
        self.future: JobFuture[None] = self.engine.spawn(ServeApi(hosts=hosts, socket_group="", **options))
        deadline = monotonic() + TIMEOUT_S
        while not self.server.ready.wait(0.02):
            if monotonic() > deadline:
                raise AssertionError("the server did not start")
            with suppress(TimeoutError):
                self.future.result(0.001)

    def on(self, job_type: Any, handler: Callable[[Any, JobContext], Any]) -> None:
        """Let ``handler`` do the jobs of ``job_type``."""
        self.engine.register(job_type, handler)

    def record(self, job_type: Any, result: Any = None) -> list[Any]:
        """Let jobs of ``job_type`` return ``result``; returns the list in which they gather."""
        seen: list[Job[Any]] = []

        def handler(job: Any, ctx: JobContext) -> Any:
            seen.append(job)
            return result

        self.on(job_type, handler)
        return seen

    def connect(self) -> Wire:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(TIMEOUT_S)
        sock.connect(self.path)
        return Wire(sock)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own. A body that is no bytes is sent as JSON."""
        with self.connect() as wire:
            return wire.request(method, path, body, **headers)

    def close(self) -> None:
        self.engine.close(grace_s=2.0)
        self.future.result(TIMEOUT_S)


class Wire:
    """A connection."""

    def __init__(self, sock: socket.socket | ssl.SSLSocket) -> None:
        self.sock = sock
        self._buffer = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request and read its answer."""
        lines = [f"{method} {path} HTTP/1.1", "Host: test"]
        payload = b""
        named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        if body is not None:
            payload = body if isinstance(body, bytes) else json.dumps(body).encode()
            named.setdefault("content-type", "application/json")
            named.setdefault("content-length", str(len(payload)))
        lines += [f"{name}: {value}" for name, value in named.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)
        return self.answer(method)

    def _more(self) -> bool:
        data = self.sock.recv(65536)
        self._buffer += data
        return bool(data)

    def line(self) -> bytes:
        """Up to and with the next CRLF (what is there, at the end)."""
        while b"\r\n" not in self._buffer and self._more():
            continue
        line, newline, self._buffer = self._buffer.partition(b"\r\n")
        return line + newline

    def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size and self._more():
            continue
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def rest(self) -> bytes:
        """Everything until the server closes."""
        while self._more():
            continue
        data, self._buffer = self._buffer, b""
        return data

    def head(self) -> Answer:
        """Status line and headers."""
        raw = b""
        while not raw.endswith(b"\r\n\r\n"):
            line = self.line()
            if not line:
                raise AssertionError(f"the connection ended in a head: {raw!r}")
            raw += line
        first, *lines = raw.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        return Answer(int(first.split(" ")[1]), headers, b"", raw)

    def chunk(self) -> bytes:
        """The next chunk of a chunked body; b"" is the last."""
        size = int(self.line().strip(), 16)
        data = self.exactly(size)
        assert self.line() == b"\r\n"
        return data

    def answer(self, method: str = "GET") -> Answer:
        """A whole answer."""
        answer = self.head()
        if method == "HEAD" or answer.status in (101, 204, 304) or answer.status < 200:
            return answer
        if answer.headers.get("transfer-encoding") == "chunked":
            while chunk := self.chunk():
                answer.body += chunk
        elif "content-length" in answer.headers:
            answer.body = self.exactly(int(answer.headers["content-length"]))
        else:
            answer.body = self.rest()
        return answer
