"""The kernel's table of connections: forgetting those that go to a container which is gone.

A UDP flow lives on in that table for as long as its sender goes on, so that after the container behind a published port
was replaced the packets would for ever go to the old address. Source: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from pyker.errors import KernelError
from pyker.libcontainer.netlink import attributes, messages

_NETLINK_NETFILTER = 12
_GET, _DELETE = (1 << 8) | 1, (1 << 8) | 2
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TUPLE_ORIG, _TUPLE_REPLY, _ID = 1, 2, 12
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_SRC, _IP_DST = 1, 2
_PROTO_NUM, _PROTO_SRC_PORT, _PROTO_DST_PORT = 1, 2, 3
_NESTED = 0x8000


@dataclass(frozen=True, slots=True)
class Flow:
    """One IPv4 UDP flow: where its first packet went, and who answers."""

    destination: str
    destination_port: int
    answering: str
    answering_port: int


def forget_udp(unwanted: Callable[[Flow], bool]) -> int:
    """Delete the IPv4 UDP flows that ``unwanted`` says; returns how many. Reads the whole table once.

    A kernel without connection tracking has none. Raises KernelError.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as netlink:
            netlink.bind((0, 0))
            return forget_udp_over(netlink, unwanted)
    except OSError as error:
        raise KernelError.from_oserror(error, syscall="sendmsg", stage="conntrack") from error


def forget_udp_over(netlink: socket.socket, unwanted: Callable[[Flow], bool]) -> int:
    """The same in the namespace of ``netlink``, a socket to netfilter. Raises OSError."""
    found = [(flow, key) for flow, key in _dump(netlink) if unwanted(flow)]
    for number, (_, key) in enumerate(found, start=2):
        _send(netlink, _DELETE, _NLM_F_ACK, key, number)
        _answer(netlink)
    return len(found)


def _send(netlink: socket.socket, kind: int, flags: int, body: bytes, sequence: int) -> None:
    payload = struct.pack("=BBH", socket.AF_INET, 0, 0) + body
    netlink.send(struct.pack("=IHHII", 16 + len(payload), kind, flags | _NLM_F_REQUEST, sequence, 0) + payload)


def _answer(netlink: socket.socket) -> None:
    for kind, _, _, body in messages(netlink.recv(65536)):
        number = -struct.unpack_from("=i", body)[0] if kind == _NLMSG_ERROR else 0
        if number not in (0, errno.ENOENT):  # it ended by itself meanwhile
            raise OSError(number, os.strerror(number))


def _dump(netlink: socket.socket) -> list[tuple[Flow, bytes]]:
    """Every IPv4 UDP flow, with what names it in a deletion."""
    _send(netlink, _GET, _NLM_F_DUMP, b"", 1)
    found: list[tuple[Flow, bytes]] = []
    while True:
        for kind, _, _, body in messages(netlink.recv(65536)):
            if kind == _NLMSG_DONE:
                return found
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", body)[0]
                if number in (errno.EINVAL, errno.EOPNOTSUPP):
                    return found
                raise OSError(number, os.strerror(number))
            values = attributes(body, 4)
            flow = _flow(values)
            if flow is not None:
                key = _nested(_TUPLE_ORIG, values[_TUPLE_ORIG])
                if _ID in values:
                    key += struct.pack("=HH", 8, _ID) + values[_ID]
                found.append((flow, key))


def _nested(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind | _NESTED) + data + b"\0" * (-len(data) % 4)


def _flow(values: dict[int, bytes]) -> Flow | None:
    first, answer = (
        (attributes(part.get(_TUPLE_IP, b""), 0), attributes(part.get(_TUPLE_PROTO, b""), 0))
        for part in (attributes(values.get(kind, b""), 0) for kind in (_TUPLE_ORIG, _TUPLE_REPLY))
    )
    if first[1].get(_PROTO_NUM) != bytes((socket.IPPROTO_UDP,)) or _IP_DST not in first[0] or _IP_SRC not in answer[0]:
        return None
    return Flow(
        socket.inet_ntoa(first[0][_IP_DST]),
        struct.unpack(">H", first[1][_PROTO_DST_PORT])[0],
        socket.inet_ntoa(answer[0][_IP_SRC]),
        struct.unpack(">H", answer[1][_PROTO_SRC_PORT])[0],
    )
