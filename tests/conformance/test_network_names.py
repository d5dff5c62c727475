"""How containers know each other by name: the resolver of user networks, links, and files under /etc."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.traffic import AAAA, PTR, A, addresses, resolve, upstream

NOERROR, NXDOMAIN = 0, 3


def _sleeper(engine: Engine, name: str, image: str, *flags: str) -> str:
    """Start a container that waits; returns its ID."""
    return engine.docker("run", "-d", "--name", name, *flags, image, "sleep", "600", check=True).out.strip()


def _file(engine: Engine, container: str, path: str) -> str:
    return engine.docker("exec", container, "cat", path, check=True).out


def _found(engine: Engine, container: str, name: str, kind: int = A) -> list[str]:
    return [value for got, value, _ in resolve(engine, container, name, kind)["answers"] if got == kind]


@pytest.mark.claim("rule-network-dns", "break-dns")
def test_by_name_alias_and_short_id(engine: Engine, busybox: str, network: str, names: Callable[[], str]) -> None:
    engine.docker("network", "create", network, check=True)
    server, client = names(), names()
    identity = _sleeper(engine, server, busybox, "--network", network, "--network-alias", "web")
    _sleeper(engine, client, busybox, "--network", network)
    address = addresses(engine, server)[network]
    for word in (server, "web", identity[:12], f"{server}.{network}", f"web.{network}"):
        assert _found(engine, client, word) == [address], word
    assert [ttl for _, _, ttl in resolve(engine, client, server)["answers"]] == [600]


@pytest.mark.claim("rule-network-dns")
def test_a_known_name_without_an_ipv6_address_is_no_error(
    engine: Engine, busybox: str, network: str, name: str
) -> None:
    engine.docker("network", "create", network, check=True)
    _sleeper(engine, name, busybox, "--network", network)
    assert resolve(engine, name, name, AAAA) == {"code": NOERROR, "answers": []}


@pytest.mark.claim("rule-network-dns")
def test_an_address_has_its_name(engine: Engine, busybox: str, network: str, names: Callable[[], str]) -> None:
    engine.docker("network", "create", network, check=True)
    server, client = names(), names()
    _sleeper(engine, server, busybox, "--network", network)
    _sleeper(engine, client, busybox, "--network", network)
    backwards = ".".join(reversed(addresses(engine, server)[network].split(".")))
    (found,) = _found(engine, client, f"{backwards}.in-addr.arpa", PTR)
    assert found.rstrip(".") == f"{server}.{network}"


@pytest.mark.claim("rule-network-dns", "break-dns")
def test_one_alias_of_several_containers(engine: Engine, busybox: str, network: str, names: Callable[[], str]) -> None:
    engine.docker("network", "create", network, check=True)
    first, second, client = names(), names(), names()
    for each in (first, second):
        _sleeper(engine, each, busybox, "--network", network, "--network-alias", "both")
    _sleeper(engine, client, busybox, "--network", network)
    wanted = {addresses(engine, each)[network] for each in (first, second)}
    assert set(_found(engine, client, "both")) == wanted
    engine.docker("kill", second, check=True)
    assert _found(engine, client, "both") == [addresses(engine, first)[network]]


@pytest.mark.claim("rule-network-dns", "break-dns")
def test_other_names_go_to_the_hosts_servers(
    engine: Engine, busybox: str, network: str, names: Callable[[], str]
) -> None:
    """Among them those of containers of another network."""
    engine.docker("network", "create", "--subnet", "10.83.0.0/24", network, check=True)
    stranger, client = names(), names()
    _sleeper(engine, stranger, busybox)
    _sleeper(engine, client, busybox, "--network", network, "--dns", "10.83.0.1")
    with upstream(engine, "10.83.0.1", "elsewhere.test", "192.0.2.55"):
        assert _found(engine, client, "elsewhere.test") == ["192.0.2.55"]
        assert resolve(engine, client, stranger) == {"code": NXDOMAIN, "answers": []}
        assert _found(engine, client, client) == [addresses(engine, client)[network]]


@pytest.mark.claim("rule-network-dns", "break-dns")
def test_names_follow_what_happens(engine: Engine, busybox: str, network: str, names: Callable[[], str]) -> None:
    """Another name, another address, no place on the network: from then on, and for containers that ran before."""
    engine.docker("network", "create", "--subnet", "10.83.0.0/24", network, check=True)
    server, renamed, client = names(), names(), names()
    _sleeper(engine, client, busybox, "--network", network, "--dns", "10.83.0.1")
    _sleeper(engine, server, busybox, "--network", network, "--ip", "10.83.0.70")
    with upstream(engine, "10.83.0.1", "elsewhere.test", "192.0.2.55"):
        assert _found(engine, client, server) == ["10.83.0.70"]
        engine.docker("rename", server, renamed, check=True)
        assert _found(engine, client, renamed) == ["10.83.0.70"]
        assert resolve(engine, client, server)["code"] == NXDOMAIN
        engine.docker("network", "disconnect", network, renamed, check=True)
        assert resolve(engine, client, renamed)["code"] == NXDOMAIN
        engine.docker("network", "connect", "--ip", "10.83.0.80", "--alias", "again", network, renamed, check=True)
        assert _found(engine, client, renamed) == _found(engine, client, "again") == ["10.83.0.80"]
        engine.docker("rm", "-f", renamed, check=True)
        assert resolve(engine, client, "again")["code"] == NXDOMAIN


@pytest.mark.claim("rule-network-dns", "rule-network-connect")
def test_a_container_of_the_default_bridge_joins_a_network(
    engine: Engine, busybox: str, network: str, names: Callable[[], str]
) -> None:
    engine.docker("network", "create", network, check=True)
    server, client = names(), names()
    _sleeper(engine, server, busybox, "--network", network)
    _sleeper(engine, client, busybox)
    assert "127.0.0.11" not in _file(engine, client, "/etc/resolv.conf")
    engine.docker("network", "connect", network, client, check=True)
    assert "nameserver 127.0.0.11" in _file(engine, client, "/etc/resolv.conf").splitlines()
    assert _found(engine, client, server) == [addresses(engine, server)[network]]


@pytest.mark.claim("rule-network-dns")
def test_resolv_conf_of_a_user_network(engine: Engine, busybox: str, network: str, name: str) -> None:
    engine.docker("network", "create", network, check=True)
    flags = ["--network", network, "--dns", "192.0.2.1", "--dns-search", "inner.test", "--dns-option", "timeout:3"]
    _sleeper(engine, name, busybox, *flags)
    lines = set(_file(engine, name, "/etc/resolv.conf").splitlines())
    assert {"nameserver 127.0.0.11", "search inner.test"} <= lines
    (options,) = [line for line in lines if line.startswith("options ")]
    assert set(options.split()[1:]) == {"timeout:3", "ndots:0"}


@pytest.mark.claim("rule-network-hosts-file")
def test_resolv_conf_of_the_default_bridge(engine: Engine, busybox: str, name: str) -> None:
    flags = ["--dns", "192.0.2.1", "--dns", "192.0.2.2", "--dns-search", "inner.test", "--dns-option", "timeout:3"]
    _sleeper(engine, name, busybox, *flags)
    assert _file(engine, name, "/etc/resolv.conf").splitlines() == [
        "search inner.test",
        "nameserver 192.0.2.1",
        "nameserver 192.0.2.2",
        "options timeout:3",
    ]


@pytest.mark.claim("rule-network-hosts-file")
def test_hosts_has_the_container_itself(engine: Engine, busybox: str, name: str) -> None:
    identity = _sleeper(engine, name, busybox, "--add-host", "other.test:192.0.2.7")
    lines = [line.split() for line in _file(engine, name, "/etc/hosts").splitlines()]
    assert ["127.0.0.1", "localhost"] in lines
    assert ["::1", "localhost", "ip6-localhost", "ip6-loopback"] in lines
    assert ["192.0.2.7", "other.test"] in lines
    assert lines[-1] == [addresses(engine, name)["bridge"], identity[:12]]
    assert _file(engine, name, "/etc/hostname") == f"{identity[:12]}\n"


@pytest.mark.claim("rule-network-hosts-file")
def test_hostname_and_domain(engine: Engine, busybox: str, name: str) -> None:
    _sleeper(engine, name, busybox, "--hostname", "inner", "--domainname", "test.example")
    lines = [line.split() for line in _file(engine, name, "/etc/hosts").splitlines()]
    assert lines[-1] == [addresses(engine, name)["bridge"], "inner.test.example", "inner"]
    assert engine.docker("exec", name, "hostname", check=True).out == "inner\n"
    assert _file(engine, name, "/proc/sys/kernel/domainname") == "test.example\n"


@pytest.mark.claim("rule-network-hosts-file")
def test_host_gateway(engine: Engine, busybox: str, name: str) -> None:
    _sleeper(engine, name, busybox, "--add-host", "host.test:host-gateway")
    lines = [line.split() for line in _file(engine, name, "/etc/hosts").splitlines()]
    assert ["172.17.0.1", "host.test"] in lines


@pytest.mark.claim("rule-network-hosts-file")
def test_the_files_are_the_containers_own(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    """What one writes there, no other sees, and it is kept below the data root."""
    one, two = names(), names()
    _sleeper(engine, one, busybox)
    _sleeper(engine, two, busybox)
    engine.docker("exec", one, "sh", "-c", "echo 192.0.2.8 mine >>/etc/hosts", check=True)
    assert "mine" in _file(engine, one, "/etc/hosts") and "mine" not in _file(engine, two, "/etc/hosts")
    value: Any = engine.inspect(one)
    for field, name in (("HostsPath", "hosts"), ("HostnamePath", "hostname"), ("ResolvConfPath", "resolv.conf")):
        assert value[field] == f"{engine.data_root}/containers/{value['Id']}/{name}"
        assert engine.sandbox.run(["cat", value[field]]).stdout.decode() == _file(engine, one, f"/etc/{name}")


@pytest.mark.claim("rule-network-hosts-file", "rule-network-share")
def test_without_a_network_there_is_no_line_of_its_own(engine: Engine, busybox: str, name: str) -> None:
    identity = _sleeper(engine, name, busybox, "--network", "none")
    assert identity[:12] not in _file(engine, name, "/etc/hosts")


@pytest.mark.claim("rule-network-links")
def test_a_link_is_an_entry_and_variables(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    server, client = names(), names()
    identity = _sleeper(engine, server, busybox, "--expose", "80", "-e", "FOO=bar")
    _sleeper(engine, client, busybox, "--link", f"{server}:db")
    address = addresses(engine, server)["bridge"]
    lines = [line.split() for line in _file(engine, client, "/etc/hosts").splitlines()]
    assert [address, "db", identity[:12], server] in lines
    environment = set(engine.docker("exec", client, "env", check=True).out.splitlines())
    assert {
        f"DB_NAME=/{client}/db",
        "DB_ENV_FOO=bar",
        f"DB_PORT=tcp://{address}:80",
        f"DB_PORT_80_TCP=tcp://{address}:80",
        f"DB_PORT_80_TCP_ADDR={address}",
        "DB_PORT_80_TCP_PORT=80",
        "DB_PORT_80_TCP_PROTO=tcp",
    } <= environment
    settings: Any = engine.inspect(client)["HostConfig"]
    assert settings["Links"] == [f"/{server}:/{client}/db"]


@pytest.mark.claim("rule-network-links")
def test_a_link_in_a_user_network_is_an_alias(
    engine: Engine, busybox: str, network: str, names: Callable[[], str]
) -> None:
    engine.docker("network", "create", network, check=True)
    server, client = names(), names()
    _sleeper(engine, server, busybox, "--network", network)
    _sleeper(engine, client, busybox, "--network", network, "--link", f"{server}:db")
    assert _found(engine, client, "db") == [addresses(engine, server)[network]]
    assert "DB_" not in engine.docker("exec", client, "env", check=True).out


@pytest.mark.claim("rule-network-links")
def test_links_that_cannot_be(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    stopped, client = names(), names()
    unknown = engine.docker("run", "--name", client, "--link", "nosuch:x", busybox, "true")
    assert unknown.code == 125 and "nosuch" in unknown.err
    engine.docker("create", "--name", stopped, busybox, check=True)
    done = engine.docker("run", "--name", names(), "--link", f"{stopped}:x", busybox, "true")
    assert done.code == 125 and re.search(rf"Cannot link to a non running container: /{stopped} AS /t\d+/x", done.err)
