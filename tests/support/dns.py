"""DNS messages made and read by other means than the engine's: for questions of tests, and answers to them."""

from __future__ import annotations

import socket
import struct

from pyker.networkdriver.dns import local_answer
from pyker.networkdriver.dnsmessage import read_question
from pyker.networkdriver.dnsnames import View

A, PTR, AAAA = 1, 12, 28


def query(name: str, kind: int = A, *, number: int = 1, udp_bytes: int = 0) -> bytes:
    """A question, with EDNS if ``udp_bytes`` says how much fits."""
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split(".") if part) + b"\0"
    extra = b"\0" + struct.pack(">2HIH", 41, udp_bytes, 0, 0) if udp_bytes else b""
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, int(bool(extra))) + labels + struct.pack(">2H", kind, 1) + extra


def read(reply: bytes) -> tuple[int, list[tuple[int, str, int]], bool]:
    """The code, the records as (kind, value, ttl), and whether there is more than fits."""
    _, flags, questions, count, _, _ = struct.unpack_from(">6H", reply)
    assert flags & 0x8000
    at = 12
    for _ in range(questions):
        at = _name(reply, at)[1] + 4
    found = []
    for _ in range(count):
        _, at = _name(reply, at)
        kind, _, ttl, length = struct.unpack_from(">2HIH", reply, at)
        at += 10
        data = reply[at : at + length]
        match kind:
            case 1:
                value = socket.inet_ntop(socket.AF_INET, data)
            case 28:
                value = socket.inet_ntop(socket.AF_INET6, data)
            case 12:
                value = _name(reply, at)[0]
            case _:
                value = data.hex()
        found.append((kind, value, ttl))
        at += length
    return flags & 15, found, bool(flags & 0x0200)


def _name(reply: bytes, at: int) -> tuple[str, int]:
    parts = []
    while reply[at]:
        if reply[at] >= 0xC0:
            parts.append(_name(reply, struct.unpack_from(">H", reply, at)[0] & 0x3FFF)[0])
            return ".".join(parts), at + 2
        parts.append(reply[at + 1 : at + 1 + reply[at]].decode())
        at += 1 + reply[at]
    return ".".join(parts), at + 1


def answer_of(packet: bytes, *addresses: str, code: int = 0) -> bytes:
    """What a name server says to ``packet``."""
    end = packet.index(b"\0", 12) + 5
    records = b"".join(struct.pack(">3HIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(each) for each in addresses)
    return packet[:2] + struct.pack(">5H", 0x8180 | code, 1, len(addresses), 0, 0) + packet[12:end] + records


def ask(view: View, name: str, kind: int = A) -> list[str] | None:
    """What the engine itself answers, without a socket; None if it would ask others."""
    answer = local_answer(read_question(query(name, kind)), view, limit=512)
    return None if answer is None else [value for _, value, _ in read(answer)[1]]
