"""All networks of the engine, and the sandboxes that containers join.

The daemon makes one Networks. A start asks it for a sandbox, and gets one with its interfaces, addresses and published
ports ready; an end gives it back. What cannot be finished is undone before the error is raised.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

from msgspec import structs

from pyker.errors import (
    Conflict,
    Forbidden,
    InvalidParameter,
    KernelError,
    NotFound,
    NotSupported,
    PykerError,
    SystemFailure,
)
from pyker.networkdriver import bridge
from pyker.networkdriver.base import (
    BridgeOptions,
    DriverContext,
    IpamPool,
    NamespaceMaker,
    Network,
    NetworkDriver,
    Sandbox,
    SandboxRequest,
)
from pyker.networkdriver.bridge import BridgeDriver
from pyker.networkdriver.dns import Resolver
from pyker.networkdriver.dnsnames import View, Zone, links_of, names_of, servers_of, with_new_name
from pyker.networkdriver.etcfiles import HostServers
from pyker.networkdriver.firewall import Firewall
from pyker.networkdriver.ipam import Ipam, choose_pool, parse_pool
from pyker.networkdriver.joining import (
    asked,
    first_address,
    has_names,
    identified,
    keep_default_route,
    next_interface,
    publishes,
)
from pyker.networkdriver.parented import ParentedDriver
from pyker.networkdriver.pool import RawSandbox, Reaper, SandboxPool, new_id
from pyker.networkdriver.ports import PortMapper, Ports
from pyker.networkdriver.predefined import NO_BRIDGE, PREDEFINED, now, predefined_networks
from pyker.networkdriver.select import Drivers
from pyker.networkdriver.store import NetworkStore
from pyker.types.config import EndpointSettings
from pyker.types.ids import ContainerId, EndpointId, NetworkId

__all__ = ["PREDEFINED", "BridgeOptions", "Networks"]

_LOG = logging.getLogger(__name__)


class Networks:
    """Thread-safe. ``start`` comes first, ``close`` last; running containers keep their networks when it is closed."""

    def __init__(
        self,
        *,
        root: str,
        exec_root: str,
        namespaces: NamespaceMaker,
        options: BridgeOptions | None = None,
        dns: Sequence[str] = (),
    ) -> None:
        """``dns`` are the name servers of the daemon's own options."""
        self._options = options or BridgeOptions()
        self._dns = tuple(dns)
        self._host_servers = HostServers()
        self._resolver = Resolver(self._view)
        self._namespaces = namespaces
        self._folder = os.path.join(exec_root, "netns")
        os.makedirs(self._folder, mode=0o711, exist_ok=True)
        self._store = NetworkStore(root)
        self._ipam = Ipam(self._store)
        self._firewall = Firewall(enabled=self._options.iptables)
        self._drivers = Drivers(DriverContext(namespaces, self._ipam, self._firewall, self._options))
        self._ports = PortMapper(
            self._firewall, default_ip=self._options.ip, userland_proxy=self._options.userland_proxy
        )
        self._pool = SandboxPool(namespaces, self._folder, size=self._options.pool_size)
        self._reaper = Reaper(self._demolish, self._pool.quiet_s)
        self._lock = threading.Lock()
        self._networks: dict[NetworkId, Network] = {}
        self._live: dict[ContainerId, Sandbox] = {}
        self._zones: dict[NetworkId, Zone] = {}
        self._closed = False

    # -- the engine's life

    def start(self, live: Mapping[ContainerId, Sandbox]) -> None:
        """Bring networks, addresses and the firewall up; ``live`` are the sandboxes of containers that run already.

        They keep their addresses and ports; whatever else an earlier daemon left is freed and removed.
        Raises NotSupported where the kernel or libnftables lacks what the default network needs.
        """
        self._live = dict(live)
        networks = self._load()
        if any(network.driver == "bridge" for network in networks):
            self._firewall.open()
        for network in networks:
            taken = {
                endpoint.ip_address: endpoint.endpoint_id
                for sandbox in live.values()
                for endpoint in sandbox.endpoints.values()
                if endpoint.network_id == network.id and endpoint.ip_address
            }
            try:
                self._bring_up(network, taken)
            except PykerError as error:
                if network.name in PREDEFINED:
                    raise
                _LOG.error("network %s cannot be brought up: %s", network.name, error)
        for container_id, sandbox in live.items():
            address = first_address(sandbox)
            if address and any(sandbox.ports.values()):
                self._ports.adopt(container_id, address, sandbox.ports)
            self._remember(sandbox)
        self._resolve_again()
        if any(network.driver == "bridge" for network in networks):
            self._firewall.start()
        self._sweep()
        default = self._find("bridge")
        if default is not None and (driver := self._bridge_driver()) is not None:
            self._pool.start(driver.prepare(default), driver.unprepare)
        else:
            self._pool.start(None, None)

    def close(self) -> None:
        """Take down what no container uses, finish what was put off, and let go of everything else as it is."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._resolver.close()
        self._pool.close()
        self._reaper.close()
        self._ports.close()
        self._firewall.close()
        self._drivers.close()
        self._store.close()

    def settle(self, timeout_s: float = 30.0) -> bool:
        """Block until everything released is really gone and the pool is full; False after ``timeout_s``."""
        return self._reaper.flush(timeout_s) and self._pool.wait_full(timeout_s)

    def warnings(self) -> list[str]:
        """What in other programs' configuration keeps containers from the network."""
        try:
            drops = self._firewall.foreign_drops()
        except PykerError as error:
            return [f"the firewall cannot be read: {error}"]
        return [
            f"the chain {chain} drops by policy what is forwarded: containers reach the network only if it accepts them"
            for chain in drops
        ]

    def drivers(self) -> list[str]:
        """The names of the networkdrivers, for ``info``."""
        return self._drivers.names()

    def _load(self) -> Sequence[Network]:
        """The predefined networks and the user's, stored as they are now."""
        stored = {network.name: network for network in self._store.networks()}
        networks = predefined_networks(stored, self._options, self._bridge_driver(), keep_pool=bool(self._live))
        networks += [network for name, network in stored.items() if name not in PREDEFINED]
        for network in networks:
            if stored.get(network.name) != network:
                self._store.put_network(network)
        return networks

    def _remember(self, sandbox: Sandbox) -> None:
        """Tell drivers whose links cannot be found from the host where an earlier daemon put them."""
        for endpoint in sandbox.endpoints.values():
            network = self._find(endpoint.network_id)
            if network is not None and isinstance(driver := self._drivers.get(network.driver), ParentedDriver):
                driver.remember(EndpointId(endpoint.endpoint_id), sandbox)

    def _bridge_driver(self) -> BridgeDriver | None:
        try:
            driver = self._drivers.get("bridge")
        except (NotFound, NotSupported):
            if self._options.bridge == NO_BRIDGE:
                return None
            raise
        return driver if isinstance(driver, BridgeDriver) else None

    def _bring_up(self, network: Network, taken: Mapping[str, str]) -> None:
        driver = self._drivers.get(network.driver)
        for pool in network.pools:
            self._ipam.add_network(network.id, pool, taken)
        try:
            driver.create_network(network)
        except BaseException:
            self._ipam.remove_network(network.id)
            raise
        with self._lock:
            self._networks[network.id] = network

    def _sweep(self) -> None:
        """Remove the namespaces and interfaces that no live container has."""
        pins = {sandbox.netns_path for sandbox in self._live.values()}
        links = {
            bridge.host_link(EndpointId(endpoint.endpoint_id))
            for sandbox in self._live.values()
            for endpoint in sandbox.endpoints.values()
        }
        driver = self._bridge_driver()
        if driver is not None:
            driver.sweep(links)
        for entry in os.listdir(self._folder):
            path = os.path.join(self._folder, entry)
            if path not in pins:
                self._namespaces.remove_netns(path)

    # -- networks

    def list(self) -> list[Network]:
        """Every network."""
        with self._lock:
            return list(self._networks.values())

    def get(self, name: str) -> Network:
        """By ID, name or unique prefix of an ID. Raises NotFound, or InvalidParameter for an ambiguous prefix."""
        found = self._find(name)
        if found is not None:
            return found
        matches = [network for network in self.list() if name and network.id.startswith(name)]
        if len(matches) > 1:
            raise InvalidParameter(f"network {name} is ambiguous ({len(matches)} matches found based on ID prefix)")
        if not matches:
            raise NotFound(f"network {name} not found", hint="`pyker network ls` lists all of them")
        return matches[0]

    def _find(self, name: str) -> Network | None:
        with self._lock:
            exact = self._networks.get(NetworkId(name))
            if exact is not None:
                return exact
            return next((network for network in self._networks.values() if network.name == name), None)

    def create(self, wanted: Network) -> Network:
        """Make a network; an empty ``id`` and ``created`` are filled in, and the pool chosen if none is given.

        Raises Conflict when the name is taken, Forbidden when the addresses are, NotFound for an unknown driver.
        """
        if wanted.name in PREDEFINED:
            raise Forbidden(f"operation is not permitted on predefined {wanted.name} network ")
        if wanted.driver in ("host", "null"):
            raise Forbidden(f'only one instance of "{wanted.driver}" network is allowed')
        driver = self._drivers.get(wanted.driver or "bridge")
        if self._find(wanted.name) is not None:
            raise Conflict(f"network with name {wanted.name} already exists")
        if wanted.enable_ipv6 or any(":" in pool.subnet for pool in wanted.pools):
            raise NotSupported("networks with IPv6 addresses are not there yet", hint="leave --ipv6 out")
        pools = tuple(parse_pool(pool) for pool in wanted.pools if pool.subnet)
        if len(pools) > 1:
            raise InvalidParameter("a bridge network has one IPv4 subnet")
        bridges = self._bridge_driver()
        chosen_here = not pools and bridges is not None
        if not pools and bridges is not None:
            chosen = choose_pool([*self._ipam.subnets(), *bridges.busy_subnets(besides="")])
            pools = (parse_pool(IpamPool(subnet=str(chosen))),)
        network = replace(
            wanted,
            id=wanted.id or NetworkId(new_id()),
            created=wanted.created or now(),
            driver=driver.name,
            pools=pools,
            pool_chosen=chosen_here,
        )
        self._firewall.start()
        self._store.put_network(network)
        try:
            self._bring_up(network, {})
        except BaseException:
            self._store.delete_network(network.id)
            raise
        return network

    def remove(self, name: str) -> Network:
        """Delete a network. Raises Forbidden for a predefined one, or one that containers are on."""
        network = self.get(name)
        if network.name in PREDEFINED:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        if self.endpoints(network.id):
            raise Forbidden(
                f"error while removing network: network {network.name} id {network.id} has active endpoints"
            )
        self._reaper.flush()
        with self._lock:
            self._networks.pop(network.id, None)
        self._drivers.get(network.driver).delete_network(network)
        self._ipam.remove_network(network.id)
        self._store.delete_network(network.id)
        return network

    def endpoints(self, network: NetworkId) -> dict[ContainerId, EndpointSettings]:
        """The running containers on a network."""
        with self._lock:
            return {
                container_id: endpoint
                for container_id, sandbox in self._live.items()
                for endpoint in sandbox.endpoints.values()
                if endpoint.network_id == network
            }

    # -- sandboxes

    def sandbox(self, container_id: ContainerId) -> Sandbox:
        """The sandbox of a running container. Raises NotFound if it has none."""
        with self._lock:
            found = self._live.get(container_id)
        if found is None:
            raise NotFound(f"container {container_id} has no network sandbox")
        return found

    def allocate(self, request: SandboxRequest) -> Sandbox:
        """Make a container's sandbox. Addresses and ports are final when this returns; a failure leaves nothing.

        Raises NotFound for an unknown network, Conflict for an address that is taken, SystemFailure for a port that is.
        """
        mode = "bridge" if request.mode in ("", "default") else request.mode
        first = self.get(mode)
        with self._lock:
            if request.container_id in self._live:
                raise Conflict(f"container {request.container_id} has a network sandbox already")
        if first.driver == "host":
            endpoint = self._endpoint(first, request)
            sandbox = Sandbox(id=new_id(), netns_path="", endpoints={first.name: endpoint})
        else:
            sandbox = self._build(first, request)
        with self._lock:
            self._live[request.container_id] = sandbox
            self._zones.clear()
        return sandbox

    def _endpoint(self, network: Network, request: SandboxRequest) -> EndpointSettings:
        wanted = asked(network, request)
        driver = self._drivers.get(network.driver)
        identifier = EndpointId(new_id())
        empty = Sandbox(id="", netns_path="")
        settings = identified(wanted, network.id, identifier)
        return driver.create_endpoint(network, identifier, empty, settings, "")

    def _build(self, first: Network, request: SandboxRequest) -> Sandbox:
        networks = self._joined(first, request)
        attached = first.name == "bridge"
        raw = self._pool.take(attached=attached)
        driver = self._bridge_driver()
        with contextlib.ExitStack() as undo:
            undo.callback(self._namespaces.remove_netns, raw.path)
            resolved = None
            if any(has_names(network) for network in networks):
                # In a thread of its own, beside what follows here.
                resolved = self._resolver.open(request.container_id, raw.path)
                undo.callback(self._resolver.forget, request.container_id)
            with contextlib.closing(raw.netlink):
                sandbox = Sandbox(id=raw.id, netns_path=raw.path)
                if driver is not None:
                    driver.adopt(raw)
                    undo.callback(self._drop_link, driver, raw)
                try:
                    endpoints = self._join(networks, raw, sandbox, request, undo)
                finally:
                    if driver is not None:
                        driver.forget(raw)
            ports: Ports = dict.fromkeys(request.exposed)
            sandbox = Sandbox(id=raw.id, netns_path=raw.path, endpoints=endpoints, dns=request.dns)
            address = first_address(sandbox)
            if address and publishes(first):
                try:
                    ports |= self._ports.publish(request.container_id, address, request.ports)
                except SystemFailure as error:
                    endpoint = next(iter(endpoints.values()))
                    raise SystemFailure(
                        f"driver failed programming external connectivity on endpoint {request.container_name} "
                        f"({endpoint.endpoint_id}): {error.message}",
                        hint=error.hint,
                    ) from error
            if resolved is not None:
                resolved()
            undo.pop_all()
        return replace(sandbox, ports=ports if address else {})

    def _joined(self, first: Network, request: SandboxRequest) -> Sequence[Network]:
        """The networks to join, the one of the container's mode first."""
        networks = {first.id: first}
        if first.driver != "null":
            for name in sorted(request.endpoints):
                if name not in ("default", request.mode):
                    network = self.get(name)
                    networks.setdefault(network.id, network)
        return list(networks.values())

    def _join(
        self,
        networks: Sequence[Network],
        raw: RawSandbox,
        sandbox: Sandbox,
        request: SandboxRequest,
        undo: contextlib.ExitStack,
    ) -> dict[str, EndpointSettings]:
        endpoints: dict[str, EndpointSettings] = {}
        for number, network in enumerate(networks):
            driver = self._drivers.get(network.driver)
            identifier = raw.endpoint_id if number == 0 else EndpointId(new_id())
            settings = self._named(identified(asked(network, request), network.id, identifier), network, request)
            settings = driver.create_endpoint(network, identifier, sandbox, settings, f"eth{number}")
            undo.callback(self._drop_endpoint, driver, network, settings)
            endpoints[network.name] = settings
        return endpoints

    def _named(self, settings: EndpointSettings, network: Network, request: SandboxRequest) -> EndpointSettings:
        """With the names that other containers of the network find it by."""
        if not has_names(network):
            return settings
        names = names_of(request.container_id, request.container_name, request.hostname, settings)
        return structs.replace(settings, dns_names=names)

    def _drop_link(self, driver: BridgeDriver, raw: RawSandbox) -> None:
        if raw.link:
            driver.unprepare(raw)

    def _drop_endpoint(self, driver: NetworkDriver, network: Network, settings: EndpointSettings) -> None:
        with contextlib.suppress(KernelError):
            driver.delete_endpoint(network, EndpointId(settings.endpoint_id), settings)

    def connect(self, request: SandboxRequest, network: Network, settings: EndpointSettings) -> Sandbox:
        """Give a container's sandbox an interface on one more network; returns the sandbox as it is then.

        ``request`` says which ports to publish, if there was no address to publish them at before. Raises NotFound for
        a container without a sandbox, Forbidden if it is on the network already.
        """
        sandbox = self.sandbox(request.container_id)
        if network.name in sandbox.endpoints:
            name = request.container_name
            raise Forbidden(f"endpoint with name {name} already exists in network {network.name}")
        driver = self._drivers.get(network.driver)
        identifier = EndpointId(new_id())
        ifname = next_interface(self._namespaces, sandbox.netns_path)
        with contextlib.ExitStack() as undo:
            if has_names(network) and not self._resolves(sandbox):
                resolved = self._resolver.open(request.container_id, sandbox.netns_path, replace=True)
                undo.callback(self._resolver.forget, request.container_id)
                resolved()
            settings = self._named(identified(settings, network.id, identifier), network, request)
            settings = driver.create_endpoint(network, identifier, sandbox, settings, ifname)
            undo.callback(self._drop_endpoint, driver, network, settings)
            endpoints = {**sandbox.endpoints, network.name: settings}
            keep_default_route(self._namespaces, sandbox.netns_path, endpoints.values())
            ports: Ports = sandbox.ports
            if not first_address(sandbox):
                ports = dict.fromkeys(request.exposed)
                if settings.ip_address and publishes(network):
                    ports |= self._ports.publish(request.container_id, settings.ip_address, request.ports)
            undo.pop_all()
        return self._changed(request.container_id, replace(sandbox, endpoints=endpoints, ports=ports))

    def disconnect(self, container_id: ContainerId, network: Network) -> Sandbox:
        """Take a running container off a network; its published ports move on to an address that it still has.

        Raises Forbidden if it is not on the network.
        """
        sandbox = self.sandbox(container_id)
        endpoints = dict(sandbox.endpoints)
        gone = endpoints.pop(network.name, None)
        if gone is None:
            raise Forbidden(f"container {container_id} is not connected to network {network.name}")
        left = replace(sandbox, endpoints=endpoints)
        ports: Ports = sandbox.ports
        moves = bool(gone.ip_address) and gone.ip_address == first_address(sandbox)
        bound = {port: bindings for port, bindings in sandbox.ports.items() if bindings}
        if moves and bound:
            self._ports.unpublish(container_id)
        self._drivers.get(network.driver).delete_endpoint(network, EndpointId(gone.endpoint_id), gone)
        keep_default_route(self._namespaces, sandbox.netns_path, endpoints.values())
        if moves:
            address = first_address(left)
            if bound and address:
                ports = {**sandbox.ports, **self._ports.publish(container_id, address, bound)}
            elif not address:
                ports = {}
        return self._changed(container_id, replace(left, ports=ports))

    def _changed(self, container_id: ContainerId, sandbox: Sandbox) -> Sandbox:
        with self._lock:
            if container_id in self._live:
                self._live[container_id] = sandbox
            self._zones.clear()
        return sandbox

    def rename(self, container_id: ContainerId, old: str, new: str) -> None:
        """A container has another name now; one without a sandbox is fine."""
        with self._lock:
            sandbox = self._live.get(container_id)
            if sandbox is not None:
                endpoints = {name: with_new_name(each, old, new) for name, each in sandbox.endpoints.items()}
                self._live[container_id] = replace(sandbox, endpoints=endpoints)
                self._zones.clear()

    # -- names

    def _resolves(self, sandbox: Sandbox) -> bool:
        """Whether a sandbox is on a network with names, and so has a resolver."""
        networks = [self._find(endpoint.network_id) for endpoint in sandbox.endpoints.values()]
        return any(network is not None and has_names(network) for network in networks)

    def _resolve_again(self) -> None:
        """Serve the sandboxes that an earlier daemon served."""
        waiting = [
            (container_id, self._resolver.open(container_id, sandbox.netns_path, replace=True))
            for container_id, sandbox in self._live.items()
            if sandbox.netns_path and self._resolves(sandbox)
        ]
        for container_id, wait in waiting:
            try:
                wait()
            except (PykerError, OSError) as error:
                _LOG.warning("container %s has no resolver: %s", container_id[:12], error)

    def _view(self, container_id: ContainerId) -> View | None:
        """What a container's questions are answered from."""
        with self._lock:
            sandbox = self._live.get(container_id)
            if sandbox is None:
                return None
            zones, links, leaves = [], {}, False
            for endpoint in sandbox.endpoints.values():
                network = self._networks.get(NetworkId(endpoint.network_id))
                if network is None:
                    continue
                leaves = leaves or not network.internal
                if has_names(network):
                    zone = self._zones.get(network.id) or self._zone(network)
                    zones.append(zone)
                    links[zone.network] = links_of(endpoint)
        servers = servers_of(sandbox.dns, self._dns, self._host_servers, leaves=leaves)
        return View(zones, links, servers, sandbox.dns.keeps_single)

    def _zone(self, network: Network) -> Zone:
        members = [
            endpoint
            for sandbox in self._live.values()
            for endpoint in sandbox.endpoints.values()
            if endpoint.network_id == network.id
        ]
        zone = self._zones[network.id] = Zone.of(network.name, members)
        return zone

    # -- the end of a sandbox

    def release(self, identifier: str) -> None:
        """Take a sandbox back, by its own ID or its container's. One that is not there is not an error.

        Ports are free when this returns. Interfaces and the namespace go in the background, and only then are the
        addresses given to others; ``close`` waits for that.
        """
        with self._lock:
            container_id = ContainerId(identifier)
            if container_id not in self._live:
                container_id = next((key for key, each in self._live.items() if each.id == identifier), container_id)
            sandbox = self._live.pop(container_id, None)
            self._zones.clear()
        if sandbox is None:
            return
        self._resolver.forget(container_id)
        if any(sandbox.ports.values()):
            self._ports.unpublish(container_id)
        if sandbox.netns_path:
            self._reaper.submit(sandbox)

    def _demolish(self, sandboxes: Sequence[Sandbox]) -> None:
        """Unpin the namespaces, which the kernel takes apart with their interfaces; then free the addresses."""
        for sandbox in sandboxes:
            try:
                self._namespaces.remove_netns(sandbox.netns_path)
            except (PykerError, OSError) as error:
                _LOG.warning("the network namespace %s cannot be removed: %s", sandbox.netns_path, error)
        endpoints = [endpoint for sandbox in sandboxes for endpoint in sandbox.endpoints.values()]
        driver = self._bridge_driver()
        if driver is not None:
            driver.wait_gone([EndpointId(endpoint.endpoint_id) for endpoint in endpoints])
        for endpoint in endpoints:
            network = self._find(endpoint.network_id)
            if network is not None:
                self._drop_endpoint(self._drivers.get(network.driver), network, endpoint)
