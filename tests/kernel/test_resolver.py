"""The resolver of user networks, asked from inside real network namespaces."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pyker.errors import KernelError
from pyker.libcontainer import portnat
from pyker.libcontainer.visit import Visitor
from pyker.networkdriver import dnsforward, dnsmessage
from pyker.networkdriver.base import IpamPool, Network
from pyker.networkdriver.dns import ADDRESS, Resolver
from pyker.networkdriver.dnsnames import Upstream, View, Zone
from pyker.networkdriver.networks import Networks
from pyker.types.config import EndpointSettings
from pyker.types.ids import ContainerId, NetworkId
from tests.kernel.networkbench import Bench, bench, request
from tests.support.dns import AAAA, PTR, A, answer_of, query, read
from tests.support.namespaces import ForkingNamespaceMaker, isolated, socket_in
from tests.support.sandbox import wait_until

pytestmark = pytest.mark.requires("root", "veth", "nftables")

ONE, TWO = ContainerId("1" * 64), ContainerId("2" * 64)
SERVER_PORT = 5300


def exchange(path: str, packet: bytes, *, patience_s: float = 10.0, server: tuple[str, int] = (ADDRESS, 53)) -> bytes:
    """Send a datagram from inside a namespace, and what comes back."""
    with socket_in(path, socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(patience_s)
        link.connect(server)  # the kernel refuses an answer from any other address
        link.send(packet)
        return link.recv(65535)


def resolve(path: str, name: str, kind: int = A) -> tuple[int, set[str]]:
    """The code, and the values of the answers."""
    number = random.randrange(1 << 16)
    reply = exchange(path, query(name, kind, number=number))
    assert reply[:2] == number.to_bytes(2)
    code, found, _ = read(reply)
    return code, {value for _, value, _ in found}


def over_tcp(path: str, *packets: bytes) -> list[bytes]:
    """Send all questions at once over one connection, and the answers."""
    with socket_in(path, socket.AF_INET, socket.SOCK_STREAM) as link:
        link.settimeout(10)
        link.connect((ADDRESS, 53))
        link.sendall(b"".join(len(packet).to_bytes(2) + packet for packet in packets))
        link.shutdown(socket.SHUT_WR)
        said = b""
        while data := link.recv(65536):
            said += data
    found = []
    while said:
        length = int.from_bytes(said[:2])
        found.append(said[2 : 2 + length])
        said = said[2 + length :]
    return found


class Room:
    """A resolver with two namespaces, and what the tests let it see."""

    def __init__(self, folder: Path) -> None:
        self.namespaces = ForkingNamespaceMaker()
        self.paths = {each: str(folder / each[:12]) for each in (ONE, TWO)}
        for path in self.paths.values():
            os.close(self.namespaces.new_netns(path))
        member = EndpointSettings(ip_address="10.1.0.2", dns_names=("web", "w"))
        self.views: dict[ContainerId, View] = {ONE: View([Zone.of("front", [member])]), TWO: View([])}
        self.resolver = Resolver(self.views.get, server_port=SERVER_PORT)

    def open(self, container_id: ContainerId = ONE, *, replace: bool = False) -> str:
        """Serve a namespace; returns where it is."""
        self.resolver.open(container_id, self.paths[container_id], replace=replace)()
        return self.paths[container_id]

    def asks(self, *servers: Upstream) -> None:
        """All that is not known goes there."""
        self.views[ONE] = View(self.views[ONE].zones, upstreams=servers)

    def close(self) -> None:
        self.resolver.close()
        for path in self.paths.values():
            self.namespaces.remove_netns(path)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    with isolated():
        made = Room(tmp_path)
        try:
            yield made
        finally:
            made.close()
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert not [each for each in threading.enumerate() if each.name == "pyker-dns"]


@contextlib.contextmanager
def server(
    address: str, talk: Callable[[bytes], list[bytes]], *, path: str = "", port: int = SERVER_PORT
) -> Iterator[list[tuple[bytes, int]]]:
    """A name server in the test's namespace, or in another; yields the messages that it got, with their ports."""
    got: list[tuple[bytes, int]] = []
    link = socket_in(path, socket.AF_INET, socket.SOCK_DGRAM) if path else socket.socket(type=socket.SOCK_DGRAM)
    link.bind((address, port))
    link.settimeout(0.05)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                packet, source = link.recvfrom(65535)
                got.append((packet, source[1]))
                for answer in talk(packet):
                    link.sendto(answer, source)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield got
    finally:
        done.set()
        thread.join()
        link.close()


def test_a_table_of_its_own_leads_to_ports_of_its_own(room: Room) -> None:
    path = room.open()
    listed = subprocess.run(["nsenter", f"--net={path}", "nft", "list", "ruleset"], capture_output=True, check=True)
    rules = [line.strip() for line in listed.stdout.decode().splitlines() if "dnat" in line]
    shown = subprocess.run(
        ["nsenter", f"--net={path}", "ss", "-lnHut"], capture_output=True, check=True
    ).stdout.decode()
    bound = {line.split()[0]: line.split()[4] for line in shown.splitlines()}
    assert rules == [
        f"ip daddr 127.0.0.11 {protocol} dport 53 dnat to {bound[protocol]}" for protocol in ("udp", "tcp")
    ]
    assert all(place.startswith("127.0.0.11:") and not place.endswith(":53") for place in bound.values())


def test_names_are_those_that_the_asking_container_sees(room: Room) -> None:
    one, two = room.open(ONE), room.open(TWO)
    assert resolve(one, "web") == (0, {"10.1.0.2"})
    assert resolve(one, "web.front", AAAA) == (0, set())
    assert resolve(one, "2.0.1.10.in-addr.arpa", PTR) == (0, {"web.front"})
    assert resolve(two, "web") == (dnsmessage.SERVFAIL, set())
    room.views[ONE] = View([])
    assert resolve(one, "web") == (dnsmessage.SERVFAIL, set())


def test_port_53_is_free_for_a_server_of_the_containers_own(room: Room) -> None:
    path = room.open()
    with server("0.0.0.0", lambda packet: [answer_of(packet, "192.0.2.1")], path=path, port=53):
        assert read(exchange(path, query("web"), server=("127.0.0.1", 53)))[1][0][1] == "192.0.2.1"
        assert resolve(path, "web") == (0, {"10.1.0.2"})


def test_without_address_translation_it_takes_port_53(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise KernelError("nat: sendmsg: Operation not supported", syscall="sendmsg", errno=95, stage="nat")

    monkeypatch.setattr(portnat, "redirect", refused)
    with caplog.at_level(logging.WARNING):
        path = room.open()
    assert "takes its port 53, without address translation: nat: sendmsg" in caplog.text
    assert resolve(path, "w") == (0, {"10.1.0.2"})
    assert [read(reply)[1][0][1] for reply in over_tcp(path, query("w"))] == ["10.1.0.2"]


def test_a_table_is_replaced_and_a_refusal_is_an_error(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    with netfilter_in(room.paths[ONE]) as netfilter:
        portnat.redirect(netfilter, ADDRESS, 53, {socket.IPPROTO_UDP: 1000})
        portnat.redirect(netfilter, ADDRESS, 53, {socket.IPPROTO_UDP: 2000}, replace=True)
        # Before connection tracking the kernel translates nothing.
        monkeypatch.setattr(portnat, "_PRIORITY_DNAT", -300)
        with pytest.raises(KernelError, match="not supported") as caught:
            portnat.redirect(netfilter, ADDRESS, 53, {socket.IPPROTO_UDP: 3000}, replace=True)
    assert (caught.value.stage, caught.value.syscall) == ("nat", "sendmsg")
    listed = subprocess.run(
        ["nsenter", f"--net={room.paths[ONE]}", "nft", "list", "ruleset"], capture_output=True, check=True
    )
    assert listed.stdout.count(b"dnat") == 1 and b":2000" in listed.stdout


@contextlib.contextmanager
def netfilter_in(path: str) -> Iterator[socket.socket]:
    """A socket to netfilter in a namespace."""
    visitor = Visitor()
    try:
        with visitor.socket(path, socket.AF_NETLINK, socket.SOCK_RAW, portnat.NETLINK_NETFILTER) as netfilter:
            yield netfilter
    finally:
        visitor.close()


def test_a_visitor_comes_home(room: Room) -> None:
    own = os.readlink("/proc/thread-self/ns/net")
    visitor = Visitor()
    with visitor.inside(room.paths[ONE]):
        assert os.stat("/proc/thread-self/ns/net").st_ino == os.stat(room.paths[ONE]).st_ino
    assert os.readlink("/proc/thread-self/ns/net") == own
    with pytest.raises(KernelError), visitor.inside("/nowhere"):
        pytest.fail("nobody can be there")
    with pytest.raises(KernelError), visitor.inside("/dev/null"):
        pytest.fail("nobody can be there")
    assert os.readlink("/proc/thread-self/ns/net") == own
    visitor.close()


def test_over_tcp_one_question_after_the_other(room: Room) -> None:
    path = room.open()
    packets = [query("web", number=number) for number in range(1, 301)]
    replies = over_tcp(path, *packets)
    assert [reply[:2] for reply in replies] == [packet[:2] for packet in packets]
    assert {read(reply)[1][0][1] for reply in replies} == {"10.1.0.2"}


def test_what_does_not_fit_comes_over_tcp(room: Room) -> None:
    many = [EndpointSettings(ip_address=f"10.3.0.{at}", dns_names=("all",)) for at in range(1, 101)]
    room.views[ONE] = View([Zone.of("front", many)])
    path = room.open()
    short = exchange(path, query("all"))
    assert len(short) <= 512 and read(short)[2]
    (whole,) = over_tcp(path, query("all"))
    assert len(read(whole)[1]) == 100 and not read(whole)[2]


def test_others_are_asked_from_the_containers_namespace_or_the_hosts(room: Room) -> None:
    path = room.open()
    with (
        server("127.0.0.1", lambda packet: [answer_of(packet, "192.0.2.1")]),
        server("127.0.0.1", lambda packet: [answer_of(packet, "192.0.2.2")], path=path),
    ):
        room.asks(Upstream("127.0.0.1", on_host=True))
        assert resolve(path, "else.test") == (0, {"192.0.2.1"})
        room.asks(Upstream("127.0.0.1"))
        assert resolve(path, "else.test") == (0, {"192.0.2.2"})


def test_every_question_has_a_number_and_a_port_of_its_own(room: Room) -> None:
    """So that whoever forges an answer has to guess both."""
    path = room.open()
    room.asks(Upstream("127.0.0.1", on_host=True))
    with server("127.0.0.1", lambda packet: [answer_of(packet, "192.0.2.1")]) as got:
        for _ in range(20):
            assert read(exchange(path, query("else.test", number=77)))[0] == 0
    assert len({packet[:2] for packet, _ in got}) > 15 and len({port for _, port in got}) > 15


def test_answers_to_other_questions_are_not_passed_on(room: Room) -> None:
    path = room.open()
    room.asks(Upstream("127.0.0.1", on_host=True))

    def talk(packet: bytes) -> list[bytes]:
        real = answer_of(packet, "192.0.2.1")
        wrong = (int.from_bytes(packet[:2]) ^ 1).to_bytes(2)
        other = answer_of(packet[:2] + query("evil.test")[2:], "203.0.113.9")
        return [b"", b"x", packet, wrong + answer_of(packet, "203.0.113.9")[2:], other, real]

    with server("127.0.0.1", talk):
        assert resolve(path, "else.test") == (0, {"192.0.2.1"})


def test_the_next_server_is_asked_when_one_is_not_there_or_will_not(room: Room) -> None:
    path = room.open()
    with (
        server("127.0.0.2", lambda packet: [answer_of(packet, code=dnsmessage.REFUSED)]),
        server("127.0.0.3", lambda packet: [answer_of(packet, "192.0.2.3")]) as third,
    ):
        room.asks(*(Upstream(f"127.0.0.{at}", on_host=True) for at in (1, 2, 3)))
        begun_s = time.monotonic()
        assert resolve(path, "else.test") == (0, {"192.0.2.3"})
        assert time.monotonic() - begun_s < dnsforward.SERVER_TIMEOUT_S
        assert len(third) == 1
        room.asks(*(Upstream(f"127.0.0.{at}", on_host=True) for at in (2, 1)))
        assert resolve(path, "else.test") == (dnsmessage.REFUSED, set())
    room.asks()
    assert resolve(path, "else.test") == (dnsmessage.SERVFAIL, set())


def test_a_server_that_says_nothing_is_given_up(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.resolver._forwarder, "_timeout_s", 0.2)
    path = room.open()
    with (
        server("127.0.0.1", lambda packet: []) as silent,
        server("127.0.0.2", lambda packet: [answer_of(packet, "192.0.2.2")]),
    ):
        room.asks(Upstream("127.0.0.1", on_host=True), Upstream("127.0.0.2", on_host=True))
        assert resolve(path, "else.test") == (0, {"192.0.2.2"})
        room.asks(Upstream("127.0.0.1", on_host=True))
        assert resolve(path, "else.test") == (dnsmessage.SERVFAIL, set())
    assert len(silent) == 2


def test_tcp_is_asked_over_tcp(room: Room) -> None:
    path = room.open()
    room.asks(Upstream("127.0.0.1", on_host=True))
    long = [f"10.9.{at // 250}.{at % 250 + 1}" for at in range(1000)]
    with socket.create_server(("127.0.0.1", SERVER_PORT)) as listener:

        def work() -> None:
            for _ in range(2):
                link, _ = listener.accept()
                with link:
                    packet = link.recv(65535)[2:]
                    reply = answer_of(packet, *long)
                    for at in range(0, len(reply) + 2, 4000):
                        link.sendall((len(reply).to_bytes(2) + reply)[at : at + 4000])

        thread = threading.Thread(target=work)
        thread.start()
        replies = over_tcp(path, query("else.test"), query("web"), query("else.test", number=9))
        thread.join()
    assert [len(read(reply)[1]) for reply in replies] == [1000, 1, 1000]
    assert replies[2][:2] == b"\0\x09"
    assert read(over_tcp(path, query("else.test"))[0])[0] == dnsmessage.SERVFAIL


def test_an_answer_too_long_for_the_client_is_cut(room: Room) -> None:
    path = room.open()
    room.asks(Upstream("127.0.0.1", on_host=True))
    long = [f"10.9.0.{at}" for at in range(1, 101)]
    with server("127.0.0.1", lambda packet: [answer_of(packet, *long)]):
        assert read(exchange(path, query("else.test"))) == (0, [], True)
        assert len(read(exchange(path, query("else.test", udp_bytes=4096)))[1]) == 100


def test_hostile_packets_end_nothing(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    path = room.open()
    chance = random.Random(4)
    with socket_in(path, socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect((ADDRESS, 53))
        for _ in range(2000):
            packet = bytearray(chance.randbytes(chance.choice((0, 1, 11, 12, 13, 40, 512, 5000))))
            if chance.random() < 0.7:
                packet[: len(query("web"))] = query("web")
                for _ in range(chance.randrange(4)):
                    packet[chance.randrange(len(packet))] = chance.randrange(256)
            with contextlib.suppress(OSError):
                link.send(packet)
    for junk in (b"", b"\0", b"\0\0", b"\0\x01x", b"\xff\xff" + b"y" * 65535, b"\0\x0c" + b"\xff" * 12):
        with socket_in(path, socket.AF_INET, socket.SOCK_STREAM) as link, contextlib.suppress(ConnectionError):
            link.settimeout(10)
            link.connect((ADDRESS, 53))
            link.sendall(junk)
            link.shutdown(socket.SHUT_WR)
            while link.recv(65536):
                pass
    assert resolve(path, "web") == (0, {"10.1.0.2"})
    assert not [each for each in caplog.records if each.exc_info]


def test_no_more_connections_than_so_many(room: Room) -> None:
    path = room.open()
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(socket_in(path, socket.AF_INET, socket.SOCK_STREAM)) for _ in range(40)]
        for link in links:
            link.settimeout(10)
            link.connect((ADDRESS, 53))
        # The idle ones that were there first had to go.
        assert [link.recv(1) for link in links[:24]] == [b""] * 24
        links[-1].sendall(len(query("web")).to_bytes(2) + query("web"))
        assert read(links[-1].recv(4096)[2:])[0] == 0


def test_no_more_questions_under_way_than_so_many(room: Room) -> None:
    """One container that asks what nobody answers does not take the places of all others."""
    one, two = room.open(ONE), room.open(TWO)
    silent = Upstream("127.0.0.1", on_host=True)
    room.asks(silent)
    room.views[TWO] = View([], upstreams=(silent,))
    with server("127.0.0.1", lambda packet: [answer_of(packet, "192.0.2.1")] if b"known" in packet else []):
        with socket_in(one, socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.settimeout(10)
            link.connect((ADDRESS, 53))
            for number in range(dnsforward.MAX_PENDING_EACH + 10):
                link.send(query("else.test", number=number))
            for _ in range(10):
                assert read(link.recv(512))[0] == dnsmessage.SERVFAIL
            assert resolve(two, "known.test") == (0, {"192.0.2.1"})


def test_a_sandbox_that_is_forgotten_leaves_no_descriptor(room: Room) -> None:
    room.open(TWO)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        path = room.open(ONE, replace=True)
        room.asks(Upstream("127.0.0.1", on_host=True))
        with (
            server("127.0.0.1", lambda packet: []) as got,
            socket_in(path, socket.AF_INET, socket.SOCK_STREAM) as stream,
            socket_in(path, socket.AF_INET, socket.SOCK_DGRAM) as link,
        ):
            stream.connect((ADDRESS, 53))
            stream.sendall(b"\0")
            link.connect((ADDRESS, 53))
            link.send(query("else.test"))
            wait_until(lambda got=got: bool(got), what="the question at the server")  # type: ignore[misc]
            room.resolver.forget(ONE)
            with contextlib.suppress(ConnectionResetError):  # what it had sent may not have been read
                assert stream.recv(1) == b""
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, what="the same descriptors as before")


@pytest.fixture
def networks(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


def _network(on: Networks, name: str, subnet: str, *, internal: bool = False) -> Network:
    wanted = Network(
        id=NetworkId(""), name=name, driver="bridge", created="", pools=(IpamPool(subnet=subnet),), internal=internal
    )
    return on.create(wanted)


@pytest.mark.slow
def test_containers_come_and_go_and_change_their_names(networks: Bench) -> None:
    with networks.running() as on:
        front, back = _network(on, "front", "10.85.0.0/24"), _network(on, "back", "10.86.0.0/24")
        client = on.allocate(request("front", name="client"))
        web = request("front", name="web", endpoints={"front": EndpointSettings(aliases=("www",))})
        web = replace(web, container_id=ContainerId("abc" * 21 + "d"))
        on.allocate(web)
        path = client.netns_path
        for name in ("web", "www", web.container_id[:12], "web.front", "WWW.front"):
            assert resolve(path, name) == (0, {"10.85.0.3"}), name
        on.rename(web.container_id, "web", "shop")
        assert resolve(path, "shop") == (0, {"10.85.0.3"})
        assert resolve(path, "web")[0] == dnsmessage.SERVFAIL
        on.disconnect(web.container_id, front)
        assert resolve(path, "www")[0] == dnsmessage.SERVFAIL
        on.connect(web, back, EndpointSettings(aliases=("behind",)))
        assert resolve(path, "behind")[0] == dnsmessage.SERVFAIL
        again = on.connect(web, front, EndpointSettings())
        # By the name of the request: a daemon's would have the new one.
        assert resolve(path, "web") == (0, {again.endpoints["front"].ip_address})
        on.release(web.container_id)
        assert resolve(path, "web")[0] == dnsmessage.SERVFAIL
        for each in on.endpoints(front.id):
            on.release(each)


def test_a_clients_socket_outlives_the_resolver(room: Room) -> None:
    """The kernel remembers where its packets went, and would send them there for as long as they come."""
    path = room.open()
    with socket_in(path, socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(10)
        link.connect((ADDRESS, 53))
        for number in (1, 2, 3):
            link.send(query("web", number=number))
            assert read(link.recv(512))[1][0][1] == "10.1.0.2"
            room.open(replace=True)


def test_what_is_no_question_is_refused_by_code(room: Room) -> None:
    path = room.open()
    update = bytearray(query("web"))
    update[2] = 5 << 3
    assert read(exchange(path, bytes(update)))[0] == dnsmessage.NOTIMP
    none = query("web")[:4] + bytes(8)
    for replies in ([exchange(path, none)], over_tcp(path, none)):
        assert [read(reply)[:2] for reply in replies] == [(dnsmessage.FORMERR, [])]


def test_without_descriptors_for_a_connection_it_rests_and_goes_on(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    path = room.open()
    accept, refused = socket.socket.accept, []

    def exhausted(listener: socket.socket) -> tuple[socket.socket, object]:
        if not refused:
            refused.append(listener)
            raise OSError(errno.EMFILE, "too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", exhausted)
    assert [len(read(reply)[1]) for reply in over_tcp(path, query("web"))] == [1]
    assert len(refused) == 1


@pytest.mark.slow
def test_the_default_bridge_has_no_names_until_one_joins_another_network(networks: Bench) -> None:
    with networks.running() as on:
        front = _network(on, "front", "10.85.0.0/24")
        asked = request(name="first")
        sandbox = on.allocate(asked)
        other = on.allocate(request(name="second"))
        with pytest.raises(OSError):
            exchange(sandbox.netns_path, query("second"))
        on.connect(asked, front, EndpointSettings())
        assert resolve(sandbox.netns_path, "first") == (0, {"10.85.0.2"})
        assert resolve(sandbox.netns_path, "second")[0] == dnsmessage.SERVFAIL
        for each in (sandbox, other):
            on.release(each.id)


def test_another_daemon_answers_again(networks: Bench) -> None:
    asked = request("front", name="client")
    with networks.running() as on:
        _network(on, "front", "10.85.0.0/24")
        sandbox = on.allocate(asked)
        assert resolve(sandbox.netns_path, "client") == (0, {"10.85.0.2"})
    with pytest.raises(OSError):
        exchange(sandbox.netns_path, query("client"))
    with networks.running(live={asked.container_id: sandbox}) as on:
        assert resolve(sandbox.netns_path, "client") == (0, {"10.85.0.2"})
        assert [len(read(reply)[1]) for reply in over_tcp(sandbox.netns_path, query("client"))] == [1]
        on.release(asked.container_id)


def test_from_internal_networks_only_nothing_leaves_by_way_of_the_host(
    networks: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2024-29018."""
    with networks.running() as on, server("127.0.0.1", lambda packet: [answer_of(packet, "192.0.2.1")], port=53) as got:
        monkeypatch.setattr(on, "_host_servers", lambda: ("127.0.0.1",))
        _network(on, "inner", "10.85.0.0/24", internal=True)
        _network(on, "outer", "10.86.0.0/24")
        inner = on.allocate(request("inner", name="in"))
        outer = on.allocate(request("outer", name="out"))
        assert resolve(inner.netns_path, "secret.test") == (dnsmessage.SERVFAIL, set())
        assert not got
        assert resolve(outer.netns_path, "else.test") == (0, {"192.0.2.1"})
        for each in (inner, outer):
            on.release(each.id)


def test_a_name_that_cannot_be_served_is_no_start(networks: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with networks.running() as on:
        _network(on, "front", "10.85.0.0/24")
        on.settle()
        pins = networks.pins()

        def refused(self: Visitor, path: str) -> contextlib.AbstractContextManager[None]:
            raise KernelError("network: setns: no", syscall="setns", errno=1, stage="network")

        with monkeypatch.context() as patch, pytest.raises(KernelError, match="setns"):
            patch.setattr(Visitor, "inside", refused)
            on.allocate(request("front", name="web"))
        on.settle()
        assert len(networks.pins()) == len(pins)
        on.release(on.allocate(request("front", name="web")).id)
