"""Layers made here: a tar and a gzip that come out the same, byte for byte, on every machine.

The gzip stores its data uncompressed. What a compressor makes of it changes from one version of zlib to the next, and
with it the digest; and over the loopback interface there is nothing to win.

Source: POSIX.1 pax, ustar interchange format; RFC 1951 section 3.2.4; RFC 1952.
"""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from pyker.types.ids import DiffId, Digest

MADE_AT = 1735689600
"""2025-01-01T00:00:00Z: the time of every file, so that it does not depend on when a layer was made."""

_STORED_MAX = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file in a layer, owned by root: a folder if ``path`` ends in a slash, a symbolic link if there is a target."""

    path: str
    mode: int = 0o644
    data: bytes = b""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it travels. ``blob`` is gzip; ``digest`` is the blob's, ``diff_id`` the tar's."""

    blob: bytes
    digest: Digest
    diff_id: DiffId


def make_layer(entries: Iterable[Entry]) -> Layer:
    """Pack ``entries`` in the order given."""
    tar = _tar(entries)
    blob = stored_gzip(tar)
    return Layer(blob, Digest(_digest(blob)), DiffId(_digest(tar)))


def _tar(entries: Iterable[Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.path.rstrip("/"))
            info.mtime = MADE_AT
            info.mode = entry.mode
            info.uname = info.gname = "root"
            if entry.target:
                info.type = tarfile.SYMTYPE
                info.linkname = entry.target
                info.mode = 0o777
            elif entry.path.endswith("/"):
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(entry.data)
            tar.addfile(info, io.BytesIO(entry.data))
    return buffer.getvalue()


def stored_gzip(data: bytes) -> bytes:
    """``data`` as a gzip member of stored blocks, without a name or a time."""
    out = bytearray(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
    for start in range(0, max(len(data), 1), _STORED_MAX):
        block = data[start : start + _STORED_MAX]
        last = start + _STORED_MAX >= len(data)
        out += struct.pack("<BHH", 1 if last else 0, len(block), len(block) ^ 0xFFFF)
        out += block
    out += struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
    return bytes(out)


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
