"""The ipvlan networkdriver: containers share the MAC address of a link of the host, and have addresses of their own."""

from __future__ import annotations

from pyker.errors import InvalidParameter
from pyker.libcontainer import links, netlink
from pyker.libcontainer.netlink import Request
from pyker.networkdriver.base import Network, link_mtu
from pyker.networkdriver.parented import ParentedDriver, option, probe_kind
from pyker.types.config import EndpointSettings
from pyker.types.probe import Probe

MODE, FLAG = "ipvlan_mode", "ipvlan_flag"


class IpvlanDriver(ParentedDriver):
    """Modes l2 (the default), l3 and l3s by the option ``ipvlan_mode``; ``ipvlan_flag`` bridge, private or vepa."""

    name = "ipvlan"

    @classmethod
    def probe(cls) -> Probe:
        return probe_kind("ipvlan")

    def check(self, network: Network) -> None:
        option(network, MODE, links.IPVLAN_MODES, "l2")
        option(network, FLAG, links.IPVLAN_FLAGS, "bridge")
        link_mtu(network)

    def link(self, network: Network, parent: int, ifname: str, netns_fd: int, mac: str) -> Request:
        mode = option(network, MODE, links.IPVLAN_MODES, "l2")
        flag = option(network, FLAG, links.IPVLAN_FLAGS, "bridge")
        return links.ipvlan(ifname, parent=parent, mode=mode, flag=flag, netns_fd=netns_fd, mtu=link_mtu(network))

    def mac(self, settings: EndpointSettings, address: str) -> str:
        """None: the parent's is everybody's."""
        if settings.mac_address:
            raise InvalidParameter(f"{self.name} interfaces do not support custom mac address assignment")
        return ""

    def default_route(self, network: Network, index: int) -> tuple[str, Request | None]:
        """In l3 and l3s the kernel routes for the containers: out of the link, and no neighbour is asked."""
        if network.internal or option(network, MODE, links.IPVLAN_MODES, "l2") == "l2":
            return super().default_route(network, index)
        return "", netlink.new_route(index, destination="0.0.0.0")
