"""DNS messages and names: what is read, what is answered, and that hostile bytes are Malformed and nothing else."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyker.networkdriver import dnsmessage
from pyker.networkdriver.dns import local_answer
from pyker.networkdriver.dnsmessage import AAAA, ANY, IN, PTR, A, Malformed, read_question
from pyker.networkdriver.dnsnames import (
    DnsConfig,
    Upstream,
    View,
    Zone,
    links_of,
    names_of,
    servers_of,
    with_new_name,
)
from pyker.types.config import EndpointSettings
from pyker.types.ids import ContainerId
from tests.support.dns import ask, query, read

WEB = EndpointSettings(ip_address="10.1.0.2", aliases=("www",), dns_names=("web", "www", "aaaaaaaaaaaa"))
DB = EndpointSettings(ip_address="10.1.0.3", global_ipv6_address="fd00::3", dns_names=("Db.main", "bbbbbbbbbbbb"))
SECOND = EndpointSettings(ip_address="10.1.0.4", dns_names=("other", "www"))


def view(**kwargs: object) -> View:
    return View([Zone.of("front", [WEB, DB, SECOND]), Zone.of("back.net", [SECOND])], **kwargs)  # type: ignore[arg-type]


def test_a_question() -> None:
    question = read_question(query("Www.Example", AAAA, number=7))
    assert (question.number, question.name, question.kind, question.klass) == (7, "www.example", AAAA, IN)
    assert question.udp_bytes == 512 and not question.extended
    assert read_question(query("a", A, udp_bytes=4096)).udp_bytes == 4096
    assert read_question(query("a", A, udp_bytes=100)).udp_bytes == 512


def test_a_dot_within_a_label_is_none_between_labels() -> None:
    raw = struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + b"\x09web.front\0" + struct.pack(">2H", A, IN)
    assert read_question(raw).name == r"web\.front"
    assert local_answer(read_question(raw), view(), limit=512) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x3f",
        b"\x40" + b"a" * 64 + b"\0\0\1\0\1",
        b"\xc0\x0c\0\1\0\1",
        b"\3web\0\0\1",
        b"\3web",
        b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63 + b"\x3f" + b"c" * 63 + b"\x3f" + b"d" * 63 + b"\0\0\1\0\1",
    ],
)
def test_what_is_no_question(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_question(struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + body)


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (2, 0, 0, 0), (65535, 0, 0, 0)])
def test_one_question_and_no_other_number(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(Malformed):
        read_question(struct.pack(">6H", 1, 0x100, *counts) + query("a", A)[12:])


def test_an_answer_is_no_question_and_is_not_refused_either() -> None:
    answer = struct.pack(">6H", 1, 0x8180, 1, 0, 0, 0) + query("a", A)[12:]
    for reading in (read_question, lambda data: dnsmessage.refusal(data, 1)):
        with pytest.raises(Malformed):
            reading(answer)


@given(st.binary(max_size=600))
def test_hostile_bytes(data: bytes) -> None:
    """Every message is read or Malformed; what is read is answered, or left to others, within its limit."""
    try:
        question = read_question(data)
    except Malformed:
        return
    answer = local_answer(question, view(), limit=question.udp_bytes)
    assert answer is None or (len(answer) <= question.udp_bytes and answer[:2] == data[:2])


_LABEL = st.binary(min_size=1, max_size=63)


@given(
    st.integers(0, 0xFFFF),
    st.lists(_LABEL, max_size=8),
    st.sampled_from([A, AAAA, PTR, ANY, 6, 65535]),
    st.binary(max_size=40),
)
def test_hostile_questions(flags: int, labels: list[bytes], kind: int, rest: bytes) -> None:
    """As above, but close to real ones: these get beyond the header."""
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    data = struct.pack(">6H", 9, flags, 1, 0, 0, 1) + name + struct.pack(">2H", kind, IN) + rest
    try:
        question = read_question(data)
    except Malformed:
        assert flags & 0x8000 or len(name) > 255
        return
    assert question.section == name + struct.pack(">2H", kind, IN)
    local_answer(question, view(), limit=question.udp_bytes)
    reply = dnsmessage.response(question)
    assert dnsmessage.answers(reply, question, 9) == 0


@given(st.binary(max_size=600), st.integers(0, 0xFFFF))
def test_hostile_answers(data: bytes, number: int) -> None:
    """Bytes of a server are an answer only under the number and to the question that were asked."""
    question = read_question(query("web", A))
    try:
        dnsmessage.answers(data, question, number)
    except Malformed:
        return
    assert data[:2] == number.to_bytes(2) and data[12 : 12 + len(question.section)].lower() == question.section


def test_an_answer_to_another_question() -> None:
    question = read_question(query("web", A, number=5))
    ours = bytearray(dnsmessage.response(question))
    assert dnsmessage.answers(bytes(ours), question, 5) == 0
    ours[13:16] = b"WEB"  # servers may echo the case of letters, or not
    assert dnsmessage.answers(bytes(ours), question, 5) == 0
    ours[13:16] = b"wet"
    for reply, number in ((bytes(ours), 5), (dnsmessage.response(question), 6), (query("web", A, number=5), 5)):
        with pytest.raises(Malformed):
            dnsmessage.answers(reply, question, number)


@pytest.mark.parametrize(
    ("name", "kind", "wanted"),
    [
        ("web", A, {"10.1.0.2"}),
        ("WEB", A, {"10.1.0.2"}),
        ("web.front", A, {"10.1.0.2"}),
        ("web.back.net", A, None),
        ("other.back.net", A, {"10.1.0.4"}),
        ("aaaaaaaaaaaa", A, {"10.1.0.2"}),
        ("www", A, {"10.1.0.2", "10.1.0.4"}),
        ("web", AAAA, set()),
        ("web", 15, set()),
        ("db.main", A, {"10.1.0.3"}),
        ("db.main.front", AAAA, {"fd00::3"}),
        ("db.main", ANY, {"10.1.0.3", "fd00::3"}),
        ("db", A, None),
        ("front", A, None),
        ("", A, None),
        ("2.0.1.10.in-addr.arpa", PTR, {"web.front"}),
        ("3.0.0.0" + ".0" * 24 + ".0.0.d.f.ip6.arpa", PTR, {"Db.main.front"}),
        ("9.0.1.10.in-addr.arpa", PTR, None),
        ("1.10.in-addr.arpa", PTR, None),
        ("x.0.1.10.in-addr.arpa", PTR, None),
    ],
)
def test_names_and_addresses(name: str, kind: int, wanted: set[str] | None) -> None:
    answer = local_answer(read_question(query(name, kind)), view(), limit=512)
    if wanted is None:
        assert answer is None
    else:
        assert answer is not None
        code, found, _ = read(answer)
        assert code == 0 and {value for _, value, _ in found} == wanted
        assert all(ttl == 600 for _, _, ttl in found)


def test_other_classes_are_left_to_others() -> None:
    question = read_question(query("web", A)[:-2] + struct.pack(">H", 3))
    assert local_answer(question, view(), limit=512) is None


def test_several_come_in_any_order() -> None:
    question = read_question(query("www", A))
    orders = {
        tuple(value for _, value, _ in read(local_answer(question, view(), limit=512) or b"")[1]) for _ in range(100)
    }
    assert orders == {("10.1.0.2", "10.1.0.4"), ("10.1.0.4", "10.1.0.2")}


def test_a_link_comes_before_a_name_and_only_for_whom_it_is() -> None:
    linked = view(links={"front": {"www": "web", "db": "db.main", "gone": "nobody"}})
    assert ask(linked, "www") == ["10.1.0.2"]
    assert ask(linked, "db") == ["10.1.0.3"]
    assert ask(linked, "db.back.net") is None
    assert ask(linked, "gone") is None
    assert ask(view(), "db") is None


def test_links_of_an_endpoint() -> None:
    endpoint = EndpointSettings(links=("Server:db", "/web:w", "alone", f"{'a' * 64}:long"))
    assert links_of(endpoint) == {"db": "server", "w": "web", "alone": "alone", "long": "a" * 12}


def test_unknown_names_without_a_dot_may_be_told_to_stay() -> None:
    question = read_question(query("nosuch", A))
    kept = local_answer(question, view(keeps_single=True), limit=512)
    assert kept is not None and read(kept)[:2] == (0, [])
    assert local_answer(read_question(query("nosuch.test", A)), view(keeps_single=True), limit=512) is None


def test_too_much_for_a_datagram() -> None:
    many = [EndpointSettings(ip_address=f"10.2.{at // 250}.{at % 250 + 1}", dns_names=("all",)) for at in range(300)]
    full = View([Zone.of("front", many)])
    for size in (0, 1232, 4096):
        question = read_question(query("all", A, udp_bytes=size))
        answer = local_answer(question, full, limit=question.udp_bytes)
        assert answer is not None
        _, found, cut = read(answer)
        assert (
            cut and max(size, 512) - 27 < len(answer) <= max(size, 512) and len(found) == len({v for _, v, _ in found})
        )
    whole = local_answer(read_question(query("all", A)), full, limit=65535)
    assert whole is not None and len(read(whole)[1]) == 300 and not read(whole)[2]
    assert read(dnsmessage.cut(whole, read_question(query("all", A)))) == (0, [], True)


def test_names_of_a_container() -> None:
    identity = ContainerId("c" * 64)
    endpoint = EndpointSettings(aliases=("db", "web"))
    assert names_of(identity, "web", "host", endpoint) == ("web", "db", "c" * 12, "host")
    named = EndpointSettings(aliases=("db", "web"), dns_names=("web", "db", "c" * 12))
    assert with_new_name(named, "web", "new").dns_names == ("new", "web", "db", "c" * 12)
    assert with_new_name(named, "x", "new").dns_names == ("new", "web", "db", "c" * 12)
    assert with_new_name(EndpointSettings(), "web", "new").dns_names is None


def test_whom_to_ask() -> None:
    def chosen(own: tuple[str, ...], daemon: tuple[str, ...], host: tuple[str, ...], *, leaves: bool = True) -> object:
        return servers_of(DnsConfig(own), daemon, lambda: host, leaves=leaves)

    assert chosen(("127.0.0.1", "10.0.0.1"), ("9.9.9.9",), ("8.8.8.8",)) == (
        Upstream("127.0.0.1"),
        Upstream("10.0.0.1"),
    )
    assert chosen((), ("9.9.9.9",), ("8.8.8.8",)) == (Upstream("9.9.9.9"),)
    assert chosen((), (), ("127.0.0.53", "fd00::1", "nonsense", "1.1.1.1", "4.4.4.4")) == (
        Upstream("127.0.0.53", on_host=True),
        Upstream("fd00::1", on_host=True),
        Upstream("1.1.1.1"),
    )
    assert chosen((), (), ("127.0.0.53", "1.1.1.1"), leaves=False) == (Upstream("1.1.1.1"),)


def test_reversed_addresses() -> None:
    for address in ("10.1.2.3", "fd00::1:2", "::"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        raw = socket.inet_pton(family, address)
        if family == socket.AF_INET:
            name = ".".join(str(each) for each in reversed(raw)) + ".in-addr.arpa"
        else:
            name = ".".join(reversed(raw.hex())) + ".ip6.arpa"
        assert dnsmessage.reversed_address(name) == address
    for name in ("a.b.c.d.in-addr.arpa", "in-addr.arpa", "1.2.3.4", "1.ip6.arpa", "zz" + ".0" * 31 + ".ip6.arpa"):
        assert dnsmessage.reversed_address(name) == ""
