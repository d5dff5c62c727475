"""The job ``serveapi``: the Docker Server. It listens, and each connection is served by a thread of its own.

Threads wait for clients themselves: the one that gets a connection serves it, after making sure that another one waits.
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
from pyker.server.router import Router
from pyker.server.routes import all_routes

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("pyker.server")

STACK_SIZE = 512 << 10
_SPARE_THREADS = 8
_HTTP_ON_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
_TLS_HANDSHAKE = b"\x16"


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
            threading.stack_size(STACK_SIZE)
            for listener in listeners:
                Acceptor(self._server, listener, context).start()
                log.info("API listen on %s", listener.address)
            self.addresses = [listener.address for listener in listeners]
            self.ready.set()
            ctx.cancel.wait()
            self._server.closing = True
            for listener in listeners:
                listener.stop()
            self._server.hangups.cancel_all()


def _tls_context(job: ServeApi) -> ssl.SSLContext | None:
    if not (job.tls or job.tls_verify):
        return None
    from pyker.server.tls import server_context

    if not (job.tls_cert and job.tls_key):
        raise InvalidParameter("TLS needs a certificate and a key", hint="give --tlscert and --tlskey")
    if job.tls_verify and not job.tls_ca_cert:
        raise InvalidParameter("--tlsverify needs the CA of the clients", hint="give --tlscacert")
    return server_context(cert=job.tls_cert, key=job.tls_key, ca_cert=job.tls_ca_cert, verify=job.tls_verify)


class Acceptor:
    """The threads of one listener."""

    def __init__(self, server: HttpServer, listener: Listener, context: ssl.SSLContext | None) -> None:
        self._server = server
        self._listener = listener
        self._context = context if listener.tls else None
        self._lock = threading.Lock()
        self._waiting = 0

    def start(self) -> None:
        """Begin with one thread."""
        with self._lock:
            self._waiting += 1
        threading.Thread(target=self._loop, name="api", daemon=True).start()

    def _loop(self) -> None:
        listener = self._listener
        is_unix = listener.sock.family == socket.AF_UNIX
        while not self._server.closing:
            try:
                connection, peer = listener.sock.accept()
            except ConnectionError:
                continue
            except OSError as error:
                if self._server.closing or listener.sock.fileno() < 0:
                    return
                log.warning("accept on %s: %s", listener.address, error)
                threading.Event().wait(0.1)
                continue
            with self._lock:
                self._waiting -= 1
                alone = self._waiting == 0
            if alone:
                self.start()
            try:
                if not is_unix:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                self._serve(connection, listener.actor(connection, peer))
            except Exception:
                log.exception("connection from %s", peer)
            with self._lock:
                if self._waiting >= _SPARE_THREADS:
                    return
                self._waiting += 1

    def _serve(self, connection: socket.socket, actor: Actor) -> None:
        if self._context is None:
            self._server.serve(connection, actor, pollable=True)
            return
        from pyker.server.tls import TlsStream

        with connection:
            stream = TlsStream(connection, self._context)
            try:
                connection.settimeout(10.0)
                if connection.recv(1, socket.MSG_PEEK) not in (_TLS_HANDSHAKE, b""):
                    connection.sendall(_HTTP_ON_TLS)
                    return
                name = stream.handshake()
            except OSError as error:
                log.info("TLS handshake error from %s: %s", actor.name, error)
                return
            if name:
                actor = Actor(kind="tls", name=name)
            self._server.serve(stream, actor, pollable=False)
