"""The nftables table of Pyker: masquerading, published ports, isolation between networks.

Published ports are elements of two maps, so a thousand of them cost a packet no more than one. The table's other rules
never change with containers. The chain PYKER-USER, run before everything else that is forwarded from or to a container,
belongs to administrators: Pyker makes it and never flushes it. If somebody deletes anything of the table, Pyker notices
by the kernel's notification and puts it back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from pyker.errors import KernelError, NotSupported, PykerError
from pyker.libcontainer import iptables
from pyker.libcontainer.nftables import DeletionWatch, Nftables

TABLE = "pyker"
ADMIN_CHAIN = "PYKER-USER"
_LOG = logging.getLogger(__name__)

_DECLARATIONS = f"""
add table inet {TABLE}
add set inet {TABLE} links {{ type ifname; }}
add set inet {TABLE} isolated_links {{ type ifname; }}
add set inet {TABLE} internal_links {{ type ifname; }}
add set inet {TABLE} subnets {{ type ipv4_addr; flags interval; }}
add set inet {TABLE} masqueraded {{ type ipv4_addr; flags interval; }}
add map inet {TABLE} published {{ type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }}
add map inet {TABLE} published_everywhere {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
add chain inet {TABLE} {ADMIN_CHAIN}
add chain inet {TABLE} ports
add chain inet {TABLE} between
add chain inet {TABLE} leaving
add chain inet {TABLE} entering
add chain inet {TABLE} raw-prerouting {{ type filter hook prerouting priority raw; }}
add chain inet {TABLE} nat-prerouting {{ type nat hook prerouting priority dstnat; }}
add chain inet {TABLE} nat-output {{ type nat hook output priority -100; }}
add chain inet {TABLE} nat-postrouting {{ type nat hook postrouting priority srcnat; }}
add chain inet {TABLE} filter-forward {{ type filter hook forward priority filter; }}
"""

_SETS = ("links", "isolated_links", "internal_links", "subnets", "masqueraded")
_MAPS = ("published", "published_everywhere")

_RULES: tuple[tuple[str, str], ...] = (
    # route_localnet makes the host's own loopback addresses reachable over the bridge: CVE-2020-8558.
    ("raw-prerouting", "iifname @links ip daddr 127.0.0.0/8 drop"),
    ("nat-prerouting", "fib daddr type local jump ports"),
    ("ports", "meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . ip daddr . th dport map @published"),
    ("ports", "meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . th dport map @published_everywhere"),
    # A container that asks for a published port must get its answer by way of the host, which undoes the translation;
    # so must the host itself when it asks from its loopback address, which no other machine can answer to.
    ("nat-postrouting", "oifname @links ct status dnat ip saddr @subnets masquerade"),
    ("nat-postrouting", "oifname @links ct status dnat ip saddr 127.0.0.0/8 masquerade"),
    ("nat-postrouting", "ip saddr @masqueraded oifname != @links masquerade"),
    ("filter-forward", f"iifname @links jump {ADMIN_CHAIN}"),
    ("filter-forward", f"iifname != @links oifname @links jump {ADMIN_CHAIN}"),
    ("filter-forward", "oifname @links jump entering"),
    ("filter-forward", "iifname @links jump leaving"),
    ("entering", "ct state established,related accept"),
    ("entering", "ct status dnat accept"),
    ("entering", "oifname @isolated_links drop"),
    ("entering", "iifname @links jump between"),
    ("entering", "drop"),
    ("leaving", "iifname @internal_links drop"),
    ("leaving", "accept"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRules:
    """What the firewall has to know of one network. ``subnet`` is CIDR."""

    link: str
    subnet: str
    masquerade: bool = True
    icc: bool = True
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Forward:
    """A published port: what arrives at ``host_ip`` ("0.0.0.0": any local address) goes to the container."""

    protocol: str
    host_ip: str
    host_port: int
    container_ip: str
    container_port: int

    @property
    def map(self) -> str:
        return "published_everywhere" if self.host_ip == "0.0.0.0" else "published"

    @property
    def key(self) -> str:
        if self.host_ip == "0.0.0.0":
            return f"{self.protocol} . {self.host_port}"
        return f"{self.protocol} . {self.host_ip} . {self.host_port}"

    @property
    def element(self) -> str:
        return f"{self.key} : {self.container_ip} . {self.container_port}"


class Firewall:
    """The wanted state of the table, and its way into the kernel. Thread-safe.

    The rules stay when the daemon ends, so that the ports of running containers go on working. With
    ``enabled=False`` nothing is ever written, and containers reach only what the host routes for them.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.localhost = True
        """Whether the host's 127.0.0.0/8 is translated too; False where route_localnet cannot be set."""
        self._lock = threading.Lock()
        self._nftables: Nftables | None = None
        self._networks: dict[str, NetworkRules] = {}
        self._forwards: dict[tuple[str, str], Forward] = {}
        self._watch: DeletionWatch | None = None
        self._watcher: threading.Thread | None = None
        self._started = False
        self.healed = threading.Semaphore(0)
        """Released once for every repair."""

    def open(self) -> None:
        """Open the library, and ask the kernel; nothing is changed yet.

        Raises NotSupported where libnftables or the kernel's part is missing.
        """
        if not self.enabled:
            return
        with self._lock:
            try:
                self._context().listing("list tables")
            except KernelError as error:
                raise NotSupported(
                    f"nftables: the kernel refuses: {error.message} ({_instead()})",
                    hint="load the module nf_tables, or start the daemon with --iptables=false",
                ) from error

    def start(self) -> None:
        """Put the table up as wanted, in one transaction, and watch over it. Once it is up this does nothing.

        Raises NotSupported where libnftables is missing, KernelError where the kernel refuses.
        """
        if not self.enabled or self._started:
            return
        with self._lock:
            self._apply()
            self._started = True
        if self._watcher is None:
            self._watch = DeletionWatch(TABLE)
            self._watcher = threading.Thread(target=self._guard, name="pyker-firewall", daemon=True)
            self._watcher.start()

    def close(self) -> None:
        """Stop watching. The table stays."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None and self._watch is not None:
            self._watch.stop()
            watcher.join()
            self._watch.close()
            self._watch = None
        with self._lock:
            self._started = False
            if self._nftables is not None:
                self._nftables.close()
                self._nftables = None

    def add_network(self, rules: NetworkRules) -> None:
        """Add or replace the rules of the network on ``rules.link``."""
        with self._lock:
            previous = self._networks.get(rules.link)
            if previous == rules:
                return
            self._networks[rules.link] = rules
            if not self._started:
                return
            try:
                self._apply()
            except PykerError:
                if previous is None:
                    del self._networks[rules.link]
                else:
                    self._networks[rules.link] = previous
                raise

    def remove_network(self, link: str) -> None:
        """Forget the network on ``link``."""
        with self._lock:
            if self._networks.pop(link, None) is not None and self._started:
                self._apply()

    def publish(self, forwards: Iterable[Forward]) -> None:
        """Begin to forward all of these, or none. Raises KernelError."""
        wanted = list(forwards)
        with self._lock:
            for forward in wanted:
                self._forwards[forward.map, forward.key] = forward
            if not self._started or not wanted:
                return
            try:
                self._context().run("".join(f"add element inet {TABLE} {f.map} {{ {f.element} }}\n" for f in wanted))
            except KernelError:
                # The table is not as it was left, or the element is a stale one: the whole state settles both.
                try:
                    self._apply()
                except KernelError:
                    for forward in wanted:
                        self._forwards.pop((forward.map, forward.key), None)
                    raise

    def unpublish(self, forwards: Iterable[Forward]) -> None:
        """Stop to forward these."""
        unwanted = list(forwards)
        with self._lock:
            for forward in unwanted:
                self._forwards.pop((forward.map, forward.key), None)
            if not self._started or not unwanted:
                return
            try:
                self._context().run("".join(f"delete element inet {TABLE} {f.map} {{ {f.key} }}\n" for f in unwanted))
            except KernelError:
                self._apply()

    def foreign_drops(self) -> list[str]:
        """Other tables' chains that drop by policy what is forwarded; a container's traffic has to pass them too."""
        if not self.enabled:
            return []
        with self._lock:
            chains = self._context().listing("list chains")
        found = [item["chain"] for item in chains if "chain" in item]
        legacy = ["FORWARD of iptables-legacy"] if iptables.legacy_forward_drops() else []
        return legacy + [
            f"{chain['family']} {chain['table']} {chain['name']}"
            for chain in found
            if chain.get("hook") == "forward" and chain.get("policy") == "drop" and chain["table"] != TABLE
        ]

    def _context(self) -> Nftables:
        if self._nftables is None:
            self._nftables = Nftables()
        return self._nftables

    def _apply(self) -> None:
        """Write the whole wanted state, replacing what is there except the administrators' chain."""
        script = [_DECLARATIONS]
        script += [f"flush set inet {TABLE} {name}\n" for name in _SETS]
        script += [f"flush map inet {TABLE} {name}\n" for name in _MAPS]
        script += [f"flush chain inet {TABLE} {chain}\n" for chain in self._chains()]
        script += [f"add rule inet {TABLE} {chain} {rule}\n" for chain, rule in self._rules()]
        for name, elements in self._elements().items():
            if elements:
                script.append(f"add element inet {TABLE} {name} {{ {', '.join(elements)} }}\n")
        self._context().run("".join(script))

    def _chains(self) -> tuple[str, ...]:
        return (*dict.fromkeys(chain for chain, _ in _RULES), "nat-output", "between")

    def _rules(self) -> list[tuple[str, str]]:
        local = "fib daddr type local jump ports"
        rules = [*_RULES, ("nat-output", local if self.localhost else f"ip daddr != 127.0.0.0/8 {local}")]
        # Containers of one network talk to each other; those of different networks do not.
        rules += [("between", f'iifname "{link}" oifname "{link}" accept') for link in self._networks]
        return rules

    def _elements(self) -> dict[str, list[str]]:
        networks = list(self._networks.values())
        elements = {
            "links": [f'"{network.link}"' for network in networks],
            "isolated_links": [f'"{network.link}"' for network in networks if not network.icc],
            "internal_links": [f'"{network.link}"' for network in networks if network.internal],
            "subnets": [network.subnet for network in networks],
            "masqueraded": [network.subnet for network in networks if network.masquerade and not network.internal],
            "published": [],
            "published_everywhere": [],
        }
        for forward in self._forwards.values():
            elements[forward.map].append(forward.element)
        return elements

    def _intact(self) -> bool:
        """Whether every rule and element that is wanted is there."""
        try:
            listing = self._context().listing(f"list table inet {TABLE}")
        except KernelError:
            return False
        rules: dict[str, int] = {}
        elements: dict[str, int] = {}
        for item in listing:
            if "rule" in item:
                rules[item["rule"]["chain"]] = rules.get(item["rule"]["chain"], 0) + 1
            for kind in ("set", "map"):
                if kind in item:
                    elements[item[kind]["name"]] = len(item[kind].get("elem", ()))
        chains = {item["chain"]["name"] for item in listing if "chain" in item}
        wanted: dict[str, int] = {}
        for chain, _ in self._rules():
            wanted[chain] = wanted.get(chain, 0) + 1
        return (
            ADMIN_CHAIN in chains
            and all(rules.get(chain, 0) == count for chain, count in wanted.items())
            and all(elements.get(name, -1) == len(items) for name, items in self._elements().items())
        )

    def heal(self) -> bool:
        """Put back what somebody deleted; True if there was something to put back."""
        with self._lock:
            if not self._started or self._intact():
                return False
            self._apply()
        self.healed.release()
        return True

    def _guard(self) -> None:
        watch = self._watch
        assert watch is not None
        while True:
            try:
                if not watch.wait():
                    return
                if self.heal():
                    _LOG.warning("the firewall table inet %s was changed from outside; put back", TABLE)
            except PykerError as error:
                _LOG.error("the firewall table inet %s cannot be put back: %s", TABLE, error)


def _instead() -> str:
    """Why iptables does not help."""
    answer = iptables.probe()
    if answer.usable:
        return f"{answer.reason}, but this engine writes its rules by nftables only"
    return answer.reason
