"""TLS to the daemon: ``--tls``, ``--tlsverify`` and the three files; and a stream whose two ways end apart.

``ssl.SSLSocket`` cannot say "no more from me" and go on reading, which a hijacked stream needs when stdin ends. So the
TLS engine runs between two buffers, and the socket under it is ours. Source: RFC 8446 section 6.1, close_notify.
"""

from __future__ import annotations

import os
import select
import socket
import ssl

from pyker.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.hosts import Endpoint


def make_context(endpoint: Endpoint) -> ssl.SSLContext:
    """TLS 1.2 or newer; the daemon's certificate is checked only with ``--tlsverify``, as docker does.

    A client certificate is shown if both of its files exist; with verification asked for, they and the CA must.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if endpoint.verify:
        if not os.path.exists(endpoint.ca):
            raise Failure(f"unable to resolve pyker endpoint: open {endpoint.ca}: no such file or directory")
        context.load_verify_locations(endpoint.ca)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    have = [os.path.exists(path) for path in (endpoint.cert, endpoint.key)]
    if all(have):
        try:
            context.load_cert_chain(endpoint.cert, endpoint.key)
        except (ssl.SSLError, OSError) as error:
            raise Failure(f"could not load X509 key pair from {endpoint.cert} and {endpoint.key}: {error}") from error
    elif any(have) or endpoint.verify:
        missing = endpoint.key if have[0] else endpoint.cert
        raise Failure(f"could not load X509 key pair: open {missing}: no such file or directory")
    return context


class TlsSocket:
    """A TLS connection with the methods of a socket that the client uses. Owns ``sock``."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._engine = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._unsent = b""
        while True:
            try:
                self._engine.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush_all()
                if not self._fill():
                    raise ConnectionResetError("the daemon closed the connection in the TLS handshake") from None
        self._flush_all()

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def setblocking(self, flag: bool) -> None:
        self._sock.setblocking(flag)

    def pending(self) -> int:
        """Bytes that a read finds without asking the kernel."""
        return self._engine.pending() + self._incoming.pending

    @property
    def unsent(self) -> bool:
        """Whether something that was taken waits for the socket to be writable."""
        return bool(self._unsent)

    def recv(self, size: int) -> bytes:
        """As socket.recv: b"" at the end, BlockingIOError where nothing is there and waiting is not allowed."""
        while True:
            try:
                return self._engine.read(size)
            except ssl.SSLWantReadError:
                try:
                    self.flush()
                except (BrokenPipeError, ConnectionResetError):
                    # What the daemon said before it left can still be read.
                    self._unsent = b""
                if not self._fill():
                    return b""
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def send(self, data: bytes) -> int:
        """As socket.send. What was taken but not yet sent goes with the next call, or with ``flush``."""
        self.flush()
        if self._unsent:
            raise BlockingIOError
        taken = self._engine.write(data[:65536])
        self.flush()
        return taken

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._engine.write(view[:65536]) :]
            self._flush_all()

    def shutdown(self, _how: int) -> None:
        """Say that no more comes from us; what comes from the daemon can still be read."""
        try:
            self._engine.unwrap()
        except ssl.SSLError:
            # It wants the daemon's own close_notify, which comes when the daemon is done.
            pass
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes now."""
        self._unsent += self._outgoing.read()
        while self._unsent:
            try:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
            except BlockingIOError:
                return

    def _flush_all(self) -> None:
        self.flush()
        while self._unsent:
            select.select([], [self._sock], [])
            self.flush()

    def _fill(self) -> bool:
        data = self._sock.recv(65536)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return bool(data)
