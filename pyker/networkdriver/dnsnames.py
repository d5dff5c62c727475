"""Which names a container may ask for, and what they mean. Pure: values in, values out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from msgspec.structs import replace

from pyker.networkdriver.dnsmessage import folded
from pyker.types.config import EndpointSettings
from pyker.types.ids import ContainerId, short

_FULL_ID = re.compile(r"[0-9a-f]{64}\Z")
MAX_SERVERS = 3
"""More of them no resolver asks: resolv.conf(5), MAXNS."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A name server for everything else; ``on_host``: asked from the host's network, not the container's."""

    address: str
    on_host: bool = False


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """What a container says of its resolver: servers of its own, and whether unknown names without a dot stay here."""

    servers: tuple[str, ...] = ()
    keeps_single: bool = False


@dataclass(frozen=True, slots=True)
class Zone:
    """The names of one network. ``forward`` has (IPv4, IPv6) of each container by name, "" for no such address."""

    network: str
    forward: Mapping[str, Sequence[tuple[str, str]]]
    backward: Mapping[str, str]

    @classmethod
    def of(cls, network: str, members: Iterable[EndpointSettings]) -> Zone:
        """``members`` with their names, the container's own first, in ``dns_names``."""
        forward: dict[str, list[tuple[str, str]]] = {}
        backward: dict[str, str] = {}
        for member in members:
            addresses = (member.ip_address, member.global_ipv6_address)
            names = member.dns_names or ()
            for name in dict.fromkeys(folded(each) for each in names):
                forward.setdefault(name, []).append(addresses)
            for each in addresses:
                if each and names:
                    backward[str(ip_address(each))] = f"{names[0]}.{network}"
        return cls(folded(network), forward, backward)


@dataclass(frozen=True, slots=True)
class View:
    """What one container sees: the networks that it is on, its links on each, and whom to ask for the rest."""

    zones: Sequence[Zone]
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    upstreams: Sequence[Upstream] = ()
    keeps_single: bool = False

    def find(self, name: str) -> Sequence[tuple[str, str]] | None:
        """The addresses of all containers of that name, None if there is none.

        A name may have dots in it, and so may a network's: every way to cut it is tried, the whole first. Of several
        networks the first that knows it answers, and a link before a name.
        """
        whole = [(name, "")] + [(name[:at], name[at + 1 :]) for at, each in enumerate(name) if each == "."]
        for host, network in whole:
            zones = [zone for zone in self.zones if network in ("", zone.network)]
            for zone in zones:
                target = self.links.get(zone.network, {}).get(host)
                if target is not None and (found := zone.forward.get(target)):
                    return found
            for zone in zones:
                if found := zone.forward.get(host):
                    return found
        return None

    def name_of(self, address: str) -> str:
        """``container.network`` of an address, "" if nobody has it."""
        return next((zone.backward[address] for zone in self.zones if address in zone.backward), "")


def names_of(container_id: ContainerId, name: str, hostname: str, endpoint: EndpointSettings) -> tuple[str, ...]:
    """Every name of a container on a network, its own first. Source: Docker API v1.44, EndpointSettings.DNSNames."""
    names = (name, *(endpoint.aliases or ()), short(container_id), hostname)
    return tuple(dict.fromkeys(each for each in names if each))


def with_new_name(endpoint: EndpointSettings, old: str, new: str) -> EndpointSettings:
    """The endpoint under the container's new name; an alias that is the old one stays."""
    if endpoint.dns_names is None:
        return endpoint
    names = (new, *(each for each in endpoint.dns_names if each != old or each in (endpoint.aliases or ())))
    return replace(endpoint, dns_names=tuple(dict.fromkeys(names)))


def links_of(endpoint: EndpointSettings) -> dict[str, str]:
    """The container that each alias means to this endpoint alone, from ``container:alias``."""
    found = {}
    for link in endpoint.links or ():
        target, _, alias = link.partition(":")
        name = target.removeprefix("/")
        # Its whole ID is no name of a container, but the beginning is.
        found[folded(alias or name)] = folded(short(name) if _FULL_ID.match(name) else name)
    return found


def servers_of(
    config: DnsConfig, daemon: Sequence[str], host: Callable[[], Sequence[str]], *, leaves: bool
) -> tuple[Upstream, ...]:
    """Whom to ask for the rest: the container's own servers, else the daemon's, else the host's.

    A loopback address that the container itself names is its own loopback; any other means the host's, which only the
    host's network reaches, as it does IPv6. ``leaves`` False: on internal networks only, and then nothing may leave by
    way of the host either (CVE-2024-29018).
    """
    found = []
    for server in config.servers or daemon or host():
        try:
            address = ip_address(server)
        except ValueError:
            continue
        on_host = address.version == 6 or (address.is_loopback and not config.servers)
        if leaves or not on_host:
            found.append(Upstream(server, on_host))
    return tuple(found[:MAX_SERVERS])
