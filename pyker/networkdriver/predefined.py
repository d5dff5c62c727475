"""The three networks that are always there, as the daemon's options and an earlier run say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Interface, IPv4Network

from pyker.errors import InvalidParameter, SystemFailure
from pyker.networkdriver import base, bridge
from pyker.networkdriver.base import BridgeOptions, IpamPool, Network
from pyker.networkdriver.bridge import BridgeDriver
from pyker.networkdriver.ipam import choose_pool, parse_pool
from pyker.networkdriver.pool import new_id
from pyker.types.ids import NetworkId

PREDEFINED = ("bridge", "host", "none")
NO_BRIDGE = "none"
"""The value of --bridge that means: no default bridge network."""


def now() -> str:
    """The time as networks carry it: RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "000Z")


def predefined_networks(
    stored: Mapping[str, Network], options: BridgeOptions, driver: BridgeDriver | None, *, keep_pool: bool
) -> list[Network]:
    """host, none and bridge, under the IDs that they have in ``stored`` (networks by name).

    ``keep_pool`` leaves the default bridge network where it was, whatever the host's routes are now: containers are on
    it. Raises SystemFailure or InvalidParameter when the options cannot be followed.
    """
    networks = [_stored(stored, "host", "host"), _stored(stored, "none", "null")]
    if options.bridge != NO_BRIDGE:
        if driver is None:
            raise SystemFailure(
                "the bridge networkdriver is not installed", hint="--bridge none makes do without a default network"
            )
        networks.append(_default_bridge(stored, options, driver, keep_pool=keep_pool))
    return networks


def _stored(stored: Mapping[str, Network], name: str, driver: str) -> Network:
    return stored.get(name) or Network(id=NetworkId(new_id()), name=name, driver=driver, created=now())


def _default_bridge(
    stored: Mapping[str, Network], options: BridgeOptions, driver: BridgeDriver, *, keep_pool: bool
) -> Network:
    name = options.bridge or bridge.DEFAULT_BRIDGE
    network = _stored(stored, "bridge", "bridge")
    interface = _chosen_address(name, options, driver)
    if interface is None:
        others = [
            IPv4Network(pool.subnet) for other in stored.values() if other.name != "bridge" for pool in other.pools
        ]
        busy = driver.busy_subnets(besides=name) + others
        before = IPv4Network(network.pools[0].subnet) if network.pools else None
        if before is not None and (keep_pool or not any(before.overlaps(each) for each in busy)):
            pool = network.pools[0]
        else:
            pool = parse_pool(IpamPool(subnet=str(choose_pool(busy)), ip_range=options.fixed_cidr))
    else:
        pool = parse_pool(
            IpamPool(subnet=str(interface.network), gateway=str(interface.ip), ip_range=options.fixed_cidr)
        )
    return replace(
        network,
        pools=(pool,),
        options={
            bridge.DEFAULT: "true",
            bridge.ICC: "true" if options.icc else "false",
            bridge.MASQUERADE: "true" if options.ip_masq else "false",
            bridge.HOST_BINDING: options.ip,
            bridge.NAME: name,
            base.MTU: str(options.mtu or 1500),
        },
    )


def _chosen_address(name: str, options: BridgeOptions, driver: BridgeDriver) -> IPv4Interface | None:
    """The bridge's address as --bip says, or as the bridge of --bridge has it; None leaves the choice to us."""
    if options.bridge and not driver.has_bridge(name):
        raise SystemFailure(
            f"bridge device with non default name {name} must be created manually",
            hint=f"ip link add {name} type bridge",
        )
    if options.bip:
        try:
            return IPv4Interface(options.bip)
        except ValueError as error:
            raise InvalidParameter(f"invalid CIDR address: {options.bip}") from error
    return driver.present_address(name) if options.bridge else None
