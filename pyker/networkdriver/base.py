"""What a networkdriver is, and the values that describe networks, endpoints and sandboxes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pyker.errors import InvalidParameter
from pyker.networkdriver.dnsnames import DnsConfig
from pyker.types.config import EndpointSettings, PortBinding
from pyker.types.ids import ContainerId, EndpointId, NetworkId
from pyker.types.probe import Probe

if TYPE_CHECKING:
    from pyker.networkdriver.firewall import Firewall
    from pyker.networkdriver.ipam import Ipam


MTU = "com.docker.network.driver.mtu"


class NamespaceMaker(Protocol):
    """Who makes network namespaces: the launcher, since a process with threads must not. Thread-safe."""

    def new_netns(self, path: str) -> int:
        """Make a namespace with lo up, pinned at ``path``; returns a NETLINK_ROUTE socket inside, the caller's."""
        ...

    def open_netns(self, path: str) -> int:
        """The same socket for a namespace that is pinned already."""
        ...

    def remove_netns(self, path: str) -> None:
        """Unpin. What is gone already is not an error."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeOptions:
    """The daemon's options for the default bridge, by their flags.

    ``bridge`` (--bridge) is an existing bridge to use, "none" for no default bridge at all, "" for our own.
    ``bip`` is the bridge's address as CIDR. ``ip`` is where ports are published by default. ``mtu`` 0 means 1500.
    ``pool_size`` is how many sandboxes are kept ready.
    """

    bridge: str = ""
    bip: str = ""
    fixed_cidr: str = ""
    mtu: int = 0
    icc: bool = True
    ip: str = "0.0.0.0"
    ip_masq: bool = True
    ip_forward: bool = True
    iptables: bool = True
    userland_proxy: bool = True
    pool_size: int = 3


@dataclass(frozen=True, slots=True)
class DriverContext:
    """What a driver is made with."""

    namespaces: NamespaceMaker
    ipam: Ipam
    firewall: Firewall
    options: BridgeOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class IpamPool:
    """One address pool; ``subnet``, ``ip_range`` are CIDR, ``gateway`` an address; empty means choose."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    aux_addresses: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network as stored. ``created`` is RFC 3339, UTC. ``pool_chosen``: nobody asked for these addresses."""

    id: NetworkId
    name: str
    driver: str
    created: str
    scope: str = "local"
    internal: bool = False
    attachable: bool = False
    enable_ipv6: bool = False
    ipam_driver: str = "default"
    ipam_options: dict[str, str] | None = None
    pools: tuple[IpamPool, ...] = ()
    pool_chosen: bool = False
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


def link_mtu(network: Network) -> int:
    """The MTU of a network's links, 0 for the kernel's choice. Raises InvalidParameter."""
    text = network.options.get(MTU) or "0"
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise InvalidParameter(f'invalid value "{text}" for {MTU}')
    return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRequest:
    """What ``start`` wants of the network for one container.

    ``mode`` is the container's NetworkMode after normalisation: "bridge", "host", "none", a network's name or ID.
    ("container:<id>" never comes here: the daemon shares the other container's sandbox.)
    ``endpoints`` are by network name. ``ports`` are the bindings to publish, by "80/tcp"; an empty ``host_port``
    means any free port. ``exposed`` are exposed ports without a binding. ``hostname`` is one more name on networks of
    the user's own; ``dns`` is what the resolver there has to know.
    """

    container_id: ContainerId
    container_name: str
    mode: str
    endpoints: dict[str, EndpointSettings] = field(default_factory=dict)
    ports: dict[str, tuple[PortBinding, ...]] = field(default_factory=dict)
    exposed: tuple[str, ...] = ()
    hostname: str = ""
    dns: DnsConfig = field(default_factory=DnsConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A network namespace with its endpoints, ready for a container to join.

    ``netns_path`` is the pinned namespace, or "" for the host's own. ``ports`` are final: real host ports.
    """

    id: str
    netns_path: str
    endpoints: dict[str, EndpointSettings] = field(default_factory=dict)
    ports: dict[str, tuple[PortBinding, ...] | None] = field(default_factory=dict)
    dns: DnsConfig = field(default_factory=DnsConfig)


class NetworkDriver(Protocol):
    """One type of network: bridge, host, null, macvlan, ..."""

    name: str
    scope: str

    @classmethod
    def probe(cls) -> Probe:
        """Ask the kernel whether this driver can work here."""
        ...

    def create_network(self, network: Network) -> None:
        """Bring the network's links and rules up. Repeating it for a network that is up heals it."""
        ...

    def delete_network(self, network: Network) -> None:
        """Take everything down again. What is already gone is not an error."""
        ...

    def create_endpoint(
        self, network: Network, endpoint_id: EndpointId, sandbox: Sandbox, settings: EndpointSettings, ifname: str
    ) -> EndpointSettings:
        """Give the sandbox an interface on the network; returns ``settings`` completed with addresses."""
        ...

    def delete_endpoint(self, network: Network, endpoint_id: EndpointId, settings: EndpointSettings) -> None:
        """Take the interface and its addresses back."""
        ...


class NothingToMake:
    """What network types share that leave a container's interfaces as they are: host and null."""

    scope = "local"

    def __init__(self, context: DriverContext) -> None:
        del context

    @classmethod
    def probe(cls) -> Probe:
        return Probe(True)

    def create_network(self, network: Network) -> None:
        del network

    def delete_network(self, network: Network) -> None:
        del network

    def create_endpoint(
        self, network: Network, endpoint_id: EndpointId, sandbox: Sandbox, settings: EndpointSettings, ifname: str
    ) -> EndpointSettings:
        """An endpoint without an interface or addresses of its own."""
        return settings

    def delete_endpoint(self, network: Network, endpoint_id: EndpointId, settings: EndpointSettings) -> None:
        del network
