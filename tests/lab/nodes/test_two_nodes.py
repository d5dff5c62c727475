"""Containers of two engines on two machines reach each other: on the network of both cards, and through a tunnel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.nodes import Node

IMAGE = "pyker.local/busybox"
PORT = 7007
BYTES = 4 << 20

START = """
set -e
setsid python3 -m pyker daemon --data-root /storage/engine --exec-root /run/pyker --host unix:///run/pyker.sock \
  --pidfile /run/pyker.pid >/storage/engine.log 2>&1 </dev/null &
engine=$!
until docker version >/dev/null 2>&1; do
  kill -0 $engine || { cat /storage/engine.log >&2; exit 1; }
  sleep 0.2
done
docker pull -q $1
"""
SERVE = f"mkdir /w; head -c {BYTES} /dev/urandom >/w/load; sha256sum </w/load >/w/sum; exec httpd -f -p {PORT} -h /w"
"""What a container does: gives some random megabytes to everybody who asks."""


class Engine:
    """The engine of one node; ``number`` is the node's."""

    def __init__(self, node: Node, number: int) -> None:
        self.node = node
        self.number = number
        self.sh(START, IMAGE, timeout_s=300)

    def sh(self, script: str, *arguments: str, timeout_s: float = 240) -> str:
        """A script on the node; ``docker`` speaks to its engine."""
        where = "export DOCKER_HOST=unix:///run/pyker.sock\n"
        return self.node.check("sh", "-euc", where + script, "sh", *arguments, timeout_s=timeout_s)


@pytest.fixture(scope="module")
def engines(pair: Sequence[Node]) -> Iterator[list[Engine]]:
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(Engine, pair, (1, 2)))
    yield made
    for engine in made:
        engine.sh("kill $(cat /run/pyker.pid)")


def serve(engine: Engine, network: str, address: str) -> str:
    """A container at a given address that serves; returns its name when it does."""
    name = f"{network}-{engine.number}"
    engine.sh(
        f"docker run -d --name {name} --network {network} --ip {address} {IMAGE} sh -c '{SERVE}'\n"
        f"for i in $(seq 200); do docker exec {name} wget -q -O /dev/null http://127.0.0.1:{PORT}/sum && exit 0; done\n"
        f"docker logs {name} >&2; exit 1"
    )
    return name


def exchange(here: Engine, name: str, there: Engine, other: str, address: str) -> None:
    """``name`` on ``here`` pings ``other`` on ``there``, and takes its megabytes."""
    assert " 0% packet loss" in here.sh(f"docker exec {name} ping -c 3 -w 30 {address}")
    got = here.sh(
        f"docker exec {name} sh -c 'wget -q -O /got http://{address}:{PORT}/load; wc -c </got; sha256sum </got'"
    )
    size, digest, _ = got.split()
    assert int(size) == BYTES
    assert digest == there.sh(f"docker exec {other} cat /w/sum").split()[0]


def both_ways(engines: Sequence[Engine], network: str, prefix: str) -> None:
    first, second = engines
    addresses = [f"{prefix}.{each.number * 16 + 1}" for each in engines]
    with ThreadPoolExecutor() as pool:
        names = list(pool.map(serve, engines, (network, network), addresses))
    exchange(first, names[0], second, names[1], addresses[1])
    exchange(second, names[1], first, names[0], addresses[0])


def take_down(engines: Sequence[Engine], network: str) -> None:
    for each in engines:
        each.sh(f"docker rm -f {network}-{each.number} || :; docker network rm {network}")


def test_by_macvlan_they_are_on_the_nodes_own_network(engines: list[Engine]) -> None:
    """Each engine gives addresses of its own part of the subnet, and the containers are stations on the wire."""
    for each in engines:
        each.sh(
            f"docker network create -d macvlan --subnet 10.80.0.0/24 --gateway 10.80.0.254 "
            f"--ip-range 10.80.0.{each.number * 16}/28 -o parent={each.node.interface} mv"
        )
    try:
        both_ways(engines, "mv", "10.80.0")
    finally:
        take_down(engines, "mv")


TUNNEL = """
python3 - <<'END'
from pyker.libcontainer import links, netlink
with netlink.Netlink() as host:
    card, bridge = host.link("{card}"), host.link("vxbr0")
    host.run(links.vxlan("vx42", vni=42, local="{here}", parent=card.index, mtu=1450))
    tunnel = host.link("vx42")
    host.run(
        links.add_vtep(tunnel.index, "{there}"),
        netlink.set_link("vx42", index=tunnel.index, master=bridge.index),
        netlink.set_link(index=tunnel.index, up=True),
    )
END
"""


def test_by_vxlan_a_network_spans_both_nodes(engines: list[Engine]) -> None:
    """A bridge network on each node, and the two bridges joined by a tunnel made through libcontainer."""
    here, there = engines
    for each, other in ((here, there), (there, here)):
        each.sh(
            f"docker network create --subnet 10.42.0.0/24 --gateway 10.42.0.{250 + each.number} "
            f"--ip-range 10.42.0.{each.number * 16}/28 -o com.docker.network.bridge.name=vxbr0 "
            "-o com.docker.network.driver.mtu=1450 vx"
        )
        each.sh(TUNNEL.format(card=each.node.interface, here=each.node.address, there=other.node.address))
    try:
        both_ways(engines, "vx", "10.42.0")
        sent = [int(each.sh("cat /sys/class/net/vx42/statistics/tx_bytes")) for each in engines]
        assert min(sent) > BYTES, "it did not go through the tunnel"
    finally:
        for each in engines:
            each.sh("ip link del vx42")
        take_down(engines, "vx")


def test_nothing_is_left_on_the_nodes(engines: list[Engine]) -> None:
    for each in engines:
        links = each.sh("ls /sys/class/net").split()
        assert [name for name in links if name.startswith(("br-", "vx", "dm-"))] == []
        assert each.sh("docker ps -aq") == ""
