"""Published ports as sockets of this process: they reserve the port, and carry what nftables does not translate.

Every published port is really bound, so that no other program gets it unnoticed. What arrives on these sockets is IPv6,
which containers without IPv6 cannot be given by address translation, or, with the firewall switched off, everything.
One thread with epoll serves all of them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_BUFFER = 256 * 1024
_CHUNK = 64 * 1024
_UDP_IDLE_S = 90.0
_UDP_SESSIONS = 1024
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a listener's traffic goes: ``protocol`` tcp, udp or sctp, and the container's IPv4 address and port."""

    protocol: str
    address: tuple[str, int]


def open_listener(protocol: str, host_ip: str, port: int, *, serve: bool = True) -> socket.socket:
    """Bind ``host_ip:port`` (IPv6 sockets for IPv6 only) and listen; without ``serve`` only keep others from it.

    Raises OSError as bind(2) and listen(2) do.
    """
    family = socket.AF_INET6 if ":" in host_ip else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    number = socket.IPPROTO_SCTP if protocol == "sctp" else 0
    listener = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, number)
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # A port that was served may still have connections that are dying, hence REUSEADDR; a socket that only binds,
        # or takes datagrams, would share its port by it.
        if serve and protocol != "udp":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host_ip, port))
        if serve and protocol != "udp":
            listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener


@dataclass(slots=True, eq=False)
class _Pipe:
    """One direction of a connection: what was read and not yet written, and whether its end was seen or passed on."""

    source: socket.socket
    sink: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    ended: bool = False
    shut: bool = False

    def read(self) -> None:
        try:
            data = self.source.recv(_CHUNK)
        except BlockingIOError:
            return
        if data:
            self.buffer += data
        else:
            self.ended = True
        self.write()

    def write(self) -> None:
        if self.buffer:
            try:
                sent = self.sink.send(self.buffer)
            except BlockingIOError:
                return
            del self.buffer[:sent]
        if self.ended and not self.buffer and not self.shut:
            self.shut = True
            self.sink.shutdown(socket.SHUT_WR)


@dataclass(slots=True, eq=False)
class _Connection:
    """A client's stream and the container's, with half-close both ways."""

    client: socket.socket
    server: socket.socket
    connected: bool = False
    up: _Pipe = field(init=False)
    down: _Pipe = field(init=False)

    def __post_init__(self) -> None:
        self.up = _Pipe(self.client, self.server)
        self.down = _Pipe(self.server, self.client)

    @property
    def done(self) -> bool:
        return self.up.shut and self.down.shut

    def events(self, end: socket.socket) -> int:
        """What to wait for on one end."""
        if not self.connected:
            return select.EPOLLOUT if end is self.server else 0
        reading, writing = (self.up, self.down) if end is self.client else (self.down, self.up)
        wanted = 0
        if not reading.ended and len(reading.buffer) < _BUFFER:
            wanted |= select.EPOLLIN
        if writing.buffer:
            wanted |= select.EPOLLOUT
        return wanted


@dataclass(slots=True, eq=False)
class _Session:
    """One client of a UDP port: the socket that stands for it towards the container."""

    listener: socket.socket
    client: tuple[str, int]
    upstream: socket.socket
    used_s: float


class LocalProxy:
    """Serves listeners until they are removed. Thread-safe; its thread starts with the first listener."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._commands: list[Callable[[], None]] = []
        self._listeners: dict[int, tuple[socket.socket, Target | None]] = {}
        self._connections: dict[int, tuple[_Connection, socket.socket]] = {}
        self._masks: dict[int, int] = {}
        self._sessions: dict[tuple[int, tuple[str, int]], _Session] = {}
        self._upstreams: dict[int, _Session] = {}
        self._closing = False

    def add(self, listener: socket.socket, target: Target | None) -> None:
        """Serve ``listener``, which is the proxy's from now on; without a target only keep it open."""
        number = listener.fileno()
        with self._lock:
            self._listeners[number] = (listener, target)
            if target is None:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="pyker-proxy", daemon=True)
                self._thread.start()
        self._epoll.register(number, select.EPOLLIN)

    def remove(self, listener: socket.socket) -> None:
        """Close ``listener``; when this returns its port is free. Connections that it accepted live on."""
        number = listener.fileno()
        with self._lock:
            if self._listeners.pop(number, None) is None:
                return
        with contextlib.suppress(OSError):
            self._epoll.unregister(number)
        listener.close()
        self._do(lambda: self._end_sessions(lambda session: session.listener is listener))

    def close(self) -> None:
        """Close every listener and connection and end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._closing = True
        os.eventfd_write(self._wake, 1)
        if thread is not None:
            thread.join()
        for listener, _ in self._listeners.values():
            listener.close()
        self._listeners.clear()
        self._epoll.close()
        os.close(self._wake)

    def _do(self, command: Callable[[], None]) -> None:
        """Have the serving thread do something: only it touches connections and sessions."""
        with self._lock:
            self._commands.append(command)
        os.eventfd_write(self._wake, 1)

    def _serve(self) -> None:
        while True:
            timeout_s = _UDP_IDLE_S if self._sessions else None
            for number, events in self._epoll.poll(timeout_s):
                if number == self._wake:
                    os.eventfd_read(self._wake)
                    continue
                try:
                    self._handle(number, events)
                except OSError as error:
                    _LOG.debug("proxy: %s", error)
            with self._lock:
                commands, self._commands = self._commands, []
                closing = self._closing
            for command in commands:
                command()
            if self._sessions:
                oldest = time.monotonic() - _UDP_IDLE_S
                self._end_sessions(lambda session, oldest=oldest: session.used_s < oldest)  # type: ignore[misc]
            if closing:
                for connection, _ in list(self._connections.values()):
                    self._drop(connection)
                self._end_sessions(lambda session: True)
                return

    def _handle(self, number: int, events: int) -> None:
        if (connection := self._connections.get(number)) is not None:
            self._relay(*connection, events)
        elif (session := self._upstreams.get(number)) is not None:
            self._answer(session)
        elif (served := self._listeners.get(number)) is not None:
            listener, target = served
            if target is None:
                return
            if target.protocol == "udp":
                self._datagram(listener, target)
            else:
                self._accept(listener, target)

    def _accept(self, listener: socket.socket, target: Target) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                time.sleep(0.1)  # the caller stays in the queue; asking again at once would only spin
            raise
        client.setblocking(False)
        try:
            number = socket.IPPROTO_SCTP if target.protocol == "sctp" else 0
            server = socket.socket(
                socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, number
            )
        except OSError:
            client.close()
            raise
        connection = _Connection(client, server)
        for end in (client, server):
            if target.protocol == "tcp":
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections[end.fileno()] = (connection, end)
        try:
            server.connect(target.address)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)
            return
        self._rearm(connection)

    def _relay(self, connection: _Connection, end: socket.socket, events: int) -> None:
        try:
            if not connection.connected:
                if end is connection.server and events & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
                    if number := connection.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        raise OSError(number, os.strerror(number))
                    connection.connected = True
                elif events & select.EPOLLERR:
                    raise OSError("the client went away")
            else:
                reading, writing = (
                    (connection.up, connection.down) if end is connection.client else (connection.down, connection.up)
                )
                if events & select.EPOLLERR:
                    end.recv(1)  # raises the error
                if events & (select.EPOLLIN | select.EPOLLHUP) and not reading.ended:
                    reading.read()
                if events & select.EPOLLOUT:
                    writing.write()
        except OSError:
            self._drop(connection)
            return
        if connection.done:
            self._drop(connection)
        else:
            self._rearm(connection)

    def _rearm(self, connection: _Connection) -> None:
        """Wait for what each end can do; an end with nothing to wait for is taken out, since HUP cannot be masked."""
        for end in (connection.client, connection.server):
            number, wanted = end.fileno(), connection.events(end)
            armed = self._masks.get(number)
            if wanted == (armed or 0):
                continue
            if not wanted:
                self._epoll.unregister(number)
                del self._masks[number]
            elif armed is None:
                self._epoll.register(number, wanted)
                self._masks[number] = wanted
            else:
                self._epoll.modify(number, wanted)
                self._masks[number] = wanted

    def _drop(self, connection: _Connection) -> None:
        for end in (connection.client, connection.server):
            number = end.fileno()
            if number < 0:
                continue
            self._connections.pop(number, None)
            if self._masks.pop(number, None) is not None:
                self._epoll.unregister(number)
            if not connection.done:  # an end that was cut short must not look like a complete answer
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            end.close()

    def _datagram(self, listener: socket.socket, target: Target) -> None:
        try:
            data, source = listener.recvfrom(_CHUNK)
        except BlockingIOError:
            return
        key = (listener.fileno(), source)
        session = self._sessions.get(key)
        if session is None:
            if len(self._sessions) >= _UDP_SESSIONS:
                oldest = min(self._sessions.values(), key=lambda each: each.used_s)
                self._end_sessions(lambda each: each is oldest)
            upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            upstream.connect(target.address)
            session = _Session(listener, source, upstream, 0.0)
            self._sessions[key] = session
            self._upstreams[upstream.fileno()] = session
            self._epoll.register(upstream.fileno(), select.EPOLLIN)
        session.used_s = time.monotonic()
        session.upstream.send(data)

    def _answer(self, session: _Session) -> None:
        data = session.upstream.recv(_CHUNK)
        session.used_s = time.monotonic()
        session.listener.sendto(data, session.client)

    def _end_sessions(self, unwanted: Callable[[_Session], bool]) -> None:
        for key, session in list(self._sessions.items()):
            if unwanted(session):
                del self._sessions[key]
                del self._upstreams[session.upstream.fileno()]
                self._epoll.unregister(session.upstream.fileno())
                session.upstream.close()
