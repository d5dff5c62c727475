"""One member of a tar, and the stream that its headers are read from.

Every common form is read: v7, ustar with prefix, GNU long names, base-256 numbers and sparse maps, PAX with
``SCHILY.xattr`` and GNU sparse 0.0, 0.1 and 1.0. Names are bytes. Where readers disagree (links that claim a size, a
missing end marker, global PAX headers) this one does what Go's archive/tar does, since that made most images.

Source: tar(5); POSIX pax; GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pyker.errors import Corrupt

BLOCK = 512
SPECIAL_MAX = 1 << 20
"""The largest PAX or long-name header taken: a hostile one could ask for all memory."""
_SPARSE_MAX = 1 << 20
_ZERO_BLOCK = bytes(BLOCK)

REGULAR, LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
GLOBAL_HEADER = b"g"
_HEADER_ONLY = frozenset((LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO))
_REGULAR_FLAGS = frozenset((REGULAR, b"\0", b"7", b"S"))
_KNOWN = _HEADER_ONLY | _REGULAR_FLAGS | {GLOBAL_HEADER}
_XATTR = b"SCHILY.xattr."


@dataclass(slots=True)
class Entry:
    """A member. ``size`` is how many bytes of data follow its header in the tar.

    ``sparse`` lists (offset, length) of the parts that are there, ``real_size`` is the file's length then. ``kind`` is
    one of the type flags above. ``mtime_ns`` is nanoseconds since 1970.
    """

    name: bytes
    kind: bytes
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    linkname: bytes
    devmajor: int
    devminor: int
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    sparse: list[tuple[int, int]] | None = None
    real_size: int = 0


class TarStream:
    """Takes a tar's bytes in order, and keeps those that are not file data in ``raw`` until the caller empties it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._position = 0
        self.raw: list[bytes] = []

    def _refill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._chunk, self._position = chunk, 0
                return True
        self._chunk, self._position = b"", 0
        return False

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes, b"" at the end; they are also kept in ``raw``. Raises Corrupt if it ends within."""
        end = self._position + size
        if end <= len(self._chunk):
            data = self._chunk[self._position : end]
            self._position = end
        else:
            data = b"".join(self._gather(size))
            if data and len(data) < size:
                raise Corrupt("unexpected end of the tar")
        if data:
            self.raw.append(data)
        return data

    def _gather(self, size: int) -> Iterator[bytes]:
        while size:
            if self._position >= len(self._chunk) and not self._refill():
                return
            piece = self._chunk[self._position : self._position + size]
            self._position += len(piece)
            size -= len(piece)
            yield piece

    def data(self, size: int) -> Iterator[memoryview]:
        """The next ``size`` bytes in pieces, not kept in ``raw``. Raises Corrupt if the tar ends within."""
        while size:
            if self._position >= len(self._chunk) and not self._refill():
                raise Corrupt("unexpected end of the tar")
            piece = memoryview(self._chunk)[self._position : self._position + size]
            self._position += len(piece)
            size -= len(piece)
            yield piece

    def keep(self, size: int) -> None:
        """Move the next ``size`` bytes to ``raw``. Raises Corrupt if the tar ends within."""
        for piece in self.data(size):
            self.raw.append(bytes(piece))

    def rest(self) -> Iterator[bytes]:
        """Everything up to the end of the stream."""
        if self._position < len(self._chunk):
            yield self._chunk[self._position :]
        while self._refill():
            yield self._chunk
        self._chunk, self._position = b"", 0


def padding(size: int) -> int:
    """Bytes that fill ``size`` up to whole blocks."""
    return -size % BLOCK


def next_entry(stream: TarStream) -> Entry | None:
    """Read the next member's headers; None at the end of the tar. Data and its padding are left to the caller.

    Raises:
        Corrupt: the header's checksum or a number in it is wrong, the tar is cut, or a special header is too large.
    """
    records: dict[bytes, bytes] = {}
    sparse_pairs: list[int] = []
    long_name: bytes | None = None
    long_link: bytes | None = None
    while True:
        block = stream.read(BLOCK)
        if not block:
            if records or long_name is not None or long_link is not None:
                raise Corrupt("unexpected end of the tar")
            return None
        if block == _ZERO_BLOCK:
            second = stream.read(BLOCK)
            if second and second != _ZERO_BLOCK:
                raise Corrupt("invalid tar header: a single block of zeros")
            return None
        _verify(block)
        kind = block[156:157]
        match kind:
            case b"x":
                records, sparse_pairs = _pax(_special(stream, block))
            case b"L":
                long_name = _special(stream, block).partition(b"\0")[0]
            case b"K":
                long_link = _special(stream, block).partition(b"\0")[0]
            case b"g":
                _special(stream, block)
            case _:
                entry = _entry(block, kind)
                _merge(entry, records)
                if long_name is not None:
                    entry.name = long_name
                if long_link is not None:
                    entry.linkname = long_link
                if kind == b"\0" and entry.name.endswith(b"/"):
                    entry.kind, entry.size = DIRECTORY, 0
                if entry.kind == REGULAR:
                    _sparse(stream, block, entry, records, sparse_pairs)
                return entry


def _special(stream: TarStream, block: bytes) -> bytes:
    size = _number(block[124:136])
    if not 0 <= size <= SPECIAL_MAX:
        raise Corrupt(f"invalid tar header: a special header of {size} bytes")
    data = stream.read(size) if size else b""
    if size and not data:
        raise Corrupt("unexpected end of the tar")
    if padding(size):
        stream.keep(padding(size))
    return data


def _verify(block: bytes) -> None:
    stored = _number(block[148:156])
    fields = block[:148] + b"        " + block[156:]
    unsigned = sum(fields)
    if stored != unsigned and stored != unsigned - 256 * sum(1 for byte in fields if byte > 127):
        raise Corrupt("invalid tar header: wrong checksum")


def _number(raw: bytes) -> int:
    """Octal digits, or base-256 in two's complement where the first bit is set."""
    if raw[0] & 0x80:
        value = int.from_bytes(bytes((raw[0] & 0x7F,)) + raw[1:], "big")
        return value - (1 << (8 * len(raw) - 1)) if raw[0] & 0x40 else value
    digits = raw.strip(b" \0").partition(b"\0")[0]
    if not digits:
        return 0
    try:
        return int(digits, 8)
    except ValueError as error:
        raise Corrupt(f"invalid tar header: {raw!r} is not an octal number") from error


def _entry(block: bytes, kind: bytes) -> Entry:
    name = block[:100].partition(b"\0")[0]
    magic = block[257:263]
    devmajor = devminor = 0
    if magic == b"ustar\0" or block[257:265] == b"ustar  \0":
        if kind in (CHAR, BLOCK_DEVICE):
            devmajor, devminor = _number(block[329:337]), _number(block[337:345])
        if magic == b"ustar\0":
            prefix = block[345 : 476 if block[508:512] == b"tar\0" else 500].partition(b"\0")[0]
            if prefix:
                name = prefix + b"/" + name
    if kind not in _KNOWN:
        raise Corrupt(f"unhandled tar header type {kind[0]}")
    size = _number(block[124:136])
    if size < 0:
        raise Corrupt("invalid tar header: a negative size")
    return Entry(
        name,
        REGULAR if kind in _REGULAR_FLAGS else kind,
        0 if kind in _HEADER_ONLY else size,
        _number(block[100:108]) & 0o7777,
        _number(block[108:116]),
        _number(block[116:124]),
        _number(block[136:148]) * 1_000_000_000,
        block[157:257].partition(b"\0")[0],
        devmajor,
        devminor,
    )


def _pax(data: bytes) -> tuple[dict[bytes, bytes], list[int]]:
    """The records, and the numbers of GNU sparse 0.0, whose keys repeat."""
    records: dict[bytes, bytes] = {}
    pairs: list[int] = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        try:
            length = int(data[position:space]) if space > position else 0
        except ValueError as error:
            raise Corrupt("invalid PAX header") from error
        end = position + length
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if length < 5 or end > len(data) or data[end - 1 : end] != b"\n" or not equals or not key:
            raise Corrupt("invalid PAX header")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pairs.append(_decimal(value))
        elif key in (b"path", b"linkpath") and b"\0" in value:
            raise Corrupt("invalid PAX header: a zero byte in a name")
        else:
            records[key] = value
        position = end
    return records, pairs


def _decimal(value: bytes) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise Corrupt(f"invalid PAX header: {value[:40]!r} is not a number") from error


def _nanoseconds(value: bytes) -> int:
    """``-1.25`` is -1,250,000,000; digits past the ninth are dropped."""
    whole, _, fraction = value.partition(b".")
    if fraction and not fraction.isdigit():
        raise Corrupt(f"invalid PAX header: {value[:40]!r} is not a time")
    sign = -1 if whole.startswith(b"-") else 1
    seconds = _decimal(whole) if whole not in (b"", b"-") else 0
    return seconds * 1_000_000_000 + sign * int((fraction + b"000000000")[:9])


def _merge(entry: Entry, records: dict[bytes, bytes]) -> None:
    for key, value in records.items():
        if key.startswith(_XATTR):
            entry.xattrs[key[len(_XATTR) :]] = value
            continue
        if not value:
            continue
        match key:
            case b"path":
                entry.name = value
            case b"linkpath":
                entry.linkname = value
            case b"size":
                size = _decimal(value)
                if size < 0:
                    raise Corrupt("invalid PAX header: a negative size")
                entry.size = 0 if entry.kind in _HEADER_ONLY else size
            case b"uid":
                entry.uid = _decimal(value)
            case b"gid":
                entry.gid = _decimal(value)
            case b"mtime":
                entry.mtime_ns = _nanoseconds(value)


def _sparse(stream: TarStream, block: bytes, entry: Entry, records: dict[bytes, bytes], pairs: list[int]) -> None:
    """Fill in the sparse map, from whichever of the four forms is there."""
    numbers: list[int] | None = None
    if block[156:157] == b"S":
        numbers = _old_gnu_map(stream, block)
        entry.real_size = _number(block[483:495])
    elif records.get(b"GNU.sparse.major") == b"1" and records.get(b"GNU.sparse.minor") == b"0":
        numbers, taken = _gnu_map_in_data(stream, entry.size)
        entry.size -= taken
        entry.real_size = _decimal(records.get(b"GNU.sparse.realsize", b"0"))
    elif b"GNU.sparse.map" in records:
        numbers = [_decimal(part) for part in records[b"GNU.sparse.map"].split(b",") if part]
        entry.real_size = _decimal(records.get(b"GNU.sparse.size", b"0"))
    elif b"GNU.sparse.numblocks" in records:
        numbers = pairs
        entry.real_size = _decimal(records.get(b"GNU.sparse.size", b"0"))
    if numbers is None:
        return
    if records.get(b"GNU.sparse.name"):
        entry.name = records[b"GNU.sparse.name"]
    if len(numbers) % 2 or len(numbers) > _SPARSE_MAX:
        raise Corrupt("invalid sparse map")
    parts = [part for part in zip(numbers[::2], numbers[1::2], strict=True) if part[1]]
    position = 0
    for offset, length in parts:
        if offset < position or length < 0 or offset + length > entry.real_size:
            raise Corrupt("invalid sparse map")
        position = offset + length
    if sum(length for _, length in parts) != entry.size:
        raise Corrupt("invalid sparse map: it does not add up to the data")
    entry.sparse = parts


def _old_gnu_map(stream: TarStream, block: bytes) -> list[int]:
    numbers: list[int] = []

    def take(area: bytes) -> None:
        for start in range(0, len(area) - 23, 24):
            if area[start] == 0:
                return
            numbers.append(_number(area[start : start + 12]))
            numbers.append(_number(area[start + 12 : start + 24]))

    take(block[386:482])
    extended = block[482]
    while extended:
        more = stream.read(BLOCK)
        if not more:
            raise Corrupt("unexpected end of the tar")
        take(more[:504])
        extended = more[504]
        if len(numbers) > _SPARSE_MAX:
            raise Corrupt("invalid sparse map: too long")
    return numbers


def _gnu_map_in_data(stream: TarStream, size: int) -> tuple[list[int], int]:
    """GNU sparse 1.0: decimal lines ahead of the data, filled up to a block. Returns numbers and bytes taken."""
    taken = 0
    text = b""

    def line() -> int:
        nonlocal text, taken
        while b"\n" not in text:
            if len(text) > 64 or taken + BLOCK > size:
                raise Corrupt("invalid sparse map")
            block = stream.read(BLOCK)
            if not block:
                raise Corrupt("unexpected end of the tar")
            text += block
            taken += BLOCK
        first, _, text = text.partition(b"\n")
        return _decimal(first)

    count = line()
    if not 0 <= 2 * count <= _SPARSE_MAX:
        raise Corrupt("invalid sparse map: too long")
    return [line() for _ in range(2 * count)], taken
