"""Bytes between a client's connection and a container's streams, with the keys that detach.

On the container's side is one end of a socket pair whose other end the monitor serves: to the client flow stdcopy
frames (raw bytes with a terminal), from it flows stdin. Source: Docker API v1.45 POST /containers/{id}/attach.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable

from pyker.api import frames
from pyker.daemon.wake import Wake
from pyker.engine.job import CancelToken, Duplex
from pyker.errors import Cancelled, InvalidParameter

_CHUNK = 1 << 16
DEFAULT_DETACH_KEYS = b"\x10\x11"
"""ctrl-p,ctrl-q"""


def parse_detach_keys(text: str) -> bytes:
    """The bytes of a sequence such as ``ctrl-p,ctrl-q`` or ``a``; empty text gives the default one."""
    if not text:
        return DEFAULT_DETACH_KEYS
    keys = bytearray()
    for part in text.split(","):
        if len(part) == 1 and part.isascii():
            keys += part.encode()
            continue
        control = part.removeprefix("ctrl-")
        if control == part or len(control) != 1 or not ("a" <= control <= "z" or control in "@[\\]^_"):
            raise InvalidParameter(
                f"invalid escape keys ({text}) provided", hint="for example --detach-keys=ctrl-p,ctrl-q"
            )
        keys.append(ord(control.upper()) & 0x1F)
    return bytes(keys)


class DetachScanner:
    """Passes a client's input on, holding back what may be the start of the detach sequence."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on of ``data`` and of what was held back; and whether the sequence is complete."""
        keys = self._keys
        if self._held == 0 and keys[0] not in data:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == keys[self._held]:
                self._held += 1
                if self._held == len(keys):
                    self._held = 0
                    return bytes(out), True
                continue
            out += keys[: self._held]
            self._held = 0
            if byte == keys[0]:
                self._held = 1
                if len(keys) == 1:
                    self._held = 0
                    return bytes(out), True
            else:
                out.append(byte)
        return bytes(out), False


def in_frames(output: memoryview) -> bytes:
    """A terminal's output for a client that wants frames. A terminal has one stream only."""
    return frames.frame(frames.STDOUT, bytes(output))


class OutOfFrames:
    """Framed output for a client that wants it as from a terminal, which has no stderr."""

    def __init__(self) -> None:
        self._frames = frames.Demultiplexer()

    def __call__(self, output: memoryview) -> bytes:
        return b"".join(piece for stream, piece in self._frames.feed(bytes(output)) if stream == frames.STDOUT)


class Relay:
    """Moves bytes both ways until one side is done."""

    def __init__(
        self,
        client: Duplex,
        container: socket.socket,
        detach_keys: bytes,
        shape: Callable[[memoryview], bytes] | None = None,
    ) -> None:
        """``detach_keys`` empty: nothing in the input is special. The relay owns ``container``.

        ``shape`` makes of a piece of the container's output what the client gets; None leaves it as it is.
        """
        self._client = client
        self._shape = shape
        self._container = container
        self._scanner = DetachScanner(detach_keys) if detach_keys else None
        self.detached = False
        self._stop = Wake()

    def run(self, cancel: CancelToken, *, stdin: bool) -> bool:
        """True: the container's output has ended. False: the client has gone or detached, or ``cancel`` was set."""
        feeder = None
        forget = cancel.on_cancel(self._stop.poke)
        try:
            if stdin:
                feeder = threading.Thread(target=self._feed, name="stdin", daemon=True)
                feeder.start()
            return self._drain() and not self.detached
        except (Cancelled, OSError):
            return False
        finally:
            forget()
            self._stop.poke()
            if feeder is not None and self._client.fileno() < 0:
                self._client.close()
            if feeder is not None:
                feeder.join()
            self._container.close()
            self._stop.close()

    def _drain(self) -> bool:
        """Container to client; True if the container's side ended, False if the client's did."""
        poll = select.poll()
        poll.register(self._container, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        descriptor = self._client.fileno()
        if descriptor >= 0:
            poll.register(descriptor, 0)
        buffer = memoryview(bytearray(_CHUNK))
        while True:
            for ready, _ in poll.poll():
                if ready != self._container.fileno():
                    return False
            size = self._container.recv_into(buffer)
            if not size:
                return True
            piece = buffer[:size]
            self._client.send(piece if self._shape is None else self._shape(piece))

    def _feed(self) -> None:
        """Client to container."""
        poll = select.poll()
        descriptor = self._client.fileno()
        if descriptor >= 0:
            poll.register(descriptor, select.POLLIN)
            poll.register(self._stop, select.POLLIN)
        try:
            while True:
                if descriptor >= 0 and any(ready != descriptor for ready, _ in poll.poll()):
                    return
                data = self._client.recv(_CHUNK)
                if not data:
                    break
                if self._scanner is not None:
                    data, self.detached = self._scanner.feed(data)
                    if self.detached:
                        self._container.shutdown(socket.SHUT_RDWR)
                        return
                self._container.sendall(data)
            self._container.shutdown(socket.SHUT_WR)
        except (Cancelled, OSError):
            return
