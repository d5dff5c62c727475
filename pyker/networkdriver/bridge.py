"""The bridge networkdriver: a bridge on the host, a veth pair to each container, address translation outwards."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from pyker.errors import Forbidden, InvalidParameter, KernelError, NotSupported
from pyker.libcontainer import netlink
from pyker.libcontainer.netlink import Netlink
from pyker.networkdriver.base import DriverContext, Network, Sandbox, link_mtu
from pyker.networkdriver.firewall import NetworkRules
from pyker.networkdriver.pool import RawSandbox
from pyker.types.config import EndpointSettings
from pyker.types.ids import EndpointId
from pyker.types.probe import Probe

NAME = "com.docker.network.bridge.name"
DEFAULT = "com.docker.network.bridge.default_bridge"
ICC = "com.docker.network.bridge.enable_icc"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
DEFAULT_BRIDGE = "pyker0"
_LINK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}\Z")
HOST_LINK = "vethp"
"""Every host end of ours is called so, with the first nine hex digits of its endpoint's ID."""
_LOG = logging.getLogger(__name__)


def bridge_name(network: Network) -> str:
    """The link of a network. Raises InvalidParameter for a name that no link can have, or that nft would misread."""
    name = network.options.get(NAME) or f"br-{network.id[:12]}"
    if not _LINK_NAME.match(name):
        raise InvalidParameter(
            f'invalid bridge name "{name}"', hint="1 to 15 letters, digits, underscores, dots and dashes"
        )
    return name


def host_link(endpoint_id: EndpointId) -> str:
    """The host end of an endpoint's veth pair."""
    return HOST_LINK + endpoint_id[:9]


def mac_of(address: str) -> str:
    """The locally administered MAC address that goes with an IPv4 address."""
    return "02:42:" + IPv4Address(address).packed.hex(":")


def flag(options: dict[str, str], key: str, *, default: bool) -> bool:
    """A boolean among a network's options, in Go's spellings. Raises InvalidParameter."""
    value = options.get(key)
    if value is None or value == "":
        return default
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise InvalidParameter(f'failed to parse {key} value: "{value}" is not a boolean')


class BridgeDriver:
    """Thread-safe. One netlink socket of the host's namespace serves all networks."""

    name = "bridge"
    scope = "local"

    def __init__(self, context: DriverContext) -> None:
        self._context = context
        self._netlink = Netlink()
        self._prepared: dict[str, RawSandbox] = {}
        self._indexes: dict[str, int] = {}
        self._lock = threading.Lock()
        self._healing = threading.Lock()
        self._forwarding = False

    @classmethod
    def probe(cls) -> Probe:
        """Ask for a bridge with an absurd number of queues: refused as absurd where the kernel knows bridges."""
        with Netlink() as netlink_socket:
            for kind in ("bridge", "veth"):
                try:
                    netlink_socket.run(netlink.absurd_link(kind))
                except KernelError as error:
                    if error.errno == errno.EPERM:
                        return Probe(False, "making links needs CAP_NET_ADMIN: run the daemon as root")
                    if error.errno == errno.EOPNOTSUPP:
                        return Probe(False, f"this kernel has no {kind} links: load the module {kind!r}")
        return Probe(True)

    def close(self) -> None:
        """Close the socket. Bridges stay."""
        self._netlink.close()

    def create_network(self, network: Network) -> None:
        name = bridge_name(network)
        interface = IPv4Interface(f"{network.pools[0].gateway}/{IPv4Network(network.pools[0].subnet).prefixlen}")
        mtu = link_mtu(network)
        link = self._netlink.link(name)
        made = link is None
        if link is not None and link.kind != "bridge":
            raise Forbidden(f"a link called {name!r} exists, and is not a bridge but {link.kind or 'a device'}")
        try:
            if link is None:
                self._netlink.run(netlink.new_bridge(name, mac=mac_of(str(interface.ip)), mtu=mtu))
                link = self._netlink.link(name)
                if link is None:
                    raise KernelError(f"network: the bridge {name!r} vanished while it was made", stage="network")
            self._address(link.index, interface)
            self._netlink.run(netlink.set_link(name, index=link.index, up=True))
            self._indexes[network.id] = link.index
            self._forward(name, internal=network.internal)
            self._context.firewall.add_network(
                NetworkRules(
                    link=name,
                    subnet=network.pools[0].subnet,
                    masquerade=flag(network.options, MASQUERADE, default=True),
                    icc=flag(network.options, ICC, default=True),
                    internal=network.internal,
                )
            )
        except BaseException:
            if made:
                self._netlink.try_all(netlink.delete_link(name))
            raise

    def _address(self, index: int, interface: IPv4Interface) -> None:
        """Give the bridge its address, and take away what an earlier configuration left."""
        present = False
        for address in self._netlink.addresses():
            if address.index != index or ":" in address.address:
                continue
            if address.address == str(interface.ip) and address.prefix_len == interface.network.prefixlen:
                present = True
            else:
                self._netlink.try_all(netlink.delete_address(index, address.address, address.prefix_len))
        if not present:
            broadcast = str(interface.network.broadcast_address)
            self._netlink.run(
                netlink.new_address(index, str(interface.ip), interface.network.prefixlen, broadcast=broadcast)
            )

    def _forward(self, name: str, *, internal: bool) -> None:
        """Let the host route for the network, and translate what it sends to its own loopback addresses."""
        options, firewall = self._context.options, self._context.firewall
        if not internal and options.ip_forward and not self._forwarding:
            _ensure_sysctl("/proc/sys/net/ipv4/ip_forward", "1")
            self._forwarding = True
        if firewall.enabled and firewall.localhost:
            try:
                _ensure_sysctl(f"/proc/sys/net/ipv4/conf/{name}/route_localnet", "1")
            except OSError as error:
                _LOG.warning("published ports reach the host's 127.0.0.1 by the proxy only: %s", error)
                firewall.localhost = False

    def delete_network(self, network: Network) -> None:
        name = bridge_name(network)
        self._context.firewall.remove_network(name)
        self._indexes.pop(network.id, None)
        for error in self._netlink.try_all(netlink.delete_link(name)):
            if error.errno != errno.ENODEV:
                raise error

    def _heal(self, network: Network) -> None:
        """Make the bridge again if somebody deleted it."""
        name = bridge_name(network)
        link = self._netlink.link(name)
        if link is not None and link.index == self._indexes.get(network.id):
            return
        with self._healing:
            link = self._netlink.link(name)
            if link is None or link.index != self._indexes.get(network.id):
                _LOG.warning("the bridge %s was deleted from outside; made again", name)
                self.create_network(network)

    def prepare(self, network: Network) -> Callable[[RawSandbox], None]:
        """How a sandbox that is made ahead gets its interface on ``network``."""

        def attach(sandbox: RawSandbox) -> None:
            self._connect(network, sandbox.endpoint_id, sandbox.path, sandbox.netlink, "eth0", sandbox)

        return attach

    def unprepare(self, sandbox: RawSandbox) -> None:
        """Take the interface of a sandbox away that nobody took."""
        self._netlink.try_all(netlink.delete_link(sandbox.link))

    def adopt(self, sandbox: RawSandbox) -> None:
        """Note that ``sandbox``, with its interface, is about to be used: ``create_endpoint`` will find it."""
        with self._lock:
            self._prepared[sandbox.id] = sandbox

    def forget(self, sandbox: RawSandbox) -> None:
        """The use that ``adopt`` announced is over."""
        with self._lock:
            self._prepared.pop(sandbox.id, None)

    def _connect(
        self, network: Network, endpoint_id: EndpointId, path: str, inside: Netlink, ifname: str, sandbox: RawSandbox
    ) -> None:
        """Make the veth pair, both ends up, the outer one in the bridge, the inner one without an address."""
        name = host_link(endpoint_id)
        mtu = link_mtu(network)
        isolated = not flag(network.options, ICC, default=True)
        bridge = self._indexes[network.id]
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._netlink.run(netlink.new_veth(name, master=bridge, peer=ifname, peer_netns_fd=namespace, mtu=mtu))
        finally:
            os.close(namespace)
        sandbox.link, sandbox.bridge = name, bridge
        # Without IPv6 on the network an address that the kernel makes up only costs time and multicast traffic.
        # A kernel without IPv6 refuses to hear of it, and has no such addresses either.
        quiet = netlink.set_link(ifname, ipv6_link_local=False), netlink.set_link(name, ipv6_link_local=False)
        inside.try_all(quiet[0])
        inside.run(netlink.set_link(ifname, up=True))
        self._netlink.try_all(quiet[1])
        self._netlink.run(
            netlink.set_bridge_port(name, hairpin=True, isolated=isolated), netlink.set_link(name, up=True)
        )
        link = inside.link(ifname)
        if link is None:
            raise KernelError(f"network: the interface {ifname!r} vanished while it was made", stage="network")
        sandbox.index = link.index

    def create_endpoint(
        self, network: Network, endpoint_id: EndpointId, sandbox: Sandbox, settings: EndpointSettings, ifname: str
    ) -> EndpointSettings:
        """The first endpoint with a gateway, ``eth0``, carries the default route.

        ``settings.ipam_config.ipv4_address`` and ``settings.mac_address`` are honoured.
        """
        with self._lock:
            raw = self._prepared.get(sandbox.id)
        requested = settings.ipam_config.ipv4_address if settings.ipam_config else ""
        ipam = self._context.ipam
        with contextlib.ExitStack() as undo:
            address, prefix_len = ipam.allocate(network.id, endpoint_id, requested)
            undo.callback(ipam.release, network.id, address)
            if raw is None or raw.endpoint_id != endpoint_id:
                inside = Netlink(self._context.namespaces.open_netns(sandbox.netns_path))
                closing = undo.enter_context(contextlib.ExitStack())
                closing.callback(inside.close)
                raw = RawSandbox(sandbox.id, endpoint_id, sandbox.netns_path, inside)
            else:
                inside, closing = raw.netlink, contextlib.ExitStack()
            undo.callback(self._netlink.try_all, netlink.delete_link(host_link(endpoint_id)))
            self._heal(network)
            if raw.link and raw.bridge != self._indexes[network.id]:
                self._netlink.run(netlink.set_link(raw.link, master=self._indexes[network.id]))
            if not raw.link:
                self._connect(network, endpoint_id, sandbox.netns_path, inside, ifname, raw)
            mac = settings.mac_address or mac_of(address)
            pool = IPv4Network(network.pools[0].subnet)
            gateway = "" if network.internal else network.pools[0].gateway
            requests = [
                netlink.set_link(ifname, index=raw.index, mac=mac),
                netlink.new_address(raw.index, address, prefix_len, broadcast=str(pool.broadcast_address)),
            ]
            if gateway and ifname == "eth0":
                requests.append(netlink.new_route(raw.index, gateway=gateway))
            inside.run(*requests)
            closing.close()
            undo.pop_all()
        return EndpointSettings(
            ipam_config=settings.ipam_config,
            links=settings.links,
            aliases=settings.aliases,
            driver_opts=settings.driver_opts,
            gw_priority=settings.gw_priority,
            network_id=network.id,
            endpoint_id=endpoint_id,
            gateway=gateway,
            ip_address=address,
            ip_prefix_len=prefix_len,
            mac_address=mac,
            dns_names=settings.dns_names,
        )

    def delete_endpoint(self, network: Network, endpoint_id: EndpointId, settings: EndpointSettings) -> None:
        """The address is free again only when the interface that had it is gone."""
        for error in self._netlink.try_all(netlink.delete_link(host_link(endpoint_id))):
            if error.errno != errno.ENODEV:
                raise error
        if settings.ip_address:
            self._context.ipam.release(network.id, settings.ip_address)

    def wait_gone(self, endpoints: Iterable[EndpointId], timeout_s: float = 1.0) -> bool:
        """Wait for interfaces whose namespaces are being taken apart by the kernel; False if some are still there."""
        names = {host_link(endpoint) for endpoint in endpoints}
        deadline = time.monotonic() + timeout_s
        while any(link.name in names for link in self._netlink.links()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def sweep(self, live: set[str]) -> int:
        """Delete host ends of ours that are in one of our bridges and not in ``live``; returns how many."""
        bridges = set(self._indexes.values())
        stale = [
            link.name
            for link in self._netlink.links()
            if link.kind == "veth" and link.name.startswith(HOST_LINK) and link.master in bridges
        ]
        unwanted = [netlink.delete_link(name) for name in stale if name not in live]
        for request in unwanted:
            self._netlink.try_all(request)
        return len(unwanted)

    def busy_subnets(self, *, besides: str) -> list[IPv4Network]:
        """What the host's addresses and routes occupy, those of the link ``besides`` left out."""
        own = self._netlink.link(besides) if besides else None
        index = own.index if own else -1
        busy = [
            IPv4Interface(f"{address.address}/{address.prefix_len}").network
            for address in self._netlink.addresses()
            if address.index != index and ":" not in address.address
        ]
        busy += [
            IPv4Network(f"{route.destination}/{route.prefix_len}")
            for route in self._netlink.routes()
            if route.index != index and route.destination and ":" not in route.destination
        ]
        return busy

    def present_address(self, name: str) -> IPv4Interface | None:
        """The first IPv4 address of a bridge that exists; None if there is no such link, or it has none."""
        link = self._netlink.link(name)
        if link is None:
            return None
        for address in self._netlink.addresses():
            if address.index == link.index and ":" not in address.address:
                return IPv4Interface(f"{address.address}/{address.prefix_len}")
        return None

    def has_bridge(self, name: str) -> bool:
        """Whether there is a bridge of that name. Raises NotSupported for a link of another type."""
        link = self._netlink.link(name)
        if link is not None and link.kind != "bridge":
            raise NotSupported(f"the link {name!r} is not a bridge")
        return link is not None


def _ensure_sysctl(path: str, value: str) -> None:
    with open(path) as stream:
        if stream.read().strip() == value:
            return
    with open(path, "w") as stream:
        stream.write(value)
