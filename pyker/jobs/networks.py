"""Jobs about networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pyker.engine.job import Job
from pyker.networkdriver.base import IpamPool, Network
from pyker.types.config import EndpointSettings
from pyker.types.ids import ContainerId, NetworkId


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkView:
    """A network with the running containers on it: ID -> (name, endpoint)."""

    network: Network
    containers: dict[ContainerId, tuple[str, EndpointSettings]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListNetworks(Job[tuple[NetworkView, ...]]):
    """All networks that pass ``filters``."""

    name: ClassVar[str] = "networks"
    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectNetwork(Job[NetworkView]):
    """By ID, name or unique prefix of an ID; a ``scope`` that is not its own finds nothing."""

    name: ClassVar[str] = "network_inspect"
    network: str
    scope: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitNetworkDriver(Job[None]):
    """At start-up: bring the networks up, and give live containers back their ports."""

    name: ClassVar[str] = "init_networkdriver"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateNetwork(Job[NetworkId]):
    """Make a network. Without ``pools`` a free subnet is chosen. Source: Docker API v1.45 POST /networks/create."""

    name: ClassVar[str] = "network_create"
    network_name: str
    driver: str = "bridge"
    internal: bool = False
    attachable: bool = False
    enable_ipv6: bool = False
    ipam_driver: str = "default"
    ipam_options: dict[str, str] | None = None
    pools: tuple[IpamPool, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveNetwork(Job[None]):
    """Delete a network that no running container is on."""

    name: ClassVar[str] = "network_rm"
    network: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneNetworks(Job[tuple[str, ...]]):
    """Delete every network of the user's own that no container is on; returns their names."""

    name: ClassVar[str] = "network_prune"
    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectNetwork(Job[None]):
    """Put a container on one more network: at once if it runs, else at its start."""

    name: ClassVar[str] = "network_connect"
    network: str
    container: str
    endpoint: EndpointSettings = field(default_factory=EndpointSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class DisconnectNetwork(Job[None]):
    """Take a container off a network; with ``force`` also off one that is not there any more."""

    name: ClassVar[str] = "network_disconnect"
    network: str
    container: str
    force: bool = False
