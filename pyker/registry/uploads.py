"""Blobs on their way to a registry: not sent if they are there, mounted if a neighbour has them, resumed if cut.

Source: OCI distribution-spec spec.md#pushing-blobs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from urllib.parse import quote, urljoin, urlsplit

from pyker.errors import PykerError
from pyker.registry.answers import BadAnswer, Refused, Unreachable
from pyker.registry.cancel import NEVER, Cancel
from pyker.registry.client import Repository
from pyker.registry.downloads import Wait, wait_for
from pyker.types.ids import Digest

Sent = Callable[[int], None]
"""Called with the number of bytes that were sent so far."""

_PIECE = 1 << 18
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})")
_RETRY_STEP_S = 5


class FilePart:
    """A request body: a file from ``offset`` on. Its length is known, so no chunked encoding is needed."""

    def __init__(self, path: str, offset: int, size: int, cancel: Cancel, sent: Sent) -> None:
        self._path = path
        self._offset = offset
        self._size = size
        self._cancel = cancel
        self._sent = sent

    def __len__(self) -> int:
        return self._size - self._offset

    def __iter__(self) -> Iterator[bytes]:
        file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            offset = self._offset
            while offset < self._size:
                self._cancel.raise_if_cancelled()
                piece = os.pread(file, min(_PIECE, self._size - offset), offset)
                if not piece:
                    raise BadAnswer(f"{self._path} became shorter while it was sent")
                yield piece
                offset += len(piece)
                self._sent(offset)
        finally:
            os.close(file)


def mount(repository: Repository, digest: str, source_path: str) -> str:
    """Ask the registry to share a blob of its repository ``source_path``.

    Returns "" if it did; else where an upload that it began instead goes on.
    """
    query = f"blobs/uploads/?mount={quote(digest, safe='')}&from={quote(source_path, safe='')}"
    scopes = (*repository.push_scope, f"repository:{source_path}:pull")
    with repository.request("POST", repository.url(query), (201, 202), scopes, body=lambda: b"") as answer:
        if answer.status == 201:
            return ""
        return _location(answer.url, answer.headers)


def begin(repository: Repository) -> str:
    """Begin an upload; returns where it goes on."""
    url = repository.url("blobs/uploads/")
    with repository.request("POST", url, (202,), repository.push_scope, body=lambda: b"") as answer:
        return _location(answer.url, answer.headers)


def abandon(repository: Repository, location: str) -> None:
    """Tell the registry that nothing more will come. It may be gone already."""
    try:
        with repository.request("DELETE", location, (200, 202, 204, 404, 405), repository.push_scope, cancel=NEVER):
            return
    except PykerError:
        return


def send(
    repository: Repository,
    path: str,
    digest: Digest,
    *,
    location: str = "",
    cancel: Cancel,
    sent: Sent,
    retrying: Callable[[int], None],
    max_attempts: int = 5,
    wait: Wait = wait_for,
) -> None:
    """Upload the file at ``path``, whose digest is ``digest``. After a cut it goes on where the registry says.

    Raises: Refused, Unreachable, BadAnswer; Cancelled, after telling the registry.
    """
    size = os.stat(path).st_size
    failures = 0
    while True:
        try:
            offset = 0
            if not location:
                location = begin(repository)
            elif failures:
                location, offset = _take_up(repository, location)
            if offset < size:
                location = _patch(repository, path, location, offset, size, cancel, sent)
            _finish(repository, location, digest)
            return
        except (Unreachable, Refused) as error:
            if isinstance(error, Refused) and not error.passing and error.status not in (404, 416):
                raise
            failures += 1
            if failures >= max_attempts:
                raise
            if isinstance(error, Refused) and error.status == 404:
                location = ""
            for left in range(_RETRY_STEP_S * failures, 0, -1):
                retrying(left)
                if wait(cancel, 1.0):
                    break
        finally:
            if cancel.cancelled and location:
                abandon(repository, location)
        cancel.raise_if_cancelled()


def put_whole(repository: Repository, location: str, digest: Digest, body: bytes) -> None:
    """Send a small blob in one request."""
    headers = {"Content-Type": "application/octet-stream"}
    url = _with_digest(location, digest)
    with repository.request("PUT", url, (201, 204), repository.push_scope, headers=headers, body=lambda: body):
        return


def _patch(repository: Repository, path: str, location: str, offset: int, size: int, cancel: Cancel, sent: Sent) -> str:
    headers = {"Content-Type": "application/octet-stream"}
    if offset:
        headers["Content-Range"] = f"{offset}-{size - 1}"
    with repository.request(
        "PATCH",
        location,
        (202, 204),
        repository.push_scope,
        headers=headers,
        body=lambda: FilePart(path, offset, size, cancel, sent),
    ) as answer:
        return _location(answer.url, answer.headers)


def _finish(repository: Repository, location: str, digest: Digest) -> None:
    url = _with_digest(location, digest)
    with repository.request("PUT", url, (201, 204), repository.push_scope, body=lambda: b""):
        return


def _with_digest(location: str, digest: Digest) -> str:
    return location + ("&" if urlsplit(location).query else "?") + "digest=" + quote(digest, safe="")


def _take_up(repository: Repository, location: str) -> tuple[str, int]:
    """Where an upload stands after a cut; a new one if the registry forgot it."""
    try:
        with repository.request("GET", location, (204, 202), repository.push_scope) as answer:
            match = _RANGE.fullmatch(answer.headers.get("range", ""))
            # "0-0" is written both for one byte and for none.
            last = int(match.group(1)) if match else 0
            return _location(answer.url, answer.headers, location), last + 1 if last else 0
    except Refused:
        return begin(repository), 0


def _location(url: str, headers: dict[str, str], otherwise: str = "") -> str:
    """The ``Location`` of an upload, absolute: it may be relative, and its query must be kept."""
    target = headers.get("location", "") or otherwise
    if not target:
        raise BadAnswer("the registry began an upload and did not say where it goes on")
    absolute = urljoin(url, target)
    if urlsplit(absolute).scheme not in ("http", "https"):
        raise BadAnswer(f"the registry sends an upload to {absolute[:200]!r}, which is no place to go")
    return absolute
