"""What a network does to packets, addresses and interfaces, seen from the host and from containers."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from subprocess import PIPE
from typing import Any

import pytest

from tests.support.asking import get, message, post
from tests.support.compare import Alike
from tests.support.engines import Engine
from tests.support.traffic import addresses, fetch, inside, ipv4, links, routes, serve


def _pool(engine: Engine, network: str) -> dict[str, str]:
    (pool,) = get(engine, f"/networks/{network}")["IPAM"]["Config"]
    assert isinstance(pool, dict)
    return pool


def _number(address: str) -> int:
    return int(struct.unpack(">I", socket.inet_aton(address.partition("/")[0]))[0])


def _port(engine: Engine, container: str, port: str = "80/tcp") -> str:
    settings: Any = engine.inspect(container)["NetworkSettings"]
    return str(settings["Ports"][port][0]["HostPort"])


@pytest.mark.claim("rule-network-pools", "POST /networks/create")
def test_pools_follow_each_other(engine: Engine, network: str) -> None:
    engine.docker("network", "create", network, check=True)
    first = _pool(engine, network)
    # Which are free depends on what else the engine was asked for.
    pools = [f"172.{number}.0.0/16" for number in range(17, 32)]
    pools += [f"192.168.{number}.0/20" for number in range(0, 256, 16)]
    assert first["Subnet"] in pools[:-1]
    assert _number(first["Gateway"]) == _number(first["Subnet"]) + 1
    engine.docker("network", "create", f"{network}-b", check=True)
    try:
        second = _pool(engine, f"{network}-b")
        assert second["Subnet"] == pools[pools.index(first["Subnet"]) + 1]
    finally:
        engine.docker("network", "rm", f"{network}-b", check=True)


@pytest.mark.claim("rule-network-pools")
def test_addresses_follow_each_other(engine: Engine, busybox: str, network: str, names: Callable[[], str]) -> None:
    engine.docker("network", "create", "--subnet", "10.92.0.0/24", network, check=True)
    found = []
    for _ in range(2):
        container = names()
        engine.docker("run", "-d", "--name", container, "--network", network, busybox, "sleep", "600", check=True)
        found.append(ipv4(engine, container))
        mac = links(engine, container)["eth0"]["address"]
        assert mac == "02:42:" + ":".join(f"{int(part):02x}" for part in found[-1].partition("/")[0].split("."))
    assert found == ["10.92.0.2/24", "10.92.0.3/24"]


@pytest.mark.claim("rule-network-pools", "POST /networks/create")
def test_range_gateway_and_reserved_address(engine: Engine, busybox: str, network: str, name: str) -> None:
    body = {
        "Name": network,
        "IPAM": {
            "Config": [
                {
                    "Subnet": "10.93.0.0/24",
                    "IPRange": "10.93.0.128/25",
                    "Gateway": "10.93.0.5",
                    "AuxiliaryAddresses": {"router": "10.93.0.128"},
                }
            ]
        },
    }
    post(engine, "/networks/create", body, status=201)
    assert _pool(engine, network) == body["IPAM"]["Config"][0]  # type: ignore[index]
    engine.docker("run", "-d", "--name", name, "--network", network, busybox, "sleep", "600", check=True)
    assert ipv4(engine, name) == "10.93.0.129/24"
    assert [row["gateway"] for row in routes(engine, name) if row["dst"] == "default"] == ["10.93.0.5"]


@pytest.mark.claim("rule-network-pools", "POST /containers/create")
def test_an_address_of_ones_own(engine: Engine, busybox: str, network: str, names: Callable[[], str]) -> None:
    engine.docker("network", "create", "--subnet", "10.94.0.0/24", network, check=True)
    first, second = names(), names()
    fixed = ["--network", network, "--ip", "10.94.0.77"]
    engine.docker("run", "-d", "--name", first, *fixed, busybox, "sleep", "600", check=True)
    assert ipv4(engine, first) == "10.94.0.77/24"
    taken = engine.docker("run", "-d", "--name", second, *fixed, busybox, "sleep", "600")
    assert taken.code == 125 and "Address already in use" in taken.err


@pytest.mark.claim("rule-network-pools", "POST /containers/create")
@pytest.mark.parametrize(
    ("flags", "address", "words"),
    [
        (["--subnet", "10.95.0.0/24"], "10.96.0.1", "Invalid address 10.96.0.1: It does not belong to any of this"),
        ([], "172.18.0.77", "user specified IP address is supported only when connecting to networks with user"),
    ],
    ids=["elsewhere", "chosen-by-the-engine"],
)
def test_addresses_that_cannot_be(
    engine: Engine, busybox: str, network: str, name: str, flags: list[str], address: str, words: str
) -> None:
    engine.docker("network", "create", *flags, network, check=True)
    done = engine.docker("run", "--name", name, "--network", network, "--ip", address, busybox, "true")
    assert done.code == 125 and words.lower() in done.err.lower(), done


@pytest.mark.claim("rule-network-create", "POST /networks/create")
def test_options_of_the_bridge(engine: Engine, busybox: str, network: str, name: str) -> None:
    options = {"com.docker.network.bridge.name": f"my-{network}", "com.docker.network.driver.mtu": "1400"}
    post(engine, "/networks/create", {"Name": network, "Options": options}, status=201)
    assert get(engine, f"/networks/{network}")["Options"] == options
    assert f"my-{network}" in links(engine)
    engine.docker("run", "-d", "--name", name, "--network", network, busybox, "sleep", "600", check=True)
    assert links(engine, name)["eth0"]["mtu"] == 1400


@pytest.mark.claim("rule-network-firewall")
def test_containers_of_one_network_reach_each_other_and_no_other(
    engine: Engine, busybox: str, network: str, names: Callable[[], str]
) -> None:
    engine.docker("network", "create", network, check=True)
    server, neighbour, stranger = names(), names(), names()
    address = serve(engine, server, busybox, "--network", network)
    engine.docker("run", "-d", "--name", neighbour, "--network", network, busybox, "sleep", "600", check=True)
    engine.docker("run", "-d", "--name", stranger, busybox, "sleep", "600", check=True)
    assert fetch(engine, address, source=neighbour) == f"{server}\n"
    assert fetch(engine, address) == f"{server}\n"
    assert fetch(engine, address, source=stranger, patience_s=1) is None


@pytest.mark.claim("rule-network-firewall", "POST /networks/create")
def test_without_icc_neighbours_do_not_reach_each_other(
    engine: Engine, busybox: str, network: str, names: Callable[[], str]
) -> None:
    option = "com.docker.network.bridge.enable_icc=false"
    engine.docker("network", "create", "-o", option, network, check=True)
    server, neighbour = names(), names()
    address = serve(engine, server, busybox, "--network", network)
    engine.docker("run", "-d", "--name", neighbour, "--network", network, busybox, "sleep", "600", check=True)
    assert fetch(engine, address, source=neighbour, patience_s=1) is None
    assert fetch(engine, address) == f"{server}\n"


@pytest.mark.claim("rule-network-firewall", "POST /networks/create")
def test_an_internal_network_leads_nowhere(
    engine: Engine, busybox: str, network: str, names: Callable[[], str]
) -> None:
    engine.docker("network", "create", "--internal", network, check=True)
    assert get(engine, f"/networks/{network}")["Internal"] is True
    outside, server, inner = names(), names(), names()
    away = serve(engine, outside, busybox)
    near = serve(engine, server, busybox, "--network", network)
    engine.docker("run", "-d", "--name", inner, "--network", network, busybox, "sleep", "600", check=True)
    assert fetch(engine, near, source=inner) == f"{server}\n"
    assert fetch(engine, away, source=inner, patience_s=1) is None
    assert fetch(engine, near, source=outside, patience_s=1) is None


@pytest.mark.claim("rule-network-ports")
def test_a_published_port_from_host_and_containers(
    engine: Engine, busybox: str, network: str, names: Callable[[], str]
) -> None:
    """From the host by every address of it, from another network by the bridge's, and from the container itself."""
    engine.docker("network", "create", network, check=True)
    server, stranger = names(), names()
    serve(engine, server, busybox, "--network", network, "-p", "80")
    port = _port(engine, server)
    engine.docker("run", "-d", "--name", stranger, busybox, "sleep", "600", check=True)
    for host in ("127.0.0.1", "172.17.0.1", _pool(engine, network)["Gateway"]):
        assert fetch(engine, host, port) == f"{server}\n", host
    assert fetch(engine, "172.17.0.1", port, source=stranger) == f"{server}\n"
    hairpin = _pool(engine, network)["Gateway"]
    assert fetch(engine, hairpin, port, source=server) == f"{server}\n"


@pytest.mark.claim("rule-network-ports")
def test_a_port_of_one_host_address(engine: Engine, busybox: str, name: str) -> None:
    serve(engine, name, busybox, "-p", "127.0.0.1::80")
    settings: Any = engine.inspect(name)["NetworkSettings"]
    (binding,) = settings["Ports"]["80/tcp"]
    assert binding["HostIp"] == "127.0.0.1"
    assert fetch(engine, "127.0.0.1", binding["HostPort"]) == f"{name}\n"
    assert fetch(engine, "172.17.0.1", binding["HostPort"], patience_s=1) is None


@pytest.mark.claim("rule-network-ports")
def test_ports_in_inspect_and_in_docker_port(engine: Engine, busybox: str, name: str) -> None:
    flags = ["-p", "80", "-p", "53/udp", "--expose", "90"]
    engine.docker("run", "-d", "--name", name, *flags, busybox, "sleep", "600", check=True)
    settings: Any = engine.inspect(name)["NetworkSettings"]
    ports = settings["Ports"]
    assert set(ports) == {"80/tcp", "53/udp", "90/tcp"} and ports["90/tcp"] is None
    assert ports["80/tcp"][0]["HostIp"] == "0.0.0.0"
    lines = engine.docker("port", name, check=True).out.splitlines()
    assert f"80/tcp -> 0.0.0.0:{ports['80/tcp'][0]['HostPort']}" in lines
    assert f"53/udp -> 0.0.0.0:{ports['53/udp'][0]['HostPort']}" in lines


@pytest.mark.claim("rule-network-ports")
def test_a_datagram_and_its_answer(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "-p", "9/udp", busybox, "sleep", "600", check=True)
    answer = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 9))\n"
        "print('ready', flush=True); data, peer = s.recvfrom(9); s.sendto(data, peer)\n"
    )
    ask = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)\n"
        "s.connect(('172.17.0.1', int(sys.argv[1]))); s.send(b'echo'); print(s.recv(9).decode())\n"
    )
    pid = str(engine.state(name)["Pid"])
    server = engine.sandbox.popen(["nsenter", "-t", pid, "-n", sys.executable, "-IS", "-c", answer], stdout=PIPE)
    try:
        assert server.stdout is not None and server.stdout.readline() == b"ready\n"
        port = _port(engine, name, "9/udp")
        assert engine.sandbox.run([sys.executable, "-IS", "-c", ask, port]).stdout == b"echo\n"
    finally:
        server.kill()
        server.communicate()


@pytest.mark.claim("rule-network-ports", "rule-port-taken")
def test_a_port_is_free_again_after_the_end(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    first, second = names(), names()
    serve(engine, first, busybox, "-p", "80")
    port = _port(engine, first)
    taken = engine.docker("run", "-d", "--name", second, "-p", f"{port}:80", busybox, "sleep", "600")
    assert taken.code == 125 and f"Bind for 0.0.0.0:{port} failed: port is already allocated" in taken.err
    engine.docker("rm", second, check=True)
    engine.docker("rm", "-f", first, check=True)
    serve(engine, second, busybox, "-p", f"{port}:80")
    assert fetch(engine, "127.0.0.1", port) == f"{second}\n"


@pytest.mark.claim("rule-network-ports")
def test_publish_all_and_a_range(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    first, second = names(), names()
    engine.docker(
        "run", "-d", "--name", first, "-P", "--expose", "7", "--expose", "8/udp", busybox, "sleep", "600", check=True
    )
    settings: Any = engine.inspect(first)["NetworkSettings"]
    assert set(settings["Ports"]) == {"7/tcp", "8/udp"} and all(settings["Ports"].values())
    engine.docker("run", "-d", "--name", second, "-p", "21200-21202:70-72", busybox, "sleep", "600", check=True)
    assert [_port(engine, second, f"{port}/tcp") for port in (70, 71, 72)] == ["21200", "21201", "21202"]


@pytest.mark.claim("rule-network-firewall")
def test_the_source_address_is_masqueraded(engine: Engine, busybox: str, network: str, name: str) -> None:
    """A packet to another host leaves with an address of this one: a host beyond a link of its own sees it."""
    engine.docker("network", "create", network, check=True)
    engine.docker("run", "-d", "--name", name, "--network", network, busybox, "sleep", "600", check=True)
    setup = (
        "set -e; unshare -n sleep 60 & beyond=$!\n"
        "until ! [ /proc/$beyond/ns/net -ef /proc/self/ns/net ]; do :; done\n"
        "ip link add beyond0 type veth peer name eth0 netns $beyond\n"
        "ip addr add 203.0.113.1/24 dev beyond0; ip link set beyond0 up\n"
        "nsenter -t $beyond -n ip addr add 203.0.113.2/24 dev eth0; nsenter -t $beyond -n ip link set eth0 up\n"
        'nsenter -t $beyond -n "$1" -IS -c \'import socket\n'
        's = socket.create_server(("203.0.113.2", 7)); print("ready", flush=True)\n'
        "c, peer = s.accept(); print(peer[0], flush=True)'\n"
        "kill $beyond; ip link del beyond0 2>/dev/null || true"
    )
    beyond = engine.sandbox.popen(["bash", "-c", setup, "bash", sys.executable], stdout=PIPE)
    try:
        assert beyond.stdout is not None and beyond.stdout.readline() == b"ready\n"
        done = inside(engine, name, ["bash", "-c", "exec 3<>/dev/tcp/203.0.113.2/7"])
        assert done.returncode == 0, done
        assert beyond.stdout.readline() == b"203.0.113.1\n"
    finally:
        beyond.communicate(timeout=30)
    assert beyond.returncode == 0 and "beyond0" not in links(engine)


@pytest.mark.claim("rule-network-share")
def test_a_shared_network_is_the_same_one(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    owner, guest = names(), names()
    engine.docker("run", "-d", "--name", owner, "--hostname", "shared-host", busybox, "sleep", "600", check=True)
    address = serve(engine, guest, busybox, "--network", f"container:{owner}", port=8080)
    assert address == "127.0.0.1"
    assert fetch(engine, "127.0.0.1", 8080, source=owner) == f"{guest}\n"
    for file in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf"):
        seen = [engine.docker("exec", each, "cat", file, check=True).out for each in (owner, guest)]
        assert seen[0] == seen[1] != ""
    assert engine.docker("exec", guest, "hostname", check=True).out == "shared-host\n"


@pytest.mark.claim("rule-network-share", "rule-namespace-modes")
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-p", "80"], "conflicting options: port publishing and the container type network mode"),
        (["--hostname", "x"], "conflicting options: hostname and the network mode"),
        (["--dns", "1.1.1.1"], "conflicting options: dns and the network mode"),
        (["--add-host", "a:1.1.1.1"], "conflicting options: custom host-to-IP mapping and the network mode"),
        (["--expose", "80"], "conflicting options: port exposing and the container type network mode"),
        (["--link", "other"], "conflicting options: container type network can't be used with links"),
    ],
    ids=["port", "hostname", "dns", "hosts", "expose", "link"],
)
def test_what_a_shared_network_cannot_have(alike: Alike, flags: list[str], words: str) -> None:
    image, owner, guest = alike.pulled(), f"{alike.name}-owner", f"{alike.name}-guest"
    alike("create", "--name", owner, image)
    done = alike("create", "--name", guest, "--network", f"container:{owner}", *flags, image)
    assert done.code != 0 and words in done.err, done


@pytest.mark.claim("rule-network-share")
def test_a_shared_network_needs_its_owner(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    owner, guest = names(), names()
    identity = engine.docker("create", "--name", owner, busybox, check=True).out.strip()
    engine.docker("create", "--name", guest, "--network", f"container:{owner}", busybox, check=True)
    reply = engine.request("POST", f"/containers/{guest}/start")
    assert reply.status == 409 and f"cannot join network of a non running container: {identity}" in message(reply)


@pytest.mark.claim("rule-network-connect")
def test_an_unknown_network_is_found_out_at_start(engine: Engine, busybox: str, name: str) -> None:
    body = {"Image": busybox, "HostConfig": {"NetworkMode": "nosuch"}}
    post(engine, f"/containers/create?name={name}", body, status=201)
    reply = engine.request("POST", f"/containers/{name}/start")
    assert (reply.status, message(reply)) == (404, "network nosuch not found")
    assert addresses(engine, name).get("nosuch", "") == ""
