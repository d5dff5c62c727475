"""A connection that has stopped speaking HTTP: raw bytes both ways, each way ending by itself."""

from __future__ import annotations

import socket
from contextlib import suppress

from pyker.errors import Cancelled
from pyker.server.request import Stream


class HijackedStream:
    """See ``pyker.engine.job.Duplex``. ``early`` is what the client sent before it saw our answer."""

    def __init__(self, stream: Stream, early: bytes, *, pollable: bool) -> None:
        self._stream = stream
        self._early = early
        self._pollable = pollable and not early
        self._closed = False

    def recv(self, size: int) -> bytes:
        """Bytes from the client; b"" once it has closed its side, or after ``close``."""
        if self._early:
            data, self._early = self._early[:size], self._early[size:]
            return data
        if self._closed:
            return b""
        try:
            return self._stream.recv(size)
        except (ConnectionError, OSError):
            return b""

    def send(self, data: bytes | memoryview) -> None:
        """Send everything. Raises Cancelled if the client is gone."""
        try:
            self._stream.sendall(data)  # type: ignore[arg-type]  # sockets take any buffer
        except (ConnectionError, OSError) as error:
            raise Cancelled("the client went away") from error

    def fileno(self) -> int:
        """The socket, for poll; -1 if what it says would not be the whole truth (TLS, bytes read early)."""
        return -1 if not self._pollable or self._closed else self._stream.fileno()

    def close(self) -> None:
        """End both directions; a ``recv`` that waits in another thread returns b""."""
        if not self._closed:
            self._closed = True
            with suppress(OSError):
                self._stream.shutdown(socket.SHUT_RDWR)
