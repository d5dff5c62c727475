"""Which iptables there is, by what it says of itself; what to tell people where nftables is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pyker.libcontainer import iptables
from pyker.libcontainer.iptables import Iptables


def says(text: str) -> iptables.Run:
    def run(command: Sequence[str]) -> str:
        if "--version" in command:
            return text
        return "-P FORWARD DROP\n-N DOCKER-USER\n"

    return run


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Something that can be found under the names that are looked for."""
    for name in ("iptables", "iptables-legacy"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return str(tmp_path / "iptables")


@pytest.mark.parametrize(
    ("text", "version", "backend"),
    [
        ("iptables v1.8.9 (nf_tables)\n", "1.8.9", "nf_tables"),
        ("iptables v1.8.11 (legacy)\n", "1.8.11", "legacy"),
        ("iptables v1.6.1\n", "1.6.1", "legacy"),
    ],
)
def test_the_kinds(program: str, text: str, version: str, backend: str) -> None:
    found = iptables.find(run=says(text))
    assert found == Iptables(program, version, backend)
    assert str(found) == f"{program} {version} ({backend})"


def test_what_is_no_iptables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert iptables.find(run=says("something else\n")) is None
    monkeypatch.setattr(iptables, "_run", iptables._run)
    assert iptables.find("nosuchprogram", run=says("iptables v1.8.9 (legacy)")) is None
    assert iptables.find() is None, "a program that prints nothing"


def test_why_it_does_not_help(program: str) -> None:
    nft = iptables.probe(run=says("iptables v1.8.9 (nf_tables)"), legacy=lambda: True)
    assert (nft.usable, nft.reason) == (False, f"{program} 1.8.9 (nf_tables) goes through nf_tables as well")
    lacks = iptables.probe(run=says("iptables v1.8.9 (legacy)"), legacy=lambda: False)
    assert not lacks.usable
    assert "needs ip_tables, which this kernel has not loaded: modprobe ip_tables" in lacks.reason
    works = iptables.probe(run=says("iptables v1.8.9 (legacy)"), legacy=lambda: True)
    assert (works.usable, works.reason) == (True, f"{program} 1.8.9 (legacy) works with this kernel")
    assert iptables.probe("nosuchprogram").reason == "no iptables program is installed"


def test_a_policy_of_the_old_table_counts_only_where_the_table_is_used() -> None:
    legacy = says("iptables v1.8.9 (legacy)")
    assert iptables.legacy_forward_drops(run=legacy, tables=lambda: frozenset({"filter"}))
    assert not iptables.legacy_forward_drops(run=legacy, tables=lambda: frozenset({"nat"}))
    assert not iptables.legacy_forward_drops(
        run=says("iptables v1.8.9 (nf_tables)"), tables=lambda: frozenset({"filter"})
    )
