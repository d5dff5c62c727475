"""Reading requests: httptools on a blocking connection, with limits against clients that are slow or endless.

One trap of httptools is dealt with here: a request with an Upgrade header ends, for it, at its head, and the body
comes back as "the rest of another protocol". Such bodies are read by this module itself.
Source: RFC 9112.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Protocol
from urllib.parse import unquote_to_bytes

import httptools

from pyker.errors import Cancelled, InvalidParameter

HEAD_LIMIT = 64 << 10
HEAD_TIMEOUT_S = 30.0
BODY_TIMEOUT_S = 120.0
RECEIVE_SIZE = 64 << 10


class Stream(Protocol):
    """One client's connection: a socket, or TLS over one."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def fileno(self) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class BadRequest(InvalidParameter):
    """What came is no acceptable HTTP; the connection ends after an answer with ``status``."""

    reference = "bad-request"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Request:
    """One request. Header names are lower case. ``path`` is decoded, ``query`` is not."""

    __slots__ = (
        "body",
        "complete",
        "headers",
        "http_version",
        "keep_alive",
        "method",
        "path",
        "query",
        "upgrade",
        "url",
    )

    def __init__(self) -> None:
        self.url = b""
        self.method = ""
        self.path = ""
        self.query = ""
        self.headers: dict[str, str] = {}
        self.http_version = "1.1"
        self.keep_alive = True
        self.upgrade = False
        self.body: deque[bytes] = deque()
        self.complete = False

    @property
    def has_body(self) -> bool:
        """Whether the head announces a body."""
        headers = self.headers
        return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


class RequestParser:
    """Turns bytes into requests; ``ready`` holds those whose heads are complete, in order.

    ``tail`` is what followed the head of a request with an Upgrade header: its body, then whatever comes next.
    """

    def __init__(self) -> None:
        self.ready: deque[Request] = deque()
        self.tail = b""
        self._request = Request()
        self._in_message = False
        self._in_head = False
        self._head_size = 0
        self._parser = httptools.HttpRequestParser(self)

    @property
    def idle(self) -> bool:
        """Whether the next byte begins a new request."""
        return not self._in_message and not self.ready and not self.tail

    def on_message_begin(self) -> None:
        self._request = Request()
        self._in_message = self._in_head = True
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        self._request.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        headers = self._request.headers
        text = value.decode("latin-1")
        if key in headers:
            if key in ("host", "content-length"):
                raise BadRequest(400, f"several {key} headers")
            text = f"{headers[key]}, {text}"
        headers[key] = text

    def on_headers_complete(self) -> None:
        request = self._request
        parser = self._parser
        request.method = parser.get_method().decode("latin-1")
        request.http_version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive()
        target = request.url
        if target[:1] != b"/":
            url = httptools.parse_url(target) if target != b"*" else None
            if url is None or url.path is None:
                raise BadRequest(400, "the request target is not a path")
            target = url.path + (b"?" + url.query if url.query else b"")
        path, _, query = target.partition(b"?")
        request.path = (unquote_to_bytes(path) if b"%" in path else path).decode("utf-8", "replace")
        request.query = query.decode("latin-1")
        self._in_head = False
        if len(request.url) + sum(len(name) + len(value) for name, value in request.headers.items()) > HEAD_LIMIT:
            raise BadRequest(431, "the request's head is too large")
        self.ready.append(request)

    def on_body(self, body: bytes) -> None:
        self._request.body.append(body)

    def on_message_complete(self) -> None:
        self._request.complete = True
        self._in_message = False

    def feed(self, data: bytes) -> None:
        """Take bytes in. Raises BadRequest."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            request = self._request
            request.upgrade = True
            request.complete = not request.has_body
            self.tail = data[upgrade.args[0] :]
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            raise cause if isinstance(cause, BadRequest) else BadRequest(400, "malformed request") from error
        except httptools.HttpParserError as error:
            raise BadRequest(400, f"malformed HTTP request: {error}") from error
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > HEAD_LIMIT:
                raise BadRequest(431, "the request's head is too large")


class RequestBody:
    """A request's body, read as it arrives. ``read(size)`` returns fewer bytes only at the end."""

    def __init__(self, request: Request, parser: RequestParser, stream: Stream) -> None:
        self._request = request
        self._parser = parser
        self._stream = stream
        self._expects = request.headers.get("expect", "").lower() == "100-continue"
        self._own: _UpgradeBody | None = None
        if request.upgrade and not request.complete:
            self._own = _UpgradeBody(request, parser)

    @property
    def complete(self) -> bool:
        """Whether all of the body has arrived."""
        return self._request.complete

    @property
    def refused(self) -> bool:
        """Whether the client still waits for our word before it sends its body."""
        return self._expects and not self._request.complete

    def discard(self) -> None:
        """Forget what has arrived and was not read."""
        self._request.body.clear()

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes (all that come, if negative). Raises Cancelled if the client goes away midway."""
        parts: list[bytes] = []
        got = 0
        chunks = self._request.body
        while size < 0 or got < size:
            if chunks:
                chunk = chunks.popleft()
                if 0 <= size < got + len(chunk):
                    chunks.appendleft(chunk[size - got :])
                    chunk = chunk[: size - got]
                parts.append(chunk)
                got += len(chunk)
            elif self._request.complete:
                break
            else:
                self._receive()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _receive(self) -> None:
        if self._expects:
            self._expects = False
            self._stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._own is not None and self._own.advance():
            return
        self._stream.settimeout(BODY_TIMEOUT_S)
        try:
            data = self._stream.recv(RECEIVE_SIZE)
        except TimeoutError as error:
            raise BadRequest(408, "the request's body did not come") from error
        except OSError as error:
            raise Cancelled("the client went away before its request was complete") from error
        finally:
            self._stream.settimeout(None)
        if not data:
            raise Cancelled("the client went away before its request was complete")
        if self._own is not None:
            self._parser.tail += data
        else:
            self._parser.feed(data)


class _UpgradeBody:
    """Takes the body of a request with an Upgrade header out of the parser's tail."""

    def __init__(self, request: Request, parser: RequestParser) -> None:
        self._request = request
        self._parser = parser
        self._chunked = "transfer-encoding" in request.headers
        length = request.headers.get("content-length", "0")
        if not length.isdecimal():
            raise BadRequest(400, "malformed Content-Length")
        self._left = 0 if self._chunked else int(length)

    def advance(self) -> bool:
        """Move what the tail has of the body to the request; False if more must be received first."""
        parser, request = self._parser, self._request
        if self._left:
            piece = parser.tail[: self._left]
            parser.tail = parser.tail[len(piece) :]
            self._left -= len(piece)
            if piece:
                request.body.append(piece)
            if not self._left and not self._chunked:
                request.complete = True
            return bool(piece)
        line, newline, rest = parser.tail.partition(b"\r\n")
        if not newline:
            if len(line) > 1024:
                raise BadRequest(400, "malformed chunk")
            return False
        if not line:
            parser.tail = rest
            return bool(rest)
        try:
            size = int(line.partition(b";")[0].strip(), 16)
        except ValueError as error:
            raise BadRequest(400, "malformed chunk") from error
        if size:
            self._left = size
            parser.tail = rest
            return True
        if b"\r\n" not in rest:
            return False
        parser.tail = rest.partition(b"\r\n")[2]
        request.complete = True
        return True


def receive_request(stream: Stream, parser: RequestParser, first: bytes) -> bool:
    """Receive until a request's head is complete; ``first`` was read already. False if the client left.

    Raises BadRequest, with 408 for a head that takes too long.
    """
    parser.feed(first)
    if parser.ready:
        return True
    deadline = monotonic() + HEAD_TIMEOUT_S
    try:
        while not parser.ready:
            left = deadline - monotonic()
            if left <= 0:
                raise BadRequest(408, "the request's head did not come")
            stream.settimeout(left)
            try:
                data = stream.recv(RECEIVE_SIZE)
            except TimeoutError:
                continue
            if not data:
                return False
            parser.feed(data)
    finally:
        stream.settimeout(None)
    return True
