"""What macvlan and ipvlan have in common: containers' links that sit on a link of the host, without a bridge.

The parent is what the option ``parent`` names: a link that exists, or ``eth0.50``, a tagged part of eth0 that is made
and taken down with the network. Without a parent the network gets a dummy link, and its containers reach only one
another. There is no address translation and no published port: containers are on the parent's own network.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from ipaddress import IPv4Network

from pyker.errors import Forbidden, InvalidParameter, KernelError, NotFound, NotSupported
from pyker.libcontainer import links, netlink
from pyker.libcontainer.netlink import Netlink, Request
from pyker.networkdriver.base import DriverContext, Network, Sandbox
from pyker.types.config import EndpointSettings
from pyker.types.ids import EndpointId, NetworkId
from pyker.types.probe import Probe

PARENT = "parent"
DUMMY = "dm-"


def parent_name(network: Network) -> str:
    """The link of the host that the network's links sit on. Raises InvalidParameter."""
    name = network.options.get(PARENT) or DUMMY + network.id[:12]
    if name == "lo":
        raise InvalidParameter(f"loopback interface is not a valid {network.driver} parent link")
    return name


def option(network: Network, key: str, choices: dict[str, int], default: str) -> str:
    """One of the driver's own options, such as ``macvlan_mode``. Raises InvalidParameter."""
    chosen = network.options.get(key) or default
    if chosen not in choices:
        what = key.replace("_", " ")
        raise InvalidParameter(
            f"requested {what} '{chosen}' is not valid, '{default}' {what.split()[-1]} is the {network.driver} driver "
            "default",
            hint=f"one of {', '.join(choices)}",
        )
    return chosen


def probe_kind(kind: str) -> Probe:
    """Ask for a link of ``kind`` that cannot be: refused as such where the kernel knows the kind."""
    with Netlink() as opened:
        try:
            opened.run(netlink.absurd_link(kind))
        except KernelError as error:
            if error.errno == errno.EPERM:
                return Probe(False, "making links needs CAP_NET_ADMIN: run the daemon as root")
            if error.errno == errno.EOPNOTSUPP:
                return Probe(False, f"this kernel has no {kind} links: load the module {kind!r}")
    return Probe(True)


class ParentedDriver:
    """Thread-safe. Subclasses say what their link is, and what is peculiar about its addresses."""

    name: str
    scope = "local"

    def __init__(self, context: DriverContext) -> None:
        self._context = context
        self._netlink = Netlink()
        self._lock = threading.Lock()
        self._parents: dict[str, NetworkId] = {}
        self._places: dict[EndpointId, str] = {}

    def close(self) -> None:
        """Close the socket. Links stay."""
        self._netlink.close()

    def check(self, network: Network) -> None:
        """Raises InvalidParameter for options that no link can have."""
        raise NotImplementedError

    def link(self, network: Network, parent: int, ifname: str, netns_fd: int, mac: str) -> Request:
        """The container's link."""
        raise NotImplementedError

    def mac(self, settings: EndpointSettings, address: str) -> str:
        """The MAC address to give the link, "" for none of its own. Raises InvalidParameter."""
        raise NotImplementedError

    def default_route(self, network: Network, index: int) -> tuple[str, Request | None]:
        """The gateway that inspect shows, and how everything outside the network leaves by the link ``index``."""
        if network.internal:
            return "", None
        gateway = network.pools[0].gateway
        return gateway, netlink.new_route(index, gateway=gateway)

    def remember(self, endpoint_id: EndpointId, sandbox: Sandbox) -> None:
        """Note where the link of an endpoint is that an earlier daemon made."""
        with self._lock:
            self._places[endpoint_id] = sandbox.netns_path

    def create_network(self, network: Network) -> None:
        self.check(network)
        name = parent_name(network)
        with self._lock:
            user = self._parents.setdefault(name, network.id)
        if user != network.id:
            raise Forbidden(f"network {DUMMY}{user[:12]} is already using parent interface {name}")
        try:
            self._parent(network)
        except BaseException:
            with self._lock:
                self._parents.pop(name, None)
            raise

    def _parent(self, network: Network) -> int:
        """The index of the parent, made if it is one of those that we make. Raises NotFound, InvalidParameter."""
        name = parent_name(network)
        link = self._netlink.link(name)
        if link is not None:
            return link.index
        request = links.dummy(name) if name == DUMMY + network.id[:12] else self._tagged(name)
        try:
            # The alias says, to a later daemon too, that the link is ours to delete.
            self._netlink.run(request, netlink.set_link(name, alias=_alias(network)))
            # Nobody talks to the host's end of a dummy: no IPv6 address for it. A kernel without IPv6 refuses to hear.
            if request.subject.startswith(DUMMY):
                self._netlink.try_all(netlink.set_link(name, ipv6_link_local=False))
            self._netlink.run(netlink.set_link(name, up=True))
        except KernelError as error:
            if error.errno != errno.EEXIST:
                self._netlink.try_all(netlink.delete_link(name))
            if error.errno == errno.EOPNOTSUPP and request.subject.startswith(DUMMY):
                raise NotSupported(
                    "this kernel has no dummy links, which a network without a parent needs",
                    hint=f"name a link of the host: -o {PARENT}=eth0",
                ) from error
            raise
        made = self._netlink.link(name)
        if made is None:
            raise KernelError(f"network: the link {name!r} vanished while it was made", stage="network")
        return made.index

    def _tagged(self, name: str) -> Request:
        """``eth0.50``: VLAN 50 of eth0."""
        parts = name.split(".")
        if len(parts) != 2 or not parts[1].isascii() or not parts[1].isdigit():
            raise NotFound(
                f"-o parent interface was not found on the host: {name}",
                hint="name a link of `ip link`, or its tagged part as in eth0.10",
            )
        link = self._netlink.link(parts[0])
        if link is None:
            raise NotFound(f"-o parent interface was not found on the host: {parts[0]}")
        return links.vlan(name, parent=link.index, vlan_id=int(parts[1]))

    def delete_network(self, network: Network) -> None:
        name = parent_name(network)
        with self._lock:
            if self._parents.get(name) == network.id:
                del self._parents[name]
        link = self._netlink.link(name)
        if link is not None and link.alias == _alias(network):
            for error in self._netlink.try_all(netlink.delete_link(index=link.index)):
                if error.errno != errno.ENODEV:
                    raise error

    def create_endpoint(
        self, network: Network, endpoint_id: EndpointId, sandbox: Sandbox, settings: EndpointSettings, ifname: str
    ) -> EndpointSettings:
        """``settings.ipam_config.ipv4_address`` is honoured; ``eth0`` carries the default route."""
        requested = settings.ipam_config.ipv4_address if settings.ipam_config else ""
        broadcast = str(IPv4Network(network.pools[0].subnet).broadcast_address)
        with contextlib.ExitStack() as closing, contextlib.ExitStack() as undo:
            address, prefix_len = self._context.ipam.allocate(network.id, endpoint_id, requested)
            undo.callback(self._context.ipam.release, network.id, address)
            mac = self.mac(settings, address)
            inside = closing.enter_context(Netlink(self._context.namespaces.open_netns(sandbox.netns_path)))
            namespace = os.open(sandbox.netns_path, os.O_RDONLY | os.O_CLOEXEC)
            closing.callback(os.close, namespace)
            # The kernel looks for the name here first, where eth0 is likely to be the host's own card.
            first_name = f"pyker{endpoint_id[:9]}"
            self._netlink.run(self.link(network, self._parent(network), first_name, namespace, mac))
            link = inside.link(first_name)
            if link is None:
                raise KernelError(f"network: the interface {ifname!r} vanished while it was made", stage="network")
            undo.callback(inside.try_all, netlink.delete_link(index=link.index))
            inside.run(netlink.set_link(index=link.index, new_name=ifname))
            if mac and link.mac != mac:
                # In mode passthru the link takes its parent's on; changing it changes the parent's.
                if settings.mac_address:
                    inside.run(netlink.set_link(index=link.index, mac=mac))
                else:
                    mac = link.mac
            inside.try_all(netlink.set_link(index=link.index, ipv6_link_local=False))
            inside.run(
                netlink.set_link(index=link.index, up=True),
                netlink.new_address(link.index, address, prefix_len, broadcast=broadcast),
            )
            gateway, route = self.default_route(network, link.index)
            if route is not None and ifname == "eth0":
                inside.run(route)
            undo.pop_all()
        with self._lock:
            self._places[endpoint_id] = sandbox.netns_path
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
        """The link goes with its namespace; here only while that is still there."""
        with self._lock:
            path = self._places.pop(endpoint_id, "")
        if path and settings.ip_address and os.path.exists(path):
            with Netlink(self._context.namespaces.open_netns(path)) as inside:
                for address in inside.addresses():
                    if address.address == settings.ip_address:
                        inside.try_all(netlink.delete_link(index=address.index))
        if settings.ip_address:
            self._context.ipam.release(network.id, settings.ip_address)


def _alias(network: Network) -> str:
    return f"pyker:{network.id}"
