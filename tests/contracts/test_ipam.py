"""What every address store and address manager must hold: one owner an address, across restarts and threads."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure
from pyker.networkdriver.base import IpamPool, Network
from pyker.networkdriver.ipam import Ipam, parse_pool
from pyker.networkdriver.store import NetworkStore
from pyker.types.ids import NetworkId

NET = NetworkId("n" * 64)
POOL = parse_pool(IpamPool(subnet="10.9.0.0/24"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[NetworkStore]:
    opened = NetworkStore(str(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def ipam(store: NetworkStore) -> Ipam:
    made = Ipam(store)
    made.add_network(NET, POOL, {})
    return made


def test_addresses_are_different_and_noted_in_the_file(ipam: Ipam, tmp_path: Path) -> None:
    assert ipam.allocate(NET, "a") == ("10.9.0.2", 24)
    assert ipam.allocate(NET, "b") == ("10.9.0.3", 24)
    with sqlite3.connect(tmp_path / "network" / "networks.db") as database:
        rows = database.execute("SELECT address, owner FROM addresses ORDER BY address").fetchall()
    database.close()
    assert rows == [("10.9.0.2", "a"), ("10.9.0.3", "b")]


def test_a_released_address_is_free_again(ipam: Ipam) -> None:
    address, _ = ipam.allocate(NET, "a")
    ipam.allocate(NET, "b")
    ipam.release(NET, address)
    ipam.release(NET, address)
    assert ipam.allocate(NET, "c") == (address, 24)


def test_a_chosen_address(ipam: Ipam) -> None:
    assert ipam.allocate(NET, "a", "10.9.0.77") == ("10.9.0.77", 24)
    with pytest.raises(Conflict, match="Address already in use"):
        ipam.allocate(NET, "b", "10.9.0.77")
    with pytest.raises(InvalidParameter):
        ipam.allocate(NET, "b", "10.10.0.77")
    assert ipam.allocate(NET, "b") == ("10.9.0.2", 24)


def test_a_full_network_says_so(store: NetworkStore) -> None:
    small = Ipam(store)
    small.add_network(NET, parse_pool(IpamPool(subnet="10.9.0.0/30")), {})
    assert small.allocate(NET, "a") == ("10.9.0.2", 30)
    with pytest.raises(SystemFailure, match="no available IPv4 addresses"):
        small.allocate(NET, "b")


def test_an_unknown_network(ipam: Ipam) -> None:
    with pytest.raises(NotFound):
        ipam.allocate(NetworkId("other"), "a")


def test_overlapping_networks_are_refused(ipam: Ipam) -> None:
    with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
        ipam.add_network(NetworkId("m" * 64), parse_pool(IpamPool(subnet="10.9.0.128/25")), {})


def test_the_next_daemon_keeps_the_addresses_of_the_living_and_frees_those_of_the_dead(tmp_path: Path) -> None:
    first = NetworkStore(str(tmp_path))
    before = Ipam(first)
    before.add_network(NET, POOL, {})
    living, dead = before.allocate(NET, "living")[0], before.allocate(NET, "dead")[0]
    # No close: this is a daemon that was killed.
    second = NetworkStore(str(tmp_path))
    after = Ipam(second)
    after.add_network(NET, POOL, {living: "living"})
    assert second.addresses(NET) == {living: "living"}
    assert after.allocate(NET, "new")[0] == dead
    with pytest.raises(Conflict):
        after.allocate(NET, "thief", living)
    first.close()
    second.close()


def test_a_living_container_that_the_store_forgot_keeps_its_address(store: NetworkStore) -> None:
    ipam = Ipam(store)
    ipam.add_network(NET, POOL, {"10.9.0.2": "living"})
    assert store.addresses(NET) == {"10.9.0.2": "living"}
    assert ipam.allocate(NET, "new")[0] == "10.9.0.3"


def test_the_store_itself_refuses_a_second_owner(store: NetworkStore) -> None:
    store.take(NET, "10.9.0.2", "a")
    with pytest.raises(Conflict):
        store.take(NET, "10.9.0.2", "b")
    assert store.addresses(NET) == {"10.9.0.2": "a"}


def test_when_the_store_refuses_memory_forgets(ipam: Ipam, store: NetworkStore) -> None:
    store.take(NET, "10.9.0.2", "a stranger")
    with pytest.raises(Conflict):
        ipam.allocate(NET, "a")
    store.drop(NET, "10.9.0.2")
    assert ipam.allocate(NET, "a")[0] == "10.9.0.2"


def test_fifty_threads_get_fifty_addresses(ipam: Ipam, store: NetworkStore) -> None:
    found: list[str] = []
    barrier = threading.Barrier(50)

    def take(number: int) -> None:
        barrier.wait()
        found.append(ipam.allocate(NET, f"c{number}")[0])

    threads = [threading.Thread(target=take, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(f"10.9.0.{number}" for number in range(2, 52))
    assert set(store.addresses(NET)) == set(found)


def test_networks_survive_with_all_they_hold(tmp_path: Path) -> None:
    network = Network(
        id=NET,
        name="n1",
        driver="bridge",
        created="2026-01-01T00:00:00Z",
        internal=True,
        pools=(IpamPool(subnet="10.9.0.0/24", gateway="10.9.0.1", aux_addresses={"a": "10.9.0.9"}),),
        options={"a": "b"},
        labels={"c": "d"},
    )
    store = NetworkStore(str(tmp_path))
    store.put_network(network)
    store.close()
    store = NetworkStore(str(tmp_path))
    assert store.networks() == [network]
    with pytest.raises(Conflict, match="network with name n1 already exists"):
        store.put_network(Network(id=NetworkId("other"), name="n1", driver="bridge", created=""))
    store.take(NET, "10.9.0.2", "a")
    store.delete_network(NET)
    assert store.networks() == []
    assert store.addresses(NET) == {}
    store.close()
