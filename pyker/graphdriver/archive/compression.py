"""Compressed streams, told apart by their first bytes.

Layers come as gzip, zstd or plain, whatever their media type says; ``import`` and ``load`` also take bzip2 and xz.
"""

from __future__ import annotations

import bz2
import lzma
import os
from collections.abc import Callable, Iterator
from typing import Protocol

from isal import igzip_lib

from pyker.errors import Corrupt

CHUNK = 1 << 20
"""Bytes of output at a time; also what bounds the memory that a bomb can take."""

_READ = 1 << 18
_GZIP_WBITS = 31
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"


class _Decompressor(Protocol):
    """The shape that igzip_lib, bz2, lzma and zstd share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def detect(head: bytes) -> str:
    """The name of the compression that a stream begins with: gzip, zstd, bzip2, xz, or "" for none known."""
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    if head[:4] == _ZSTD_MAGIC or (head[1:4] == _ZSTD_SKIPPABLE and 0x50 <= head[0] <= 0x5F):
        return "zstd"
    if head[:3] == b"BZh":
        return "bzip2"
    if head[:6] == b"\xfd7zXZ\x00":
        return "xz"
    return ""


def _gzip() -> _Decompressor:
    """isal's: twice as fast as zlib."""
    decompressor: _Decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    return decompressor


def _factory(name: str) -> tuple[Callable[[], _Decompressor], tuple[type[Exception], ...]]:
    match name:
        case "gzip":
            return _gzip, (igzip_lib.IsalError,)  # type: ignore[return-value]  # its stub calls it an instance
        case "bzip2":
            return bz2.BZ2Decompressor, (OSError, ValueError)
        case "xz":
            return lzma.LZMADecompressor, (lzma.LZMAError,)
        case _:
            from backports import zstd

            return zstd.ZstdDecompressor, (zstd.ZstdError,)


def decompressed(fd: int, consumed: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the plain bytes of the file at ``fd``, at most ``CHUNK`` at a time.

    Streams that were put one behind the other (as pigz and seekable gzip do) come out as one. ``consumed`` is told how
    many bytes of the file have been read so far.

    Raises:
        Corrupt: the stream is damaged, or ends too early.
    """
    data = os.read(fd, _READ)
    total = len(data)
    consumed(total)
    name = detect(data)
    if not name:
        while data:
            yield data
            data = os.read(fd, CHUNK)
            total += len(data)
            consumed(total)
        return
    make, errors = _factory(name)
    decompressor = make()
    started = True
    try:
        while True:
            plain = decompressor.decompress(data, CHUNK)
            data = b""
            if plain:
                yield plain
            if decompressor.eof:
                data = decompressor.unused_data or os.read(fd, _READ)
                started = False
                data = data.lstrip(b"\0") if name == "gzip" else data
                if not data:
                    if not os.read(fd, 1):
                        return
                    raise Corrupt(f"{name}: bytes behind the end of the stream")
                decompressor = make()
                started = True
            elif decompressor.needs_input:
                data = os.read(fd, _READ)
                if not data:
                    raise Corrupt(f"{name}: unexpected end of the stream")
                total += len(data)
                consumed(total)
    except errors as error:
        if not started:
            raise
        raise Corrupt(f"{name}: {error}") from error
