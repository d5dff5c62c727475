"""Who gets which address: address pools for networks, and single addresses out of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network

from pyker.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure
from pyker.networkdriver.base import IpamPool
from pyker.networkdriver.store import NetworkStore
from pyker.types.ids import NetworkId


def default_pools() -> Iterator[IPv4Network]:
    """Where a network without a subnet of its own is put: the reference's default address pools, in its order."""
    for second in range(17, 32):
        yield IPv4Network(f"172.{second}.0.0/16")
    yield from IPv4Network("192.168.0.0/16").subnets(new_prefix=20)


def choose_pool(busy: Iterable[IPv4Network]) -> IPv4Network:
    """The first default pool that overlaps none of ``busy``. Raises SystemFailure when all do."""
    taken = list(busy)
    for pool in default_pools():
        if not any(pool.overlaps(network) for network in taken):
            return pool
    raise SystemFailure(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
        hint="remove networks that are not used, or give a subnet (--bip for the default bridge)",
    )


def parse_pool(pool: IpamPool) -> IpamPool:
    """``pool`` completed with a gateway, its values checked and in canonical form. Raises InvalidParameter."""
    try:
        subnet = IPv4Network(pool.subnet, strict=False)
    except ValueError as error:
        raise InvalidParameter(f"Invalid subnet {pool.subnet} : invalid CIDR address: {pool.subnet}") from error
    try:
        ip_range = IPv4Network(pool.ip_range, strict=False) if pool.ip_range else None
        gateway = IPv4Address(pool.gateway.partition("/")[0]) if pool.gateway else None
        auxiliary = {name: str(IPv4Address(address)) for name, address in pool.aux_addresses.items()}
    except ValueError as error:
        raise InvalidParameter(f"invalid address pool: {error}") from error
    if subnet.prefixlen > 30:
        raise InvalidParameter(f"invalid subnet {subnet}: it has no room for a gateway and a container")
    if ip_range is not None and not ip_range.subnet_of(subnet):
        raise InvalidParameter(f"invalid ip-range {ip_range}: it is not within the subnet {subnet}")
    if gateway is not None and gateway not in subnet:
        raise InvalidParameter(f"no matching subnet for gateway {gateway}")
    for address in auxiliary.values():
        if IPv4Address(address) not in subnet:
            raise InvalidParameter(f"no matching subnet for aux-address {address}")
    return IpamPool(
        subnet=str(subnet),
        ip_range=str(ip_range or ""),
        gateway=str(gateway or (ip_range or subnet)[1]),
        aux_addresses=auxiliary,
    )


class AddressPool:
    """The addresses of one subnet. The lowest free one is given first. Not thread-safe; Ipam holds the lock."""

    def __init__(self, pool: IpamPool) -> None:
        self.subnet = IPv4Network(pool.subnet)
        self._range = IPv4Network(pool.ip_range) if pool.ip_range else self.subnet
        # Network and broadcast address, the gateway and the reserved ones are never given.
        self._reserved = {int(self.subnet[0]), int(self.subnet[-1])}
        self._reserved.update(int(IPv4Address(address)) for address in pool.aux_addresses.values())
        if pool.gateway:
            self._reserved.add(int(IPv4Address(pool.gateway)))
        self._used: set[int] = set()
        self._lowest = int(self._range[0])

    def take(self, address: str) -> None:
        """Take one address of the caller's choice. Raises InvalidParameter or Conflict."""
        try:
            wanted = IPv4Address(address)
        except ValueError as error:
            raise InvalidParameter(f"invalid IPv4 address: {address}") from error
        if wanted not in self.subnet:
            raise InvalidParameter(
                f"invalid address {address}: it does not belong to any of this network's subnets",
                hint=f"choose one within {self.subnet}",
            )
        if int(wanted) in self._used or int(wanted) in self._reserved:
            raise Conflict("Address already in use")
        self._used.add(int(wanted))

    def keep(self, address: str) -> None:
        """Note an address that a running container has, whatever the configuration says of it now."""
        self._used.add(int(IPv4Address(address)))

    def take_any(self) -> str:
        """Take the lowest free address; "" when there is none."""
        last = int(self._range[-1])
        number = self._lowest
        while number <= last:
            if number not in self._used and number not in self._reserved:
                self._used.add(number)
                self._lowest = number + 1
                return str(IPv4Address(number))
            number += 1
        self._lowest = number
        return ""

    def give_back(self, address: str) -> None:
        """Make an address free again; one that was free stays so."""
        number = int(IPv4Address(address))
        self._used.discard(number)
        if number < self._lowest and IPv4Address(number) in self._range:
            self._lowest = number


class Ipam:
    """Addresses of all networks, in memory for speed and in the store for the next daemon. Thread-safe."""

    def __init__(self, store: NetworkStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._pools: dict[NetworkId, AddressPool] = {}

    def subnets(self) -> list[IPv4Network]:
        """The subnets in use by networks."""
        with self._lock:
            return [pool.subnet for pool in self._pools.values()]

    def add_network(self, network: NetworkId, pool: IpamPool, live: Mapping[str, str]) -> None:
        """Serve addresses for ``network``; ``live`` (address -> owner) are taken, all others in the store are freed.

        Raises Forbidden if the subnet overlaps another network's.
        """
        addresses = AddressPool(pool)
        with self._lock:
            for other, existing in self._pools.items():
                if other != network and existing.subnet.overlaps(addresses.subnet):
                    raise Forbidden("Pool overlaps with other one on this address space")
            stored = self._store.addresses(network)
            for address, owner in stored.items():
                if live.get(address) != owner:
                    self._store.drop(network, address)
            for address, owner in live.items():
                if IPv4Address(address) not in addresses.subnet:
                    continue  # the network moved under a living container: it keeps what it has
                addresses.keep(address)
                if stored.get(address) != owner:
                    self._store.take(network, address, owner)
            self._pools[network] = addresses

    def remove_network(self, network: NetworkId) -> None:
        """Forget a network."""
        with self._lock:
            self._pools.pop(network, None)

    def allocate(self, network: NetworkId, owner: str, requested: str = "") -> tuple[str, int]:
        """An address for ``owner`` and its prefix length: ``requested``, or the lowest free one.

        Raises Conflict if ``requested`` is taken, SystemFailure if none is left.
        """
        with self._lock:
            pool = self._pools.get(network)
            if pool is None:
                raise NotFound(f"network {network} not found")
            if requested:
                pool.take(requested)
                address = requested
            else:
                address = pool.take_any()
            if not address:
                raise SystemFailure(
                    f"no available IPv4 addresses on this network's address pools: {pool.subnet}",
                    hint="remove containers that are not used, or use a network with a larger subnet",
                )
            prefix_len = pool.subnet.prefixlen
        try:
            self._store.take(network, address, owner)
        except BaseException:
            with self._lock:
                pool.give_back(address)
            raise
        return address, prefix_len

    def release(self, network: NetworkId, address: str) -> None:
        """Take an address back; one that nobody had is not an error."""
        self._store.drop(network, address)
        with self._lock:
            pool = self._pools.get(network)
            if pool is not None and IPv4Address(address) in pool.subnet:
                pool.give_back(address)
