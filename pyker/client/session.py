"""A conversation with one daemon: which API version both speak, and requests over a kept connection."""

from __future__ import annotations

from pyker import __version__
from pyker.client.failure import Failure
from pyker.client.transport import CHUNK, Response, dial, encode_query, encode_repeated, fail_with, read_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from pyker.client.hosts import Endpoint
    from pyker.client.transport import Connection

NEWEST_API = "1.50"
OLDEST_API = "1.24"
API_WITHOUT_HEADER = "1.24"


def version_key(version: str) -> tuple[int, ...]:
    """Sortable form of ``1.41``; what is not a version sorts first."""
    parts = version.split(".")
    return tuple(int(part) if part.isdigit() else 0 for part in parts)


class Client:
    """Requests to one daemon. One connection is kept for what follows the ping; streams get connections of their own.

    Raises Unreachable when nobody listens, DaemonFailure when the daemon refuses.
    """

    def __init__(self, endpoint: Endpoint, *, headers: dict[str, str] | None = None, pinned: str = "") -> None:
        self.endpoint = endpoint
        self.pinned = pinned
        self.version = pinned
        self.server_version = ""
        self.os_type = "linux"
        self._headers = headers or {}
        self._idle: Connection | None = None
        self._inherited_used = False

    def close(self) -> None:
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def twin(self) -> Client:
        """Another conversation with the same daemon, which another thread may hold."""
        return Client(self.endpoint, headers=self._headers, pinned=self.negotiate())

    def negotiate(self) -> str:
        """Learn the daemon's API version, once; ``DOCKER_API_VERSION`` settles it without asking."""
        if self.version:
            return self.version
        response = self._exchange("HEAD", "/_ping", b"", {})
        self._release(response)
        if response.status != 200:
            response = self._exchange("GET", "/_ping", b"", {})
            response.read(4096)
            self._release(response)
        server = response.headers.get("api-version", "")
        self.server_version = server
        self.os_type = response.headers.get("ostype", "linux") or "linux"
        server = server or API_WITHOUT_HEADER
        self.version = min(server, NEWEST_API, key=version_key)
        return self.version

    def at_least(self, version: str) -> bool:
        """Whether both ends speak ``version`` or newer."""
        return version_key(self.negotiate()) >= version_key(version)

    def open(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        upgrade: bool = False,
    ) -> Response:
        """Send a request and read the reply's head; the caller reads the body. Status 400 and above raises.

        ``body`` is JSON if it is not bytes. ``upgrade`` asks for a raw stream on a connection of its own.
        """
        version = self.negotiate()
        target = f"/v{version}{path}"
        if query:
            target += "?" + encode_query(query)
        extra = dict(headers) if headers else {}
        data = b""
        if isinstance(body, (bytes, bytearray)):
            data = bytes(body)
        elif body is not None:
            from pyker.client.wirejson import dumps

            data = dumps(body).encode("utf-8", "surrogateescape")
            extra["Content-Type"] = "application/json"
        if upgrade:
            extra["Connection"] = "Upgrade"
            extra["Upgrade"] = "tcp"
        response = self._exchange(method, target, data, extra, fresh=upgrade)
        if response.status >= 400:
            failure = fail_with(response)
            self._release(response)
            raise failure
        return response

    def upload(self, path: str, query: dict[str, str], source: BinaryIO, *, changes: list[str]) -> Response:
        """POST what ``source`` holds, in chunks as it is read; ``changes`` repeat in the query."""
        target = f"/v{self.negotiate()}{path}?" + encode_query(query)
        target += encode_repeated("changes", changes)
        connection = self._dial()
        lines = (f"POST {target} HTTP/1.1", f"Host: {self._host}", "Transfer-Encoding: chunked")
        connection.send("\r\n".join((*lines, "Content-Type: application/x-tar", "", "")).encode("latin-1"))
        try:
            while data := source.read(CHUNK):
                connection.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            connection.send(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            # The daemon answered before it read everything; its words say why.
            pass
        response = read_head(connection)
        if response is None:
            raise Failure(f"error during connect: POST {path}: the daemon closed the connection without an answer")
        if response.status >= 400:
            raise fail_with(response)
        return response

    @property
    def _host(self) -> str:
        endpoint = self.endpoint
        return endpoint.text.partition("://")[2] if endpoint.scheme == "tcp" else "pyker"

    def _dial(self) -> Connection:
        if self.endpoint.scheme == "fd":
            if self._inherited_used:
                raise Failure("fd:// is one connection, and this needs several: name the daemon by unix:// or tcp://")
            self._inherited_used = True
        return dial(self.endpoint)

    def call(self, method: str, path: str, query: dict[str, str] | None = None, body: object = None) -> int:
        """A request whose reply's body does not matter; returns the status."""
        response = self.open(method, path, query, body)
        response.read()
        self._release(response)
        return response.status

    def json(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """A request that is answered with JSON."""
        response = self.open(method, path, query, body, headers=headers)
        value = response.json()
        self._release(response)
        return value

    def text(self, method: str, path: str, query: dict[str, str] | None = None) -> str:
        """A request that is answered with text, such as JSON to be printed as it came."""
        response = self.open(method, path, query)
        value = response.read().decode("utf-8", "replace")
        self._release(response)
        return value

    def _release(self, response: Response) -> None:
        connection = response.connection
        if connection.reusable and self._idle is None:
            self._idle = connection
        elif connection is not self._idle:
            connection.close()

    def _exchange(
        self, method: str, target: str, data: bytes, extra: dict[str, str], *, fresh: bool = False
    ) -> Response:
        lines = [
            f"{method} {target} HTTP/1.1",
            f"Host: {self._host}",
            f"User-Agent: Pyker-Client/{__version__} (linux)",
        ]
        lines += [f"{name}: {value}" for name, value in self._headers.items()]
        lines += [f"{name}: {value}" for name, value in extra.items()]
        if data or method == "POST":
            lines.append(f"Content-Length: {len(data)}")
        request = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + data
        for attempt in (1, 2):
            connection = None if fresh else self._idle
            reused = connection is not None
            if connection is None:
                connection = self._dial()
            else:
                self._idle = None
            try:
                connection.send(request)
            except (BrokenPipeError, ConnectionResetError):
                # The daemon may have answered before it read everything; its words say more than ours.
                pass
            try:
                response = read_head(connection, head_only=method == "HEAD")
            except Failure:
                if not reused or attempt > 1 or method not in ("GET", "HEAD"):
                    raise
                response = None
            if response is not None:
                return response
            connection.close()
            if not (reused and attempt == 1 and method in ("GET", "HEAD")):
                break
        raise Failure(f"error during connect: {method} {target}: the daemon closed the connection without an answer")
