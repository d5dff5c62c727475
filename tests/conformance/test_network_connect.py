"""``network connect`` and ``disconnect``: interfaces come and go while a container runs, or wait for its start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.asking import get, message, post
from tests.support.engines import Engine
from tests.support.traffic import addresses, fetch, ipv4, links, routes, serve

pytestmark = pytest.mark.claim("rule-network-connect")


def _refused(engine: Engine, path: str, body: dict[str, Any]) -> tuple[int, str]:
    reply = engine.request("POST", path, body)
    return reply.status, message(reply)


@pytest.fixture
def other(engine: Engine, network: str) -> Any:
    """One more network beside ``network``, which is made here too; both have no containers yet."""
    chosen = f"{network}-b"
    engine.docker("network", "create", "--subnet", "10.81.0.0/24", network, check=True)
    engine.docker("network", "create", "--subnet", "10.82.0.0/24", chosen, check=True)
    yield chosen
    for container in get(engine, f"/networks/{chosen}")["Containers"]:
        engine.request("DELETE", f"/containers/{container}?force=1")
    engine.request("DELETE", f"/networks/{chosen}")


@pytest.mark.claim("POST /networks/{id}/connect")
def test_connect_gives_one_more_interface(engine: Engine, busybox: str, network: str, other: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "--network", network, busybox, "sleep", "600", check=True)
    reply = engine.request("POST", f"/networks/{other}/connect", {"Container": name})
    assert (reply.status, reply.body) == (200, b"")
    assert set(links(engine, name)) == {"lo", "eth0", "eth1"}
    assert ipv4(engine, name, "eth1") == "10.82.0.2/24"
    assert addresses(engine, name) == {network: "10.81.0.2", other: "10.82.0.2"}
    assert [row["gateway"] for row in routes(engine, name) if row["dst"] == "default"] == ["10.81.0.1"]
    (row,) = get(engine, f"/networks/{other}")["Containers"].values()
    assert (row["Name"], row["IPv4Address"]) == (name, "10.82.0.2/24")


@pytest.mark.claim("POST /networks/{id}/connect")
def test_packets_go_both_ways(engine: Engine, busybox: str, network: str, other: str, names: Callable[[], str]) -> None:
    server, client = names(), names()
    serve(engine, server, busybox, "--network", other)
    engine.docker("run", "-d", "--name", client, "--network", network, busybox, "sleep", "600", check=True)
    assert fetch(engine, "10.82.0.2", source=client, patience_s=1) is None
    engine.docker("network", "connect", other, client, check=True)
    assert fetch(engine, "10.82.0.2", source=client) == f"{server}\n"
    engine.docker("network", "disconnect", other, client, check=True)
    assert fetch(engine, "10.82.0.2", source=client, patience_s=1) is None


@pytest.mark.claim("POST /networks/{id}/disconnect")
def test_disconnect_takes_the_interface(engine: Engine, busybox: str, network: str, other: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "--network", network, busybox, "sleep", "600", check=True)
    engine.docker("network", "connect", other, name, check=True)
    reply = engine.request("POST", f"/networks/{network}/disconnect", {"Container": name})
    assert (reply.status, reply.body) == (200, b"")
    assert set(links(engine, name)) == {"lo", "eth1"}
    assert set(addresses(engine, name)) == {other}
    assert [row["gateway"] for row in routes(engine, name) if row["dst"] == "default"] == ["10.82.0.1"]
    assert get(engine, f"/networks/{network}")["Containers"] == {}


@pytest.mark.claim("POST /networks/{id}/connect")
def test_an_address_and_aliases_of_the_endpoint(
    engine: Engine, busybox: str, network: str, other: str, name: str
) -> None:
    engine.docker("run", "-d", "--name", name, "--network", network, busybox, "sleep", "600", check=True)
    config = {"IPAMConfig": {"IPv4Address": "10.82.0.99"}, "Aliases": ["second"]}
    post(engine, f"/networks/{other}/connect", {"Container": name, "EndpointConfig": config})
    assert ipv4(engine, name, "eth1") == "10.82.0.99/24"
    settings: Any = engine.inspect(name)["NetworkSettings"]
    endpoint = settings["Networks"][other]
    assert endpoint["IPAMConfig"]["IPv4Address"] == "10.82.0.99"
    assert "second" in endpoint["Aliases"]


@pytest.mark.claim("POST /networks/{id}/connect", "POST /networks/{id}/disconnect")
def test_a_stopped_container_has_them_at_its_start(
    engine: Engine, busybox: str, network: str, other: str, name: str
) -> None:
    engine.docker("create", "--name", name, "--network", network, busybox, "sleep", "600", check=True)
    engine.docker("network", "connect", other, name, check=True)
    assert addresses(engine, name) == {network: "", other: ""}
    engine.docker("start", name, check=True)
    assert set(links(engine, name)) == {"lo", "eth0", "eth1"}
    assert addresses(engine, name) == {network: "10.81.0.2", other: "10.82.0.2"}
    engine.docker("kill", name, check=True)
    engine.docker("network", "disconnect", other, name, check=True)
    engine.docker("start", name, check=True)
    assert set(links(engine, name)) == {"lo", "eth0"}


@pytest.mark.claim("POST /networks/{id}/connect")
def test_it_stays_connected_over_a_restart(engine: Engine, busybox: str, network: str, other: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "--network", network, busybox, "sleep", "600", check=True)
    engine.docker("network", "connect", other, name, check=True)
    engine.docker("restart", "-t", "0", name, check=True)
    assert set(addresses(engine, name)) == {network, other}
    assert set(links(engine, name)) == {"lo", "eth0", "eth1"}


@pytest.mark.claim("POST /networks/{id}/connect", "POST /networks/{id}/disconnect")
def test_what_is_not_there(engine: Engine, busybox: str, name: str, network: str) -> None:
    engine.docker("network", "create", network, check=True)
    engine.docker("run", "-d", "--name", name, busybox, "sleep", "600", check=True)
    for verb in ("connect", "disconnect"):
        unknown = _refused(engine, f"/networks/nosuch/{verb}", {"Container": name})
        assert unknown == (404, "network nosuch not found")
        unknown = _refused(engine, f"/networks/{network}/{verb}", {"Container": "nosuch"})
        assert unknown == (404, "No such container: nosuch")


@pytest.mark.claim("POST /networks/{id}/connect")
def test_connect_twice(engine: Engine, busybox: str, name: str, network: str) -> None:
    engine.docker("network", "create", network, check=True)
    engine.docker("run", "-d", "--name", name, "--network", network, busybox, "sleep", "600", check=True)
    assert _refused(engine, f"/networks/{network}/connect", {"Container": name}) == (
        403,
        f"endpoint with name {name} already exists in network {network}",
    )


@pytest.mark.claim("POST /networks/{id}/disconnect")
def test_disconnect_of_what_is_not_connected(engine: Engine, busybox: str, name: str, network: str) -> None:
    engine.docker("network", "create", network, check=True)
    engine.docker("run", "-d", "--name", name, busybox, "sleep", "600", check=True)
    identity = engine.inspect(name)["Id"]
    status, words = _refused(engine, f"/networks/{network}/disconnect", {"Container": name})
    assert status in (403, 500) and words == f"container {identity} is not connected to network {network}"


@pytest.mark.claim("POST /networks/{id}/connect", "rule-network-predefined")
@pytest.mark.parametrize(
    ("target", "config", "words"),
    [
        ("host", {}, "container cannot be disconnected from host network or connected to host network"),
        (
            "none",
            {},
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ),
        (
            "bridge",
            {"Aliases": ["a"]},
            "network-scoped alias is supported only for containers in user defined networks",
        ),
        (
            "bridge",
            {"IPAMConfig": {"IPv4Address": "172.17.0.99"}},
            "user specified IP address is supported on user defined networks only",
        ),
    ],
    ids=["host", "none", "alias", "address"],
)
def test_what_predefined_networks_cannot(
    engine: Engine, busybox: str, name: str, network: str, target: str, config: dict[str, Any], words: str
) -> None:
    engine.docker("network", "create", network, check=True)
    engine.docker("run", "-d", "--name", name, "--network", network, busybox, "sleep", "600", check=True)
    body = {"Container": name, "EndpointConfig": config}
    assert _refused(engine, f"/networks/{target}/connect", body) == (400, words)


@pytest.mark.claim("POST /networks/{id}/disconnect")
def test_forced_disconnect_and_removal_of_the_network(
    engine: Engine, busybox: str, name: str, network: str, other: str
) -> None:
    engine.docker("run", "-d", "--name", name, "--network", network, busybox, "sleep", "600", check=True)
    engine.docker("network", "connect", other, name, check=True)
    assert engine.docker("network", "rm", other).code == 1
    engine.docker("network", "disconnect", "-f", other, name, check=True)
    assert engine.docker("network", "rm", other, check=True).out == f"{other}\n"
    engine.docker("network", "create", other, check=True)


@pytest.mark.claim("POST /networks/{id}/connect")
def test_published_ports_outlive_the_first_network(
    engine: Engine, busybox: str, network: str, other: str, name: str
) -> None:
    serve(engine, name, busybox, "--network", network, "-p", "80")
    settings: Any = engine.inspect(name)["NetworkSettings"]
    port = settings["Ports"]["80/tcp"][0]["HostPort"]
    engine.docker("network", "connect", other, name, check=True)
    assert fetch(engine, "127.0.0.1", port) == f"{name}\n"
    engine.docker("network", "disconnect", other, name, check=True)
    assert fetch(engine, "127.0.0.1", port) == f"{name}\n"
