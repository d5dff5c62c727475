"""One suite for every networkdriver: what a container gets from it, and that everything is taken down again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyker.errors import KernelError
from pyker.networkdriver.base import BridgeOptions, DriverContext, IpamPool, Network, NetworkDriver, Sandbox
from pyker.networkdriver.bridge import BridgeDriver
from pyker.networkdriver.firewall import Firewall
from pyker.networkdriver.host import HostDriver
from pyker.networkdriver.ipam import Ipam
from pyker.networkdriver.ipvlan import IpvlanDriver
from pyker.networkdriver.null import NullDriver
from pyker.networkdriver.parented import ParentedDriver
from pyker.networkdriver.select import Drivers
from pyker.networkdriver.store import NetworkStore
from pyker.types.config import EndpointIpamConfig, EndpointSettings
from pyker.types.ids import EndpointId, NetworkId
from tests.support.namespaces import ForkingNamespaceMaker, ip_json, isolated

pytestmark = pytest.mark.requires("root", "veth", "iproute2", "nftables")

ENDPOINT = EndpointId("e" * 64)
OTHER = EndpointId("f" * 64)


@dataclass
class Bench:
    """A driver, a network of its kind and an empty namespace."""

    driver: NetworkDriver
    network: Network
    sandbox: Sandbox
    context: DriverContext

    def join(self, endpoint: EndpointId = ENDPOINT, settings: EndpointSettings | None = None) -> EndpointSettings:
        return self.driver.create_endpoint(self.network, endpoint, self.sandbox, settings or EndpointSettings(), "eth0")


@pytest.fixture(
    params=[
        "bridge",
        "host",
        pytest.param("ipvlan", marks=pytest.mark.requires("ipvlan")),
        pytest.param("macvlan", marks=pytest.mark.requires("macvlan")),
        "null",
    ]
)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with isolated():
        namespaces = ForkingNamespaceMaker()
        store = NetworkStore(str(tmp_path))
        firewall = Firewall()
        context = DriverContext(namespaces, Ipam(store), firewall, BridgeOptions())
        driver = Drivers(context).get(request.param)
        pools, options = (), {}
        if not isinstance(driver, HostDriver | NullDriver):
            pools = (IpamPool(subnet="10.9.0.0/24", gateway="10.9.0.1"),)
        if isinstance(driver, ParentedDriver):
            # For macvlan and ipvlan the host has a network card whose cable leads to itself.
            cable = ("ip", "link", "add", "card0", "type", "veth", "peer", "name", "card1")
            for command in (cable, ("ip", "link", "set", "card0", "up"), ("ip", "link", "set", "card1", "up")):
                subprocess.run(command, check=True)
            options = {"parent": "card0"}
        network = Network(
            id=NetworkId("a" * 64), name="n1", driver=request.param, created="", pools=pools, options=options
        )
        for pool in pools:
            context.ipam.add_network(network.id, pool, {})
        path = str(tmp_path / "netns")
        os.close(namespaces.new_netns(path))
        try:
            firewall.start()
            yield Bench(driver, network, Sandbox(id="s" * 64, netns_path=path), context)
        finally:
            namespaces.remove_netns(path)
            firewall.close()
            store.close()
            if isinstance(driver, BridgeDriver | ParentedDriver):
                driver.close()


def host_links() -> set[str]:
    return {link["ifname"] for link in ip_json("link")}


def inner_links(bench: Bench) -> set[str]:
    return {link["ifname"] for link in ip_json("link", netns_path=bench.sandbox.netns_path)}


@pytest.mark.claim("driver-three-kinds")
def test_it_is_registered_under_its_name_and_probes(bench: Bench) -> None:
    assert bench.driver.name == bench.network.driver
    assert bench.driver.scope == "local"
    assert bench.driver.probe().usable


def test_everything_that_was_made_is_taken_down(bench: Bench) -> None:
    links, inner = host_links(), inner_links(bench)
    bench.driver.create_network(bench.network)
    settings = bench.join()
    bench.driver.delete_endpoint(bench.network, ENDPOINT, settings)
    assert inner_links(bench) == inner
    bench.driver.delete_network(bench.network)
    assert host_links() == links


def test_deleting_what_is_gone_is_no_error(bench: Bench) -> None:
    bench.driver.create_network(bench.network)
    settings = bench.join()
    for _ in range(2):
        bench.driver.delete_endpoint(bench.network, ENDPOINT, settings)
    for _ in range(2):
        bench.driver.delete_network(bench.network)


def test_creating_a_network_again_heals_it(bench: Bench) -> None:
    bench.driver.create_network(bench.network)
    before = host_links()
    bench.driver.create_network(bench.network)
    assert host_links() == before
    bench.join()
    bench.driver.delete_endpoint(bench.network, ENDPOINT, EndpointSettings())
    bench.driver.delete_network(bench.network)


def test_what_the_user_asked_for_is_kept_in_the_settings(bench: Bench) -> None:
    bench.driver.create_network(bench.network)
    asked = EndpointSettings(aliases=("al",), links=("db",), driver_opts={"a": "b"}, gw_priority=3)
    settings = bench.join(settings=asked)
    assert (settings.aliases, settings.links, settings.driver_opts, settings.gw_priority) == (
        ("al",),
        ("db",),
        {"a": "b"},
        3,
    )
    bench.driver.delete_endpoint(bench.network, ENDPOINT, settings)
    bench.driver.delete_network(bench.network)


def test_an_interface_has_the_addresses_that_the_settings_say(bench: Bench) -> None:
    bench.driver.create_network(bench.network)
    mac = "" if isinstance(bench.driver, IpvlanDriver) else "02:00:00:00:00:77"
    asked = EndpointSettings(ipam_config=EndpointIpamConfig(ipv4_address="10.9.0.77"), mac_address=mac)
    settings = bench.join(settings=asked)
    inner = {link["ifname"]: link for link in ip_json("addr", netns_path=bench.sandbox.netns_path)}
    if isinstance(bench.driver, HostDriver | NullDriver):
        assert settings.ip_address == ""
        assert set(inner) == {"lo"}
        return
    assert (settings.ip_address, settings.ip_prefix_len, settings.gateway) == ("10.9.0.77", 24, "10.9.0.1")
    assert settings.mac_address == mac
    assert inner["eth0"]["address"] == (mac or ip_json("link", "show", "card0")[0]["address"])
    assert [(each["local"], each["prefixlen"]) for each in inner["eth0"]["addr_info"]] == [("10.9.0.77", 24)]
    assert "UP" in inner["eth0"]["flags"]
    (default,) = ip_json("route", "show", "default", netns_path=bench.sandbox.netns_path)
    assert (default["gateway"], default["dev"]) == ("10.9.0.1", "eth0")


def test_a_failure_leaves_nothing(bench: Bench) -> None:
    bench.driver.create_network(bench.network)
    links = host_links()
    settings = bench.join()
    if isinstance(bench.driver, HostDriver | NullDriver):
        bench.join(OTHER)  # without interfaces of its own a driver has nothing to fail at
        assert host_links() == links
        return
    # A second eth0 in one namespace cannot be.
    with pytest.raises(KernelError):
        bench.join(OTHER)
    bench.driver.delete_endpoint(bench.network, ENDPOINT, settings)
    assert host_links() == links
    free = [bench.context.ipam.allocate(bench.network.id, owner)[0] for owner in ("next", "after")]
    assert free == ["10.9.0.2", "10.9.0.3"]
