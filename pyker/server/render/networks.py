"""Networks as list and inspect show them. Source: Docker API v1.45, GET /networks/..."""

from __future__ import annotations

from typing import Any

from pyker.api import gotime
from pyker.jobs.networks import NetworkView
from pyker.networkdriver.base import IpamPool

JsonObject = dict[str, Any]

_PREDEFINED = frozenset({"bridge", "host", "none"})


def network(view: NetworkView, *, with_containers: bool) -> JsonObject:
    """A network; the list leaves its containers out."""
    stored = view.network
    containers: JsonObject = {}
    if with_containers:
        for identifier, (name, endpoint) in view.containers.items():
            containers[identifier] = {
                "Name": name,
                "EndpointID": endpoint.endpoint_id,
                "MacAddress": endpoint.mac_address,
                "IPv4Address": _cidr(endpoint.ip_address, endpoint.ip_prefix_len),
                "IPv6Address": _cidr(endpoint.global_ipv6_address, endpoint.global_ipv6_prefix_len),
            }
    return {
        "Name": stored.name,
        "Id": stored.id,
        "Created": gotime.format_time(gotime.parse_time(stored.created)),
        "Scope": stored.scope,
        "Driver": stored.driver,
        "EnableIPv6": stored.enable_ipv6,
        "IPAM": {
            "Driver": stored.ipam_driver,
            "Options": stored.ipam_options,
            "Config": [_pool(pool) for pool in stored.pools],
        },
        "Internal": stored.internal,
        "Attachable": stored.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": containers,
        "Options": stored.options,
        "Labels": stored.labels,
    }


def _cidr(address: str, prefix_len: int) -> str:
    return f"{address}/{prefix_len}" if address else ""


def _pool(pool: IpamPool) -> JsonObject:
    shown: JsonObject = {}
    if pool.subnet:
        shown["Subnet"] = pool.subnet
    if pool.ip_range:
        shown["IPRange"] = pool.ip_range
    if pool.gateway:
        shown["Gateway"] = pool.gateway
    if pool.aux_addresses:
        shown["AuxiliaryAddresses"] = pool.aux_addresses
    return shown
