"""Kinds of links besides bridge and veth: macvlan, ipvlan, vlan, vxlan, dummy; and a vxlan's forwarding entries.

Each function describes one RTM_NEWLINK; ``netlink.Netlink`` performs it. With ``netns_fd`` a link appears in that
namespace at once while its parent stays here, so there is no moment at which the host sees it.
Source: rtnetlink(7), linux/if_link.h, ip-link(8).
"""

from __future__ import annotations

import socket
import struct

from pyker.errors import InvalidParameter
from pyker.libcontainer.netlink import RTM_NEWNEIGH, Request, attribute, new_link

MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}
VXLAN_PORT = 4789
"""IANA's; the kernel's own default, 8472, is older than the assignment."""
ANY_MAC = "00:00:00:00:00:00"
"""As a forwarding entry: where frames go whose receiver is not known, and what is broadcast."""

_IFLA_MACVLAN_MODE = 1
_IFLA_IPVLAN_MODE, _IFLA_IPVLAN_FLAGS = 1, 2
_IFLA_VLAN_ID = 1
_IFLA_VXLAN_ID, _IFLA_VXLAN_LINK, _IFLA_VXLAN_LOCAL, _IFLA_VXLAN_LEARNING, _IFLA_VXLAN_PORT = 1, 3, 4, 7, 15
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_NOARP, _NUD_PERMANENT, _NTF_SELF = 0x40, 0x80, 0x02
_CREATE, _APPEND = 0x400, 0x800
_NDMSG = struct.Struct("=BxxxiHBB")


def _choice(choices: dict[str, int], chosen: str, what: str) -> int:
    try:
        return choices[chosen]
    except KeyError:
        raise InvalidParameter(f"invalid {what} {chosen!r}", hint=f"one of {', '.join(choices)}") from None


def dummy(name: str, *, mac: str = "", mtu: int = 0) -> Request:
    """A link that leads nowhere, for others to sit on."""
    return new_link("dummy", name, mac=mac, mtu=mtu)


def vlan(name: str, *, parent: int, vlan_id: int) -> Request:
    """A tagged part of ``parent``. Source: IEEE 802.1Q."""
    if not 1 <= vlan_id <= 4094:
        raise InvalidParameter(f"vlan id must be between 1-4094, received: {vlan_id}")
    return new_link("vlan", name, parent=parent, data=attribute(_IFLA_VLAN_ID, struct.pack("=H", vlan_id)))


def macvlan(
    name: str, *, parent: int, mode: str = "bridge", netns_fd: int = -1, mac: str = "", mtu: int = 0
) -> Request:
    """A link with a MAC address of its own on ``parent``. The host itself cannot reach it.

    Siblings reach each other directly in mode bridge, by a switch that returns frames in vepa, not at all in private.
    In passthru there is one, and it takes the parent over. Raises: InvalidParameter for an unknown mode.
    """
    data = attribute(_IFLA_MACVLAN_MODE, struct.pack("=I", _choice(MACVLAN_MODES, mode, "macvlan mode")))
    return new_link("macvlan", name, parent=parent, netns_fd=netns_fd, mac=mac, mtu=mtu, data=data)


def ipvlan(
    name: str, *, parent: int, mode: str = "l2", flag: str = "bridge", netns_fd: int = -1, mtu: int = 0
) -> Request:
    """A link that shares its parent's MAC address and is told from its siblings by IP address.

    l2 switches frames, l3 routes packets and carries no broadcast, l3s is l3 whose packets the host's firewall sees.
    All links of one parent have the mode and flag of the last one made. Raises: InvalidParameter.
    """
    data = attribute(_IFLA_IPVLAN_MODE, struct.pack("=H", _choice(IPVLAN_MODES, mode, "ipvlan mode")))
    data += attribute(_IFLA_IPVLAN_FLAGS, struct.pack("=H", _choice(IPVLAN_FLAGS, flag, "ipvlan flag")))
    return new_link("ipvlan", name, parent=parent, netns_fd=netns_fd, mtu=mtu, data=data)


def vxlan(
    name: str, *, vni: int, local: str, parent: int = 0, port: int = VXLAN_PORT, learning: bool = False, mtu: int = 0
) -> Request:
    """A tunnel for Ethernet frames in UDP, from ``local``; ``add_vtep`` says where to. Source: RFC 7348."""
    if not 0 < vni < 1 << 24:
        raise InvalidParameter(f"invalid vxlan network identifier {vni}", hint="1 to 16777215")
    data = attribute(_IFLA_VXLAN_ID, struct.pack("=I", vni)) + attribute(_IFLA_VXLAN_LOCAL, socket.inet_aton(local))
    data += attribute(_IFLA_VXLAN_LEARNING, bytes((learning,))) + attribute(_IFLA_VXLAN_PORT, struct.pack("!H", port))
    if parent:
        data += attribute(_IFLA_VXLAN_LINK, struct.pack("=I", parent))
    return new_link("vxlan", name, data=data, mtu=mtu)


def add_vtep(index: int, address: str, *, mac: str = ANY_MAC) -> Request:
    """Send frames for ``mac`` through the vxlan link ``index`` to the node at ``address``; the first adds to others."""
    body = _NDMSG.pack(socket.AF_BRIDGE, index, _NUD_PERMANENT | _NUD_NOARP, _NTF_SELF, 0)
    body += attribute(_NDA_DST, socket.inet_aton(address)) + attribute(_NDA_LLADDR, bytes.fromhex(mac.replace(":", "")))
    flags = _CREATE | _APPEND if mac == ANY_MAC else _CREATE
    return Request(RTM_NEWNEIGH, flags, body, address)
