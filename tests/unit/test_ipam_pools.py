"""Address pools: choosing a subnet, checking what the user gives, giving the lowest free address."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyker.errors import Conflict, InvalidParameter, SystemFailure
from pyker.networkdriver.base import IpamPool
from pyker.networkdriver.ipam import AddressPool, choose_pool, default_pools, parse_pool


def test_the_first_default_pool_is_the_reference_engines() -> None:
    assert choose_pool([]) == IPv4Network("172.17.0.0/16")


@pytest.mark.parametrize("busy", ["172.17.0.0/16", "172.17.3.0/24", "172.16.0.0/15", "172.17.255.255/32"])
def test_a_pool_that_overlaps_anything_is_passed_over(busy: str) -> None:
    assert choose_pool([IPv4Network(busy)]) == IPv4Network("172.18.0.0/16")


def test_after_172_31_come_192_168_in_steps_of_20_bits() -> None:
    pools = list(default_pools())
    assert pools[14] == IPv4Network("172.31.0.0/16")
    assert pools[15] == IPv4Network("192.168.0.0/20")
    assert pools[-1] == IPv4Network("192.168.240.0/20")
    assert choose_pool(pools[:16]) == IPv4Network("192.168.16.0/20")


def test_no_pool_left_says_what_to_do() -> None:
    with pytest.raises(SystemFailure) as raised:
        choose_pool([IPv4Network("0.0.0.0/0")])
    assert "--bip" in raised.value.hint


def test_the_gateway_is_the_first_address() -> None:
    assert parse_pool(IpamPool(subnet="10.9.0.0/24")).gateway == "10.9.0.1"
    assert parse_pool(IpamPool(subnet="10.9.0.0/24", ip_range="10.9.0.128/25")).gateway == "10.9.0.129"
    assert parse_pool(IpamPool(subnet="10.9.0.0/24", gateway="10.9.0.254")).gateway == "10.9.0.254"


@pytest.mark.parametrize(
    "pool",
    [
        IpamPool(subnet="10.9.0.0/33"),
        IpamPool(subnet="rubbish"),
        IpamPool(subnet="10.9.0.0/31"),
        IpamPool(subnet="10.9.0.0/24", gateway="10.8.0.1"),
        IpamPool(subnet="10.9.0.0/24", ip_range="10.8.0.0/25"),
        IpamPool(subnet="10.9.0.0/24", aux_addresses={"router": "10.8.0.9"}),
        IpamPool(subnet="10.9.0.0/24", gateway="10.9.0.1; flush ruleset"),
    ],
)
def test_impossible_pools_are_refused(pool: IpamPool) -> None:
    with pytest.raises(InvalidParameter):
        parse_pool(pool)


def test_network_broadcast_gateway_and_reserved_addresses_are_never_given() -> None:
    pool = AddressPool(parse_pool(IpamPool(subnet="10.9.0.0/29", aux_addresses={"a": "10.9.0.3"})))
    assert [pool.take_any() for _ in range(5)] == ["10.9.0.2", "10.9.0.4", "10.9.0.5", "10.9.0.6", ""]


def test_addresses_come_from_the_range_only() -> None:
    pool = AddressPool(parse_pool(IpamPool(subnet="10.9.0.0/24", ip_range="10.9.0.64/30", gateway="10.9.0.1")))
    assert [pool.take_any() for _ in range(5)] == ["10.9.0.64", "10.9.0.65", "10.9.0.66", "10.9.0.67", ""]
    pool.take("10.9.0.200")
    pool.give_back("10.9.0.200")
    assert pool.take_any() == ""


def test_an_address_can_be_chosen_once() -> None:
    pool = AddressPool(parse_pool(IpamPool(subnet="10.9.0.0/24")))
    pool.take("10.9.0.2")
    with pytest.raises(Conflict, match="Address already in use"):
        pool.take("10.9.0.2")
    with pytest.raises(Conflict):
        pool.take("10.9.0.1")
    with pytest.raises(InvalidParameter):
        pool.take("10.8.0.1")
    assert pool.take_any() == "10.9.0.3"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 63)), max_size=200))
def test_no_address_is_ever_given_twice_and_the_lowest_free_one_comes_first(steps: list[tuple[bool, int]]) -> None:
    pool = AddressPool(parse_pool(IpamPool(subnet="10.9.0.0/26")))
    possible = [str(IPv4Address(f"10.9.0.{number}")) for number in range(2, 63)]
    held: list[str] = []
    for take, which in steps:
        if take:
            free = [address for address in possible if address not in held]
            given_address = pool.take_any()
            assert given_address == (free[0] if free else "")
            if given_address:
                held.append(given_address)
        elif held:
            pool.give_back(held.pop(which % len(held)))
