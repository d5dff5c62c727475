"""The resolver of user-defined networks: what containers reach at 127.0.0.11, for all of them in one thread.

A container's sockets are in its own network namespace, on ports that nobody else has: an address translation there
leads port 53 of 127.0.0.11 to them, so that port 53 stays free for a server of the container's own. Names are those of
containers that run, on networks that the asking container is on; all other questions go to other servers.
"""

from __future__ import annotations

import contextlib
import logging
import random
import select
import socket
import time
from collections.abc import Callable, MutableSequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from pyker.errors import KernelError, Unavailable
from pyker.libcontainer import portnat
from pyker.libcontainer.visit import Visitor
from pyker.networkdriver import dnsmessage
from pyker.networkdriver.dnsforward import Forwarder, Reply
from pyker.networkdriver.dnsloop import Loop
from pyker.networkdriver.dnsmessage import Malformed, Question
from pyker.networkdriver.dnsnames import View
from pyker.types.ids import ContainerId

ADDRESS, PORT = "127.0.0.11", 53
MAX_STREAMS_EACH = 16
STREAM_IDLE_S = 10.0
_OPEN_TIMEOUT_S = 20.0
_DATAGRAM_BYTES = 4096
_AT_ONCE = 32
"""Datagrams of one container that are read before it is another's turn."""
_BUFFER_BYTES = 65537
_PAUSE_S = 1.0
"""How long a listener rests after the process had no descriptors left for its connections."""
_LOG = logging.getLogger(__name__)


def local_answer(
    question: Question, view: View, *, limit: int, shuffle: Callable[[MutableSequence[bytes]], None] = random.shuffle
) -> bytes | None:
    """The answer if the name is one of ours, of at most ``limit`` bytes; None if others have to be asked.

    A name that is ours and has no record of the kind has none anywhere: NOERROR without records, not NXDOMAIN.
    """
    if question.klass != dnsmessage.IN:
        return None
    if question.kind == dnsmessage.PTR:
        address = dnsmessage.reversed_address(question.name)
        name = view.name_of(address) if address else ""
        try:
            return dnsmessage.response(question, records=[dnsmessage.pointer(name)], limit=limit) if name else None
        except Malformed:
            return None
    found = view.find(question.name)
    if found is None:
        if view.keeps_single and "." not in question.name and question.kind in (dnsmessage.A, dnsmessage.AAAA):
            return dnsmessage.response(question)
        return None
    records: list[bytes] = []
    for kind, addresses in zip((dnsmessage.A, dnsmessage.AAAA), zip(*found, strict=True), strict=True):
        if question.kind in (kind, dnsmessage.ANY):
            records += [dnsmessage.address(each) for each in addresses if each]
    shuffle(records)
    return dnsmessage.response(question, records=records, limit=limit)


@dataclass(slots=True, eq=False)
class _Client:
    """A sandbox with a resolver."""

    container_id: ContainerId
    netns_path: str
    datagrams: socket.socket
    listener: socket.socket
    streams: dict[_Stream, None] = field(default_factory=dict)
    rests_until_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Stream:
    """A TCP connection of a container. ``busy``: its question is being answered, and it must not ask the next."""

    client: _Client
    socket: socket.socket
    deadline_s: float
    received: bytearray = field(default_factory=bytearray)
    to_send: bytearray = field(default_factory=bytearray)
    busy: bool = False
    ended: bool = False
    advancing: bool = False
    mask: int = select.EPOLLIN


class Resolver:
    """Thread-safe. ``view`` says what a container sees just now, None if it is not there: asked for each question.

    ``server_port`` is where other servers listen.
    """

    def __init__(self, view: Callable[[ContainerId], View | None], *, server_port: int = PORT) -> None:
        self._view = view
        self._clients: dict[ContainerId, _Client] = {}
        self._streams: dict[_Stream, None] = {}
        self._resting: dict[_Client, None] = {}
        self._made: Visitor | None = None
        self._loop = Loop("pyker-dns", self._tick, self._end)
        self._forwarder = Forwarder(self._loop, self._visitor, port=server_port)

    def open(self, container_id: ContainerId, netns_path: str, *, replace: bool = False) -> Callable[[], None]:
        """Begin to serve a sandbox, whose loopback is up; returns what waits until it is served.

        ``replace``: an earlier daemon served it. That which waits raises KernelError.
        """
        done: Future[None] = Future()

        def run() -> None:
            try:
                self._open(container_id, netns_path, replace=replace)
            except BaseException as error:  # noqa: BLE001 - it goes to whom it concerns
                done.set_exception(error)
            else:
                done.set_result(None)

        if not self._loop.call(run):
            raise Unavailable("the resolver is closed")
        return lambda: done.result(_OPEN_TIMEOUT_S)

    def forget(self, container_id: ContainerId) -> None:
        """Serve a sandbox no longer: its sockets keep its namespace alive. One that is not served is fine."""
        self._loop.call(lambda: self._forget(container_id))

    def close(self) -> None:
        """Close every socket and end the thread. What leads to them in the namespaces stays, for the next daemon."""
        self._loop.close()

    # -- the loop's thread

    def _visitor(self) -> Visitor:
        if self._made is None:
            self._made = Visitor()
        return self._made

    def _end(self) -> None:
        for container_id in list(self._clients):
            self._forget(container_id)
        if self._made is not None:
            self._made.close()

    def _open(self, container_id: ContainerId, netns_path: str, *, replace: bool) -> None:
        self._forget(container_id)
        try:
            datagrams, listener = self._translated(netns_path, replace=replace)
        except KernelError as error:
            _LOG.warning("the resolver of %s takes its port %d, without address translation: %s", ADDRESS, PORT, error)
            datagrams, listener, netfilter = self._bind(netns_path, PORT)
            netfilter.close()
        client = _Client(container_id, netns_path, datagrams, listener)
        self._clients[container_id] = client
        self._loop.watch(datagrams, select.EPOLLIN, lambda events: self._datagrams(client))
        self._loop.watch(listener, select.EPOLLIN, lambda events: self._accept(client))

    def _translated(self, netns_path: str, *, replace: bool) -> tuple[socket.socket, socket.socket]:
        datagrams, listener, netfilter = self._bind(netns_path, 0)
        with contextlib.ExitStack() as undo, netfilter:
            undo.callback(datagrams.close)
            undo.callback(listener.close)
            ports = {
                socket.IPPROTO_UDP: datagrams.getsockname()[1],
                socket.IPPROTO_TCP: listener.getsockname()[1],
            }
            portnat.redirect(netfilter, ADDRESS, PORT, ports, replace=replace)
            undo.pop_all()
        return datagrams, listener

    def _bind(self, netns_path: str, port: int) -> tuple[socket.socket, socket.socket, socket.socket]:
        """A socket for datagrams, one that listens, and one to netfilter, in the namespace."""
        flags = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with self._visitor().inside(netns_path), contextlib.ExitStack() as undo:
                datagrams = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | flags))
                listener = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM | flags))
                netfilter = undo.enter_context(
                    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | flags, portnat.NETLINK_NETFILTER)
                )
                undo.pop_all()
        except OSError as error:
            raise KernelError.from_oserror(error, syscall="socket", stage="network") from error
        try:
            datagrams.bind((ADDRESS, port))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((ADDRESS, port))
            listener.listen(64)
        except OSError as error:
            for each in (datagrams, listener, netfilter):
                each.close()
            raise KernelError.from_oserror(error, syscall="bind", stage="network") from error
        return datagrams, listener, netfilter

    def _forget(self, container_id: ContainerId) -> None:
        client = self._clients.pop(container_id, None)
        if client is None:
            return
        self._forwarder.forget(client)
        self._resting.pop(client, None)
        self._loop.drop(client.datagrams)
        self._loop.drop(client.listener)
        for stream in list(client.streams):
            self._drop(stream)

    def _tick(self) -> float | None:
        waits = [self._forwarder.tick()]
        now_s = time.monotonic()
        for client in list(self._resting):
            if client.rests_until_s <= now_s:
                del self._resting[client]
                self._loop.change(client.listener, select.EPOLLIN)
            else:
                waits.append(client.rests_until_s - now_s)
        for stream in [each for each in self._streams if not each.busy]:
            if stream.deadline_s <= now_s:
                self._drop(stream)
            else:
                waits.append(stream.deadline_s - now_s)
        return min((each for each in waits if each is not None), default=None)

    def _answer(self, client: _Client, packet: bytes, reply: Reply, *, over_tcp: bool) -> None:
        """Answer a message, now or later; exactly once, or never if nobody could be meant."""
        try:
            question = dnsmessage.read_question(packet)
        except Malformed:
            reply(dnsmessage.refusal(packet, dnsmessage.FORMERR))
            return
        if question.opcode:
            reply(dnsmessage.refusal(packet, dnsmessage.NOTIMP))
            return
        view = self._view(client.container_id)
        if view is None:
            reply(dnsmessage.refusal(packet, dnsmessage.SERVFAIL))
            return
        local = local_answer(question, view, limit=65535 if over_tcp else question.udp_bytes)
        if local is not None:
            reply(local)
            return

        def pass_on(answer: bytes) -> None:
            reply(answer if over_tcp else dnsmessage.cut(answer, question))

        servers = list(view.upstreams)
        self._forwarder.ask(client, client.netns_path, question, packet, servers, pass_on, over_tcp=over_tcp)

    def _datagrams(self, client: _Client) -> None:
        for _ in range(_AT_ONCE):
            try:
                packet, source = client.datagrams.recvfrom(_DATAGRAM_BYTES)
            except BlockingIOError:
                return

            def reply(answer: bytes, source: tuple[str, int] = source) -> None:
                # A client that is gone, or whose queue is full, asks again if it wants to know.
                with contextlib.suppress(OSError):
                    client.datagrams.sendto(answer, source)

            with contextlib.suppress(Malformed):
                self._answer(client, packet, reply, over_tcp=False)

    def _accept(self, client: _Client) -> None:
        try:
            connection, _ = client.listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            # Asking again at once would only spin; the caller stays in the queue.
            client.rests_until_s = time.monotonic() + _PAUSE_S
            self._resting[client] = None
            self._loop.change(client.listener, 0)
            raise
        if len(client.streams) >= MAX_STREAMS_EACH:
            idle = next((each for each in client.streams if not each.busy), None)
            if idle is None:
                connection.close()
                return
            self._drop(idle)
        connection.setblocking(False)
        stream = _Stream(client, connection, time.monotonic() + STREAM_IDLE_S)
        client.streams[stream] = self._streams[stream] = None
        self._loop.watch(connection, stream.mask, lambda events: self._stream(stream, events))

    def _drop(self, stream: _Stream) -> None:
        stream.client.streams.pop(stream, None)
        self._streams.pop(stream, None)
        self._loop.drop(stream.socket)

    def _stream(self, stream: _Stream, events: int) -> None:
        try:
            if events & (select.EPOLLERR | select.EPOLLHUP):
                raise ConnectionError("the client is gone")
            if events & select.EPOLLIN and not stream.ended:
                data = stream.socket.recv(_DATAGRAM_BYTES)
                stream.ended = not data
                stream.received += data
                stream.deadline_s = time.monotonic() + STREAM_IDLE_S
        except BlockingIOError:
            pass
        except OSError:
            self._drop(stream)
            return
        self._advance(stream)

    def _advance(self, stream: _Stream) -> None:
        """Take up what was asked, one question after the other, and send what was answered."""
        if stream.advancing or stream not in stream.client.streams:
            return
        stream.advancing = True
        try:
            while not stream.busy and len(stream.to_send) < _BUFFER_BYTES and self._take(stream):
                pass
            if stream.to_send:
                with contextlib.suppress(BlockingIOError):
                    del stream.to_send[: stream.socket.send(stream.to_send)]
        except (OSError, Malformed):
            self._drop(stream)
            return
        finally:
            stream.advancing = False
        if stream.ended and not stream.busy and not stream.to_send:
            self._drop(stream)
            return
        mask = select.EPOLLOUT if stream.to_send else 0
        if not stream.ended and len(stream.received) < _BUFFER_BYTES:
            mask |= select.EPOLLIN
        if mask != stream.mask:
            stream.mask = mask
            self._loop.change(stream.socket, mask)

    def _take(self, stream: _Stream) -> bool:
        """Begin to answer the next question; False if it is not there as a whole."""
        if len(stream.received) < 2:
            return False
        whole = 2 + int.from_bytes(stream.received[:2])
        if len(stream.received) < whole:
            return False
        packet = bytes(stream.received[2:whole])
        del stream.received[:whole]
        stream.busy = True

        def reply(answer: bytes) -> None:
            stream.busy = False
            stream.deadline_s = time.monotonic() + STREAM_IDLE_S
            stream.to_send += len(answer).to_bytes(2) + answer
            self._advance(stream)

        self._answer(stream.client, packet, reply, over_tcp=True)
        return True
