"""Address translation of an address's own ports inside one network namespace, packed by hand as in ``netlink``.

A container on a network of its own starts with one such table, so it is one batch over one socket; through libnftables
the same would need a context in that namespace. Connection tracking translates the answers back.
Source: linux/netfilter/nf_tables.h, nfnetlink.h; nft(8), NAT STATEMENTS.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress

from pyker.errors import KernelError
from pyker.libcontainer.conntrack import forget_udp_over
from pyker.libcontainer.netlink import attribute, messages

NETLINK_NETFILTER = 12
TABLE = "pyker-dns"

_BATCH_BEGIN, _BATCH_END, _SUBSYSTEM = 0x10, 0x11, 10
_NEWTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE = 0, 2, 3, 6
_REQUEST, _ACK, _CREATE, _APPEND = 0x1, 0x4, 0x400, 0x800
_NLMSG_ERROR = 2
_NESTED = 0x8000
_NFPROTO_IPV4, _LOCAL_OUT, _PRIORITY_DNAT = 2, 3, -100
_TABLE_NAME = 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE = 1, 3, 4, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_LIST_ELEMENT, _EXPRESSION_NAME, _EXPRESSION_DATA = 1, 1, 2
_PAYLOAD_REGISTER, _PAYLOAD_BASE, _PAYLOAD_OFFSET, _PAYLOAD_LENGTH = 1, 2, 3, 4
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_META_REGISTER, _META_KEY, _META_L4PROTO = 1, 2, 16
_CMP_REGISTER, _CMP_OPERATION, _CMP_DATA, _EQUAL = 1, 2, 3, 0
_IMMEDIATE_REGISTER, _IMMEDIATE_DATA, _DATA_VALUE = 1, 2, 1
_NAT_TYPE, _NAT_FAMILY, _NAT_ADDRESS, _NAT_PORT, _DNAT = 1, 2, 3, 5, 1
_HEADER = struct.Struct("=IHHII")


def redirect(
    netfilter: socket.socket, address: str, port: int, targets: Mapping[int, int], *, replace: bool = False
) -> None:
    """Lead what is sent in the namespace of ``netfilter`` to ``address``:``port`` to other ports of that address.

    ``targets`` are ports by protocol (socket.IPPROTO_UDP, IPPROTO_TCP). With ``replace`` a table that an earlier call
    left goes first, in the same transaction; what it has led elsewhere by UDP begins anew. Raises KernelError where
    the kernel has no address translation.
    """
    name = attribute(_TABLE_NAME, _text(TABLE))
    parts = [(_NEWTABLE, _CREATE, name)]
    if replace:
        parts += [(_DELTABLE, 0, name), (_NEWTABLE, _CREATE, name)]
    hook = attribute(_HOOK_NUMBER, struct.pack(">I", _LOCAL_OUT))
    hook += attribute(_HOOK_PRIORITY, struct.pack(">i", _PRIORITY_DNAT))
    chain = attribute(_CHAIN_TABLE, _text(TABLE)) + attribute(_CHAIN_NAME, _text("output"))
    chain += attribute(_CHAIN_HOOK | _NESTED, hook) + attribute(_CHAIN_TYPE, _text("nat"))
    parts.append((_NEWCHAIN, _CREATE, chain))
    for protocol, target in targets.items():
        rule = attribute(_RULE_TABLE, _text(TABLE)) + attribute(_RULE_CHAIN, _text("output"))
        rule += attribute(_RULE_EXPRESSIONS | _NESTED, _translation(socket.inet_aton(address), port, protocol, target))
        parts.append((_NEWRULE, _CREATE | _APPEND, rule))
    try:
        netfilter.send(_batch(parts))
        _check(netfilter, len(parts))
        if replace:
            # A flow keeps the translation that it began with, for as long as its sender goes on. Where the kernel
            # cannot be asked to forget, the table is in place all the same.
            with suppress(OSError):
                forget_udp_over(netfilter, lambda flow: (flow.destination, flow.destination_port) == (address, port))
    except OSError as error:
        raise KernelError.from_oserror(error, syscall="sendmsg", stage="nat") from error


def _batch(parts: list[tuple[int, int, bytes]]) -> bytes:
    """Numbered from 1, so that the last one, which alone is acknowledged, has as number how many there are."""
    border = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
    packet = bytearray(_HEADER.pack(20, _BATCH_BEGIN, _REQUEST, 0, 0) + border)
    family = struct.pack(">BBH", _NFPROTO_IPV4, 0, 0)
    for number, (kind, flags, body) in enumerate(parts, start=1):
        flags |= _REQUEST | (_ACK if number == len(parts) else 0)
        packet += _HEADER.pack(20 + len(body), (_SUBSYSTEM << 8) | kind, flags, number, 0) + family + body
    return bytes(packet + _HEADER.pack(20, _BATCH_END, _REQUEST, len(parts) + 1, 0) + border)


def _check(netfilter: socket.socket, last: int) -> None:
    """The kernel has answered before send(2) returns: errors of any part, or that the last was done."""
    first_error, done = 0, False
    while True:
        try:
            data = netfilter.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
        for kind, _, sequence, body in messages(data):
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", body)[0]
                first_error = first_error or number
                done = done or (not number and sequence == last)
    if first_error or not done:
        number = first_error or 71  # EPROTO: it said nothing
        raise OSError(number, os.strerror(number))


def _translation(address: bytes, port: int, protocol: int, target: int) -> bytes:
    """ip daddr ADDRESS meta l4proto PROTOCOL th dport PORT dnat to ADDRESS:TARGET"""
    return b"".join(
        (
            _payload(_NETWORK_HEADER, 16, 4),
            _compare(address),
            _expression("meta", _u32(_META_REGISTER, 1) + _u32(_META_KEY, _META_L4PROTO)),
            _compare(bytes((protocol,))),
            _payload(_TRANSPORT_HEADER, 2, 2),
            _compare(struct.pack(">H", port)),
            _immediate(1, address),
            _immediate(2, struct.pack(">H", target)),
            _expression(
                "nat",
                _u32(_NAT_TYPE, _DNAT) + _u32(_NAT_FAMILY, _NFPROTO_IPV4) + _u32(_NAT_ADDRESS, 1) + _u32(_NAT_PORT, 2),
            ),
        )
    )


def _payload(base: int, offset: int, length: int) -> bytes:
    body = _u32(_PAYLOAD_REGISTER, 1) + _u32(_PAYLOAD_BASE, base)
    return _expression("payload", body + _u32(_PAYLOAD_OFFSET, offset) + _u32(_PAYLOAD_LENGTH, length))


def _compare(value: bytes) -> bytes:
    body = _u32(_CMP_REGISTER, 1) + _u32(_CMP_OPERATION, _EQUAL)
    return _expression("cmp", body + attribute(_CMP_DATA | _NESTED, attribute(_DATA_VALUE, value)))


def _immediate(register: int, value: bytes) -> bytes:
    body = _u32(_IMMEDIATE_REGISTER, register)
    return _expression("immediate", body + attribute(_IMMEDIATE_DATA | _NESTED, attribute(_DATA_VALUE, value)))


def _expression(name: str, body: bytes) -> bytes:
    inside = attribute(_EXPRESSION_NAME, _text(name)) + attribute(_EXPRESSION_DATA | _NESTED, body)
    return attribute(_LIST_ELEMENT | _NESTED, inside)


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def _text(text: str) -> bytes:
    return text.encode() + b"\0"
