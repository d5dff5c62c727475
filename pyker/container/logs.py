"""The json-file log, read: one JSON object a line, over rotated files, once or as it grows.

``<id>-json.log`` is written by the container's monitor, at most 16 KiB a line; a line of output that is longer comes
in parts, of which only the last ends with a newline. Older files are ``<id>-json.log.1`` and up, or ``.1.gz``.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO, cast

import msgspec
from msgspec import Struct

from pyker.container.state import nanoseconds
from pyker.libcontainer import syscalls

_CHUNK = 1 << 16


class LogEntry(Struct, frozen=True):
    """One line of the file. ``time`` is RFC 3339; ``attrs`` are the labels and variables that the driver keeps."""

    log: str = ""
    stream: str = "stdout"
    time: str = ""
    attrs: dict[str, str] | None = None

    @property
    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        return nanoseconds(self.time)


_decode = msgspec.json.Decoder(LogEntry).decode


def _entry(line: bytes) -> LogEntry | None:
    """A damaged line (a machine that lost power while writing) is skipped, as the reference does."""
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class LogReader:
    """Reads the log at ``path``. The files may grow and rotate meanwhile."""

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self, *, tail: int = -1, since_ns: int = 0, until_ns: int = 0) -> Iterator[LogEntry]:
        """What is there now, oldest first. ``tail`` -1 means all."""
        with _Cursor(self._path) as cursor:
            yield from self._past(cursor, tail, since_ns, until_ns)

    def up_to(self, inode: int, size: int) -> Iterator[LogEntry]:
        """What had been written when the current file was ``inode`` and had ``size`` bytes."""
        for path in (*reversed(self._older()), self._path):
            with _open(path) as file:
                last = os.fstat(file.fileno()).st_ino == inode
                for line in file.read(size).splitlines() if last else file:
                    entry = _entry(line)
                    if entry is not None:
                        yield entry
            if last:
                return

    def follow(
        self,
        stopped: Callable[[], bool],
        wake_fd: int,
        *,
        tail: int = -1,
        since_ns: int = 0,
        until_ns: int = 0,
    ) -> Iterator[LogEntry]:
        """What is there, and then what comes, until ``stopped()`` and everything written before that was read.

        ``wake_fd`` becomes readable when ``stopped`` may have changed. The file must exist.
        """
        watch = syscalls.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            with _Cursor(self._path) as cursor:
                # The folder's watch tells of the file that follows a rotated one.
                syscalls.inotify_add_watch(
                    watch, os.path.dirname(self._path), syscalls.IN_CREATE | syscalls.IN_MOVED_TO
                )
                syscalls.inotify_add_watch(watch, self._path, syscalls.IN_MODIFY | syscalls.IN_MOVE_SELF)
                for entry in self._past(cursor, tail, since_ns, until_ns):
                    yield entry
                poll = select.poll()
                poll.register(watch, select.POLLIN)
                poll.register(wake_fd, select.POLLIN)
                while True:
                    left_ns = until_ns - time.time_ns() if until_ns else 0
                    last = stopped() or left_ns < 0
                    moved = cursor.moved()
                    # Only after that look can nothing more be added to a file that was moved away.
                    for entry in cursor.new():
                        if until_ns and entry.time_ns > until_ns:
                            return
                        if entry.time_ns >= since_ns:
                            yield entry
                    if moved and cursor.advance():
                        with suppress(FileNotFoundError):
                            syscalls.inotify_add_watch(watch, self._path, syscalls.IN_MODIFY | syscalls.IN_MOVE_SELF)
                        continue
                    if last:
                        return
                    poll.poll(left_ns // 1_000_000 + 1 if until_ns else None)
                    try:
                        os.read(watch, 4096)
                    except BlockingIOError:
                        pass
        finally:
            os.close(watch)

    def _past(self, cursor: _Cursor, tail: int, since_ns: int, until_ns: int) -> Iterator[LogEntry]:
        if tail == 0:
            cursor.skip()
            return
        entries = iter(self._last(cursor, tail)) if tail > 0 else self._all(cursor)
        for entry in entries:
            if until_ns and entry.time_ns > until_ns:
                return
            if not since_ns or entry.time_ns >= since_ns:
                yield entry

    def _all(self, cursor: _Cursor) -> Iterator[LogEntry]:
        for older in reversed(self._older()):
            with _open(older) as file:
                for line in file:
                    entry = _entry(line)
                    if entry is not None:
                        yield entry
        yield from cursor.new()

    def _last(self, cursor: _Cursor, count: int) -> list[LogEntry]:
        kept: deque[LogEntry] = deque(cursor.last(count), maxlen=count)
        for older in self._older():
            missing = count - len(kept)
            if missing <= 0:
                break
            with _open(older) as file:
                found = deque((entry for line in file if (entry := _entry(line)) is not None), maxlen=missing)
            kept.extendleft(reversed(found))
        return list(kept)

    def _older(self) -> list[str]:
        """The rotated files, newest first."""
        found = []
        number = 1
        while True:
            plain = f"{self._path}.{number}"
            if os.path.exists(plain):
                found.append(plain)
            elif os.path.exists(plain + ".gz"):
                found.append(plain + ".gz")
            else:
                return found
            number += 1


def _open(path: str) -> BinaryIO:
    if not path.endswith(".gz"):
        return open(path, "rb")
    import gzip

    return cast("BinaryIO", gzip.open(path, "rb"))


class _Cursor:
    """A place in the current file, which survives its rotation."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  closed by __exit__
        self._rest = b""

    def __enter__(self) -> _Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def skip(self) -> None:
        """Go to the end of what is complete."""
        size = os.fstat(self._file.fileno()).st_size
        self._seek_line(size)

    def _seek_line(self, size: int) -> None:
        """Stand behind the last newline before ``size``."""
        position = size
        while position > 0:
            start = max(0, position - _CHUNK)
            data = os.pread(self._file.fileno(), position - start, start)
            at = data.rfind(b"\n")
            if at >= 0:
                position = start + at + 1
                break
            position = start
        self._file.seek(position)
        self._rest = b""

    def last(self, count: int) -> list[LogEntry]:
        """The last ``count`` complete lines; afterwards the cursor stands behind them."""
        self.skip()
        end = position = self._file.tell()
        data = b""
        while position > 0 and data.count(b"\n") <= count:
            start = max(0, position - _CHUNK)
            data = os.pread(self._file.fileno(), position - start, start) + data
            position = start
        self._file.seek(end)
        lines = data.split(b"\n")[:-1]
        return [entry for line in lines[-count:] if (entry := _entry(line)) is not None]

    def new(self) -> Iterator[LogEntry]:
        """The complete lines from here to the end of the file; from its start, if it was emptied meanwhile."""
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)
            self._rest = b""
        while True:
            data = self._file.read(_CHUNK)
            if not data:
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                entry = _entry(line)
                if entry is not None:
                    yield entry

    def moved(self) -> bool:
        """Whether the file is not the current one any more."""
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return True
        mine = os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)

    def advance(self) -> bool:
        """Go to the start of the file that followed this one; False if that is not there yet."""
        mine = os.fstat(self._file.fileno())
        newer = self._path
        number = 1
        while True:
            name = f"{self._path}.{number}"
            try:
                there = os.stat(name)
            except FileNotFoundError:
                break
            if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                break
            newer = name
            number += 1
        try:
            fresh = open(newer, "rb", buffering=0)  # noqa: SIM115  closed by __exit__
        except FileNotFoundError:
            return False
        self._file.close()
        self._file = fresh
        self._rest = b""
        return True
