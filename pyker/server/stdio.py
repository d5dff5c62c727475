"""A job's byte streams over HTTP: the request's body, a chunked answer, or the connection itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from pyker.api.frames import MULTIPLEXED_STREAM, RAW_STREAM
from pyker.engine.job import ByteSource, Duplex
from pyker.errors import Cancelled, InvalidParameter
from pyker.server.hijack import Hijacked, hijacked
from pyker.server.reply import head
from pyker.server.request import Request, RequestBody, RequestParser, Stream

_MULTIPLEXED_SINCE = (1, 42)


class HttpStdio:
    """See ``pyker.engine.job.Stdio``. What was begun can't be taken back: ``begun`` says so."""

    def __init__(
        self,
        stream: Stream,
        request: Request,
        parser: RequestParser,
        body: RequestBody,
        version: tuple[int, int],
        *,
        pollable: bool,
    ) -> None:
        self._stream = stream
        self._request = request
        self._parser = parser
        self._body = body
        self.version = version
        self._pollable = pollable
        self._lock = threading.Lock()
        self._chunked = request.http_version != "1.0"
        self._write: Callable[[bytes], None] | None = None
        self.hijacked: Hijacked | None = None
        self.extra_headers: Mapping[str, str] = {}

    @property
    def begun(self) -> bool:
        """Whether the answer's head has been sent."""
        return self._write is not None or self.hijacked is not None

    @property
    def keeps_alive(self) -> bool:
        """Whether the end of the stream can be told without closing the connection."""
        return self.hijacked is None and self._chunked and self._request.keep_alive

    def stdin(self) -> ByteSource:
        return self._body

    def stdout(self, content_type: str = "application/octet-stream") -> Callable[[bytes], None]:
        """Send the head, and return a writer that sends each piece at once; it raises Cancelled if nobody is there.

        Asking again returns the same writer.
        """
        if self.hijacked is not None:
            raise InvalidParameter("the connection was hijacked already")
        if self._write is None:
            headers = {"Content-Type": content_type, **self.extra_headers}
            if self._chunked:
                headers["Transfer-Encoding"] = "chunked"
            self._send(head(200, headers, keep_alive=self.keeps_alive))
            if self._request.method == "HEAD":
                self._write = _discard
            else:
                self._write = self._write_chunk if self._chunked else self._send
        return self._write

    def _write_chunk(self, data: bytes) -> None:
        if data:
            self._send(b"%x\r\n%b\r\n" % (len(data), data))

    def _send(self, data: bytes) -> None:
        try:
            with self._lock:
                self._stream.sendall(data)
        except OSError as error:
            raise Cancelled("the client went away") from error

    def finish(self) -> None:
        """End a streamed answer so that the connection can be used again."""
        if self._write is not None and self._chunked and self._request.method != "HEAD":
            self._send(b"0\r\n\r\n")

    def hijack(self, *, multiplexed: bool) -> Duplex:
        """Answer 101 (200 if the client did not ask to upgrade) and hand the connection over."""
        if self.begun:
            raise InvalidParameter("the answer has begun already")
        while not self._body.complete:
            self._body.read(1 << 16)
        upgrade = "upgrade" in self._request.headers
        framed = multiplexed and upgrade and self.version >= _MULTIPLEXED_SINCE
        content_type = MULTIPLEXED_STREAM if framed else RAW_STREAM
        if upgrade:
            start = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        else:
            start = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n"
        self._send(start.encode() + b"\r\n")
        early, self._parser.tail = self._parser.tail, b""
        self.hijacked = hijacked(self._stream, early, pollable=self._pollable)
        return self.hijacked


def _discard(data: bytes) -> None:
    """HEAD: the body is not sent."""
