"""DNS messages: questions read, answers packed. Pure: bytes in, bytes out. Whatever is read may be hostile.

Source: RFC 1035 section 4, RFC 6891 (sizes).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

A, PTR, AAAA, ANY, OPT = 1, 12, 28, 255, 41
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
PLAIN_BYTES = 512
"""What a client over UDP takes that says nothing else."""
TTL_S = 600

_HEADER = struct.Struct(">6H")
_KIND = struct.Struct(">2H")
_RECORD = struct.Struct(">2HIH")
_QR, _OPCODE, _TC, _RD, _RA, _RCODE = 0x8000, 0x7800, 0x0200, 0x0100, 0x0080, 0x000F
_NAME_BYTES, _LABEL_BYTES = 255, 63
_OWN_OPT = b"\0" + _RECORD.pack(OPT, 1232, 0, 0)
_TO_QUESTION = struct.pack(">H", 0xC000 | _HEADER.size)
"""A compressed name: the one that was asked for."""


class Malformed(ValueError):
    """Not a message that an answer can be given to."""


@dataclass(frozen=True, slots=True)
class Question:
    """The one question of a message.

    ``name`` is in lower case, without a final dot; a dot or backslash within a label has a backslash before it.
    ``section`` are the question's bytes as they came. ``udp_bytes`` is how long an answer over UDP may be.
    """

    number: int
    flags: int
    name: str
    kind: int
    klass: int
    section: bytes
    udp_bytes: int = PLAIN_BYTES
    extended: bool = False

    @property
    def opcode(self) -> int:
        return (self.flags & _OPCODE) >> 11


def read_question(data: bytes) -> Question:
    """The question of a message from a client. Raises Malformed."""
    question, end, counts = _read(data)
    if question.flags & _QR:
        raise Malformed("an answer where a question should be")
    if counts[1:] == (0, 0, 1):
        udp_bytes = _udp_bytes(data, end)
        if udp_bytes:
            return Question(
                question.number,
                question.flags,
                question.name,
                question.kind,
                question.klass,
                question.section,
                max(udp_bytes, PLAIN_BYTES),
                extended=True,
            )
    return question


def _read(data: bytes) -> tuple[Question, int, tuple[int, int, int, int]]:
    if len(data) < _HEADER.size:
        raise Malformed("shorter than a header")
    number, flags, *rest = _HEADER.unpack_from(data)
    counts = (rest[0], rest[1], rest[2], rest[3])
    if counts[0] != 1:
        raise Malformed(f"{counts[0]} questions")
    name, end = _read_name(data, _HEADER.size)
    if end + _KIND.size > len(data):
        raise Malformed("the question is cut off")
    kind, klass = _KIND.unpack_from(data, end)
    end += _KIND.size
    return Question(number, flags, name, kind, klass, data[_HEADER.size : end]), end, counts


def _read_name(data: bytes, at: int) -> tuple[str, int]:
    """A name of a question, which nobody compresses: there is nothing before it that it could point to."""
    labels, begin = [], at
    while True:
        if at >= len(data):
            raise Malformed("the name is cut off")
        length = data[at]
        at += 1
        if not length:
            break
        if length > _LABEL_BYTES or at + length > len(data) or at + length - begin >= _NAME_BYTES:
            raise Malformed("not a name")
        labels.append(data[at : at + length].replace(b"\\", b"\\\\").replace(b".", b"\\."))
        at += length
    return folded(b".".join(labels)), at


def folded(name: bytes | str) -> str:
    """A name as names are compared: ASCII letters in lower case, any other byte as it is. RFC 4343."""
    raw = name.encode(errors="surrogateescape") if isinstance(name, str) else name
    return raw.lower().decode(errors="surrogateescape")


def _udp_bytes(data: bytes, at: int) -> int:
    """What an OPT record that begins at ``at`` says, 0 if there is none."""
    if at + 1 + _RECORD.size > len(data) or data[at]:
        return 0
    kind, size, _, length = _RECORD.unpack_from(data, at + 1)
    return size if kind == OPT and at + 1 + _RECORD.size + length <= len(data) else 0


def with_number(data: bytes, number: int) -> bytes:
    """The same message under another number."""
    return number.to_bytes(2) + data[2:]


def answers(reply: bytes, question: Question, number: int) -> int:
    """The code of ``reply`` if it answers ``question`` as asked under ``number``. Raises Malformed if it does not.

    The question must come back, though letters may have changed their case.
    """
    if len(reply) < _HEADER.size:
        raise Malformed("shorter than a header")
    got, flags = struct.unpack_from(">2H", reply)
    if got != number or not flags & _QR or (flags & _OPCODE) >> 11 != question.opcode:
        raise Malformed("not an answer to this question")
    echoed, _, _ = _read(reply)
    if (echoed.name, echoed.kind, echoed.klass) != (question.name, question.kind, question.klass):
        raise Malformed("an answer to another question")
    return int(flags & _RCODE)


def refusal(data: bytes, code: int) -> bytes:
    """An answer that is a code and nothing else, to a message of which only the header need be readable.

    Raises Malformed where there is none, or it is an answer itself: two resolvers could refuse each other for ever.
    """
    if len(data) < _HEADER.size:
        raise Malformed("shorter than a header")
    number, flags = struct.unpack_from(">2H", data)
    if flags & _QR:
        raise Malformed("an answer where a question should be")
    return _HEADER.pack(number, _QR | flags & (_OPCODE | _RD) | _RA | code, 0, 0, 0, 0)


def response(question: Question, code: int = NOERROR, records: Sequence[bytes] = (), *, limit: int = 65535) -> bytes:
    """An answer of ``records``, made by ``address`` and ``pointer``; TC is set where ``limit`` bytes hold not all."""
    flags = _QR | question.flags & (_OPCODE | _RD) | _RA | code
    own = _OWN_OPT if question.extended else b""
    room = limit - _HEADER.size - len(question.section) - len(own)
    kept = []
    for record in records:
        room -= len(record)
        if room < 0:
            flags |= _TC
            break
        kept.append(record)
    header = _HEADER.pack(question.number, flags, 1, len(kept), 0, int(bool(own)))
    return b"".join((header, question.section, *kept, own))


def cut(reply: bytes, question: Question) -> bytes:
    """``reply`` if the client takes so much over UDP; else only that there is more, by TCP."""
    if len(reply) <= question.udp_bytes:
        return reply
    flags = struct.unpack_from(">H", reply, 2)[0] | _TC
    own = _OWN_OPT if question.extended else b""
    return _HEADER.pack(question.number, flags, 1, 0, 0, int(bool(own))) + question.section + own


def address(ip: str) -> bytes:
    """A record A or AAAA of the name that was asked for."""
    family, kind = (socket.AF_INET6, AAAA) if ":" in ip else (socket.AF_INET, A)
    return _record(kind, socket.inet_pton(family, ip))


def pointer(name: str) -> bytes:
    """A record PTR of the name that was asked for. Raises Malformed if ``name`` is none."""
    packed = bytearray()
    for label in name.encode(errors="surrogateescape").split(b"."):
        if not 0 < len(label) <= _LABEL_BYTES:
            raise Malformed("not a name")
        packed += bytes((len(label),)) + label
    if len(packed) >= _NAME_BYTES:
        raise Malformed("not a name")
    return _record(PTR, bytes(packed) + b"\0")


def _record(kind: int, data: bytes) -> bytes:
    return _TO_QUESTION + _RECORD.pack(kind, IN, TTL_S, len(data)) + data


def reversed_address(name: str) -> str:
    """The address that a name below in-addr.arpa or ip6.arpa stands for, "" for any other name."""
    if name.endswith(".in-addr.arpa"):
        parts = name.removesuffix(".in-addr.arpa").split(".")
        text, family = ".".join(reversed(parts)), socket.AF_INET
        if len(parts) != 4:
            return ""
    elif name.endswith(".ip6.arpa"):
        digits = name.removesuffix(".ip6.arpa").split(".")
        if len(digits) != 32 or any(len(digit) != 1 for digit in digits):
            return ""
        digits.reverse()
        text, family = ":".join("".join(digits[at : at + 4]) for at in range(0, 32, 4)), socket.AF_INET6
    else:
        return ""
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):
        return ""
