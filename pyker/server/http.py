"""One client's connection: reads requests, has them routed, writes answers, until either side has had enough.

A worker thread serves it while there is something to do; then it waits in the lobby. Requests that were pipelined are
answered in order.
"""

from __future__ import annotations

import logging
import re
import select
import socket
from contextlib import suppress

from pyker.api.versions import NEWEST
from pyker.engine.engine import Engine
from pyker.engine.job import Actor, CancelToken
from pyker.errors import Cancelled
from pyker.server.call import Call
from pyker.server.hangup import HangupWatch
from pyker.server.lobby import Lobby, Pings
from pyker.server.reply import COMMON, STREAMED, Reply, date_line, encode, error_reply, json_reply
from pyker.server.request import (
    RECEIVE_SIZE,
    BadRequest,
    Request,
    RequestBody,
    RequestParser,
    Stream,
    receive_request,
)
from pyker.server.router import Router
from pyker.server.stdio import HttpStdio

log = logging.getLogger("pyker.server")

_DRAIN_LIMIT = 256 << 10
_PING_CACHE_SIZE = 256
_LINGER_MS = 20
"""How long a worker waits for a client's next request: most come at once, and then no thread need be woken."""

PING_HEADERS = (
    b"Builder-Version: 1\r\n"
    b"Swarm: inactive\r\n"
    b"Cache-Control: no-cache, no-store, must-revalidate\r\n"
    b"Pragma: no-cache\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
)


class HttpServer:
    """What all connections share: the engine, the router, the watch for clients that leave."""

    def __init__(self, engine: Engine, router: Router) -> None:
        self.engine = engine
        self.router = router
        self.hangups = HangupWatch()
        self.lobby: Lobby | None = None
        self.closing = False
        self.pings: Pings = {}
        self.hijackable: set[HttpStdio] = set()

    def abort_streams(self) -> None:
        """The server stops: cancel what ends with its client, and end the connections that were hijacked."""
        self.hangups.cancel_all()
        for stdio in tuple(self.hijackable):
            if stdio.hijacked is not None:
                stdio.hijacked.abort()

    def serve(self, stream: Stream, actor: Actor, first: bytes = b"", *, pollable: bool) -> bool:
        """Serve a connection of which ``first`` was read already. True if it is idle and may be parked.

        Otherwise it has come to its end, and is closed. Only a ``pollable`` one (a plain socket) becomes idle.
        """
        idle = False
        try:
            idle = Connection(self, stream, actor, pollable=pollable).run(first)
        except (OSError, Cancelled):
            log.debug("connection of %s ended early", actor)
        except Exception:
            log.exception("connection of %s broke", actor)
        finally:
            if not idle:
                with suppress(OSError):
                    stream.close()
        return idle


class Connection:
    """See the module."""

    def __init__(self, server: HttpServer, stream: Stream, actor: Actor, *, pollable: bool) -> None:
        self._server = server
        self._stream = stream
        self._actor = actor
        self._pollable = pollable
        self._parser = RequestParser()

    def run(self, first: bytes) -> bool:
        """Answer requests until the connection ends (False) or has been idle for a moment (True)."""
        parser = self._parser
        receive, send = self._stream.recv, self._stream.sendall
        pings = self._server.pings
        more = select.poll()
        if self._pollable:
            more.register(self._stream.fileno(), select.POLLIN)
        try:
            while True:
                whole = b""
                if not parser.ready:
                    if not first and self._pollable and not more.poll(_LINGER_MS):
                        return parser.idle
                    data = first or receive(RECEIVE_SIZE)
                    first = b""
                    if not data:
                        return False
                    if parser.idle:
                        # The same bytes mean the same request: a ping seen before needs no parser.
                        known = pings.get(data)
                        if known is not None:
                            send(known[0] + date_line() + known[1])
                            continue
                        whole = data
                    if not receive_request(self._stream, parser, data):
                        return False
                request = parser.ready.popleft()
                if request.path.endswith("/_ping") and self._ping(request, whole if parser.idle else b""):
                    continue
                if not self._answer(request):
                    return False
                if request.upgrade:
                    first, parser.tail = parser.tail, b""
        except BadRequest as error:
            self._refuse(error)
            return False

    def _ping(self, request: Request, whole: bytes) -> bool:
        """Answer ``/_ping`` without routing; ``whole`` is the request's bytes if they are known exactly."""
        if request.path != "/_ping" or request.method not in ("GET", "HEAD") or request.has_body or request.upgrade:
            return False
        if not request.keep_alive or request.http_version != "1.1":
            return False
        start = b"HTTP/1.1 200 OK\r\n" + COMMON + PING_HEADERS
        end = b"Content-Length: 0\r\n\r\n" if request.method == "HEAD" else b"Content-Length: 2\r\n\r\nOK"
        if whole and len(self._server.pings) < _PING_CACHE_SIZE:
            self._server.pings[whole] = (start, end)
        self._stream.sendall(start + date_line() + end)
        return True

    def _answer(self, request: Request) -> bool:
        """Answer one request; False if the connection must end now."""
        body = RequestBody(request, self._parser, self._stream)
        stdio = HttpStdio(self._stream, request, self._parser, body, NEWEST, pollable=self._pollable)
        self._server.hijackable.add(stdio)
        try:
            reply = self._route(request, body, stdio)
        finally:
            self._server.hijackable.discard(stdio)
        if stdio.hijacked is not None:
            stdio.hijacked.close()
            return False
        if stdio.begun:
            stdio.finish()
            return stdio.keeps_alive and self._drained(body)
        keep_alive = request.keep_alive and not self._server.closing and self._drained(body)
        self._stream.sendall(encode(reply, keep_alive=keep_alive, without_body=request.method == "HEAD"))
        return keep_alive

    def _route(self, request: Request, body: RequestBody, stdio: HttpStdio) -> Reply:
        """Find the route and let it answer. What it raises becomes an answer, or ends a stream that has begun."""
        watched = False
        try:
            if request.method == "OPTIONS":
                return Reply(200)
            if "//" in request.path:
                return Reply(301, b"", headers={"Location": re.sub("/+", "/", request.path)})
            route, variables, version = self._server.router.find(request.method, request.path)
            stdio.version = version
            token = None
            if route.ends_with_client:
                token = CancelToken()
                if body.complete:
                    watched = True
                    self._server.hangups.watch(self._stream.fileno(), token)
            call = Call(self._server.engine, request, body, stdio, self._actor, version, variables, token)
            if "%" in request.query:
                call.check_query()
            reply = route.handler(call)
            if reply is STREAMED and not stdio.begun:
                return Reply(200, b"")
            return reply
        except BadRequest:
            if stdio.begun:
                return STREAMED
            raise
        except Exception as error:  # noqa: BLE001  whatever it was, the client is told
            if stdio.begun:
                log.debug("%s %s ended with %s", request.method, request.path, error)
                return STREAMED
            reply = error_reply(error)
            if reply.status == 500:
                log.warning("%s %s: %s", request.method, request.path, error)
            return reply
        finally:
            if watched:
                self._server.hangups.forget(self._stream.fileno())

    def _drained(self, body: RequestBody) -> bool:
        """Read what is left of a body that nobody wanted; False if that is too much."""
        if body.complete:
            body.discard()
            return True
        if body.refused:
            return False
        read = 0
        while read < _DRAIN_LIMIT:
            piece = body.read(RECEIVE_SIZE)
            if not piece:
                return True
            read += len(piece)
        return False

    def _refuse(self, error: BadRequest) -> None:
        """Answer what was no acceptable request, and let the client read that before the connection ends."""
        reply = json_reply({"message": str(error)}, error.status)
        with suppress(OSError):
            self._stream.sendall(encode(reply, keep_alive=False))
            self._stream.shutdown(socket.SHUT_WR)
            self._stream.settimeout(1.0)
            for _ in range(16):
                if not self._stream.recv(RECEIVE_SIZE):
                    break
