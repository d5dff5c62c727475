"""macvlan, ipvlan, vlan, vxlan and dummy links: what ``ip -j`` says of them, and what passes through them."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyker.errors import InvalidParameter, KernelError
from pyker.libcontainer import links, netlink
from pyker.libcontainer.netlink import Netlink
from tests.support.namespaces import ForkingNamespaceMaker, ask, ip_json, isolated, serve

pytestmark = pytest.mark.requires("root", "veth", "iproute2")

PORT = 7007
# Whoever is in reach answers within some milliseconds, emulated too.
NOT_REACHED_S = 0.5
Made = tuple[str, Netlink]


@pytest.fixture
def host() -> Iterator[Netlink]:
    """A host with a network card, card0, whose cable ends in card1."""
    with isolated(), Netlink() as opened:
        subprocess.run(["ip", "link", "add", "card0", "type", "veth", "peer", "name", "card1"], check=True)
        opened.run(netlink.set_link("card0", up=True), netlink.set_link("card1", up=True))
        yield opened


@pytest.fixture
def namespace(host: Netlink, tmp_path: Path) -> Iterator[Callable[[str], Made]]:
    """Makes pinned namespaces, each with a socket inside."""
    maker = ForkingNamespaceMaker()
    made: dict[str, Netlink] = {}

    def make(name: str) -> Made:
        path = str(tmp_path / name)
        made[path] = Netlink(maker.new_netns(path))
        return path, made[path]

    yield make
    for path, inside in made.items():
        inside.close()
        maker.remove_netns(path)


def index_of(where: Netlink, name: str) -> int:
    link = where.link(name)
    assert link is not None
    return link.index


def place(host: Netlink, made: Made, address: str, request: Callable[[int], netlink.Request]) -> None:
    """Make a link named eth0 in a namespace, up, with ``address``/24."""
    path, inside = made
    descriptor = os.open(path, os.O_RDONLY)
    try:
        host.run(request(descriptor))
    finally:
        os.close(descriptor)
    index = index_of(inside, "eth0")
    inside.run(netlink.set_link("eth0", up=True), netlink.new_address(index, address, 24))


def inner(made: Made) -> dict[str, object]:
    (seen,) = ip_json("addr", "show", "dev", "eth0", netns_path=made[0])
    return seen


def reaches(made: Made, address: str, timeout_s: float = 2) -> bool:
    try:
        return ask(address, PORT, netns_path=made[0], timeout_s=timeout_s) == b"here"
    except OSError:
        return False


@pytest.mark.requires("macvlan")
@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
def test_a_macvlan_link_appears_in_the_namespace_only(
    host: Netlink, namespace: Callable[[str], Made], mode: str
) -> None:
    made = namespace("a")
    card = index_of(host, "card0")
    mac = "02:42:0a:09:00:02"
    place(
        host,
        made,
        "10.9.0.2",
        lambda fd: links.macvlan("eth0", parent=card, mode=mode, netns_fd=fd, mac=mac, mtu=1400),
    )
    seen = inner(made)
    # In passthru it is the card, to whoever looks from outside.
    expected = ip_json("link", "show", "card0")[0]["address"] if mode == "passthru" else mac
    assert (seen["address"], seen["mtu"], seen["link_index"]) == (expected, 1400, card)
    assert seen["linkinfo"]["info_kind"] == "macvlan"  # type: ignore[index]
    assert seen["linkinfo"]["info_data"]["mode"] == mode  # type: ignore[index]
    assert {link["ifname"] for link in ip_json("link")} == {"lo", "card0", "card1"}


@pytest.mark.requires("macvlan")
@pytest.mark.parametrize(("mode", "together"), [("bridge", True), ("private", False)])
def test_macvlan_siblings(host: Netlink, namespace: Callable[[str], Made], mode: str, together: bool) -> None:
    """In mode bridge they reach each other; the host's own addresses are out of reach in every mode."""
    first, second = namespace("a"), namespace("b")
    card = index_of(host, "card0")
    host.run(netlink.new_address(card, "10.9.0.1", 24))
    for made, address in ((first, "10.9.0.2"), (second, "10.9.0.3")):
        place(host, made, address, lambda fd: links.macvlan("eth0", parent=card, mode=mode, netns_fd=fd))
    serve(first[0], b"here", PORT)
    assert reaches(second, "10.9.0.2", 2 if together else NOT_REACHED_S) == together
    with pytest.raises(OSError, match=r"unreach|timed out|route"):
        ask("10.9.0.2", PORT, timeout_s=NOT_REACHED_S)


@pytest.mark.requires("macvlan")
def test_macvlan_reaches_the_far_end_of_the_cable(
    host: Netlink, namespace: Callable[[str], Made], tmp_path: Path
) -> None:
    """Another machine on the same network, here a namespace with the cable's other end, sees it as one of its own."""
    made, (far_path, far) = namespace("a"), namespace("far")
    subprocess.run(["ip", "link", "set", "card1", "netns", far_path], check=True)
    far.run(netlink.set_link("card1", up=True), netlink.new_address(index_of(far, "card1"), "10.9.0.9", 24))
    place(host, made, "10.9.0.2", lambda fd: links.macvlan("eth0", parent=index_of(host, "card0"), netns_fd=fd))
    serve(far_path, b"here", PORT)
    assert reaches(made, "10.9.0.9")
    neighbours = {each["dst"]: each.get("lladdr") for each in ip_json("neigh", netns_path=far_path)}
    assert neighbours["10.9.0.2"] == inner(made)["address"]


@pytest.mark.requires("macvlan")
def test_passthru_has_the_parent_to_itself(host: Netlink, namespace: Callable[[str], Made]) -> None:
    card = index_of(host, "card0")
    place(host, namespace("a"), "10.9.0.2", lambda fd: links.macvlan("eth0", parent=card, mode="passthru", netns_fd=fd))
    path, _ = namespace("b")
    descriptor = os.open(path, os.O_RDONLY)
    with pytest.raises(KernelError) as caught:
        host.run(links.macvlan("eth0", parent=card, mode="bridge", netns_fd=descriptor))
    os.close(descriptor)
    assert caught.value.errno in (errno.EINVAL, errno.EBUSY)


@pytest.mark.requires("ipvlan")
@pytest.mark.parametrize(
    ("mode", "flag"), [("l2", "bridge"), ("l2", "private"), ("l2", "vepa"), ("l3", "bridge"), ("l3s", "bridge")]
)
def test_an_ipvlan_link_has_its_parents_mac(
    host: Netlink, namespace: Callable[[str], Made], mode: str, flag: str
) -> None:
    made = namespace("a")
    card = index_of(host, "card0")
    place(host, made, "10.9.0.2", lambda fd: links.ipvlan("eth0", parent=card, mode=mode, flag=flag, netns_fd=fd))
    seen = inner(made)
    assert seen["address"] == ip_json("link", "show", "card0")[0]["address"]
    assert seen["linkinfo"]["info_data"] == {"mode": mode, flag: True}  # type: ignore[index]
    assert {link["ifname"] for link in ip_json("link")} == {"lo", "card0", "card1"}


@pytest.mark.requires("ipvlan")
@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
@pytest.mark.parametrize(("flag", "together"), [("bridge", True), ("private", False)])
def test_ipvlan_siblings(host: Netlink, namespace: Callable[[str], Made], mode: str, flag: str, together: bool) -> None:
    first, second = namespace("a"), namespace("b")
    card = index_of(host, "card0")
    for made, address in ((first, "10.9.0.2"), (second, "10.9.0.3")):
        place(host, made, address, lambda fd: links.ipvlan("eth0", parent=card, mode=mode, flag=flag, netns_fd=fd))
    serve(first[0], b"here", PORT)
    assert reaches(second, "10.9.0.2", 2 if together else NOT_REACHED_S) == together


@pytest.mark.requires("vxlan")
def test_a_vxlan_carries_frames_between_two_nodes(host: Netlink, namespace: Callable[[str], Made]) -> None:
    """Two nodes joined by a cable; a container behind each, reached through the tunnel, with some MB of TCP."""
    ends = []
    for number, name in ((1, "a"), (2, "b")):
        node, (inside_path, inside) = namespace(f"node-{name}"), namespace(f"c-{name}")
        path, node_socket = node
        subprocess.run(["ip", "link", "set", f"card{number - 1}", "netns", path], check=True)
        card = index_of(node_socket, f"card{number - 1}")
        node_socket.run(
            netlink.set_link(index=card, up=True),
            netlink.new_address(card, f"10.77.0.{number}", 24),
            netlink.new_bridge("br0", mac=f"02:42:0a:4d:00:0{number}"),
            links.vxlan("vx42", vni=42, local=f"10.77.0.{number}", parent=card, mtu=1450),
        )
        bridge = index_of(node_socket, "br0")
        descriptor = os.open(inside_path, os.O_RDONLY)
        node_socket.run(
            links.add_vtep(index_of(node_socket, "vx42"), f"10.77.0.{3 - number}"),
            netlink.new_veth("out0", master=bridge, peer="eth0", peer_netns_fd=descriptor, mtu=1450),
            netlink.set_link("vx42", master=bridge, up=True),
            netlink.set_link("out0", up=True),
            netlink.set_link("br0", up=True),
        )
        os.close(descriptor)
        inside.run(
            netlink.set_link("eth0", up=True),
            netlink.new_address(index_of(inside, "eth0"), f"10.42.0.{number}", 24),
        )
        (seen,) = ip_json("link", "show", "vx42", netns_path=path)
        data = seen["linkinfo"]["info_data"]
        assert (data["id"], data["port"], data["local"], data["learning"]) == (42, 4789, f"10.77.0.{number}", False)
        forwarding = subprocess.run(
            ["nsenter", f"--net={path}", "bridge", "fdb", "show", "dev", "vx42"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert f"{links.ANY_MAC} dst 10.77.0.{3 - number} self permanent" in forwarding
        ends.append(inside_path)
    load = os.urandom(1 << 20) * 4
    serve(ends[1], load, PORT)
    got = ask("10.42.0.2", PORT, netns_path=ends[0])
    assert hashlib.sha256(got).digest() == hashlib.sha256(load).digest()


@pytest.mark.requires("vlan")
def test_a_tagged_part_of_a_card(host: Netlink) -> None:
    host.run(links.vlan("card0.50", parent=index_of(host, "card0"), vlan_id=50))
    (seen,) = ip_json("link", "show", "card0.50")
    assert (seen["link"], seen["linkinfo"]["info_data"]["id"]) == ("card0", 50)


@pytest.mark.requires("dummy")
def test_a_dummy(host: Netlink) -> None:
    host.run(links.dummy("dm-t", mac="02:42:0a:09:00:01", mtu=1400), netlink.set_link("dm-t", alias="pyker:x"))
    (seen,) = ip_json("link", "show", "dm-t")
    assert (seen["linkinfo"]["info_kind"], seen["address"], seen["mtu"]) == ("dummy", "02:42:0a:09:00:01", 1400)
    link = host.link("dm-t")
    assert link is not None
    assert (link.alias, seen["ifalias"]) == ("pyker:x", "pyker:x")


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: links.macvlan("x", parent=1, mode="router"),
        lambda: links.ipvlan("x", parent=1, mode="l4"),
        lambda: links.ipvlan("x", parent=1, flag="passthru"),
        lambda: links.vlan("x", parent=1, vlan_id=4095),
        lambda: links.vxlan("x", vni=1 << 24, local="10.0.0.1"),
    ],
)
def test_what_no_link_can_be(request_of: Callable[[], netlink.Request]) -> None:
    with pytest.raises(InvalidParameter):
        request_of()
