"""Networks of the macvlan and ipvlan drivers, made, joined, found again and removed as the daemon does it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.errors import Forbidden, InvalidParameter, NotFound, PykerError
from pyker.libcontainer.launcher import Launcher
from pyker.networkdriver.base import IpamPool, Network, Sandbox
from pyker.types.config import EndpointSettings
from pyker.types.ids import EndpointId, NetworkId
from tests.kernel.networkbench import Bench, cleared, ip_batch, link_names, publish, request, tidy, warm_launcher
from tests.support.namespaces import ask, ip_json, serve

pytestmark = pytest.mark.requires("root", "veth", "iproute2", "nftables")

KINDS = [
    pytest.param("macvlan", marks=pytest.mark.requires("macvlan")),
    pytest.param("ipvlan", marks=pytest.mark.requires("ipvlan")),
]
PORT = 7007


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    with warm_launcher(tmp_path_factory.mktemp("launcher")) as made:
        yield made


@pytest.fixture
def daemons(tmp_path: Path, launcher: Launcher) -> Iterator[Bench]:
    with tidy(), cleared():
        ip_batch("link add card0 type veth peer name card1", "link set card0 up", "link set card1 up")
        yield Bench(tmp_path, launcher)


def wanted(driver: str, name: str = "n1", *, internal: bool = False, **options: str) -> Network:
    options.setdefault("parent", "card0")
    return Network(
        id=NetworkId(""),
        name=name,
        driver=driver,
        created="",
        internal=internal,
        pools=(IpamPool(subnet="10.9.0.0/24"),),
        options={key: value for key, value in options.items() if value},
    )


def address(sandbox: Sandbox, network: str = "n1") -> str:
    return sandbox.endpoints[network].ip_address


@pytest.mark.claim("network-type-macvlan", "network-type-ipvlan")
@pytest.mark.parametrize("kind", KINDS)
def test_containers_of_one_network_reach_each_other(daemons: Bench, kind: str) -> None:
    before = link_names()
    with daemons.running() as networks:
        networks.create(wanted(kind))
        containers = [request("n1"), request("n1")]
        first, second = (networks.allocate(each) for each in containers)
        assert (address(first), address(second)) == ("10.9.0.2", "10.9.0.3")
        serve(first.netns_path, b"here", PORT)
        assert ask("10.9.0.2", PORT, netns_path=second.netns_path) == b"here"
        (default,) = ip_json("route", "show", "default", netns_path=first.netns_path)
        assert (default["gateway"], default["dev"]) == ("10.9.0.1", "eth0")
        for each in containers:
            networks.release(each.container_id)
        assert networks.settle()
        networks.remove("n1")
    assert link_names() - {"pyker0"} == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_hosts_card_may_have_the_name_that_the_containers_link_gets(daemons: Bench, kind: str) -> None:
    ip_batch("link set card0 down", "link set card0 name eth0", "link set eth0 up")
    with daemons.running() as networks:
        networks.create(wanted(kind, parent="eth0"))
        asked = request("n1")
        sandbox = networks.allocate(asked)
        links = {link["ifname"] for link in ip_json("link", netns_path=sandbox.netns_path)}
        assert links == {"lo", "eth0"}
        networks.release(asked.container_id)


@pytest.mark.requires("macvlan")
def test_ports_are_not_published(daemons: Bench) -> None:
    """Whoever is on the network reaches the container itself; to the host it is out of reach anyway."""
    with daemons.running() as networks:
        networks.create(wanted("macvlan"))
        asked = request("n1", ports={"80/tcp": publish("18080")}, exposed=("80/tcp",))
        sandbox = networks.allocate(asked)
        assert sandbox.ports == {"80/tcp": None}
        with pytest.raises(OSError, match=r"refused"):
            ask("127.0.0.1", 18080)
        networks.release(asked.container_id)


@pytest.mark.parametrize("kind", KINDS)
def test_an_internal_network_has_no_way_out(daemons: Bench, kind: str) -> None:
    with daemons.running() as networks:
        networks.create(wanted(kind, internal=True))
        asked = request("n1")
        sandbox = networks.allocate(asked)
        assert ip_json("route", "show", "default", netns_path=sandbox.netns_path) == []
        networks.release(asked.container_id)


@pytest.mark.requires("ipvlan")
@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_ipvlan_routes_by_the_link_itself(daemons: Bench, mode: str) -> None:
    with daemons.running() as networks:
        networks.create(wanted("ipvlan", ipvlan_mode=mode))
        asked = request("n1")
        sandbox = networks.allocate(asked)
        assert sandbox.endpoints["n1"].gateway == ""
        (default,) = ip_json("route", "show", "default", netns_path=sandbox.netns_path)
        assert (default["dev"], default["scope"], "gateway" in default) == ("eth0", "link", False)
        networks.release(asked.container_id)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_daemon_can_take_a_container_off_the_network(daemons: Bench, kind: str) -> None:
    """Nothing on the host tells where the link is: a daemon is told by what the containers' records say."""
    asked = request("n1")
    with daemons.running() as networks:
        networks.create(wanted(kind))
        sandbox = networks.allocate(asked)
    with daemons.running(live={asked.container_id: sandbox}) as networks:
        network = networks.get("n1")
        endpoint = sandbox.endpoints["n1"]
        driver = networks._drivers.get(kind)
        driver.delete_endpoint(network, EndpointId(endpoint.endpoint_id), endpoint)
        assert [link["ifname"] for link in ip_json("link", netns_path=sandbox.netns_path)] == ["lo"]
        networks.release(asked.container_id)
        assert networks.settle()
        networks.remove("n1")


@pytest.mark.requires("macvlan")
def test_passthru_tells_the_mac_address_that_it_has(daemons: Bench) -> None:
    with daemons.running() as networks:
        networks.create(wanted("macvlan", macvlan_mode="passthru"))
        asked = request("n1")
        sandbox = networks.allocate(asked)
        assert sandbox.endpoints["n1"].mac_address == ip_json("link", "show", "card0")[0]["address"]
        networks.release(asked.container_id)


@pytest.mark.requires("dummy")
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_parent_there_is_a_dummy(daemons: Bench, kind: str) -> None:
    with daemons.running() as networks:
        network = networks.create(wanted(kind, parent=""))
        (seen,) = ip_json("link", "show", f"dm-{network.id[:12]}")
        assert seen["linkinfo"]["info_kind"] == "dummy"
        asked = request("n1")
        networks.allocate(asked)
        networks.release(asked.container_id)
        assert networks.settle()
        networks.remove("n1")
        assert f"dm-{network.id[:12]}" not in link_names()


@pytest.mark.requires("vlan")
@pytest.mark.parametrize("kind", KINDS)
def test_a_tagged_parent_is_made_and_taken_down_by_a_later_daemon(daemons: Bench, kind: str) -> None:
    with daemons.running() as networks:
        networks.create(wanted(kind, parent="card0.50"))
        (seen,) = ip_json("link", "show", "card0.50")
        assert (seen["linkinfo"]["info_data"]["id"], "UP" in seen["flags"]) == (50, True)
    with daemons.running() as networks:
        networks.remove("n1")
        assert "card0.50" not in link_names()


@pytest.mark.requires("vlan")
@pytest.mark.requires("macvlan")
def test_a_tagged_parent_that_was_there_stays(daemons: Bench) -> None:
    subprocess.run(["ip", "link", "add", "link", "card0", "name", "card0.50", "type", "vlan", "id", "50"], check=True)
    with daemons.running() as networks:
        networks.create(wanted("macvlan", parent="card0.50"))
        networks.remove("n1")
        assert "card0.50" in link_names()


@pytest.mark.requires("macvlan")
@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"parent": "lo"}, InvalidParameter, "loopback interface is not a valid macvlan parent link"),
        ({"macvlan_mode": "router"}, InvalidParameter, "requested macvlan mode 'router' is not valid"),
        ({"parent": "nosuch"}, NotFound, "parent interface was not found on the host: nosuch"),
        ({"parent": "nosuch.5"}, NotFound, "parent interface was not found on the host: nosuch"),
        ({"parent": "card0.5000"}, InvalidParameter, "vlan id must be between 1-4094, received: 5000"),
        ({"com.docker.network.driver.mtu": "many"}, InvalidParameter, 'invalid value "many"'),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    daemons: Bench, options: dict[str, str], error: type[PykerError], says: str
) -> None:
    with daemons.running() as networks:
        before = link_names()
        with pytest.raises(error, match=says):
            networks.create(wanted("macvlan", **options))
        # The pool makes its sandboxes ahead of time, in a thread of its own.
        assert {name for name in link_names() - before if not name.startswith("vethp")} == set()
        networks.create(wanted("macvlan"))


@pytest.mark.requires("macvlan")
def test_a_parent_serves_one_network(daemons: Bench) -> None:
    with daemons.running() as networks:
        first = networks.create(wanted("macvlan"))
        second = Network(
            id=NetworkId(""),
            name="n2",
            driver="macvlan",
            created="",
            pools=(IpamPool(subnet="10.10.0.0/24"),),
            options={"parent": "card0"},
        )
        with pytest.raises(Forbidden, match=f"network dm-{first.id[:12]} is already using parent interface card0"):
            networks.create(second)
        networks.remove("n1")
        networks.create(second)


@pytest.mark.requires("ipvlan")
def test_an_ipvlan_endpoint_cannot_have_a_mac_address(daemons: Bench) -> None:
    with daemons.running() as networks:
        networks.create(wanted("ipvlan"))
        with pytest.raises(InvalidParameter, match="do not support custom mac address assignment"):
            networks.allocate(request("n1", endpoints={"n1": EndpointSettings(mac_address="02:00:00:00:00:01")}))


def test_a_kernel_without_the_kind_says_which_module_is_missing(daemons: Bench) -> None:
    from pyker.networkdriver.parented import probe_kind

    answer = probe_kind("nosuchkind")
    assert not answer.usable
    assert answer.reason == "this kernel has no nosuchkind links: load the module 'nosuchkind'"
