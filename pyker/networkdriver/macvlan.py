"""The macvlan networkdriver: each container has a MAC address of its own on the host's network."""

from __future__ import annotations

from ipaddress import IPv4Address

from pyker.libcontainer import links
from pyker.libcontainer.netlink import Request
from pyker.networkdriver.base import Network, link_mtu
from pyker.networkdriver.parented import ParentedDriver, option, probe_kind
from pyker.types.config import EndpointSettings
from pyker.types.probe import Probe

MODE = "macvlan_mode"


class MacvlanDriver(ParentedDriver):
    """Modes bridge (the default), private, vepa and passthru, by the option ``macvlan_mode``."""

    name = "macvlan"

    @classmethod
    def probe(cls) -> Probe:
        return probe_kind("macvlan")

    def check(self, network: Network) -> None:
        option(network, MODE, links.MACVLAN_MODES, "bridge")
        link_mtu(network)

    def link(self, network: Network, parent: int, ifname: str, netns_fd: int, mac: str) -> Request:
        mode = option(network, MODE, links.MACVLAN_MODES, "bridge")
        return links.macvlan(ifname, parent=parent, mode=mode, netns_fd=netns_fd, mac=mac, mtu=link_mtu(network))

    def mac(self, settings: EndpointSettings, address: str) -> str:
        return settings.mac_address or "02:42:" + IPv4Address(address).packed.hex(":")
