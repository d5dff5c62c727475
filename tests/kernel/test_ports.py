"""Published ports: from the loopback, from outside, from containers; over IPv4, IPv6, TCP and UDP; taken and free."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyker.errors import SystemFailure
from pyker.networkdriver.base import BridgeOptions, IpamPool, Network
from pyker.types.config import PortBinding
from pyker.types.ids import NetworkId
from tests.kernel.networkbench import Bench, bench, link_names, publish, request
from tests.support.namespaces import ask, nft_json, serve, socket_in, stop

pytestmark = pytest.mark.requires("root", "veth", "iproute2", "nftables", "nft")


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


@pytest.fixture
def outside(daemons: Bench, tmp_path: Path) -> Iterator[str]:
    """Another machine: a namespace on a link of its own; the host is 198.51.100.1 and fd00:51::1 for it."""
    path = str(tmp_path / "outside")
    os.close(daemons.launcher.new_netns(path))
    with open(path) as namespace:
        where = f"/proc/{os.getpid()}/fd/{namespace.fileno()}"
        for command in (
            "ip link add name wan type veth peer name eth9",
            f"ip link set eth9 netns {where}",
            "ip addr add 198.51.100.1/24 dev wan",
            "ip addr add fd00:51::1/64 dev wan nodad",
            "ip link set wan up",
            f"nsenter --net={path} ip addr add 198.51.100.9/24 dev eth9",
            f"nsenter --net={path} ip addr add fd00:51::9/64 dev eth9 nodad",
            f"nsenter --net={path} ip link set eth9 up",
        ):
            subprocess.run(command.split(), check=True)
    yield path
    daemons.launcher.remove_netns(path)


def forwarded() -> list[Any]:
    """The elements of both maps."""
    return [
        element
        for item in nft_json()
        if item.get("map", {}).get("name", "").startswith("published")
        for element in item["map"].get("elem", [])
    ]


@pytest.mark.parametrize("bridged", ["0", "1"])
def test_a_port_is_reached_from_everywhere(daemons: Bench, outside: str, bridged: str) -> None:
    """Whether frames within the bridge pass the firewall (br_netfilter) or not."""
    switch = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    if os.path.exists(switch):
        with open(switch, "w") as stream:
            stream.write(bridged)
    with daemons.running() as networks:
        asked = request(ports={"80/tcp": publish("8080")}, exposed=("80/tcp", "81/tcp"))
        web, other = networks.allocate(asked), networks.allocate(request())
        assert web.ports == {
            "80/tcp": (PortBinding(host_ip="0.0.0.0", host_port="8080"), PortBinding(host_ip="::", host_port="8080")),
            "81/tcp": None,
        }
        server = serve(web.netns_path, b"hello", 80)
        assert ask("127.0.0.1", 8080) == b"hello"
        assert ask("127.0.0.9", 8080) == b"hello"
        assert ask("::1", 8080) == b"hello"
        assert ask("172.17.0.1", 8080) == b"hello"
        assert ask("198.51.100.1", 8080, netns_path=outside) == b"hello"
        assert ask("fd00:51::1", 8080, netns_path=outside) == b"hello"
        assert ask("172.17.0.1", 8080, netns_path=other.netns_path) == b"hello", "from another container"
        assert ask("172.17.0.1", 8080, netns_path=web.netns_path) == b"hello", "from itself"
        networks.release(asked.container_id)
        with pytest.raises(ConnectionRefusedError):
            ask("::1", 8080)
        with pytest.raises(ConnectionRefusedError):
            ask("127.0.0.1", 8080)
        assert forwarded() == []
        stop(server)


def test_from_outside_the_container_sees_who_asks(daemons: Bench, outside: str) -> None:
    with daemons.running() as networks:
        sandbox = networks.allocate(request(ports={"80/tcp": publish("8080")}))
        listener = socket_in(sandbox.netns_path, socket.AF_INET, socket.SOCK_STREAM)
        client = socket_in(outside, socket.AF_INET, socket.SOCK_STREAM)
        with listener, client:
            listener.bind(("0.0.0.0", 80))
            listener.listen()
            listener.settimeout(5)
            client.settimeout(5)
            client.connect(("198.51.100.1", 8080))
            connection, peer = listener.accept()
            connection.close()
            assert peer[0] == "198.51.100.9"


def test_a_port_on_loopback_is_not_reached_from_outside(daemons: Bench, outside: str) -> None:
    with daemons.running() as networks:
        sandbox = networks.allocate(request(ports={"80/tcp": publish("8080", "127.0.0.1")}))
        assert sandbox.ports == {"80/tcp": (PortBinding(host_ip="127.0.0.1", host_port="8080"),)}
        server = serve(sandbox.netns_path, b"hello", 80)
        assert ask("127.0.0.1", 8080) == b"hello"
        with pytest.raises(OSError):
            ask("198.51.100.1", 8080, netns_path=outside)
        with pytest.raises(OSError):
            ask("::1", 8080)
        stop(server)


def test_containers_do_not_reach_the_hosts_loopback(daemons: Bench) -> None:
    with daemons.running() as networks:
        sandbox = networks.allocate(request())
        # All that the root of a container could do to get a packet for 127.0.0.7 onto its wire.
        attack = (
            "ip addr del 127.0.0.1/8 dev lo && echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet && "
            "ip route add 127.0.0.7/32 via 172.17.0.1"
        )
        subprocess.run(["nsenter", f"--net={sandbox.netns_path}", "sh", "-c", attack], check=True)
        with socket.socket() as secret:
            secret.bind(("127.0.0.7", 0))
            secret.listen()
            secret.settimeout(1)

            def reached() -> bool:
                with socket_in(sandbox.netns_path, socket.AF_INET, socket.SOCK_STREAM) as attacker:
                    attacker.setblocking(False)
                    attacker.connect_ex(secret.getsockname())
                    try:
                        secret.accept()[0].close()
                    except TimeoutError:
                        return False
                    return True

            assert not reached()
            networks._firewall.close()
            subprocess.run(["nft", "delete", "table", "inet", "pyker"], check=True)
            assert reached(), "without the rule it arrives, or this test would show nothing"


def test_udp_both_ways(daemons: Bench, outside: str) -> None:
    with daemons.running() as networks:
        sandbox = networks.allocate(request(ports={"5353/udp": publish("5300")}))
        server = socket_in(sandbox.netns_path, socket.AF_INET, socket.SOCK_DGRAM)
        with server:
            server.bind(("0.0.0.0", 5353))
            server.settimeout(5)
            for address, where in (("198.51.100.1", outside), ("127.0.0.1", ""), ("::1", ""), ("fd00:51::1", outside)):
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                client = (
                    socket_in(where, family, socket.SOCK_DGRAM) if where else socket.socket(family, socket.SOCK_DGRAM)
                )
                with client:
                    client.settimeout(5)
                    for word in (b"one", b"two"):
                        client.sendto(word, (address, 5300))
                        said, peer = server.recvfrom(100)
                        assert said == word
                        server.sendto(b"re: " + said, peer)
                        assert client.recv(100) == b"re: " + word


def test_sctp_is_published_too(daemons: Bench) -> None:
    with daemons.running() as networks:
        asked = request(ports={"80/sctp": publish("8080", "0.0.0.0"), "80/tcp": publish("8080", "0.0.0.0")})
        networks.allocate(asked)
        assert [{"concat": ["sctp", 8080]}, {"concat": ["172.17.0.2", 80]}] in forwarded()
        with pytest.raises(SystemFailure, match="port is already allocated"):
            networks.allocate(request(ports={"80/sctp": publish("8080")}))
        networks.release(asked.container_id)
        assert forwarded() == []


def test_a_udp_sender_that_never_stops_reaches_the_next_container(daemons: Bench, outside: str) -> None:
    with daemons.running() as networks, socket_in(outside, socket.AF_INET, socket.SOCK_DGRAM) as sender:
        before = request(ports={"5353/udp": publish("5300")})
        old = networks.allocate(before)
        sender.bind(("198.51.100.9", 40000))
        sender.settimeout(5)
        for sandbox in (old, None):
            if sandbox is None:
                networks.release(before.container_id)
                sandbox = networks.allocate(request(ports={"5353/udp": publish("5300")}))
                assert sandbox.endpoints["bridge"].ip_address != old.endpoints["bridge"].ip_address
            with socket_in(sandbox.netns_path, socket.AF_INET, socket.SOCK_DGRAM) as server:
                server.bind(("0.0.0.0", 5353))
                server.settimeout(5)
                sender.sendto(b"ping", ("198.51.100.1", 5300))
                said, peer = server.recvfrom(100)
                assert (said, peer) == (b"ping", ("198.51.100.9", 40000))
                server.sendto(b"pong", peer)
                assert sender.recv(100) == b"pong"


def test_a_port_of_ours_is_refused_in_the_references_words(daemons: Bench) -> None:
    with daemons.running() as networks:
        networks.allocate(request(ports={"80/tcp": publish("7777")}))
        networks.settle()
        links, before = link_names(), forwarded()
        for binding in (publish("7777"), publish("7777", "127.0.0.1"), publish("7777", "::1")):
            where = {"": "0.0.0.0:7777", "127.0.0.1": "127.0.0.1:7777", "::1": "[::1]:7777"}[binding[0].host_ip]
            with pytest.raises(SystemFailure) as raised:
                networks.allocate(request(ports={"81/tcp": publish("7999"), "80/tcp": binding}, name="p2"))
            assert re.fullmatch(
                r"driver failed programming external connectivity on endpoint p2 \([0-9a-f]{64}\): "
                rf"Bind for {re.escape(where)} failed: port is already allocated",
                raised.value.message,
            )
        assert forwarded() == before
        with socket.socket() as free:
            free.bind(("0.0.0.0", 7999))
        networks.settle()
        assert len(link_names()) == len(links)
        # The same number for another protocol is another port.
        networks.allocate(request(ports={"80/udp": publish("7777")}))


def test_a_port_of_another_program_is_refused_in_the_references_words(daemons: Bench) -> None:
    with daemons.running() as networks, socket.socket() as foreign:
        foreign.bind(("0.0.0.0", 8089))
        foreign.listen()
        with pytest.raises(SystemFailure) as raised:
            networks.allocate(request(ports={"80/tcp": publish("8089")}, name="web"))
        assert raised.value.message.endswith(
            "Error starting userland proxy: listen tcp4 0.0.0.0:8089: bind: address already in use"
        )
        with pytest.raises(SystemFailure, match=r"listen tcp4 198\.51\.100\.77:80: bind: cannot assign"):
            networks.allocate(request(ports={"80/tcp": publish("80", "198.51.100.77")}))
        assert forwarded() == []


def test_no_other_program_gets_a_published_port(daemons: Bench) -> None:
    with daemons.running() as networks:
        asked = request(ports={"80/tcp": publish("8080"), "80/udp": publish("8080")})
        networks.allocate(asked)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            for family, address in (
                (socket.AF_INET, "0.0.0.0"),
                (socket.AF_INET, "127.0.0.1"),
                (socket.AF_INET6, "::"),
            ):
                with socket.socket(family, kind) as other:
                    if family == socket.AF_INET6:
                        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1 if kind == socket.SOCK_STREAM else 0)
                    with pytest.raises(OSError, match="Address already in use"):
                        other.bind((address, 8080))
        networks.release(asked.container_id)
        with socket.socket() as other:
            other.bind(("0.0.0.0", 8080))


def test_a_free_port_is_the_kernels_first_ephemeral_one_and_the_same_for_both_families(daemons: Bench) -> None:
    with daemons.running() as networks, socket.socket() as foreign:
        foreign.bind(("0.0.0.0", 32769))
        foreign.listen()
        found = [networks.allocate(request(ports={"80/tcp": publish(text)})).ports["80/tcp"] for text in ("", "0", "")]
        assert [[binding.host_port for binding in bindings or ()] for bindings in found] == [
            ["32768", "32768"],
            ["32770", "32770"],
            ["32771", "32771"],
        ]


def test_a_port_that_was_just_given_back_is_not_the_next_one(daemons: Bench) -> None:
    with daemons.running() as networks:
        ports = []
        for _ in range(2):
            asked = request(ports={"80/tcp": publish()})
            ports.append((networks.allocate(asked).ports["80/tcp"] or ())[0].host_port)
            networks.release(asked.container_id)
        assert ports == ["32768", "32769"]


def test_a_range_gives_the_first_free_one(daemons: Bench) -> None:
    with daemons.running() as networks, socket.socket() as foreign:
        foreign.bind(("0.0.0.0", 8001))
        foreign.listen()
        ports = []
        for _ in range(2):
            sandbox = networks.allocate(request(ports={"80/tcp": publish("8000-8002")}))
            ports.append((sandbox.ports["80/tcp"] or ())[0].host_port)
        assert ports == ["8000", "8002"]
        with pytest.raises(SystemFailure, match="all ports are allocated"):
            networks.allocate(request(ports={"80/tcp": publish("8000-8002")}))


def test_several_bindings_of_one_port(daemons: Bench) -> None:
    with daemons.running() as networks:
        sandbox = networks.allocate(
            request(ports={"80/tcp": (*publish(""), *publish("32768", "127.0.0.1"), *publish("9000", "127.0.0.1"))})
        )
        ports = [(binding.host_ip, binding.host_port) for binding in sandbox.ports["80/tcp"] or ()]
        assert set(ports[:2]) == {("127.0.0.1", "32768"), ("127.0.0.1", "9000")}
        assert ports[2] == ("0.0.0.0", "32769")
        server = serve(sandbox.netns_path, b"hello", 80)
        for port in ("32768", "9000", "32769"):
            assert ask("127.0.0.1", int(port)) == b"hello"
        stop(server)


def test_fifty_free_ports_at_once_are_different(daemons: Bench) -> None:
    with daemons.running() as networks:
        found: list[str] = []
        barrier = threading.Barrier(50)

        def take() -> None:
            asked = request(ports={"80/tcp": publish()})
            barrier.wait()
            found.append((networks.allocate(asked).ports["80/tcp"] or ())[0].host_port)

        threads = [threading.Thread(target=take) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 50
        assert len(forwarded()) == 50


def test_ports_work_while_the_daemon_is_dead_and_the_next_one_takes_them_over(daemons: Bench, outside: str) -> None:
    asked = request(ports={"80/tcp": publish("8080"), "81/tcp": publish("8081")})
    with daemons.running(BridgeOptions(pool_size=0)) as networks:
        sandbox = networks.allocate(asked)
        gone = networks.allocate(request(ports={"80/tcp": publish("8088")}))
        assert gone.ports
    server = serve(sandbox.netns_path, b"hello", 80)
    assert ask("198.51.100.1", 8080, netns_path=outside) == b"hello"
    assert ask("127.0.0.1", 8080) == b"hello"
    with socket.socket() as thief:  # while nobody held the second one, another program took it
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("0.0.0.0", 8081))
        thief.listen()
        with daemons.running(BridgeOptions(pool_size=0), live={asked.container_id: sandbox}) as networks:
            assert ask("127.0.0.1", 8080) == b"hello"
            assert ask("::1", 8080) == b"hello", "the IPv6 forwarder was not taken over"
            with pytest.raises(SystemFailure, match="port is already allocated"):
                networks.allocate(request(ports={"80/tcp": publish("8080")}))
            networks.allocate(request(ports={"80/tcp": publish("8088")}))
            networks.release(asked.container_id)
            networks.allocate(request(ports={"80/tcp": publish("8080")}))
            assert len(forwarded()) == 2
    stop(server)


def test_without_nat_the_proxy_carries_everything(daemons: Bench) -> None:
    with daemons.running(BridgeOptions(pool_size=1, iptables=False)) as networks:
        sandbox = networks.allocate(request(ports={"80/tcp": publish("8080")}))
        server = serve(sandbox.netns_path, b"x" * 3_000_000, 80)
        assert ask("127.0.0.1", 8080) == b"x" * 3_000_000
        assert ask("172.17.0.1", 8080) == b"x" * 3_000_000
        assert [item for item in nft_json() if "metainfo" not in item] == []
        stop(server)


def test_without_the_proxy_the_port_is_held_and_nat_carries_ipv4(daemons: Bench) -> None:
    with daemons.running(BridgeOptions(pool_size=1, userland_proxy=False)) as networks:
        sandbox = networks.allocate(request(ports={"80/tcp": publish("8080")}))
        server = serve(sandbox.netns_path, b"hello", 80)
        assert ask("127.0.0.1", 8080) == b"hello"
        with pytest.raises(ConnectionRefusedError):
            ask("::1", 8080)
        with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
            other.bind(("0.0.0.0", 8080))
        stop(server)


def test_another_default_address(daemons: Bench) -> None:
    with daemons.running(BridgeOptions(pool_size=1, ip="127.0.0.1")) as networks:
        sandbox = networks.allocate(request(ports={"80/tcp": publish("8080")}))
        assert sandbox.ports == {"80/tcp": (PortBinding(host_ip="127.0.0.1", host_port="8080"),)}


def test_a_flushed_ruleset_is_mended_and_ports_work_again(daemons: Bench, outside: str) -> None:
    with daemons.running() as networks:
        sandbox = networks.allocate(request(ports={"80/tcp": publish("8080")}))
        server = serve(sandbox.netns_path, b"hello", 80)
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        assert networks._firewall.healed.acquire(timeout=10)
        assert ask("198.51.100.1", 8080, netns_path=outside) == b"hello"
        stop(server)


def test_a_published_port_crosses_from_one_network_to_another(daemons: Bench) -> None:
    with daemons.running() as networks:
        networks.create(
            Network(id=NetworkId(""), name="n1", driver="bridge", created="", pools=(IpamPool(subnet="10.99.0.0/24"),))
        )
        web, asker = networks.allocate(request("n1", ports={"80/tcp": publish("8080")})), networks.allocate(request())
        server = serve(web.netns_path, b"hello", 80)
        assert ask("172.17.0.1", 8080, netns_path=asker.netns_path) == b"hello"
        with pytest.raises(OSError):
            ask(web.endpoints["n1"].ip_address, 80, netns_path=asker.netns_path)
        stop(server)


def test_many_rounds_leave_no_trace(daemons: Bench) -> None:
    with daemons.running(BridgeOptions(pool_size=2)) as networks:
        first = request(ports={"80/tcp": publish(), "81/udp": publish()})
        networks.allocate(first)
        networks.release(first.container_id)
        networks.settle()
        descriptors, links, pins = len(os.listdir("/proc/self/fd")), len(link_names()), len(daemons.pins())

        done: list[int] = []

        def rounds(number: int) -> None:
            for turn in range(20):
                asked = request(
                    "none" if turn % 5 == 4 else "bridge",
                    ports={"80/tcp": publish(str(9000 + number)), "81/udp": publish()},
                )
                networks.allocate(asked)
                if asked.mode == "bridge":
                    with pytest.raises(SystemFailure):
                        networks.allocate(request(ports={"81/udp": publish(), **asked.ports}))
                done.append(turn)
                networks.release(asked.container_id)

        threads = [threading.Thread(target=rounds, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == 80
        networks.settle()
        assert forwarded() == []
        assert (len(link_names()), len(daemons.pins())) == (links, pins)
        assert len(os.listdir("/proc/self/fd")) <= descriptors
        with sqlite3.connect(f"file:{daemons.root}/network/networks.db?mode=ro", uri=True) as database:
            assert database.execute("SELECT count(*) FROM addresses").fetchone() == (0,)
        database.close()
        assert networks.allocate(request()).endpoints["bridge"].ip_address == "172.17.0.2"
