"""``search`` from the command line to a registry and back, by both clients."""

from __future__ import annotations

import json

import pytest

from tests.conformance.conftest import Client
from tests.support.engines import Engine

pytestmark = [pytest.mark.requires("root", "overlay", "docker-cli"), pytest.mark.only_pyker]


@pytest.mark.claim("GET /images/search", "registry-search", "rule-search")
@pytest.mark.requires("docker-cli-28")
def test_search_prints_what_the_registry_has(engine: Engine, cli: Client) -> None:
    done = cli("search", "pyker.local/busy")
    assert done.code == 0, done.err
    title, row = done.out.splitlines()
    assert title.split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
    assert row.split()[0] == "busybox" and row.split()[-2:] == ["0", "[OK]"]


@pytest.mark.claim("GET /images/search", "rule-search")
@pytest.mark.requires("docker-cli-28")
def test_search_passes_its_options_on(engine: Engine, cli: Client) -> None:
    one = cli("search", "--limit", "1", "--no-trunc", "--format", "json", "pyker.local/b")
    assert one.code == 0, one.err
    assert [json.loads(line)["StarCount"] for line in one.out.splitlines()] == ["0"]
    assert cli("search", "--filter", "stars=1", "--format", "{{.Name}}", "pyker.local/b").out == ""
    wrong = cli("search", "--limit", "101", "pyker.local/b")
    assert wrong.code == 1
    assert "Limit 101 is outside the range of [1, 100]" in wrong.err


@pytest.mark.claim("GET /images/search", "registry-search")
@pytest.mark.requires("docker-cli-28")
def test_both_clients_print_the_same(engine: Engine) -> None:
    for arguments in (["pyker.local/b"], ["--no-trunc", "pyker.local/b"], ["--format", "json", "pyker.local/b"]):
        assert engine.pyker("search", *arguments) == engine.docker("search", *arguments)


@pytest.mark.claim("GET /images/search", "registry-errors")
def test_a_registry_that_cannot_be_reached_is_named(engine: Engine, cli: Client) -> None:
    done = cli("search", "127.0.0.1:1/anything")
    assert done.code == 1
    assert "127.0.0.1:1" in done.err
