"""Stream frames: how stdout and stderr share one connection when there is no terminal.

A frame is ``[stream, 0, 0, 0, length as big-endian u32]`` and the payload; stream is 0 stdin, 1 stdout, 2 stderr,
3 an error of the engine. Source: Docker API v1.45 POST /containers/{id}/attach, "Stream format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

STDIN, STDOUT, STDERR, SYSTEMERR = 0, 1, 2, 3
RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"

_HEADER = struct.Struct(">BxxxL")
HEADER_SIZE = _HEADER.size
_LARGEST = 64 << 20


def header(stream: int, size: int) -> bytes:
    """The eight bytes before a payload of ``size`` bytes."""
    return _HEADER.pack(stream, size)


def frame(stream: int, payload: bytes) -> bytes:
    """One whole frame."""
    return _HEADER.pack(stream, len(payload)) + payload


class Demultiplexer:
    """Takes a multiplexed stream in pieces of any size and gives the payloads back as they come.

    A payload that spans several pieces is given piece by piece: nothing is held back.
    """

    def __init__(self) -> None:
        self._head = b""
        self._stream = STDOUT
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield ``(stream, payload)`` for what ``data`` completes. Raises ValueError if this is not such a stream."""
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                yield self._stream, piece
                continue
            missing = HEADER_SIZE - len(self._head)
            self._head += data[at : at + missing]
            at += missing
            if len(self._head) == HEADER_SIZE:
                if self._head[0] > SYSTEMERR or self._head[1:4] != b"\0\0\0":
                    raise ValueError(f"not a stream frame: {self._head!r}")
                self._stream, self._left = _HEADER.unpack(self._head)
                self._head = b""
                if self._left > _LARGEST:
                    raise ValueError(f"stream frame of {self._left} bytes")

    @property
    def complete(self) -> bool:
        """Whether the stream may end here: not inside a frame."""
        return not self._left and not self._head
