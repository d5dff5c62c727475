"""A connection that has stopped speaking HTTP: raw bytes both ways, each way ending by itself.

Who uses one may poll its descriptor. A plain socket is used as it is. Where the socket would not tell the whole truth
(TLS; or bytes that came before our answer and wait in memory) a socket pair stands in for it, and two threads pump.
"""

from __future__ import annotations

import fcntl
import logging
import select
import socket
import struct
import termios
import threading
import time
from contextlib import suppress
from typing import Protocol

from pyker.errors import Cancelled
from pyker.server.request import Stream

log = logging.getLogger("pyker.server")

_CHUNK = 64 << 10


class Hijacked(Protocol):
    """See ``pyker.engine.job.Duplex``. ``close`` returns when everything sent has left."""

    def recv(self, size: int) -> bytes: ...
    def send(self, data: bytes | memoryview) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...

    def abort(self) -> None:
        """End both directions now, from any thread."""
        ...


def hijacked(stream: Stream, early: bytes, *, pollable: bool) -> Hijacked:
    """Take ``stream`` over; ``early`` is what the client sent before it saw our answer."""
    if isinstance(stream, socket.socket) and pollable and not early:
        return SocketStream(stream)
    return PumpedStream(stream, early)


def _unread(sock: socket.socket) -> int:
    """How much of what was sent the peer has not read, as the kernel counts it: 0 is none. unix(7), SIOCOUTQ."""
    (size,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0"))
    return int(size)


class SocketStream:
    """A plain socket.

    Clients that parse the head through a buffer and then read the socket itself lose what one read brought along with
    the head; docker-py is one of them. So the first output waits until the head has been read, ``patience_s`` at most.
    Only a unix socket can tell.
    """

    def __init__(self, sock: socket.socket, *, patience_s: float = 0.5) -> None:
        self._sock = sock
        self._closed = False
        self._patience_s = patience_s if sock.family == socket.AF_UNIX else 0.0

    def recv(self, size: int) -> bytes:
        """Bytes from the client; b"" once it has closed its side, or after ``close``."""
        if self._closed:
            return b""
        try:
            return self._sock.recv(size)
        except OSError:
            return b""

    def send(self, data: bytes | memoryview) -> None:
        """Send everything. Raises Cancelled if the client is gone."""
        try:
            if self._patience_s:
                self._wait_for_the_reader()
            self._sock.sendall(data)
        except OSError as error:
            raise Cancelled("the client went away") from error

    def _wait_for_the_reader(self) -> None:
        deadline = time.monotonic() + self._patience_s
        self._patience_s = 0.0
        pause_s = 0.0001
        while _unread(self._sock) and time.monotonic() < deadline:
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.005)

    def fileno(self) -> int:
        return -1 if self._closed else self._sock.fileno()

    def close(self) -> None:
        """End both directions; a ``recv`` that waits in another thread returns b""."""
        if not self._closed:
            self._closed = True
            self.abort()

    def abort(self) -> None:
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)


class PumpedStream(SocketStream):
    """A socket pair before a connection that can't be polled."""

    def __init__(self, stream: Stream, early: bytes) -> None:
        inner, self._outer = socket.socketpair()
        # Between the two it is we who read.
        super().__init__(inner, patience_s=0.0)
        self._stream = stream
        self._early = early
        self._reader = threading.Thread(target=self._pump_in, name="hijack-in", daemon=True)
        self._writer = threading.Thread(target=self._pump_out, name="hijack-out", daemon=True)
        self._reader.start()
        self._writer.start()

    def _pump_in(self) -> None:
        """Client to us. Its end of input is ours; if it is gone altogether, so are we."""
        try:
            data = self._early or self._stream.recv(_CHUNK)
            while data:
                self._outer.sendall(data)
                data = self._stream.recv(_CHUNK)
            self._outer.shutdown(socket.SHUT_WR)
            self._wait_until_gone()
        except OSError as error:
            log.debug("input of a hijacked connection: %s", error)
        with suppress(OSError):
            self._outer.shutdown(socket.SHUT_RDWR)

    def _wait_until_gone(self) -> None:
        """After the end of input: a unix socket says POLLHUP when it is closed. With TLS only close_notify ends input
        (as Go's CloseWrite does), so that an end of the TCP stream means the client has left."""
        gone = select.POLLHUP if isinstance(self._stream, socket.socket) else select.POLLRDHUP
        poll = select.poll()
        poll.register(self._stream.fileno(), gone)
        while not any(event & (gone | select.POLLHUP | select.POLLERR) for _, event in poll.poll()):
            continue

    def _pump_out(self) -> None:
        """Us to client."""
        try:
            while data := self._outer.recv(_CHUNK):
                self._stream.sendall(data)
        except OSError as error:
            log.debug("output of a hijacked connection: %s", error)
            with suppress(OSError):
                self._outer.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._closed:
            return
        # Output first: what was sent must get to the client before the connection ends.
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        self._writer.join()
        super().close()
        self._reader.join()
        self._sock.close()
        self._outer.close()

    def abort(self) -> None:
        super().abort()
        with suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
