"""A relay between a client and an engine that notes each request and the status it got."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path
from typing import NamedTuple

_REQUEST = re.compile(rb"(GET|HEAD|POST|PUT|DELETE) (\S+) HTTP/1\.1\r\n")
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) [^\r]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


class Exchange(NamedTuple):
    """One request: method, path without the version, query, status, and the reply's headers in lower case."""

    method: str
    path: str
    query: str
    status: int
    headers: dict[str, str]


class Recorder:
    """Listens on ``host``; relays every byte to the engine's socket; ``exchanges`` are in the order of the requests."""

    def __init__(self, folder: Path, target: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._target = target
        self._path = str(folder / "recorder.sock")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self._path)
        self._listener.listen(64)
        self._lock = threading.Lock()
        self._requests: list[tuple[int, str, str]] = []
        self._replies: dict[int, list[tuple[int, dict[str, str]]]] = {}
        self._count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def host(self) -> str:
        """What to give the client as DOCKER_HOST."""
        return f"unix://{self._path}"

    @property
    def exchanges(self) -> list[Exchange]:
        """All that was asked, in order; status 0 where no reply came."""
        with self._lock:
            replies = {key: list(value) for key, value in self._replies.items()}
            found = []
            for connection, method, target in self._requests:
                path, _, query = target.partition("?")
                path = re.sub(r"^/v\d+\.\d+", "", path)
                pending = replies.get(connection, [])
                status, headers = pending.pop(0) if pending else (0, {})
                found.append(Exchange(method, path, query, status, headers))
            return found

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self._target)
            with self._lock:
                number = self._count
                self._count += 1
            for source, sink, note in ((client, engine, self._note_request), (engine, client, self._note_reply)):
                threading.Thread(target=self._relay, args=(number, source, sink, note), daemon=True).start()

    def _relay(self, number: int, source: socket.socket, sink: socket.socket, note: object) -> None:
        assert callable(note)
        try:
            while data := source.recv(65536):
                note(number, data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, sink):
                end.close()

    def _note_request(self, number: int, data: bytes) -> None:
        if match := _REQUEST.match(data):
            with self._lock:
                self._requests.append((number, match[1].decode(), match[2].decode()))

    def _note_reply(self, number: int, data: bytes) -> None:
        if match := _STATUS.match(data):
            headers = {}
            for line in match[2].decode().split("\r\n"):
                name, _, value = line.partition(":")
                if name:
                    headers[name.lower()] = value.strip()
            with self._lock:
                self._replies.setdefault(number, []).append((int(match[1]), headers))

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()
        Path(self._path).unlink(missing_ok=True)
