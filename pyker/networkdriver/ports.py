"""Published ports: which host ports are taken, by whom, and how they reach the container."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pyker.errors import InvalidParameter, KernelError, SystemFailure
from pyker.libcontainer.conntrack import forget_udp
from pyker.networkdriver.firewall import Firewall, Forward
from pyker.networkdriver.localproxy import LocalProxy, Target, open_listener
from pyker.types.config import PortBinding

PROTOCOLS = ("tcp", "udp", "sctp")
Ports = dict[str, tuple[PortBinding, ...] | None]
_LOG = logging.getLogger(__name__)


def parse_port(text: str) -> tuple[int, str]:
    """``80/tcp`` or ``80`` as (80, "tcp"). Raises InvalidParameter."""
    number, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidParameter(f"invalid proto: {protocol}")
    if not number.isascii() or not number.isdigit() or not 0 < int(number) < 65536:
        raise InvalidParameter(f"invalid containerPort: {number}")
    return int(number), protocol


def parse_host_port(text: str) -> range:
    """``""`` (any free port: empty range), ``8000`` or ``8000-8010``. Raises InvalidParameter."""
    first, dash, last = text.partition("-")
    if not text or text == "0":
        return range(0)
    try:
        ports = range(int(first), int(last if dash else first) + 1)
    except ValueError as error:
        raise InvalidParameter(f"invalid hostPort: {text}") from error
    if not ports or ports[0] < 1 or ports[-1] > 65535:
        raise InvalidParameter(f"invalid hostPort: {text}")
    return ports


def ephemeral_range() -> range:
    """Where the kernel, and so Pyker, takes ports that nobody chose. Source: ip(7) ip_local_port_range."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as stream:
            first, last = (int(word) for word in stream.read().split())
    except (OSError, ValueError):
        return range(49153, 65536)
    return range(first, last + 1)


@dataclass(slots=True)
class _Publication:
    """What one container has: sockets that hold its ports, and the rules that forward them."""

    listeners: list[socket.socket] = field(default_factory=list)
    held: list[tuple[str, str, int]] = field(default_factory=list)
    forwards: list[Forward] = field(default_factory=list)


class PortMapper:
    """All published ports. Thread-safe.

    A port is taken in three steps: noted in the table (so that two containers get the reference's words), bound as
    a real socket (so that no other program has it), and, for IPv4, put into the firewall's map.
    """

    def __init__(self, firewall: Firewall, *, default_ip: str = "0.0.0.0", userland_proxy: bool = True) -> None:
        self._firewall = firewall
        self._default_ip = default_ip
        self._userland_proxy = userland_proxy
        self._lock = threading.Lock()
        self._held: dict[tuple[str, int], set[str]] = {}
        self._publications: dict[str, _Publication] = {}
        self._next: dict[str, int] = {}
        self._proxy = LocalProxy()
        self._ipv6 = os.path.exists("/proc/net/if_inet6")

    def close(self) -> None:
        """Close the sockets. The firewall's rules stay, for containers that outlive the daemon."""
        self._proxy.close()

    def publish(self, owner: str, container_ip: str, bindings: Mapping[str, Iterable[PortBinding]]) -> Ports:
        """Publish all of ``bindings`` (by ``80/tcp``), or none; returns them with the real host ports.

        Raises SystemFailure, in the reference's words, when a port is taken; InvalidParameter for one that cannot be.
        """
        publication = _Publication()
        result: Ports = {}
        try:
            # Ports of the caller's choice come first, or a free choice might take one of them.
            wanted = [(port, binding) for port, several in bindings.items() for binding in several]
            wanted.sort(key=lambda item: not parse_host_port(item[1].host_port))
            for port, binding in wanted:
                number, protocol = parse_port(port)
                bound = self._bind(publication, protocol, binding, (container_ip, number))
                result[port] = (*(result.get(port) or ()), *bound)
            self._firewall.publish(publication.forwards)
            _forget_flows(publication.forwards)
        except BaseException:
            self._give_back(publication)
            raise
        with self._lock:
            self._publications[owner] = publication
        return {port: result[port] for port in bindings if port in result}

    def adopt(self, owner: str, container_ip: str, ports: Ports) -> None:
        """Take over what a container had under an earlier daemon; call it before the firewall starts.

        A port that another program has got meanwhile is only forwarded, and said in the log.
        """
        publication = _Publication()
        for port, bindings in ports.items():
            number, protocol = parse_port(port)
            for binding in bindings or ():
                ip, host_port = binding.host_ip or self._default_ip, int(binding.host_port)
                target = (container_ip, number)
                with self._lock:
                    self._hold(publication, protocol, ip, host_port)
                try:
                    self._listen(publication, protocol, ip, host_port, target)
                except OSError as error:
                    _LOG.warning("port %s:%d of a running container cannot be bound again: %s", ip, host_port, error)
                if ":" not in ip:
                    publication.forwards.append(Forward(protocol, ip, host_port, *target))
        self._firewall.publish(publication.forwards)
        with self._lock:
            self._publications[owner] = publication

    def unpublish(self, owner: str) -> None:
        """Give back every port of ``owner``; they are free when this returns. An unknown owner has none."""
        with self._lock:
            publication = self._publications.pop(owner, None)
        if publication is not None:
            self._give_back(publication)

    def _give_back(self, publication: _Publication) -> None:
        try:
            self._firewall.unpublish(publication.forwards)
        except KernelError as error:
            _LOG.error("published ports cannot be taken back from the firewall: %s", error)
        for listener in publication.listeners:
            self._proxy.remove(listener)
        with self._lock:
            for protocol, ip, port in publication.held:
                holders = self._held.get((protocol, port), set())
                holders.discard(ip)
                if not holders:
                    self._held.pop((protocol, port), None)

    def _bind(
        self, publication: _Publication, protocol: str, binding: PortBinding, target: tuple[str, int]
    ) -> list[PortBinding]:
        """Take one binding's port, the same on each address it stands for."""
        ips = self._addresses(binding.host_ip)
        choice = parse_host_port(binding.host_port)
        free_choice = not choice
        if free_choice:
            choice = ephemeral_range()
        with self._lock:
            start = self._next.get(protocol, 0) if free_choice else 0
        offset = choice.index(start) if start in choice else 0
        for step in range(len(choice)):
            port = choice[(offset + step) % len(choice)]
            try:
                self._take(publication, protocol, ips, port, target)
            except SystemFailure:
                if len(choice) == 1:
                    raise
                continue
            if free_choice:
                with self._lock:
                    self._next[protocol] = port + 1
            return [PortBinding(host_ip=ip, host_port=str(port)) for ip in ips]
        raise SystemFailure(
            "all ports are allocated", hint=f"no {protocol} port of {choice[0]}-{choice[-1]} is free on this host"
        )

    def _addresses(self, host_ip: str) -> list[str]:
        if not host_ip and self._default_ip == "0.0.0.0":
            return ["0.0.0.0", "::"] if self._ipv6 else ["0.0.0.0"]
        ip = (host_ip or self._default_ip).removeprefix("[").removesuffix("]")
        try:
            socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
        except OSError as error:
            raise InvalidParameter(f"invalid IP address: {ip}") from error
        return [ip]

    def _take(
        self, publication: _Publication, protocol: str, ips: list[str], port: int, target: tuple[str, int]
    ) -> None:
        """Note, bind and serve one port on all ``ips``, or on none."""
        mine = _Publication()
        with self._lock:
            for ip in ips:
                if self._conflicts(protocol, ip, port):
                    taken = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
                    raise SystemFailure(
                        f"Bind for {taken} failed: port is already allocated",
                        hint="`pyker ps` shows which container publishes it",
                    )
            for ip in ips:
                self._hold(mine, protocol, ip, port)
        try:
            for ip in ips:
                try:
                    self._listen(mine, protocol, ip, port, target)
                except OSError as error:
                    if ip == "::" and len(ips) > 1 and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                        continue  # IPv6 is switched off; the reference says nothing of it either
                    raise _bind_failure(error, protocol, ip, port) from error
        except BaseException:
            self._give_back(mine)
            raise
        mine.forwards.extend(Forward(protocol, ip, port, *target) for ip in ips if ":" not in ip)
        publication.listeners += mine.listeners
        publication.held += mine.held
        publication.forwards += mine.forwards

    def _conflicts(self, protocol: str, ip: str, port: int) -> bool:
        holders = self._held.get((protocol, port))
        if not holders:
            return False
        if ip in ("0.0.0.0", "::"):
            return any((":" in holder) == (":" in ip) for holder in holders)
        return ip in holders or ("::" if ":" in ip else "0.0.0.0") in holders

    def _hold(self, publication: _Publication, protocol: str, ip: str, port: int) -> None:
        self._held.setdefault((protocol, port), set()).add(ip)
        publication.held.append((protocol, ip, port))

    def _listen(self, publication: _Publication, protocol: str, ip: str, port: int, target: tuple[str, int]) -> None:
        try:
            listener = open_listener(protocol, ip, port, serve=self._userland_proxy)
        except OSError as error:
            if protocol == "sctp" and error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
                return  # this kernel has no SCTP sockets, so nobody else can have the port either
            raise
        publication.listeners.append(listener)
        self._proxy.add(listener, Target(protocol, target) if self._userland_proxy else None)


def _forget_flows(forwards: Iterable[Forward]) -> None:
    """Let UDP senders that never stop find the container that a port leads to now, not the one before."""
    targets = {
        forward.host_port: (forward.container_ip, forward.container_port)
        for forward in forwards
        if forward.protocol == "udp"
    }
    if not targets:
        return
    try:
        forget_udp(
            lambda flow: (
                flow.destination_port in targets
                and (flow.answering, flow.answering_port) != targets[flow.destination_port]
            )
        )
    except KernelError as error:
        _LOG.warning("UDP flows to containers that are gone may go on: %s", error)


def _bind_failure(error: OSError, protocol: str, ip: str, port: int) -> SystemFailure:
    version = "6" if ":" in ip else "4"
    where = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    reason = os.strerror(error.errno or 0)
    return SystemFailure(
        f"Error starting userland proxy: listen {protocol}{version} {where}: bind: {reason[:1].lower()}{reason[1:]}",
        hint="another program has the port: `ss -lnp` shows which" if error.errno == errno.EADDRINUSE else "",
    )
