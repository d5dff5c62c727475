"""Our netlink messages, against what ``ip -j`` and pyroute2 see of the same kernel."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.errors import KernelError
from pyker.libcontainer import netlink
from pyker.libcontainer.netlink import Netlink
from tests.support.namespaces import ForkingNamespaceMaker, ip_json, isolated

pytestmark = pytest.mark.requires("root", "veth", "iproute2")


@pytest.fixture
def host() -> Iterator[Netlink]:
    with isolated(), Netlink() as opened:
        yield opened


@pytest.fixture
def pinned(host: Netlink, tmp_path: Path) -> Iterator[tuple[str, Netlink]]:
    maker = ForkingNamespaceMaker()
    path = str(tmp_path / "netns")
    with Netlink(maker.new_netns(path)) as inside:
        yield path, inside
    maker.remove_netns(path)


def index_of(host: Netlink, name: str) -> int:
    link = host.link(name)
    assert link is not None
    return link.index


def test_a_bridge(host: Netlink) -> None:
    host.run(netlink.new_bridge("br-t", mac="02:42:0a:09:00:01", mtu=1400))
    index = index_of(host, "br-t")
    host.run(
        netlink.new_address(index, "10.9.0.1", 24, broadcast="10.9.0.255"),
        netlink.new_address(index, "fd00:9::1", 64),
        netlink.set_link(index=index, up=True),
    )
    (seen,) = ip_json("addr", "show", "dev", "br-t")
    assert seen["linkinfo"]["info_kind"] == "bridge"
    assert seen["linkinfo"]["info_data"]["stp_state"] == 0
    assert (seen["address"], seen["mtu"], "UP" in seen["flags"]) == ("02:42:0a:09:00:01", 1400, True)
    addresses = {each["local"]: (each["prefixlen"], each.get("broadcast")) for each in seen["addr_info"]}
    assert addresses["10.9.0.1"] == (24, "10.9.0.255")
    assert addresses["fd00:9::1"] == (64, None)


@pytest.mark.claim("netlink-configures", "libcontainer-network-devices")
def test_a_veth_pair_across_namespaces(host: Netlink, pinned: tuple[str, Netlink]) -> None:
    path, inside = pinned
    host.run(netlink.new_bridge("br-t", mac="02:42:0a:09:00:01"))
    descriptor = os.open(path, os.O_RDONLY)
    host.run(
        netlink.new_veth(
            "out0",
            master=index_of(host, "br-t"),
            peer="eth0",
            peer_netns_fd=descriptor,
            peer_mac="02:42:0a:09:00:02",
            mtu=1450,
        )
    )
    os.close(descriptor)
    inside.run(netlink.set_link("eth0", ipv6_link_local=False), netlink.set_link("eth0", up=True))
    host.run(
        netlink.set_bridge_port("out0", hairpin=True, isolated=True),
        netlink.set_link("out0", up=True, ipv6_link_local=True),
    )
    (outer,) = ip_json("link", "show", "dev", "out0")
    assert (outer["master"], outer["mtu"], outer["operstate"]) == ("br-t", 1450, "UP")
    assert outer["linkinfo"]["info_slave_data"]["hairpin"] is True
    assert outer["linkinfo"]["info_slave_data"]["isolated"] is True
    (inner,) = ip_json("link", "show", "dev", "eth0", netns_path=path)
    assert inner["inet6_addr_gen_mode"] == "none"
    (inner,) = ip_json("addr", "show", "dev", "eth0", netns_path=path)
    assert (inner["address"], inner["mtu"]) == ("02:42:0a:09:00:02", 1450)
    assert inner["addr_info"] == [], "an IPv6 address appeared that nobody asked for"


@pytest.mark.claim("netlink-configures")
def test_address_route_and_mac_in_one_go(host: Netlink, pinned: tuple[str, Netlink]) -> None:
    path, inside = pinned
    descriptor = os.open(path, os.O_RDONLY)
    host.run(netlink.new_bridge("br-t", mac="02:42:0a:09:00:01"))
    host.run(
        netlink.new_veth("out0", master=index_of(host, "br-t"), peer="eth0", peer_netns_fd=descriptor),
    )
    os.close(descriptor)
    index = index_of(inside, "eth0")
    inside.run(
        netlink.set_link("eth0", index=index, mac="02:42:0a:09:00:07", up=True),
        netlink.new_address(index, "10.9.0.7", 24, broadcast="10.9.0.255"),
        netlink.new_route(index, gateway="10.9.0.1"),
        netlink.new_route(index, destination="10.8.0.0", prefix_len=16),
    )
    routes = {route["dst"]: route for route in ip_json("route", netns_path=path)}
    assert routes["default"]["gateway"] == "10.9.0.1"
    assert routes["10.8.0.0/16"]["scope"] == "link"
    assert ip_json("link", "show", "dev", "eth0", netns_path=path)[0]["address"] == "02:42:0a:09:00:07"
    ours = {(route.destination, route.prefix_len, route.gateway) for route in inside.routes() if "." in route.gateway}
    assert ours == {("", 0, "10.9.0.1")}


def test_what_we_read_is_what_ip_reads(host: Netlink) -> None:
    commands = [
        "ip link add br-t type bridge",
        "ip link set br-t up",
        "ip addr add 10.9.0.1/24 dev br-t",
        "ip addr add fd00:9::1/64 dev br-t nodad",
        "ip link add name va type veth peer name vb",
        "ip link set va master br-t",
        "ip route add 10.7.0.0/16 via 10.9.0.99",
        "ip route add 10.6.0.0/16 via 10.9.0.99 table 99",
    ]
    for command in commands:
        subprocess.run(command.split(), check=True)
    theirs = ip_json("addr")
    assert {
        (link.index, link.name, link.kind, link.mac, link.mtu, link.up) for link in host.links() if link.name != "lo"
    } == {
        (
            link["ifindex"],
            link["ifname"],
            link["linkinfo"]["info_kind"],
            link["address"],
            link["mtu"],
            "UP" in link["flags"],
        )
        for link in theirs
        if link["ifname"] != "lo"
    }
    assert {(address.index, address.address, address.prefix_len) for address in host.addresses()} == {
        (link["ifindex"], address["local"], address["prefixlen"]) for link in theirs for address in link["addr_info"]
    }
    assert {(route.destination, route.gateway) for route in host.routes() if route.family == 2} == {
        ("10.9.0.0", ""),
        ("10.7.0.0", "10.9.0.99"),
    }
    bridge = host.link("br-t")
    port = host.link("va")
    assert bridge is not None
    assert port is not None
    assert port.master == bridge.index


@pytest.mark.claim("libcontainer-no-dependencies")
def test_every_message_is_the_one_that_pyroute2_would_send(host: Netlink) -> None:
    pyroute2 = pytest.importorskip("pyroute2")
    host.run(netlink.new_bridge("br-a", mac="02:42:0a:09:00:01", mtu=1400))
    host.run(netlink.new_address(index_of(host, "br-a"), "10.9.0.1", 24, broadcast="10.9.0.255"))
    with pyroute2.IPRoute() as oracle:
        oracle.link("add", ifname="br-b", kind="bridge", address="02:42:0a:09:00:01", mtu=1400)
        index = oracle.link_lookup(ifname="br-b")[0]
        oracle.addr("add", index=index, address="10.9.0.1", prefixlen=24, broadcast="10.9.0.255")
        links = {link.get("ifname"): link for link in oracle.get_links()}
        for name in ("address", "mtu", "operstate", "group", "qdisc", "txqlen"):
            assert links["br-a"].get(name) == links["br-b"].get(name), name
        skipped = ("IFA_LABEL", "IFA_CACHEINFO")
        ours, theirs = (
            {key: value for key, value in oracle.get_addr(label=label)[0]["attrs"] if key not in skipped}
            for label in ("br-a", "br-b")
        )
        assert ours == theirs


def test_a_link_that_is_not_there(host: Netlink) -> None:
    assert host.link("nosuch") is None
    with pytest.raises(KernelError) as raised:
        host.run(netlink.delete_link("nosuch"))
    assert raised.value.errno == errno.ENODEV
    assert "RTM_DELLINK 'nosuch': No such device" in raised.value.message


def test_after_a_failure_in_a_batch_the_socket_still_works(host: Netlink) -> None:
    failures = host.try_all(
        netlink.new_bridge("br-t", mac="02:42:0a:09:00:01"),
        netlink.new_bridge("br-t", mac="02:42:0a:09:00:01"),
        netlink.delete_link("nosuch"),
        netlink.set_link("br-t", up=True),
    )
    assert [failure.errno for failure in failures] == [errno.EEXIST, errno.ENODEV]
    link = host.link("br-t")
    assert link is not None
    assert link.up


def test_the_kernels_own_explanation_is_in_the_message(host: Netlink) -> None:
    with pytest.raises(KernelError, match=r"\("):
        host.run(netlink.absurd_link("bridge"))


def test_probing_leaves_no_link(host: Netlink) -> None:
    for kind, number in (("bridge", errno.EINVAL), ("veth", errno.EINVAL), ("nosuchkind", errno.EOPNOTSUPP)):
        with pytest.raises(KernelError) as raised:
            host.run(netlink.absurd_link(kind))
        assert raised.value.errno == number
    assert [link["ifname"] for link in ip_json("link") if link["ifname"] != "lo"] == []


def test_names_that_do_not_fit_are_refused_before_the_kernel_cuts_them(host: Netlink) -> None:
    with pytest.raises(KernelError, match="1 to 15 bytes"):
        host.run(netlink.new_bridge("sixteen-letters-", mac="02:42:0a:09:00:01"))


def test_hundreds_of_links_come_complete(host: Netlink) -> None:
    host.run(*(netlink.new_bridge(f"br{number}", mac="") for number in range(150)))
    assert {link.name for link in host.links()} >= {f"br{number}" for number in range(150)}
