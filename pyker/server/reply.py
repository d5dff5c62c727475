"""Answers: how a status, headers and a body become bytes, and the constants that every answer carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import gmtime, time_ns
from typing import Any

import msgspec

from pyker import __version__
from pyker.api.status import REASONS, status_of
from pyker.api.versions import API_VERSION
from pyker.errors import PykerError

JSON = "application/json"

COMMON = (
    f"Api-Version: {API_VERSION}\r\n"
    "Docker-Experimental: false\r\n"
    "Ostype: linux\r\n"
    f"Server: Docker/{__version__} (linux)\r\n"
).encode()

_HEADS = {status: f"HTTP/1.1 {status} {reason}\r\n".encode() + COMMON for status, reason in REASONS.items()}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_encoder = msgspec.json.Encoder(enc_hook=str)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. ``body`` None means that the status allows none."""

    status: int
    body: bytes | None = None
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


STREAMED = Reply(0)
"""What a route returns when the job, or the route, wrote the answer as a stream."""


def json_reply(value: Any, status: int = 200) -> Reply:
    """``value`` as JSON with the newline that Go's encoder leaves."""
    return Reply(status, _encoder.encode(value) + b"\n")


def encode_json(value: Any) -> bytes:
    """One JSON value and a newline, for streams."""
    return _encoder.encode(value) + b"\n"


def error_reply(error: BaseException) -> Reply:
    """The answer for an error that a route or a job raised."""
    status = status_of(error)
    if status == 304:
        return Reply(304)
    message = error.message if isinstance(error, PykerError) else str(error) or type(error).__name__
    return json_reply({"message": message}, status)


def http_date(second: int) -> str:
    """``Mon, 23 Nov 2026 20:23:09 GMT``, whatever the locale. Source: RFC 9110, section 5.6.7."""
    now = gmtime(second)
    month, day = _MONTHS[now.tm_mon - 1], _DAYS[now.tm_wday]
    clock = f"{now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
    return f"{day}, {now.tm_mday:02} {month} {now.tm_year} {clock} GMT"


class _Date:
    """The Date header, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        second = time_ns() // 1_000_000_000
        if second != self._second:
            self._line = f"Date: {http_date(second)}\r\n".encode()
            self._second = second
        return self._line


_date = _Date()
date_line = _date.line


def head(status: int, headers: Mapping[str, str], *, keep_alive: bool) -> bytes:
    """Status line and headers, up to and with the empty line."""
    start = _HEADS.get(status) or f"HTTP/1.1 {status} Status\r\n".encode() + COMMON
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    close = b"" if keep_alive else b"Connection: close\r\n"
    return start + lines.encode("latin-1", "replace") + date_line() + close + b"\r\n"


def encode(reply: Reply, *, keep_alive: bool, without_body: bool = False) -> bytes:
    """All bytes of an answer; ``without_body`` for HEAD."""
    headers = dict(reply.headers)
    body = reply.body
    if body is None:
        if reply.status >= 200 and reply.status not in (204, 304):
            headers["Content-Length"] = "0"
        return head(reply.status, headers, keep_alive=keep_alive)
    headers["Content-Type"] = reply.content_type
    headers["Content-Length"] = str(len(body))
    start = head(reply.status, headers, keep_alive=keep_alive)
    return start if without_body else start + body
