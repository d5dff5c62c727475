"""TLS for the API: contexts from docker's options, and a stream that can be read and written by two threads.

Python's SSLSocket shares one OpenSSL object between threads without a lock (before 3.13); here the object works on
memory only, under a lock, and the waiting happens outside it. A client's close_notify ends input and nothing else.
Source: dockerd(8) ``--tlsverify``.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress

from pyker.errors import InvalidParameter

HANDSHAKE_TIMEOUT_S = 10.0
_RECEIVE_SIZE = 64 << 10


def server_context(*, cert: str, key: str, ca_cert: str, verify: bool) -> ssl.SSLContext:
    """The daemon's context: TLS 1.2 or later; with ``verify`` only clients whose certificate ``ca_cert`` signed.

    Raises InvalidParameter naming the file that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidParameter(f"could not load X509 key pair (cert: {cert!r}, key: {key!r}): {error}") from error
    if verify:
        try:
            context.load_verify_locations(ca_cert)
        except (OSError, ssl.SSLError) as error:
            raise InvalidParameter(f"could not read CA certificate {ca_cert!r}: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_name(connection: ssl.SSLObject) -> str:
    """The common name of the client's verified certificate, or ""."""
    certificate = connection.getpeercert()
    if not certificate:
        return ""
    for part in certificate.get("subject", ()):
        for pair in part:
            if isinstance(pair, tuple) and len(pair) == 2 and pair[0] == "commonName":
                return str(pair[1])
    return ""


class TlsStream:
    """One TLS connection over ``sock``, which it owns."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._lock = threading.Lock()
        self._writing = threading.Lock()

    def handshake(self) -> str:
        """Agree on keys; returns the client's name. Raises OSError (ssl.SSLError) if that fails or takes too long."""
        self._sock.settimeout(HANDSHAKE_TIMEOUT_S)
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    self._flush()
                    return client_name(self._tls)
                except ssl.SSLWantReadError:
                    self._flush()
                    data = self._sock.recv(_RECEIVE_SIZE)
                    if not data:
                        raise ConnectionResetError("the client left during the TLS handshake") from None
                    self._incoming.write(data)
                except ssl.SSLError:
                    with suppress(OSError):
                        self._flush()
                    raise
        finally:
            self._sock.settimeout(None)

    def _flush(self) -> None:
        with self._writing:
            with self._lock:
                data = self._outgoing.read()
            if data:
                self._sock.sendall(data)

    def recv(self, size: int, /) -> bytes:
        """Plain bytes; b"" once the client has said that it will send no more."""
        while True:
            with self._lock:
                try:
                    return self._tls.read(size)
                except ssl.SSLWantReadError:
                    pending = self._outgoing.pending
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    return b""
            if pending:
                self._flush()
            data = self._sock.recv(_RECEIVE_SIZE)
            with self._lock:
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()

    def sendall(self, data: bytes, /) -> None:
        """Encrypt and send everything."""
        view = memoryview(data)
        with self._writing:
            for start in range(0, len(view), _RECEIVE_SIZE):
                with self._lock:
                    self._tls.write(view[start : start + _RECEIVE_SIZE])
                    sealed = self._outgoing.read()
                self._sock.sendall(sealed)

    def settimeout(self, seconds: float | None, /) -> None:
        self._sock.settimeout(seconds)

    def fileno(self) -> int:
        return self._sock.fileno()

    def shutdown(self, how: int, /) -> None:
        """Say close_notify if output ends, then shut the socket down."""
        if how in (socket.SHUT_WR, socket.SHUT_RDWR):
            self._say_goodbye()
        self._sock.shutdown(how)

    def _say_goodbye(self) -> None:
        with self._lock:
            with suppress(ssl.SSLError, ValueError):
                self._tls.unwrap()
        with suppress(OSError):
            self._flush()

    def close(self) -> None:
        self._say_goodbye()
        self._sock.close()
