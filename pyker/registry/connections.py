"""Connections to registries: TLS by the host's own certificates, and a wait for an answer that can be ended.

Source: dockerd's certs.d layout (``certs.d/<host:port>/{ca.crt,client.cert,client.key}``).
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from typing import Any

import requests.adapters
import urllib3
import urllib3.connection

from pyker.registry.config import RegistryConfig


class Waiting:
    """A request whose answer has not begun. ``interrupt``, from another thread, ends the wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._over = False

    def on(self, connected: socket.socket | None) -> None:
        """This is the connection that the answer comes on."""
        with self._lock:
            self._socket = connected
            over = self._over
        if over:
            self.interrupt()

    def interrupt(self) -> None:
        with self._lock:
            self._over = True
            connected = self._socket
        if connected is not None:
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


this_thread = threading.local()


class _Reporting(urllib3.connection.HTTPConnection):
    """Tells the thread's request which connection it goes out on."""

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        waiting: Waiting | None = getattr(this_thread, "waiting", None)
        if self.sock is None:
            self.connect()
        if waiting is not None:
            waiting.on(self.sock)
        super().putrequest(*args, **kwargs)


class _ReportingTls(_Reporting, urllib3.connection.HTTPSConnection):
    """The same over TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Reporting


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _ReportingTls


class Adapter(requests.adapters.HTTPAdapter):
    """Uses the TLS context it was given, and no other certificates."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(pool_connections=4, pool_maxsize=16, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        if self._context is not None:
            kwargs["ssl_context"] = self._context
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if self._context is not None:
            kwargs["ssl_context"] = self._context
        return super().proxy_manager_for(proxy, **kwargs)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave the connection as the context has it."""
        conn.cert_reqs = "CERT_REQUIRED" if verify else "CERT_NONE"


def tls_context(config: RegistryConfig, host: str) -> ssl.SSLContext:
    """The system's certificates and those of ``certs.d/<host>``: ``*.crt`` to trust, ``*.cert`` + ``*.key`` to show."""
    context = ssl.create_default_context()
    folder = os.path.join(config.certs_dir, host)
    names = sorted(os.listdir(folder)) if "/" not in host and host != ".." and os.path.isdir(folder) else []
    for name in names:
        path = os.path.join(folder, name)
        if name.endswith(".crt"):
            context.load_verify_locations(cafile=path)
        elif name.endswith(".cert"):
            context.load_cert_chain(path, path.removesuffix(".cert") + ".key")
    if config.insecure(host):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
