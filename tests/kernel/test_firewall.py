"""The nftables table: what is in it, that others' rules stay, and that it heals. Seen with the nft program."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pyker.errors import KernelError
from pyker.libcontainer.nftables import DeletionWatch, Nftables
from pyker.networkdriver.firewall import ADMIN_CHAIN, Firewall, Forward, NetworkRules
from tests.support.namespaces import isolated, nft_json

pytestmark = pytest.mark.requires("root", "nftables", "nft")

RULES = NetworkRules(link="br-t", subnet="10.9.0.0/24")
WEB = Forward("tcp", "0.0.0.0", 8080, "10.9.0.2", 80)
LOCAL = Forward("udp", "127.0.0.1", 53, "10.9.0.2", 5353)


@pytest.fixture
def firewall() -> Iterator[Firewall]:
    with isolated():
        made = Firewall()
        made.add_network(RULES)
        made.start()
        yield made
        made.close()


def nft(command: str) -> str:
    return subprocess.run(["nft", command], capture_output=True, check=True, text=True).stdout


def elements(name: str) -> list[Any]:
    (found,) = (item[kind] for item in nft_json() for kind in ("map", "set") if item.get(kind, {}).get("name") == name)
    return list(found.get("elem", []))


def chains() -> set[str]:
    return {item["chain"]["name"] for item in nft_json() if "chain" in item and item["chain"]["table"] == "pyker"}


@pytest.mark.claim("network-firewall", "libcontainer-firewall")
def test_published_ports_are_elements_and_no_rules(firewall: Firewall) -> None:
    before = sum("rule" in item for item in nft_json())
    firewall.publish([WEB, LOCAL])
    assert elements("published_everywhere") == [[{"concat": ["tcp", 8080]}, {"concat": ["10.9.0.2", 80]}]]
    assert elements("published") == [[{"concat": ["udp", "127.0.0.1", 53]}, {"concat": ["10.9.0.2", 5353]}]]
    assert sum("rule" in item for item in nft_json()) == before
    firewall.unpublish([WEB, LOCAL])
    assert elements("published_everywhere") == elements("published") == []


def test_publishing_is_all_or_nothing(firewall: Firewall) -> None:
    bad = Forward("tcp", "0.0.0.0", 70000, "10.9.0.2", 80)
    with pytest.raises(KernelError):
        firewall.publish([WEB, bad])
    assert elements("published_everywhere") == []
    firewall.publish([WEB])
    assert len(elements("published_everywhere")) == 1


def test_other_tables_are_not_touched(firewall: Firewall) -> None:
    nft("add table ip mine; add set ip mine s { type ipv4_addr; }; add element ip mine s { 192.0.2.1 }")
    nft("add chain ip mine c; add rule ip mine c counter")
    mine = nft("list table ip mine")
    firewall.publish([WEB])
    firewall.add_network(NetworkRules(link="br-u", subnet="10.10.0.0/24"))
    firewall.remove_network("br-u")
    firewall.unpublish([WEB])
    assert nft("list table ip mine") == mine


@pytest.mark.claim("network-firewall")
def test_the_administrators_chain_is_first_and_survives_everything_that_pyker_does(firewall: Firewall) -> None:
    nft(f"add rule inet pyker {ADMIN_CHAIN} ip saddr 192.0.2.66 counter drop")
    mine = nft(f"list chain inet pyker {ADMIN_CHAIN}")
    assert "192.0.2.66" in mine
    firewall.publish([WEB])
    firewall.add_network(NetworkRules(link="br-u", subnet="10.10.0.0/24"))
    firewall.close()
    again = Firewall()
    again.add_network(RULES)
    again.start()
    try:
        assert nft(f"list chain inet pyker {ADMIN_CHAIN}") == mine
        first = next(item["rule"] for item in nft_json() if item.get("rule", {}).get("chain") == "filter-forward")
        assert {"jump": {"target": ADMIN_CHAIN}} in first["expr"]
    finally:
        again.close()


@pytest.mark.parametrize(
    "damage",
    [
        "flush ruleset",
        "delete table inet pyker",
        "flush table inet pyker",
        "flush map inet pyker published_everywhere",
        "flush chain inet pyker entering",
        "delete element inet pyker links { br-t }",
    ],
)
def test_what_somebody_deletes_comes_back(firewall: Firewall, damage: str) -> None:
    firewall.publish([WEB, LOCAL])
    whole = nft("list table inet pyker")
    nft(damage)
    assert firewall.healed.acquire(timeout=10), "nobody noticed"
    assert nft("list table inet pyker") == whole


def test_our_own_changes_are_not_taken_for_damage(firewall: Firewall) -> None:
    watch = DeletionWatch("pyker")
    noticed: list[bool] = []
    thread = threading.Thread(target=lambda: noticed.append(watch.wait()))
    thread.start()
    for _ in range(5):
        firewall.publish([WEB])
        firewall.unpublish([WEB])
    nft("add table inet other; delete table inet other")
    thread.join(0.2)
    assert noticed == []
    nft("flush chain inet pyker entering")
    thread.join(10)
    assert noticed == [True]
    watch.stop()
    assert watch.wait() is False
    watch.close()


def test_a_port_is_published_even_if_the_table_was_deleted_just_before(firewall: Firewall) -> None:
    nft("delete table inet pyker")
    firewall.publish([WEB])
    assert len(elements("published_everywhere")) == 1
    assert "entering" in chains()


def test_a_stale_element_of_a_killed_daemon_gives_way(firewall: Firewall) -> None:
    nft("add element inet pyker published_everywhere { tcp . 8080 : 10.9.0.99 . 99 }")
    firewall.publish([WEB])
    assert elements("published_everywhere") == [[{"concat": ["tcp", 8080]}, {"concat": ["10.9.0.2", 80]}]]


def test_the_rules_outlive_the_daemon_and_the_next_one_replaces_them_at_once(firewall: Firewall) -> None:
    firewall.publish([WEB])
    firewall.close()
    assert len(elements("published_everywhere")) == 1
    again = Firewall()
    again.add_network(RULES)
    again.publish([LOCAL])
    again.start()
    try:
        assert elements("published_everywhere") == []
        assert len(elements("published")) == 1
    finally:
        again.close()


def test_switched_off_it_writes_nothing() -> None:
    with isolated():
        off = Firewall(enabled=False)
        off.add_network(RULES)
        off.start()
        off.publish([WEB])
        off.unpublish([WEB])
        off.close()
        assert [item for item in nft_json() if "metainfo" not in item] == []


def test_a_foreign_drop_policy_is_named(firewall: Firewall) -> None:
    assert firewall.foreign_drops() == []
    nft("add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
    assert firewall.foreign_drops() == ["ip filter FORWARD"]


def test_the_library_says_what_is_wrong_and_goes_on() -> None:
    with isolated():
        nftables = Nftables()
        with pytest.raises(KernelError, match="syntax error"):
            nftables.run("add rubbish")
        with pytest.raises(KernelError, match="No such file or directory"):
            nftables.run("delete table inet nosuch")
        nftables.run("add table inet good")
        assert [item["table"]["name"] for item in nftables.listing("list tables")] == ["good"]
        nftables.close()
        with pytest.raises(KernelError, match="closed"):
            nftables.run("add table inet late")
