"""Links of the default bridge: what is asked for, what inspect shows, hosts entries and variables."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from pyker.container.record import Container, NetworkSettings
from pyker.daemon import links
from pyker.errors import InvalidParameter, NotFound, SystemFailure
from pyker.types.config import EndpointSettings
from tests.support.records import container


@dataclass
class Known:
    """The containers that there are."""

    all: list[Container] = field(default_factory=list)

    def add(self, made: Container, address: str = "", network: str = "bridge") -> Container:
        settings = NetworkSettings(networks={network: EndpointSettings(ip_address=address)})
        made = replace(made, network_settings=settings)
        self.all.append(made)
        return made

    def get(self, name: str) -> Container:
        for each in self.all:
            if name in (each.id, each.name, f"/{each.name}"):
                return each
        raise NotFound(f"No such container: {name}")


@pytest.fixture
def known() -> Known:
    made = Known()
    server = {"ExposedPorts": {"80/tcp": {}}, "Env": ["FOO=a=b", "PATH=/x", "HOME=/y", "EMPTY=", "none"]}
    made.add(container(server, name="server", digit="a", pid=7), "172.17.0.2")
    made.add(container(name="stopped", digit="b"))
    made.add(container(host={"NetworkMode": "container:server"}, name="guest", digit="c", pid=8))
    made.add(container(host={"NetworkMode": "host"}, name="onhost", digit="d", pid=9))
    made.add(container(name="apart", digit="e", pid=10), "10.0.0.2", "front")
    return made


def client(known: Known, *asked: str, network: str = "bridge") -> Container:
    made = container(host={"Links": list(asked), "NetworkMode": network}, name="client", digit="f", pid=11)
    made = replace(made, links=links.chosen(made.host_config, known.get))
    return known.add(made, "172.17.0.3", network)


@pytest.mark.parametrize(
    ("link", "parsed"),
    [
        ("a", ("a", "a")),
        ("a:b", ("a", "b")),
        ("/a:/c/b", ("/a", "b")),
        ("/c/a", ("/c/a", "a")),
    ],
)
def test_a_link_is_a_name_and_an_alias(link: str, parsed: tuple[str, str]) -> None:
    assert links.parse(link) == parsed


@pytest.mark.parametrize(
    ("link", "words"), [("", "empty string specified for links"), ("a:b:c", "bad format for links")]
)
def test_what_is_no_link(link: str, words: str) -> None:
    with pytest.raises(SystemFailure, match=words):
        links.parse(link)


def test_whom_a_new_container_is_linked_to(known: Known) -> None:
    made = client(known, "server:db", "server", "stopped:db", "guest:g")
    assert made.links == {"db": "a" * 64, "server": "a" * 64, "g": "a" * 64}
    with pytest.raises(InvalidParameter, match="could not get container for nosuch: No such container: nosuch"):
        client(known, "nosuch:x")
    with pytest.raises(InvalidParameter, match="host type networking can't be used with links"):
        client(known, "onhost:x")


def test_on_other_networks_there_are_none_of_these(known: Known) -> None:
    made = client(known, "server:db", network="front")
    assert made.links == {} and links.shown(made, known.get) is None
    assert links.environment(made, known.get) == () and links.hosts_entries(made, known.get) == []


def test_inspect_shows_the_names_of_now(known: Known) -> None:
    made = client(known, "server:db", "stopped:s")
    known.all = [replace(each, name="renamed") if each.name == "server" else each for each in known.all]
    assert links.shown(replace(made, name="other"), known.get) == ("/renamed:/other/db", "/stopped:/other/s")
    known.all = [each for each in known.all if each.name != "renamed"]
    assert links.shown(made, known.get) == ("/server:/client/db", "/stopped:/client/s")
    assert links.linked_names([made]) == {"a" * 64: ["client/db"], "b" * 64: ["client/s"]}


def test_hosts_entries_and_parents(known: Known) -> None:
    made = client(known, "server:db", "stopped:s")
    assert links.hosts_entries(made, known.get) == [("172.17.0.2", ("db", "a" * 12, "server"))]
    assert [(each.name, alias) for each, alias in links.parents(known.get("server"), known.all)] == [("client", "db")]
    assert list(links.parents(known.get("apart"), known.all)) == []


def test_all_that_is_linked_must_run(known: Known) -> None:
    links.check(client(known, "server:db"), known.get)
    with pytest.raises(SystemFailure, match="Cannot link to a non running container: /stopped AS /client/s"):
        links.check(client(known, "server:db", "stopped:s"), known.get)
    with pytest.raises(SystemFailure, match="Cannot link to /apart, as it does not belong to the default network"):
        links.check(client(known, "apart:a"), known.get)
    gone = client(known, "server:db")
    known.all = [each for each in known.all if each.name != "server"]
    with pytest.raises(SystemFailure, match="Cannot link to a non running container: /server AS /client/db"):
        links.check(gone, known.get)
    assert links.environment(gone, known.get) == () and links.hosts_entries(gone, known.get) == []


def test_variables(known: Known) -> None:
    made = client(known, "server:my-db")
    assert links.environment(made, known.get) == (
        "MY_DB_PORT=tcp://172.17.0.2:80",
        "MY_DB_PORT_80_TCP=tcp://172.17.0.2:80",
        "MY_DB_PORT_80_TCP_ADDR=172.17.0.2",
        "MY_DB_PORT_80_TCP_PORT=80",
        "MY_DB_PORT_80_TCP_PROTO=tcp",
        "MY_DB_NAME=/client/my-db",
        "MY_DB_ENV_FOO=a=b",
        "MY_DB_ENV_EMPTY=",
    )


def test_ports_in_order_and_in_ranges() -> None:
    exposed = ("7002/tcp", "80/tcp", "7001/tcp", "53/tcp", "53/udp", "7000/tcp")
    target = container({"ExposedPorts": {port: {} for port in exposed}})
    found = links.variables("/client/db", "10.0.0.2", target)
    assert found[0] == "DB_PORT=tcp://10.0.0.2:53"
    assert found[1:7] == [
        "DB_PORT_7000_TCP_START=tcp://10.0.0.2:7000",
        "DB_PORT_7000_TCP_ADDR=10.0.0.2",
        "DB_PORT_7000_TCP_PROTO=tcp",
        "DB_PORT_7000_TCP_PORT_START=7000",
        "DB_PORT_7000_TCP_END=tcp://10.0.0.2:7002",
        "DB_PORT_7000_TCP_PORT_END=7002",
    ]
    single = [item.partition("=")[0] for item in found[7:] if item.endswith(tuple(f":{n}" for n in (53, 80, 7001)))]
    assert single == ["DB_PORT_53_TCP", "DB_PORT_53_UDP", "DB_PORT_80_TCP", "DB_PORT_7001_TCP"]
    assert links.variables("/client/db", "10.0.0.2", container()) == ["DB_NAME=/client/db"]
