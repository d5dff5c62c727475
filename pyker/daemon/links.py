"""Links of the default bridge: a container's aliases for others, as hosts entries and variables. Functions of records.

On networks of the user's own a link is a name that the resolver knows (``networkdriver/dnsnames.py``), and none of this
applies. Source: Docker API v1.41, HostConfig.Links; docker run --link.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from msgspec import UNSET

from pyker.container.record import Container
from pyker.errors import InvalidParameter, NotFound, SystemFailure
from pyker.networkdriver.predefined import PREDEFINED
from pyker.types.config import HostConfig
from pyker.types.ids import ContainerId

BRIDGE = "bridge"
_OF_THE_IMAGE = ("HOME", "PATH")
"""Variables of a linked container that say nothing about what it serves."""

Lookup = Callable[[str], Container]
"""Finds a container by name or ID; raises NotFound."""


@dataclass(frozen=True, slots=True)
class Link:
    """``target`` None: the container is gone, and ``typed`` is what it was called then."""

    alias: str
    typed: str
    target: Container | None


def parse(link: str) -> tuple[str, str]:
    """``name:alias``, or a name that is its own alias. Raises SystemFailure in the reference's words, as it does."""
    if not link:
        raise SystemFailure("empty string specified for links")
    name, colon, alias = link.partition(":")
    if ":" in alias:
        raise SystemFailure(f"bad format for links: {link}")
    if not colon:
        return name, name.rpartition("/")[2]
    # As inspect shows them: /name:/container/alias.
    return (name, alias.rpartition("/")[2]) if alias.startswith("/") else (name, alias)


def chosen(host_config: HostConfig, lookup: Lookup) -> dict[str, ContainerId]:
    """The containers that a new one is linked to, by alias. Raises InvalidParameter for one that is not there."""
    if host_config.network_mode not in (*PREDEFINED, "", "default"):
        return {}
    found: dict[str, ContainerId] = {}
    for link in host_config.links or ():
        name, alias = parse(link)
        try:
            target = lookup(name)
            while target.host_config.network_mode.startswith("container:"):
                target = lookup(target.host_config.network_mode.partition(":")[2])
        except NotFound as error:
            raise InvalidParameter(f"could not get container for {name}: {error.message}") from error
        if target.host_config.network_mode == "host":
            raise InvalidParameter(
                "conflicting options: host type networking can't be used with links. "
                "This would result in undefined behavior"
            )
        found.setdefault(alias, target.id)
    return found


def links_of(container: Container, lookup: Lookup) -> Iterator[Link]:
    """What a container is linked to, in the order of its request."""
    typed = {alias: name for name, alias in (parse(link) for link in container.host_config.links or ())}
    for alias, identifier in container.links.items():
        try:
            target = lookup(identifier)
        except NotFound:
            target = None
        yield Link(alias, typed.get(alias, identifier).removeprefix("/"), target)


def shown(container: Container, lookup: Lookup) -> tuple[str, ...] | None:
    """The links as inspect shows them, by the names of now."""
    found = [
        f"/{link.typed if link.target is None else link.target.name}:/{container.name}/{link.alias}"
        for link in links_of(container, lookup)
    ]
    return tuple(found) or None


def linked_names(containers: Iterable[Container]) -> dict[ContainerId, list[str]]:
    """By what names others know a container: ``other/alias``."""
    found: dict[ContainerId, list[str]] = {}
    for container in containers:
        for alias, target in container.links.items():
            found.setdefault(target, []).append(f"{container.name}/{alias}")
    return found


def parents(container: Container, containers: Iterable[Container]) -> Iterator[tuple[Container, str]]:
    """Who runs on the default bridge and is linked to ``container``, by what alias."""
    for other in containers:
        for alias, target in other.links.items():
            if target == container.id and other.state.running and BRIDGE in other.network_settings.networks:
                yield other, alias


def check(container: Container, lookup: Lookup) -> None:
    """Before a start. Raises SystemFailure unless all that it is linked to runs, on the default bridge."""
    if BRIDGE not in container.network_settings.networks:
        return
    for link in links_of(container, lookup):
        if link.target is None or not link.target.state.running:
            name = link.typed if link.target is None else link.target.name
            raise SystemFailure(
                f"Cannot link to a non running container: /{name} AS /{container.name}/{link.alias}",
                hint="start that container first",
            )
        if not address_of(link.target):
            raise SystemFailure(f"Cannot link to /{link.target.name}, as it does not belong to the default network")


def address_of(container: Container) -> str:
    """A container's address on the default bridge, "" if it has none."""
    endpoint = container.network_settings.networks.get(BRIDGE)
    return "" if endpoint is None else endpoint.ip_address


def hosts_entries(container: Container, lookup: Lookup) -> list[tuple[str, tuple[str, ...]]]:
    """Lines for the hosts file: the address, and alias, host name and name of what is linked."""
    if BRIDGE not in container.network_settings.networks:
        return []
    return [
        (address_of(link.target), (link.alias, link.target.config.hostname, link.target.name))
        for link in links_of(container, lookup)
        if link.target is not None and address_of(link.target)
    ]


def environment(container: Container, lookup: Lookup) -> tuple[str, ...]:
    """The variables that tell of what is linked; of one that does not run just now, none."""
    if BRIDGE not in container.network_settings.networks:
        return ()
    found: list[str] = []
    for link in links_of(container, lookup):
        if link.target is not None and (address := address_of(link.target)):
            found += variables(f"/{container.name}/{link.alias}", address, link.target)
    return tuple(found)


def variables(name: str, address: str, target: Container) -> list[str]:
    """``DB_PORT_80_TCP_ADDR=...`` and its like, for the link ``/container/db``. Source: docker run --link."""
    prefix = name.rpartition("/")[2].upper().replace("-", "_")
    exposed = target.config.exposed_ports
    ports = [] if exposed is UNSET or not exposed else sorted(map(_port, exposed))
    found = []
    if ports:
        number, _, protocol = ports[0]
        found.append(f"{prefix}_PORT={protocol}://{address}:{number}")
    for first, last in _ranges(ports):
        (number, _, protocol), (end, _, end_protocol) = first, last
        begin = f"{prefix}_PORT_{number}_{protocol.upper()}"
        found += [
            f"{begin}_START={protocol}://{address}:{number}",
            f"{begin}_ADDR={address}",
            f"{begin}_PROTO={protocol}",
            f"{begin}_PORT_START={number}",
            f"{begin}_END={end_protocol}://{address}:{end}",
            f"{begin}_PORT_END={end}",
        ]
    for number, _, protocol in ports:
        one = f"{prefix}_PORT_{number}_{protocol.upper()}"
        found += [
            f"{one}={protocol}://{address}:{number}",
            f"{one}_ADDR={address}",
            f"{one}_PORT={number}",
            f"{one}_PROTO={protocol}",
        ]
    found.append(f"{prefix}_NAME={name}")
    for item in target.config.env or ():
        key, equals, value = item.partition("=")
        if equals and key not in _OF_THE_IMAGE:
            found.append(f"{prefix}_ENV_{key}={value}")
    return found


_Port = tuple[int, bool, str]


def _port(exposed: str) -> _Port:
    """``80/tcp`` in the order of numbers, and tcp first of those with one number."""
    number, _, protocol = exposed.partition("/")
    protocol = protocol or "tcp"
    return int(number.partition("-")[0]), protocol != "tcp", protocol


def _ranges(ports: list[_Port]) -> Iterator[tuple[_Port, _Port]]:
    """First and last of every three or more whose numbers follow each other."""
    begin = 0
    while begin < len(ports):
        end, value = begin, ports[begin][0]
        while end + 1 < len(ports) and ports[end + 1][0] <= value + 1:
            end, value = end + 1, value + 1
        if end > begin + 1:
            yield ports[begin], ports[end]
            begin = end + 1
        else:
            begin += 1
