"""The job ``serveapi``: the Docker Server. It listens on every host until it is cancelled.

The job's own thread is the lobby, where connections wait; workers serve them.
Seed: "Docker Server"; "serveapi" is one job among many.
"""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pyker.engine.engine import Engine
from pyker.engine.job import Actor, JobContext
from pyker.errors import InvalidParameter
from pyker.jobs.system import ServeApi
from pyker.server.http import HttpServer
from pyker.server.listener import Listener, open_listeners
from pyker.server.lobby import Guest, Lobby
from pyker.server.request import RECEIVE_SIZE
from pyker.server.router import Router
from pyker.server.routes import all_routes

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("pyker.server")

STACK_SIZE = 2 << 20
_HTTP_ON_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
_TLS_HANDSHAKE = b"\x16"
_PEEK_TIMEOUT_S = 10.0


class ApiServer:
    """Does the job ``serveapi``. ``ready`` is set, and ``addresses`` filled, once all hosts are listened on."""

    def __init__(self, engine: Engine) -> None:
        self._server = HttpServer(engine, Router(all_routes()))
        self.ready = threading.Event()
        self.addresses: list[str] = []

    def serve(self, job: ServeApi, ctx: JobContext) -> None:
        """Listen on every host until cancelled. Raises if one of them can't be listened on."""
        context = _tls_context(job)
        with ExitStack() as stack:
            listeners: list[Listener] = []
            for host in job.hosts:
                for listener in open_listeners(
                    host, tls=context is not None, verify=job.tls_verify, group=job.socket_group
                ):
                    stack.callback(listener.close)
                    listeners.append(listener)
            for listener in listeners:
                log.info("API listen on %s", listener.address)
            self.addresses = [listener.address for listener in listeners]
            self._run(Lobby(listeners, self._server.pings, Host(self._server, context).serve), ctx)

    def _run(self, lobby: Lobby, ctx: JobContext) -> None:
        self._server.lobby = lobby
        forget = ctx.cancel.on_cancel(lobby.stop)
        # Deeply nested JSON must meet the interpreter's recursion limit before the end of the stack.
        threading.stack_size(STACK_SIZE)
        self.ready.set()
        try:
            lobby.run()
        finally:
            forget()
            self._server.closing = True
            self._server.abort_streams()


def _tls_context(job: ServeApi) -> ssl.SSLContext | None:
    if not (job.tls or job.tls_verify):
        return None
    from pyker.server.tls import server_context

    if not (job.tls_cert and job.tls_key):
        raise InvalidParameter("TLS needs a certificate and a key", hint="give --tlscert and --tlskey")
    if job.tls_verify and not job.tls_ca_cert:
        raise InvalidParameter("--tlsverify needs the CA of the clients", hint="give --tlscacert")
    return server_context(cert=job.tls_cert, key=job.tls_key, ca_cert=job.tls_ca_cert, verify=job.tls_verify)


class Host:
    """Receives guests from the lobby, in a worker thread."""

    def __init__(self, server: HttpServer, context: ssl.SSLContext | None) -> None:
        self._server = server
        self._context = context

    def serve(self, guest: Guest, first: bytes) -> None:
        """Serve a guest, and bring it back to the lobby when it is idle."""
        server = self._server
        if not guest.listener.tls or self._context is None:
            if server.serve(guest.sock, guest.actor(), first, pollable=True):
                if server.closing or server.lobby is None:
                    guest.sock.close()
                else:
                    server.lobby.park(guest)
            return
        self._serve_tls(guest, self._context)

    def _serve_tls(self, guest: Guest, context: ssl.SSLContext) -> None:
        from pyker.server.tls import TlsStream

        actor = guest.actor()
        with guest.sock as sock:
            stream = TlsStream(sock, context)
            try:
                sock.settimeout(_PEEK_TIMEOUT_S)
                if sock.recv(1, socket.MSG_PEEK) not in (_TLS_HANDSHAKE, b""):
                    # What is left unread when a socket is closed resets the connection, and the words get lost.
                    sock.recv(RECEIVE_SIZE)
                    sock.sendall(_HTTP_ON_TLS)
                    return
                name = stream.handshake()
            except OSError as error:
                log.info("TLS handshake error from %s: %s", actor.name, error)
                return
            self._server.serve(stream, Actor(kind="tls", name=name) if name else actor, pollable=False)
