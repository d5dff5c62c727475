"""HTTP/1.1 to the daemon over one kept connection, with chunked replies and hijacked streams.

Written on ``_socket``: the ``socket`` module alone takes as long to import as a whole ``pyker ps`` should. Whatever the
daemon sends is bounded: heads, JSON bodies and single lines of a stream have a greatest length.
"""

from __future__ import annotations

import _socket

from pyker.client.failure import DaemonFailure, Failure, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyker.client.hosts import Endpoint

MAX_HEAD = 256 * 1024
MAX_BODY = 512 * 1024 * 1024
MAX_ERROR = 1024 * 1024
MAX_LINE = 16 * 1024 * 1024
CHUNK = 64 * 1024
CONNECT_TIMEOUT_S = 30.0


class Connection:
    """One socket to the daemon and what was read ahead from it. Close it, or leave it to ``Client``."""

    __slots__ = ("_ahead", "reusable", "sock")

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self._ahead = bytearray()
        self.reusable = True

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def recv(self, size: int = CHUNK) -> bytes:
        """What is read ahead, else what comes next; b"" at the end."""
        if self._ahead:
            data = bytes(self._ahead[:size])
            del self._ahead[:size]
            return data
        return self._receive(size)

    def _receive(self, size: int) -> bytes:
        try:
            data: bytes = self.sock.recv(size)
        except BlockingIOError:
            raise
        except OSError as error:
            self.reusable = False
            reason = getattr(error, "reason", "") or (error.strerror or str(error)).lower()
            raise Failure(f"error during connect: the daemon ended the connection: {reason}") from error
        return data

    @property
    def has_ahead(self) -> bool:
        return bool(self._ahead)

    def take_ahead(self) -> bytes:
        """What was read beyond the reply's head, once."""
        data = bytes(self._ahead)
        self._ahead.clear()
        return data

    def read_until(self, mark: bytes, limit: int) -> bytes:
        """Read up to and with ``mark``; b"" if the peer closed before sending anything."""
        ahead = self._ahead
        searched = 0
        while True:
            found = ahead.find(mark, searched)
            if found >= 0:
                end = found + len(mark)
                data = bytes(ahead[:end])
                del ahead[:end]
                return data
            if len(ahead) > limit:
                raise Failure("the daemon sent a header that is too long")
            searched = max(0, len(ahead) - len(mark) + 1)
            more = self._receive(CHUNK)
            if not more:
                if not ahead:
                    return b""
                raise Failure("unexpected EOF")
            ahead += more

    def read_exactly(self, size: int) -> bytes:
        ahead = self._ahead
        while len(ahead) < size:
            more = self._receive(max(CHUNK, size - len(ahead)))
            if not more:
                raise Failure("unexpected EOF")
            ahead += more
        data = bytes(ahead[:size])
        del ahead[:size]
        return data


class Response:
    """A reply whose head was read; ``headers`` have lower-case names. The body is read once, by one of the methods."""

    __slots__ = ("_chunked", "_connection", "_done", "_left", "headers", "status")

    def __init__(self, connection: Connection, status: int, headers: dict[str, str], *, head_only: bool) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._left = -1
        self._done = head_only or status in (204, 304) or status < 200
        length = headers.get("content-length", "")
        if not self._chunked and length.isdigit():
            self._left = int(length)
            if self._left == 0:
                self._done = True
        elif not self._chunked and not self._done:
            connection.reusable = False
        if "close" in headers.get("connection", "").lower():
            connection.reusable = False

    @property
    def connection(self) -> Connection:
        return self._connection

    def fileno(self) -> int:
        number: int = self._connection.sock.fileno()
        return number

    @property
    def ready(self) -> bool:
        """Whether a read would find something without asking the kernel."""
        pending = getattr(self._connection.sock, "pending", None)
        return self._done or self._connection.has_ahead or bool(pending and pending())

    def read_some(self) -> bytes:
        """The next piece of the body, as it arrives; b"" at its end."""
        if self._done:
            return b""
        connection = self._connection
        if self._chunked:
            if self._left <= 0:
                line = connection.read_until(b"\r\n", MAX_HEAD)
                try:
                    size = int(line.split(b";", 1)[0], 16) if line else -1
                except ValueError:
                    size = -1
                if size < 0:
                    connection.reusable = False
                    self._done = True
                    raise Failure("unexpected EOF" if not line else "the daemon sent a malformed chunk")
                if size == 0:
                    while connection.read_until(b"\r\n", MAX_HEAD) not in (b"\r\n", b""):
                        continue
                    self._done = True
                    return b""
                self._left = size
            data = connection.recv(min(self._left, CHUNK))
            if not data:
                raise Failure("unexpected EOF")
            self._left -= len(data)
            if self._left == 0:
                connection.read_exactly(2)
            return data
        if self._left < 0:
            data = connection.recv()
            self._done = not data
            return data
        data = connection.recv(min(self._left, CHUNK))
        if not data:
            raise Failure("unexpected EOF")
        self._left -= len(data)
        self._done = self._left == 0
        return data

    def read(self, limit: int = MAX_BODY) -> bytes:
        """The whole body. Raises Failure when it is longer than ``limit``."""
        parts: list[bytes] = []
        total = 0
        while data := self.read_some():
            total += len(data)
            if total > limit:
                self._connection.reusable = False
                raise Failure(f"the daemon's reply is longer than {limit} bytes")
            parts.append(data)
        return b"".join(parts)

    def json(self) -> Any:
        """The whole body as JSON."""
        from pyker.client.wirejson import loads

        try:
            return loads(self.read())
        except ValueError as error:
            raise Failure(f"the daemon's reply cannot be read: {error}") from None

    def lines(self) -> Iterator[bytes]:
        """The body line by line, without line ends, empty lines left out."""
        rest = b""
        while data := self.read_some():
            pieces = (rest + data).split(b"\n")
            rest = pieces.pop()
            if len(rest) > MAX_LINE:
                raise Failure("the daemon sent a line that is too long")
            for piece in pieces:
                if piece := piece.strip():
                    yield piece
        if rest := rest.strip():
            yield rest


def dial(endpoint: Endpoint) -> Connection:
    """Connect. Raises Unreachable when nothing listens there."""
    try:
        if endpoint.scheme == "unix":
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            try:
                sock.connect(endpoint.address)
            except OSError:
                sock.close()
                raise
            return Connection(sock)
        if endpoint.scheme == "fd":
            import os

            return Connection(_socket.socket(fileno=os.dup(int(endpoint.address))))
        return _dial_tcp(endpoint)
    except PermissionError as error:
        if endpoint.scheme != "unix":
            raise Unreachable(endpoint.text) from error
        raise Failure(
            "permission denied while trying to connect to the Pyker daemon socket at "
            f"{endpoint.text}: connect: permission denied"
        ) from error
    except OSError as error:
        raise Unreachable(endpoint.text) from error


def _dial_tcp(endpoint: Endpoint) -> Connection:
    import socket

    sock = socket.create_connection((endpoint.address, endpoint.port), CONNECT_TIMEOUT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(None)
    if not endpoint.tls:
        return Connection(sock)
    import ssl

    from pyker.client.tls import TlsSocket, make_context

    try:
        return Connection(TlsSocket(sock, make_context(endpoint), endpoint.address))
    except ssl.SSLError as error:
        sock.close()
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        raise Failure(f"error during connect: {endpoint.text}: tls: {reason}") from error


def read_head(connection: Connection, *, head_only: bool = False) -> Response | None:
    """Read one reply's head, passing over 100 Continue; None if the peer closed instead of answering."""
    while True:
        head = connection.read_until(b"\r\n\r\n", MAX_HEAD)
        if not head:
            return None
        first, _, rest = head.decode("latin-1").partition("\r\n")
        parts = first.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise Failure("the answer is not HTTP: is it a container engine that listens there?")
        headers: dict[str, str] = {}
        for line in rest.split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                headers[name.lower()] = value.strip()
        status = int(parts[1])
        if status != 100:
            return Response(connection, status, headers, head_only=head_only)


def quote_path(text: str) -> str:
    """Percent-encode for a path; ``/`` and ``:`` stay, as image names hold them."""
    return _quote(text, b"/:@$&=+,~-._")


def quote_query(text: str) -> str:
    """Percent-encode for a query, spaces as ``+``."""
    return _quote(text, b"~-._").replace("%20", "+")


def _quote(text: str, safe: bytes) -> str:
    if text.isascii() and text.isalnum():
        return text
    return "".join(
        chr(byte) if byte in safe or (byte < 128 and chr(byte).isalnum()) else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogateescape")
    )


def encode_query(query: dict[str, str]) -> str:
    """``a=1&b=2``, sorted by name."""
    return "&".join(f"{quote_query(name)}={quote_query(query[name])}" for name in sorted(query))


def encode_repeated(name: str, values: list[str]) -> str:
    """``&a=1&a=2``, to follow a query."""
    return "".join(f"&{quote_query(name)}={quote_query(value)}" for value in values)


def fail_with(response: Response) -> DaemonFailure:
    """The error that a reply of status 400 or more stands for."""
    from pyker.client.wirejson import loads

    body = response.read(MAX_ERROR)
    text = ""
    try:
        value = loads(body)
        if isinstance(value, dict) and isinstance(value.get("message"), str):
            text = value["message"].strip()
    except ValueError:
        text = body.decode("utf-8", "replace").strip()
    if not text:
        text = f"request returned {response.status} without a reason: does it speak this version of the API?"
    return DaemonFailure(response.status, text)
