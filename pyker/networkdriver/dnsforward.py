"""Questions that others answer: one socket each, so that a forged answer has to guess its port and its number.

The socket belongs to the container's network namespace, or to the host's for a server that only the host reaches; the
kernel lets through only what comes from the server that it is connected to.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import socket
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from pyker.errors import PykerError
from pyker.libcontainer.visit import Visitor
from pyker.networkdriver import dnsmessage
from pyker.networkdriver.dnsloop import Loop
from pyker.networkdriver.dnsmessage import Malformed, Question
from pyker.networkdriver.dnsnames import Upstream

SERVER_TIMEOUT_S = 4.0
MAX_PENDING, MAX_PENDING_EACH = 1024, 128
_PORT = 53
_LONGEST = 65535

Reply = Callable[[bytes], None]


@dataclass(slots=True, eq=False)
class _Asking:
    """One question under way. ``left`` are the servers not asked yet, ``last`` is the refusal of one."""

    owner: Hashable
    netns_path: str
    question: Question
    packet: bytes
    left: list[Upstream]
    reply: Reply
    over_tcp: bool
    number: int = 0
    socket: socket.socket | None = None
    deadline_s: float = 0.0
    last: bytes = b""
    to_send: bytes = b""
    received: bytearray = field(default_factory=bytearray)


class Forwarder:
    """Only for the loop's thread. ``port`` is where servers listen."""

    def __init__(
        self, loop: Loop, visitor: Callable[[], Visitor], *, port: int = _PORT, timeout_s: float = SERVER_TIMEOUT_S
    ) -> None:
        self._loop = loop
        self._visitor = visitor
        self._port = port
        self._timeout_s = timeout_s
        self._pending: dict[_Asking, None] = {}  # in the order of their deadlines, since all wait equally long
        self._counts: dict[Hashable, int] = {}

    def ask(
        self,
        owner: Hashable,
        netns_path: str,
        question: Question,
        packet: bytes,
        servers: list[Upstream],
        reply: Reply,
        *,
        over_tcp: bool,
    ) -> None:
        """Ask one server after the other and hand the first answer to ``reply``: exactly once, if not ``forget``-ed."""
        asking = _Asking(owner, netns_path, question, packet, list(servers), reply, over_tcp)
        if len(self._pending) >= MAX_PENDING or self._counts.get(owner, 0) >= MAX_PENDING_EACH:
            reply(dnsmessage.response(question, dnsmessage.SERVFAIL))
            return
        self._counts[owner] = self._counts.get(owner, 0) + 1
        self._next(asking)

    def forget(self, owner: Hashable) -> None:
        """Nobody waits for the answers to the questions of ``owner`` any more."""
        for asking in [each for each in self._pending if each.owner == owner]:
            self._stop(asking)
        self._counts.pop(owner, None)

    def tick(self) -> float | None:
        """Deal with servers that did not answer in time; returns how long until the next may be late."""
        now_s = time.monotonic()
        while self._pending:
            asking = next(iter(self._pending))
            if asking.deadline_s > now_s:
                return asking.deadline_s - now_s
            self._stop(asking)
            self._next(asking)
        return None

    def _stop(self, asking: _Asking) -> None:
        self._pending.pop(asking, None)
        if asking.socket is not None:
            self._loop.drop(asking.socket)
            asking.socket = None

    def _next(self, asking: _Asking) -> None:
        """Go on to the next server that can be sent to; without one that is the end."""
        while asking.left:
            server = asking.left.pop(0)
            try:
                self._send(asking, server)
            except (OSError, PykerError):
                self._stop(asking)
                continue
            asking.deadline_s = time.monotonic() + self._timeout_s
            self._pending[asking] = None
            return
        self._finish(asking, asking.last or dnsmessage.response(asking.question, dnsmessage.SERVFAIL))

    def _finish(self, asking: _Asking, answer: bytes) -> None:
        left = self._counts.get(asking.owner, 0) - 1
        if left > 0:
            self._counts[asking.owner] = left
        else:
            self._counts.pop(asking.owner, None)
        asking.reply(answer)

    def _send(self, asking: _Asking, server: Upstream) -> None:
        asking.number = secrets.randbelow(1 << 16)
        packet = dnsmessage.with_number(asking.packet, asking.number)
        family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
        kind = socket.SOCK_STREAM if asking.over_tcp else socket.SOCK_DGRAM
        path = "" if server.on_host else asking.netns_path
        one = asking.socket = self._visitor().socket(path, family, kind)
        if asking.over_tcp:
            asking.to_send = len(packet).to_bytes(2) + packet
            asking.received.clear()
            number = one.connect_ex((server.address, self._port))
            if number not in (0, errno.EINPROGRESS):
                raise OSError(number, os.strerror(number))
            self._loop.watch(one, select.EPOLLOUT, lambda events: self._stream(asking, one))
            return
        one.connect((server.address, self._port))
        one.send(packet)
        self._loop.watch(one, select.EPOLLIN, lambda events: self._datagram(asking, one))

    def _datagram(self, asking: _Asking, one: socket.socket) -> None:
        try:
            data = one.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            # Nobody listens there, as the other machine's kernel says.
            self._failed(asking)
            return
        self._received(asking, data)

    def _stream(self, asking: _Asking, one: socket.socket) -> None:
        try:
            if asking.to_send:
                if number := one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(number, os.strerror(number))
                asking.to_send = asking.to_send[one.send(asking.to_send) :]
                if not asking.to_send:
                    self._loop.change(one, select.EPOLLIN)
                return
            data = one.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            self._failed(asking)
            return
        asking.received += data
        whole = 2 + int.from_bytes(asking.received[:2]) if len(asking.received) >= 2 else _LONGEST + 2
        if len(asking.received) >= whole:
            self._received(asking, bytes(asking.received[2:whole]))
        elif not data:
            self._failed(asking)

    def _received(self, asking: _Asking, data: bytes) -> None:
        try:
            code = dnsmessage.answers(data, asking.question, asking.number)
        except Malformed:
            # Perhaps forged, and the real one is still to come; but nothing else follows on a stream.
            if asking.over_tcp:
                self._failed(asking)
            return
        data = dnsmessage.with_number(data, asking.question.number)
        self._stop(asking)
        if code in (dnsmessage.SERVFAIL, dnsmessage.REFUSED) and asking.left:
            asking.last = data
            self._next(asking)
        else:
            self._finish(asking, data)

    def _failed(self, asking: _Asking) -> None:
        self._stop(asking)
        self._next(asking)
