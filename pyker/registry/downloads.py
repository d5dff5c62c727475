"""Blobs on their way into files: resumed, verified, fetched once however many ask.

A blob that is not complete stays in its file, and the next attempt (of this process or of one months later) goes on
where it ends. What fails its digest is deleted. Three rules keep two pulls of one blob apart: the first one downloads,
the others wait for it, and whoever is left goes on if the first one's client leaves.

Source: RFC 9110 section 14 (Range); OCI distribution-spec spec.md#pulling-blobs.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, time_ns
from typing import TYPE_CHECKING

from pyker.errors import Cancelled, Corrupt, SystemFailure
from pyker.registry.answers import BadAnswer, Refused, Unreachable
from pyker.registry.cancel import Cancel
from pyker.registry.manifests import Descriptor

if TYPE_CHECKING:
    from pyker.registry.client import Repository
    from pyker.registry.session import Answer

Report = Callable[[str, int, int], None]
"""Called with a status, as pull shows it, and with bytes so far and in all (0, 0 where they say nothing)."""

Wait = Callable[[Cancel, float], bool]
"""Waits so many seconds, or until cancelled (then True). Tests give one that does not wait."""

_REPORT_EVERY_S = 0.1
_PROGRESS_BYTES = 64 << 10
_RETRY_STEP_S = 5
_PIECE = 1 << 20
_KEEP_NS = 7 * 86400 * 10**9
_CONTENT_RANGE = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)")


class NoSpace(SystemFailure):
    """The disk that keeps downloads is full."""

    reference = "no-space"
    default_hint = "remove images that nobody needs, or give the data root more room"


def wait_for(cancel: Cancel, seconds: float) -> bool:
    """Wait by the clock."""
    return cancel.wait(seconds)


class _Flight:
    """One blob that somebody fetches or uses."""

    def __init__(self) -> None:
        self.users = 0
        self.busy = False
        self.complete = False
        self.current = 0


class Downloads:
    """Fetches blobs into ``folder``. Thread-safe."""

    def __init__(self, folder: str, *, max_attempts: int = 5, wait: Wait = wait_for) -> None:
        self._folder = folder
        self._max_attempts = max_attempts
        self._wait = wait
        self._changed = threading.Condition()
        self._flights: dict[str, _Flight] = {}
        self._ready = False

    def path(self, digest: str) -> str:
        """Where the blob is, whole or in part."""
        return os.path.join(self._folder, digest.replace(":", "-"))

    @contextmanager
    def fetched(
        self,
        repository: Repository,
        descriptor: Descriptor,
        *,
        cancel: Cancel,
        report: Report,
        keep: Callable[[], bool] = lambda: True,
    ) -> Iterator[str]:
        """Fetch a blob; gives the path of a file with exactly the bytes that its digest names.

        The file goes when the last one who uses it is done. What came until a cut stays, and what came until a
        cancellation if ``keep()`` says so then.

        Raises:
            Corrupt: the registry sent other bytes; they are deleted.
            Refused, Unreachable, BadAnswer: as the registry behaved, after several attempts where that makes sense.
            NoSpace: the disk is full; what was there is deleted, to make room.
            Cancelled: the token was set.
        """
        flight = self._join(descriptor.digest)
        stays = False
        try:
            self._fetch(flight, repository, descriptor, cancel, report)
            yield self.path(descriptor.digest)
        except Cancelled:
            stays = keep()
            raise
        except (Unreachable, Refused, BadAnswer):
            stays = True
            raise
        finally:
            self._leave(flight, descriptor.digest, stays=stays)

    def _join(self, digest: str) -> _Flight:
        with self._changed:
            if not self._ready:
                os.makedirs(self._folder, mode=0o700, exist_ok=True)
                self._remove_old()
                self._ready = True
            flight = self._flights.setdefault(digest, _Flight())
            flight.users += 1
            return flight

    def _leave(self, flight: _Flight, digest: str, *, stays: bool) -> None:
        with self._changed:
            flight.users -= 1
            if flight.users:
                return
            del self._flights[digest]
            if not stays:
                _unlink(self.path(digest))

    def _fetch(
        self, flight: _Flight, repository: Repository, descriptor: Descriptor, cancel: Cancel, report: Report
    ) -> None:
        forget = cancel.on_cancel(self._wake)
        try:
            with self._changed:
                while flight.busy and not cancel.cancelled:
                    self._changed.wait(_REPORT_EVERY_S * 2)
                    report("Downloading", flight.current, descriptor.size)
                cancel.raise_if_cancelled()
                if flight.complete:
                    report("Download complete", 0, 0)
                    return
                flight.busy = True
        finally:
            forget()
        try:
            _Download(self, flight, repository, descriptor, cancel, report).run(self._max_attempts, self._wait)
            flight.complete = True
        finally:
            with self._changed:
                flight.busy = False
                self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _remove_old(self) -> None:
        """Delete parts that nobody came back for in a week."""
        oldest = time_ns() - _KEEP_NS
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime_ns < oldest:
                    _unlink(entry.path)


class _Download:
    """One blob's way into its file."""

    def __init__(
        self,
        owner: Downloads,
        flight: _Flight,
        repository: Repository,
        descriptor: Descriptor,
        cancel: Cancel,
        report: Report,
    ) -> None:
        self._path = owner.path(descriptor.digest)
        self._flight = flight
        self._repository = repository
        self._descriptor = descriptor
        self._cancel = cancel
        self._report = report
        self._hash = hashlib.new(descriptor.digest.partition(":")[0])
        self._offset = 0
        self._joined = False
        self._said = 0.0

    def run(self, max_attempts: int, wait: Wait) -> None:
        descriptor = self._descriptor
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._take_up(file)
            self._fill(file, max_attempts, wait)
            self._report("Verifying Checksum", 0, 0)
            if not self._right and self._joined:
                # The old part may have been the bad one: once more from the start.
                self._restart(file)
                self._fill(file, max_attempts, wait)
            if not self._right:
                _unlink(self._path)
                raise Corrupt(
                    f"filesystem layer verification failed for digest {descriptor.digest}",
                    hint="the registry, or something on the way to it, sends other bytes than it should",
                )
        except OSError as error:
            _unlink(self._path)
            message = f"write {self._path}: {os.strerror(error.errno or 0).lower()}"
            raise (NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else SystemFailure)(message) from error
        finally:
            os.close(file)
        self._report("Download complete", 0, 0)

    @property
    def _right(self) -> bool:
        return self._hash.hexdigest() == self._descriptor.digest.partition(":")[2]

    def _take_up(self, file: int) -> None:
        """Hash what an earlier attempt left."""
        size = os.fstat(file).st_size
        if size == 0:
            return
        if self._descriptor.size and size > self._descriptor.size:
            os.ftruncate(file, 0)
            return
        while piece := os.pread(file, _PIECE, self._offset):
            self._hash.update(piece)
            self._offset += len(piece)
            self._cancel.raise_if_cancelled()
        self._joined = True

    def _restart(self, file: int) -> None:
        os.ftruncate(file, 0)
        self._hash = hashlib.new(self._descriptor.digest.partition(":")[0])
        self._offset = 0
        self._joined = False

    def _fill(self, file: int, max_attempts: int, wait: Wait) -> None:
        failures = 0
        while not self._full:
            before = self._offset
            try:
                self._attempt(file)
            except (Unreachable, Refused) as error:
                if isinstance(error, Refused) and not error.passing:
                    raise
                progressed = self._offset - before >= _PROGRESS_BYTES
                failures = 1 if progressed else failures + 1
                if failures >= max_attempts:
                    raise
                asked = error.retry_after_s if isinstance(error, Refused) else 0.0
                self._pause(max(int(asked), 1 if progressed else _RETRY_STEP_S * failures), wait)

    @property
    def _full(self) -> bool:
        size = self._descriptor.size
        return self._offset >= size if size else self._offset > 0 and self._right

    def _pause(self, seconds: int, wait: Wait) -> None:
        for left in range(seconds, 0, -1):
            self._report(f"Retrying in {left} second{'' if left == 1 else 's'}", 0, 0)
            if wait(self._cancel, 1.0):
                self._cancel.raise_if_cancelled()

    def _attempt(self, file: int) -> None:
        size = self._descriptor.size
        try:
            answer = self._repository.open_blob(self._descriptor, self._offset, cancel=self._cancel)
        except Refused as error:
            if error.status != 416:
                raise
            self._restart(file)
            raise Unreachable(f"the registry has no byte {self._offset} of {self._descriptor.digest}") from error
        with answer:
            if self._offset and not _goes_on_at(answer, self._offset):
                self._restart(file)
                if answer.status == 206:
                    raise Unreachable("the registry sent another range than the one asked for")
            elif self._offset:
                self._joined = True
            self._say(force=True)
            for piece in answer.pieces():
                if size and self._offset + len(piece) > size:
                    raise BadAnswer(f"the registry sent more than the {size} bytes of {self._descriptor.digest}")
                _write(file, piece, self._offset)
                self._hash.update(piece)
                self._offset += len(piece)
                self._flight.current = self._offset
                self._say()
            whole = size or (self._offset if answer.length < 0 else answer.length)
        if self._offset < whole:
            raise Unreachable(f"the registry sent {self._offset} of {whole} bytes: unexpected EOF")
        if not size and not self._right:
            raise Corrupt(f"filesystem layer verification failed for digest {self._descriptor.digest}")

    def _say(self, *, force: bool = False) -> None:
        now = monotonic()
        if force or now - self._said >= _REPORT_EVERY_S:
            self._said = now
            self._report("Downloading", self._offset, self._descriptor.size)


def _goes_on_at(answer: Answer, offset: int) -> bool:
    match = _CONTENT_RANGE.match(answer.headers.get("content-range", ""))
    return answer.status == 206 and match is not None and int(match.group(1)) == offset


def _write(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view = view[written:]
        offset += written


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
