"""What it takes to get a layer's tar out again, byte by byte: its headers and padding, and where the file data is.

The form is the reference engine's, so that each can read the other's: gzip of JSON lines, ``{"type":2,"payload":...}``
for bytes as they were and ``{"type":1,"name","size","payload"}`` for a file's data, whose payload is its CRC-64.
Data that is in no file any more (a sparse file's, one that the same tar replaced later) is kept as plain bytes.

Source: vbatts/tar-split storage entries; CRC-64/GO-ISO.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from fastcrc import crc64
from isal import isal_zlib

from pyker.errors import Corrupt
from pyker.graphdriver.archive.compression import CHUNK, decompressed
from pyker.graphdriver.archive.rooted import RootedTree, clean

_FLUSH = 1 << 16
_PIECE = 1 << 18


def checksum(pieces: Iterable[bytes | memoryview]) -> int:
    """CRC-64/GO-ISO of all ``pieces`` together."""
    crc = 0
    for piece in pieces:
        crc = crc64.go_iso(piece, crc)
    return crc


class SplitWriter:
    """Writes the lines to ``fd``, which stays the caller's. ``repeated`` says that a file's name came twice."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._compressor = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
        self._lines: list[bytes] = []
        self._pending = 0
        self._position = 0
        self._seen: set[bytes] = set()
        self._held: list[bytes] = []
        self.repeated = False

    def segment(self, pieces: list[bytes]) -> None:
        """Bytes as they are in the tar; empties ``pieces``."""
        self._held.extend(pieces)
        pieces.clear()
        if sum(map(len, self._held)) >= _PIECE:
            self._flush_segment()

    def file(self, name: bytes, size: int, crc: int) -> None:
        """``size`` bytes are those of the file ``name``, whose CRC-64 is ``crc``."""
        if name in self._seen:
            # The reference engine refuses a name that comes twice; without data the line says nothing anyway.
            if not size:
                return
            self.repeated = True
        self._seen.add(name)
        self._flush_segment()
        try:
            named = f'"name":{json.dumps(name.decode())}'
        except UnicodeDecodeError:
            named = f'"name_raw":"{base64.b64encode(name).decode()}"'
        if size:
            payload = base64.b64encode(crc.to_bytes(8, "big")).decode()
            line = f'{{"type":1,{named},"size":{size},"payload":"{payload}","position":{self._position}}}\n'
        else:
            line = f'{{"type":1,{named},"payload":null,"position":{self._position}}}\n'
        self._add(line.encode())

    def close(self) -> None:
        """Write what is left."""
        self._flush_segment()
        self._flush_lines()
        _write_all(self._fd, self._compressor.flush())

    def _flush_segment(self) -> None:
        data = b"".join(self._held)
        self._held.clear()
        for start in range(0, len(data), _PIECE):
            payload = base64.b64encode(data[start : start + _PIECE])
            self._add(b'{"type":2,"payload":"%b","position":%d}\n' % (payload, self._position))

    def _add(self, line: bytes) -> None:
        self._position += 1
        self._lines.append(line)
        self._pending += len(line)
        if self._pending >= _FLUSH:
            self._flush_lines()

    def _flush_lines(self) -> None:
        _write_all(self._fd, self._compressor.compress(b"".join(self._lines)))
        self._lines.clear()
        self._pending = 0


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes as they are in the tar."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FileData:
    """The tar goes on with ``size`` bytes of the file ``name``."""

    name: bytes
    size: int
    crc: bytes


def read_split(fd: int) -> Iterator[Segment | FileData]:
    """The entries of the file at ``fd``, from its current position on. Raises Corrupt."""
    for line in _lines(fd):
        try:
            fields = json.loads(line)
            payload = base64.b64decode(fields["payload"] or "")
            if fields["type"] == 2:
                yield Segment(payload)
            else:
                raw = fields.get("name_raw")
                name = base64.b64decode(raw) if raw else fields.get("name", "").encode()
                yield FileData(name, fields.get("size", 0), payload)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Corrupt("damaged tar-split data") from error


def _lines(fd: int) -> Iterator[bytes]:
    tail = b""
    for chunk in decompressed(fd, lambda _: None):
        *lines, tail = (tail + chunk).split(b"\n")
        yield from filter(None, lines)
    if tail:
        yield tail


def assemble(split_fd: int, root_fd: int, write: Callable[[bytes], None]) -> None:
    """Write the layer's tar, from the tar-split data and the layer's folder.

    Raises:
        Corrupt: a file of the layer is missing or is not what it was.
    """
    tree = RootedTree(root_fd)
    try:
        for part in read_split(split_fd):
            match part:
                case Segment(data):
                    write(data)
                case FileData(name, size, crc):
                    if size and checksum(_copied(tree, name, size, write)).to_bytes(8, "big") != crc:
                        raise Corrupt(f"the file {name.decode(errors='backslashreplace')!r} of the layer has changed")
    finally:
        tree.close()


def _copied(tree: RootedTree, name: bytes, size: int, write: Callable[[bytes], None]) -> Iterator[bytes]:
    try:
        fd = tree.open_file(clean(name))
    except OSError as error:
        raise Corrupt(f"the file {name.decode(errors='backslashreplace')!r} of the layer: {error.strerror}") from error
    try:
        left = size
        while left:
            data = os.read(fd, min(left, CHUNK))
            if not data:
                raise Corrupt(f"the file {name.decode(errors='backslashreplace')!r} of the layer is too short")
            write(data)
            left -= len(data)
            yield data
    finally:
        os.close(fd)


def lost(split_fd: int, root_fd: int) -> set[int]:
    """Which of the file entries with data (counted from 0) the folder cannot give back under their name, or whose
    name came before.
    """
    missing: set[int] = set()
    seen: set[bytes] = set()
    tree = RootedTree(root_fd)
    try:
        files = (part for part in read_split(split_fd) if isinstance(part, FileData) and part.size)
        for number, part in enumerate(files):
            try:
                whole = checksum(_copied(tree, part.name, part.size, lambda _: None)).to_bytes(8, "big") == part.crc
            except Corrupt:
                whole = False
            if not whole or part.name in seen:
                missing.add(number)
            seen.add(part.name)
    finally:
        tree.close()
    return missing
