"""The jobs about networks, and the two children of ``start`` that make and take back a container's sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from msgspec import UNSET
from msgspec.structs import replace

from pyker.api import filters as wanted
from pyker.api import gotime
from pyker.container.record import Container
from pyker.container.state import as_asked
from pyker.engine.job import JobContext
from pyker.errors import Forbidden, InvalidParameter, NotFound
from pyker.jobs.containers import AllocateInterface, ReleaseInterface
from pyker.jobs.networks import (
    CreateNetwork,
    InitNetworkDriver,
    InspectNetwork,
    ListNetworks,
    NetworkView,
    PruneNetworks,
    RemoveNetwork,
)
from pyker.networkdriver.base import Network, Sandbox, SandboxRequest
from pyker.networkdriver.dnsnames import DnsConfig, names_of
from pyker.networkdriver.networks import PREDEFINED, Networks
from pyker.types.config import EndpointSettings, HostConfig, PortBinding
from pyker.types.events import Event
from pyker.types.ids import ContainerId, NetworkId


class Containers(Protocol):
    """What these jobs need of the containers' store."""

    def get(self, name: str) -> Container: ...
    def all(self) -> Iterable[Container]: ...


class NetworkHandlers:
    """One method a job."""

    def __init__(self, networks: Networks, containers: Containers, publish: Callable[[Event], None]) -> None:
        self._networks = networks
        self._containers = containers
        self._publish = publish

    def init_networkdriver(self, job: InitNetworkDriver, ctx: JobContext) -> None:
        """Bring the networks up. Containers whose record says that they run keep their addresses and ports."""
        self._networks.start(
            {container.id: _sandbox_of(container) for container in self._containers.all() if _is_live(container)}
        )

    def list(self, job: ListNetworks, ctx: JobContext) -> tuple[NetworkView, ...]:
        """Newest first, as the reference does. Raises InvalidParameter for a filter that networks do not have."""
        filters = job.filters
        wanted.validate(filters, wanted.NETWORKS)
        for value in filters.get("type", ()):
            if value not in ("builtin", "custom"):
                raise InvalidParameter(f"invalid filter: 'type'='{value}'")
        dangling = _dangling_filter(filters)
        types = filters.get("type")
        networks = [
            network
            for network in self._networks.list()
            if wanted.matches_pattern(filters.get("name"), network.name)
            and wanted.matches_pattern(filters.get("id"), network.id)
            and wanted.matches_exactly(filters.get("driver"), network.driver)
            and wanted.matches_exactly(filters.get("scope"), network.scope)
            and wanted.matches_labels(filters.get("label"), network.labels)
            and wanted.matches_exactly(types, "builtin" if network.name in PREDEFINED else "custom")
            and (dangling is None or dangling == self._dangling(network))
        ]
        networks.sort(key=lambda network: network.created, reverse=True)
        return tuple(self._view(network) for network in networks)

    def inspect(self, job: InspectNetwork, ctx: JobContext) -> NetworkView:
        """Raises NotFound."""
        network = self._networks.get(job.network)
        if job.scope not in ("", network.scope):
            raise NotFound(f"network {job.network} not found")
        return self._view(network)

    def create(self, job: CreateNetwork, ctx: JobContext) -> NetworkId:
        """Raises Conflict for a name in use, Forbidden for addresses in use or a predefined name."""
        if not job.network_name.strip():
            raise InvalidParameter(f"invalid name: {job.network_name}")
        if job.ipam_driver not in ("", "default"):
            raise NotFound(f'plugin "{job.ipam_driver}" not found', hint="the address driver here is called default")
        network = self._networks.create(
            Network(
                id=NetworkId(""),
                name=job.network_name,
                driver=job.driver,
                created="",
                internal=job.internal,
                attachable=job.attachable,
                enable_ipv6=job.enable_ipv6,
                ipam_options=job.ipam_options,
                pools=job.pools,
                options=job.options,
                labels=job.labels,
            )
        )
        self._tell("create", network)
        return network.id

    def remove(self, job: RemoveNetwork, ctx: JobContext) -> None:
        """Raises Forbidden for a predefined network, and for one with running containers."""
        self._tell("destroy", self._networks.remove(job.network))

    def prune(self, job: PruneNetworks, ctx: JobContext) -> tuple[str, ...]:
        """What somebody takes or removes meanwhile is theirs."""
        before = [gotime.moment_before(text) for text in job.filters.get("until", ())]
        removed = []
        for network in self._networks.list():
            if not self._dangling(network) or not wanted.passes_prune(job.filters, network.labels):
                continue
            if any(gotime.parse_time(network.created) >= limit for limit in before):
                continue
            try:
                self._tell("destroy", self._networks.remove(network.id))
            except (Forbidden, NotFound):
                continue
            removed.append(network.name)
        self._publish(Event(kind="network", action="prune", actor_id="", attributes={"reclaimed": "0"}))
        return tuple(removed)

    def allocate_interface(self, job: AllocateInterface, ctx: JobContext) -> dict[str, EndpointSettings]:
        """Make the container's sandbox; ``sandbox`` has it afterwards, ports included."""
        container = self._containers.get(job.container)
        request = sandbox_request(container, self._mode(container, job.mode))
        for name, endpoint in request.endpoints.items():
            if name in (*PREDEFINED, "default"):
                check_predefined(endpoint)
            else:
                check_pool(self._networks.get(name), endpoint)
        sandbox = self._networks.allocate(request)
        for endpoint in sandbox.endpoints.values():
            self._tell("connect", self._networks.get(endpoint.network_id), container.id)
        return sandbox.endpoints

    def _mode(self, container: Container, mode: str) -> str:
        """The network of the container's mode, or another of its own if it was taken off that one."""
        names = list(container.network_settings.networks)
        if mode in ("host", "none") or not names or mode in names:
            return mode
        first = self._networks.get(mode)
        return mode if any(self._networks.get(name).id == first.id for name in names) else names[0]

    def release_interface(self, job: ReleaseInterface, ctx: JobContext) -> None:
        """Take it back; a container without one is not an error."""
        try:
            sandbox = self._networks.sandbox(job.container)
        except NotFound:
            return
        self._networks.release(job.container)
        for endpoint in sandbox.endpoints.values():
            self._tell("disconnect", self._networks.get(endpoint.network_id), job.container)

    def sandbox(self, container_id: ContainerId) -> Sandbox:
        """The sandbox of a running container. Raises NotFound."""
        return self._networks.sandbox(container_id)

    def _dangling(self, network: Network) -> bool:
        return network.name not in PREDEFINED and not self._networks.endpoints(network.id)

    def _view(self, network: Network) -> NetworkView:
        names = {container.id: container.name for container in self._containers.all()}
        return NetworkView(
            network=network,
            containers={
                container_id: (names.get(container_id, ""), endpoint)
                for container_id, endpoint in self._networks.endpoints(network.id).items()
            },
        )

    def _tell(self, action: str, network: Network, container_id: str = "") -> None:
        tell(self._publish, action, network, container_id)


def tell(publish: Callable[[Event], None], action: str, network: Network, container_id: str = "") -> None:
    """One event about a network."""
    attributes = {"container": container_id} if container_id else {}
    attributes |= {"name": network.name, "type": network.driver}
    publish(Event(kind="network", action=action, actor_id=network.id, attributes=attributes))


def _dangling_filter(filters: wanted.Filters) -> bool | None:
    """This list has words of its own for a value that is neither yes nor no."""
    try:
        return wanted.truth(filters, "dangling")
    except InvalidParameter as error:
        words = """invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")"""
        raise InvalidParameter(words) from error


def sandbox_request(container: Container, mode: str) -> SandboxRequest:
    """What a container's configuration asks of the network.

    A binding counts only for a port that is exposed too, as in the reference; --publish-all gives every other exposed
    port one. The MAC address may be said of the container as a whole.
    """
    host_config, config = container.host_config, container.config
    exposed = () if config.exposed_ports is UNSET or not config.exposed_ports else tuple(config.exposed_ports)
    bindings: dict[str, tuple[PortBinding, ...]] = {}
    for port in exposed:
        chosen = (host_config.port_bindings or {}).get(port)
        if chosen:
            bindings[port] = chosen
        elif host_config.publish_all_ports:
            bindings[port] = (PortBinding(),)
    endpoints = {name: as_asked(endpoint) for name, endpoint in container.network_settings.networks.items()}
    if config.mac_address is not UNSET and config.mac_address and mode not in ("host", "none"):
        endpoint = endpoints.get(mode, EndpointSettings())
        if not endpoint.mac_address:
            endpoints[mode] = replace(endpoint, mac_address=config.mac_address)
    return SandboxRequest(
        container_id=container.id,
        container_name=container.name,
        mode=mode,
        endpoints=endpoints,
        ports=bindings,
        exposed=exposed,
        hostname=config.hostname,
        dns=dns_config(host_config),
    )


def dns_config(host_config: HostConfig) -> DnsConfig:
    """What a container's configuration says of its resolver.

    With ndots above 0 of the user's own, a name without a dot means one with a search domain: unknown, it is asked for
    nowhere else.
    """
    single = any(
        option.startswith("ndots:") and option.removeprefix("ndots:").strip("0") != ""
        for option in host_config.dns_options or ()
    )
    return DnsConfig(tuple(host_config.dns or ()), keeps_single=single)


def check_predefined(endpoint: EndpointSettings) -> None:
    """Refuse, in the reference's words, what only networks of the user's own can do."""
    if _has_address(endpoint):
        raise InvalidParameter("user specified IP address is supported on user defined networks only")
    if endpoint.aliases:
        raise InvalidParameter("network-scoped alias is supported only for containers in user defined networks")


def check_pool(network: Network, endpoint: EndpointSettings) -> None:
    """Refuse an address of the user's choice where the subnet is not."""
    if _has_address(endpoint) and network.pool_chosen:
        raise InvalidParameter(
            "user specified IP address is supported only when connecting to networks with user configured subnets",
            hint="make the network with --subnet",
        )


def _has_address(endpoint: EndpointSettings) -> bool:
    fixed = endpoint.ipam_config
    return fixed is not None and bool(fixed.ipv4_address or fixed.ipv6_address)


def _is_live(container: Container) -> bool:
    return container.state.running and bool(container.network_settings.sandbox_id)


def _sandbox_of(container: Container) -> Sandbox:
    """The sandbox as the container's record has it, by the name that it has now."""
    settings, hostname = container.network_settings, container.config.hostname
    endpoints = {
        network: replace(endpoint, dns_names=names_of(container.id, container.name, hostname, endpoint))
        if endpoint.dns_names is not None
        else endpoint
        for network, endpoint in settings.networks.items()
    }
    return Sandbox(
        id=settings.sandbox_id,
        netns_path=settings.sandbox_key,
        endpoints=endpoints,
        ports=settings.ports,
        dns=dns_config(container.host_config),
    )
