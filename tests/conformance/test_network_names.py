"""How containers know each other by name: the resolver of user networks, links, and files under /etc."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.asking import get
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
def test_variables_of_several_ports(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    server, client = names(), names()
    ports = [word for port in ("7000-7002", "80", "53/udp") for word in ("--expose", port)]
    _sleeper(engine, server, busybox, *ports, "-e", "HOME=/x")
    _sleeper(engine, client, busybox, "--link", f"{server}:my-db", "-e", "MY_DB_PORT_80_TCP_PORT=mine")
    address = addresses(engine, server)["bridge"]
    lines = engine.docker("exec", client, "env", check=True).out.splitlines()
    assert {
        f"MY_DB_PORT=udp://{address}:53",
        f"MY_DB_PORT_53_UDP=udp://{address}:53",
        f"MY_DB_PORT_7000_TCP_START=tcp://{address}:7000",
        f"MY_DB_PORT_7000_TCP_END=tcp://{address}:7002",
        "MY_DB_PORT_7000_TCP_PORT_START=7000",
        "MY_DB_PORT_7000_TCP_PORT_END=7002",
        f"MY_DB_PORT_7001_TCP=tcp://{address}:7001",
        "MY_DB_PORT_80_TCP_PORT=mine",
    } <= set(lines)
    assert not [line for line in lines if line.startswith(("MY_DB_ENV_HOME", "MY_DB_ENV_PATH"))]


@pytest.mark.claim("rule-network-links")
def test_a_link_follows_its_container(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    """To another address, and under another name; what it is called by is one of its names."""
    server, client, renamed = names(), names(), names()
    _sleeper(engine, server, busybox)
    _sleeper(engine, client, busybox, "--link", f"{server}:db")
    before = addresses(engine, server)["bridge"]
    (row,) = get(engine, f'/containers/json?filters={{"id":["{engine.inspect(server)["Id"]}"]}}')
    assert sorted(row["Names"]) == sorted((f"/{client}/db", f"/{server}"))
    assert engine.inspect(f"{client}/db")["Name"] == f"/{server}"
    engine.docker("kill", server, check=True)
    for _ in range(20):
        # An engine may give the address to others only a little later.
        other = names()
        _sleeper(engine, other, busybox)
        if addresses(engine, other)["bridge"] == before:
            break
    engine.docker("start", server, check=True)
    after = addresses(engine, server)["bridge"]
    assert after != before
    found = [line.split()[0] for line in _file(engine, client, "/etc/hosts").splitlines() if "db" in line.split()]
    assert found == [after]
    engine.docker("rename", server, renamed, check=True)
    settings: Any = engine.inspect(client)["HostConfig"]
    assert settings["Links"] == [f"/{renamed}:/{client}/db"]


@pytest.mark.claim("rule-network-links")
def test_a_link_can_be_taken_back(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    server, client = names(), names()
    _sleeper(engine, server, busybox)
    _sleeper(engine, client, busybox, "--link", f"{server}:db", "--link", f"{server}:other")
    own = engine.docker("rm", "--link", client)
    assert own.code == 1 and "Conflict, cannot remove the default link name of the container" in own.err
    unknown = engine.docker("rm", "--link", f"{client}/nosuch")
    assert unknown.code == 1 and f"No such container: {client}/nosuch" in unknown.err
    engine.docker("rm", "--link", f"{client}/db", check=True)
    settings: Any = engine.inspect(client)["HostConfig"]
    assert settings["Links"] == [f"/{server}:/{client}/other"]
    assert engine.state(server)["Running"] and engine.state(client)["Running"]
    engine.docker("restart", "-t", "0", client, check=True)
    words = _file(engine, client, "/etc/hosts").split()
    assert "other" in words and "db" not in words


@pytest.mark.claim("rule-network-links")
def test_a_link_in_a_user_network_is_an_alias(
    engine: Engine, busybox: str, network: str, names: Callable[[], str]
) -> None:
    """Which only the container knows that asked for it."""
    engine.docker("network", "create", "--subnet", "10.83.0.0/24", network, check=True)
    server, client = names(), names()
    _sleeper(engine, server, busybox, "--network", network, "--dns", "10.83.0.1")
    _sleeper(engine, client, busybox, "--network", network, "--link", f"{server}:db")
    assert _found(engine, client, "db") == [addresses(engine, server)[network]]
    assert "DB_" not in engine.docker("exec", client, "env", check=True).out
    with upstream(engine, "10.83.0.1", "elsewhere.test", "192.0.2.55"):
        assert resolve(engine, server, "db")["code"] == NXDOMAIN
    value: Any = engine.inspect(client)
    assert value["HostConfig"]["Links"] is None
    assert value["NetworkSettings"]["Networks"][network]["Links"] == [f"{server}:db"]


@pytest.mark.claim("rule-network-links")
def test_links_that_cannot_be(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    stopped, client = names(), names()
    unknown = engine.docker("run", "--name", client, "--link", "nosuch:x", busybox, "true")
    assert unknown.code == 125 and "nosuch" in unknown.err
    engine.docker("create", "--name", stopped, busybox, check=True)
    done = engine.docker("run", "--name", names(), "--link", f"{stopped}:x", busybox, "true")
    assert done.code == 125 and re.search(rf"Cannot link to a non running container: /{stopped} AS /t\d+/x", done.err)
