"""What an endpoint is asked to be, and what changes inside a sandbox when a running container joins or leaves."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyker.libcontainer import netlink
from pyker.libcontainer.netlink import Netlink
from pyker.networkdriver.base import NamespaceMaker, Network, Sandbox, SandboxRequest
from pyker.networkdriver.predefined import PREDEFINED
from pyker.types.config import EndpointSettings
from pyker.types.ids import EndpointId, NetworkId

_INTERFACE = re.compile(r"eth(\d+)\Z")


def next_interface(namespaces: NamespaceMaker, netns_path: str) -> str:
    """The name of one more interface: after the last one that is there."""
    with Netlink(namespaces.open_netns(netns_path)) as inside:
        numbers = [int(found[1]) for link in inside.links() if (found := _INTERFACE.match(link.name))]
    return f"eth{max(numbers, default=-1) + 1}"


def keep_default_route(namespaces: NamespaceMaker, netns_path: str, endpoints: Iterable[EndpointSettings]) -> None:
    """Where no default route is left, the first of ``endpoints`` with a gateway carries it."""
    with Netlink(namespaces.open_netns(netns_path)) as inside:
        if any(not route.destination and ":" not in route.gateway for route in inside.routes()):
            return
        places = {address.address: address.index for address in inside.addresses()}
        for endpoint in endpoints:
            if endpoint.gateway and endpoint.ip_address in places:
                inside.run(netlink.new_route(places[endpoint.ip_address], gateway=endpoint.gateway))
                return


def has_names(network: Network) -> bool:
    """Whether containers on it find each other by name: on networks of the user's own, of any driver."""
    return network.name not in PREDEFINED


def publishes(network: Network) -> bool:
    """Whether ports are published for containers on it: on other kinds they are reached at their own addresses."""
    return network.driver == "bridge" and not network.internal


def first_address(sandbox: Sandbox) -> str:
    """Where published ports lead to."""
    return next((endpoint.ip_address for endpoint in sandbox.endpoints.values() if endpoint.ip_address), "")


def asked(network: Network, request: SandboxRequest) -> EndpointSettings:
    """What the user wants of the endpoint on ``network``."""
    names = [network.name, network.id]
    if network.name == "bridge":
        names.append("default")  # what clients call it in a request
    return next((request.endpoints[name] for name in names if name in request.endpoints), EndpointSettings())


def identified(settings: EndpointSettings, network: NetworkId, endpoint: EndpointId) -> EndpointSettings:
    """``settings`` as asked, under these IDs, without the addresses of an earlier run."""
    return EndpointSettings(
        ipam_config=settings.ipam_config,
        links=settings.links,
        aliases=settings.aliases,
        driver_opts=settings.driver_opts,
        gw_priority=settings.gw_priority,
        network_id=network,
        endpoint_id=endpoint,
        mac_address=settings.mac_address,
        dns_names=settings.dns_names,
    )
