"""The jobs ``network_connect`` and ``network_disconnect``."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from pyker.container.record import Container
from pyker.container.store import ContainerStore
from pyker.daemon.create import network_name
from pyker.daemon.netfiles import forget_address, note_address, use_resolver
from pyker.daemon.networks import check_pool, check_predefined, sandbox_request, tell
from pyker.daemon.options import Options
from pyker.engine.job import JobContext
from pyker.errors import Conflict, Forbidden, InvalidParameter, NotFound
from pyker.jobs.networks import ConnectNetwork, DisconnectNetwork
from pyker.networkdriver.base import Network, Sandbox
from pyker.networkdriver.networks import PREDEFINED, Networks
from pyker.types.config import EndpointSettings
from pyker.types.events import Event

_HOST = "container cannot be disconnected from host network or connected to host network"
_NONE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
_SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"


class ConnectionHandlers:
    """Changes what networks a container is on: in its sandbox while it runs, and in its record."""

    def __init__(
        self, networks: Networks, containers: ContainerStore, publish: Callable[[Event], None], options: Options
    ) -> None:
        self._options = options
        self._networks = networks
        self._containers = containers
        self._publish = publish

    def connect(self, job: ConnectNetwork, ctx: JobContext) -> None:
        """Raises InvalidParameter for what cannot go together, Forbidden if it is on the network already, NotFound."""
        network = self._networks.get(job.network)
        container = self._containers.get(job.container)
        ctx.subject = container.id
        with self._containers.lock(container.id):
            container = self._usable(container)
            if network.name in PREDEFINED:
                check_predefined(job.endpoint)
            check_pool(network, job.endpoint)
            self._check(container, network)
            if container.state.running:
                request = sandbox_request(container, network_name(container.host_config.network_mode))
                sandbox = self._networks.connect(request, network, job.endpoint)
                joined = sandbox.endpoints[network.name]
                note_address(container, joined.ip_address)
                if joined.dns_names:
                    use_resolver(container, self._options)
                self._containers.put(_with(container, sandbox), durable=True)
                tell(self._publish, "connect", network, container.id)
                return
            names = {**container.network_settings.networks, network.name: job.endpoint}
            self._containers.put(_named(container, names), durable=True)

    def disconnect(self, job: DisconnectNetwork, ctx: JobContext) -> None:
        """Raises Forbidden if it is not on the network, NotFound."""
        try:
            network = self._networks.get(job.network)
        except NotFound:
            if not job.force:
                raise
            network = None
        container = self._containers.get(job.container)
        ctx.subject = container.id
        with self._containers.lock(container.id):
            container = self._usable(container)
            names = dict(container.network_settings.networks)
            if network is not None and container.state.running:
                if network_name(container.host_config.network_mode) == "host" and network.driver == "host":
                    raise InvalidParameter(_HOST)
                before = names.get(network.name, EndpointSettings())
                sandbox = self._networks.disconnect(container.id, network)
                forget_address(container, before.ip_address)
                self._containers.put(_with(container, sandbox), durable=True)
            else:
                key = job.network if network is None else self._key(container, network)
                if names.pop(key, None) is None:
                    raise Forbidden(f"container {container.id} is not connected to the network {job.network}")
                self._containers.put(_named(container, names), durable=True)
        if network is not None:
            tell(self._publish, "disconnect", network, container.id)

    def _usable(self, container: Container) -> Container:
        container = self._containers.get(container.id)
        if container.state.removal_in_progress or container.state.dead:
            raise Conflict(f"container {container.id} is marked for removal and cannot be connected or disconnected")
        return container

    def _key(self, container: Container, network: Network) -> str:
        """Under what name the record has the network: before its first start, by the name that was typed."""
        names = container.network_settings.networks
        return next((name for name in names if name in (network.name, network.id)), network.name)

    def _check(self, container: Container, network: Network) -> None:
        mode = network_name(container.host_config.network_mode)
        if mode.startswith("container:"):
            raise InvalidParameter(_SHARED)
        if mode != "host" and network.driver == "host":
            raise InvalidParameter(_HOST)
        if mode == "host":
            raise InvalidParameter(_SHARED)
        for name in container.network_settings.networks:
            if name == network.name:
                continue
            if "none" in (name, network.name):
                raise InvalidParameter(_NONE)


def _with(container: Container, sandbox: Sandbox) -> Container:
    settings = replace(container.network_settings, networks=sandbox.endpoints, ports=sandbox.ports)
    return replace(container, network_settings=settings)


def _named(container: Container, networks: dict[str, EndpointSettings]) -> Container:
    return replace(container, network_settings=replace(container.network_settings, networks=networks))
