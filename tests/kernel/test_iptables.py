"""The iptables probe on a real kernel: what it says of it, and that asking changes nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from pyker.errors import KernelError, NotSupported
from pyker.libcontainer import iptables
from pyker.libcontainer.nftables import Nftables
from pyker.networkdriver.firewall import Firewall
from tests.support.namespaces import isolated, nft_json

pytestmark = pytest.mark.requires("root", "nftables", "nft", "iptables")


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    with isolated():
        yield


def test_asking_makes_no_table() -> None:
    before = nft_json()
    iptables.probe()
    iptables.legacy_in_kernel()
    iptables.legacy_forward_drops()
    assert nft_json() == before
    assert iptables.legacy_tables() == frozenset()


def test_the_programs_are_told_apart() -> None:
    for name, backend in (("iptables-nft", "nf_tables"), ("iptables-legacy", "legacy")):
        found = iptables.find(name)
        assert found is not None
        assert found.backend == backend


def test_the_kernel_agrees_with_the_program() -> None:
    """Where the old program can list its table, the kernel has ip_tables, and else not."""
    done = subprocess.run(["iptables-legacy", "-w", "-t", "raw", "-S"], capture_output=True, check=False)
    assert iptables.legacy_in_kernel() == (done.returncode == 0)


@pytest.mark.requires("iptables-legacy")
def test_a_policy_in_the_old_table_is_told_as_a_foreign_one() -> None:
    firewall = Firewall()
    firewall.open()
    try:
        assert firewall.foreign_drops() == []
        subprocess.run(["iptables-legacy", "-w", "-P", "FORWARD", "DROP"], check=True)
        assert firewall.foreign_drops() == ["FORWARD of iptables-legacy"]
    finally:
        firewall.close()


def test_where_nf_tables_is_refused_the_message_says_what_iptables_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Nftables, command: str) -> object:
        raise KernelError("Error: cache initialization failed: Operation not supported")

    monkeypatch.setattr(Nftables, "listing", refuse)
    firewall = Firewall()
    with pytest.raises(NotSupported) as caught:
        firewall.open()
    firewall.close()
    assert "nftables: the kernel refuses" in caught.value.message
    program = iptables.find()
    assert program is not None
    assert str(program) in caught.value.message
    assert "start the daemon with --iptables=false" in caught.value.hint
