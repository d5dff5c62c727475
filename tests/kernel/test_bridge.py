"""The default bridge network end to end: real sandboxes, real packets, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pyker.errors import Conflict, Forbidden, InvalidParameter, NotFound, NotSupported, SystemFailure
from pyker.networkdriver.base import BridgeOptions, IpamPool, Network, Sandbox
from pyker.types.config import EndpointIpamConfig, EndpointSettings
from pyker.types.ids import NetworkId
from tests.kernel.networkbench import Bench, bench, link_names, request
from tests.support.namespaces import ask, ip_json, nft_json, serve, stop

pytestmark = pytest.mark.requires("root", "veth", "iproute2", "nftables", "nft")


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def test_a_container_gets_an_interface_an_address_and_a_default_route(daemons: Bench) -> None:
    with daemons.running() as networks:
        asked = request()
        sandbox = networks.allocate(asked)
        endpoint = sandbox.endpoints["bridge"]
        assert (endpoint.ip_address, endpoint.ip_prefix_len, endpoint.gateway) == ("172.17.0.2", 16, "172.17.0.1")
        assert endpoint.mac_address == "02:42:ac:11:00:02"
        assert endpoint.network_id == networks.get("bridge").id
        links = {link["ifname"]: link for link in ip_json("addr", netns_path=sandbox.netns_path)}
        assert set(links) == {"lo", "eth0"}
        assert "UP" in links["lo"]["flags"]
        assert links["eth0"]["address"] == "02:42:ac:11:00:02"
        assert [each["local"] for each in links["eth0"]["addr_info"]] == ["172.17.0.2"]
        (default,) = ip_json("route", "show", "default", netns_path=sandbox.netns_path)
        assert default["gateway"] == "172.17.0.1"
        (host_end,) = (link for link in ip_json("link") if link["ifname"] == f"vethp{endpoint.endpoint_id[:9]}")
        assert host_end["master"] == "pyker0"
        with open("/proc/sys/net/ipv4/ip_forward") as stream:
            assert stream.read() == "1\n"
        networks.release(asked.container_id)
    assert link_names() == {"lo", "pyker0"}
    assert daemons.pins() == []


def test_the_bridge_is_ours_and_has_the_gateways_address(daemons: Bench) -> None:
    with daemons.running():
        (link,) = ip_json("addr", "show", "dev", "pyker0")
        assert link["linkinfo"]["info_kind"] == "bridge"
        assert link["address"] == "02:42:ac:11:00:01"
        assert ("172.17.0.1", 16) in [(each["local"], each["prefixlen"]) for each in link["addr_info"]]


def test_containers_reach_each_other_and_the_host(daemons: Bench) -> None:
    with daemons.running() as networks:
        first, second = networks.allocate(request()), networks.allocate(request())
        server = serve(first.netns_path, b"hello", 80)
        assert ask(first.endpoints["bridge"].ip_address, 80, netns_path=second.netns_path) == b"hello"
        assert ask(first.endpoints["bridge"].ip_address, 80) == b"hello"
        stop(server)


def test_without_icc_containers_do_not_reach_each_other_but_the_host_does(daemons: Bench) -> None:
    with daemons.running(BridgeOptions(pool_size=1, icc=False)) as networks:
        first, second = networks.allocate(request()), networks.allocate(request())
        server = serve(first.netns_path, b"hello", 80)
        with pytest.raises(OSError):
            ask(first.endpoints["bridge"].ip_address, 80, netns_path=second.netns_path)
        assert ask(first.endpoints["bridge"].ip_address, 80) == b"hello"
        # Frames within a bridge pass the firewall only where br_netfilter is loaded, so the ports are isolated too.
        ports = [link for link in ip_json("link") if link.get("master") == "pyker0"]
        assert all(link["linkinfo"]["info_slave_data"]["isolated"] for link in ports)
        stop(server)


def test_what_leaves_is_masqueraded(daemons: Bench, tmp_path: Path) -> None:
    outside = str(tmp_path / "outside")
    os.close(daemons.launcher.new_netns(outside))
    run("ip", "link", "add", "name", "wan", "type", "veth", "peer", "name", "eth9")
    with open(outside) as namespace:
        run("ip", "link", "set", "eth9", "netns", f"/proc/{os.getpid()}/fd/{namespace.fileno()}")
    run("ip", "addr", "add", "198.51.100.1/24", "dev", "wan")
    run("ip", "link", "set", "wan", "up")
    run("nsenter", f"--net={outside}", "ip", "addr", "add", "198.51.100.9/24", "dev", "eth9")
    run("nsenter", f"--net={outside}", "ip", "link", "set", "eth9", "up")
    with daemons.running() as networks:
        sandbox = networks.allocate(request())
        server = serve(outside, b"from outside", 80)
        # The outside knows no route to 172.17.0.0/16: an answer shows that the host's address was the source.
        assert ask("198.51.100.9", 80, netns_path=sandbox.netns_path) == b"from outside"
        stop(server)
        # The other way round nothing gets in, even with a route.
        run("nsenter", f"--net={outside}", "ip", "route", "add", "172.17.0.0/16", "via", "198.51.100.1")
        inner = serve(sandbox.netns_path, b"private", 80)
        with pytest.raises(OSError):
            ask("172.17.0.2", 80, netns_path=outside)
        stop(inner)
    daemons.launcher.remove_netns(outside)


def test_the_subnet_avoids_what_the_host_uses(daemons: Bench) -> None:
    run("ip", "link", "add", "name", "other", "type", "bridge")
    run("ip", "link", "set", "other", "up")
    run("ip", "addr", "add", "172.17.9.1/24", "dev", "other")
    run("ip", "route", "add", "172.18.5.0/24", "via", "172.17.9.9")
    with daemons.running() as networks:
        assert networks.get("bridge").pools[0].subnet == "172.19.0.0/16"
        assert networks.allocate(request()).endpoints["bridge"].ip_address == "172.19.0.2"


def test_bip_and_mtu(daemons: Bench) -> None:
    options = BridgeOptions(pool_size=1, bip="10.200.0.5/24", mtu=1400)
    with daemons.running(options) as networks:
        sandbox = networks.allocate(request())
        endpoint = sandbox.endpoints["bridge"]
        assert (endpoint.ip_address, endpoint.gateway, endpoint.ip_prefix_len) == ("10.200.0.1", "10.200.0.5", 24)
        (link,) = (each for each in ip_json("link", netns_path=sandbox.netns_path) if each["ifname"] == "eth0")
        assert link["mtu"] == 1400
        assert ip_json("link", "show", "dev", "pyker0")[0]["mtu"] == 1400
    with daemons.running() as networks:
        pool = networks.get("bridge").pools[0]
        present = [each["local"] for each in ip_json("addr", "show", "dev", "pyker0")[0]["addr_info"]]
        assert pool.gateway in present
        assert len([address for address in present if "." in address]) == 1


def test_an_existing_bridge_is_used_as_it_is(daemons: Bench) -> None:
    with pytest.raises(SystemFailure, match="bridge device with non default name br9 must be created manually"):
        with daemons.running(BridgeOptions(pool_size=0, bridge="br9")):
            pass
    run("ip", "link", "add", "name", "br9", "type", "bridge")
    run("ip", "addr", "add", "10.7.0.1/24", "dev", "br9")
    with daemons.running(BridgeOptions(pool_size=0, bridge="br9")) as networks:
        assert networks.allocate(request()).endpoints["bridge"].ip_address == "10.7.0.2"
        assert "pyker0" not in link_names()


def test_networks_keep_their_ids(daemons: Bench) -> None:
    with daemons.running() as networks:
        before = {network.name: network.id for network in networks.list()}
    with daemons.running() as networks:
        assert {network.name: network.id for network in networks.list()} == before
        assert set(before) == {"bridge", "host", "none"}
        assert networks.get(before["host"][:10]).name == "host"
        with pytest.raises(NotFound, match="network nosuch not found"):
            networks.get("nosuch")


def test_none_has_loopback_only_and_host_has_no_namespace(daemons: Bench) -> None:
    with daemons.running() as networks:
        none = networks.allocate(request("none"))
        assert {link["ifname"] for link in ip_json("link", netns_path=none.netns_path)} == {"lo"}
        assert none.endpoints["none"].network_id == networks.get("none").id
        assert none.ports == {}
        host = networks.allocate(request("host"))
        assert host.netns_path == ""
        assert host.endpoints["host"].ip_address == ""
        assert host.id != none.id


def test_a_failed_allocation_leaves_nothing(daemons: Bench) -> None:
    with daemons.running() as networks:
        networks.settle()
        before, pins = link_names(), len(daemons.pins())
        holder = request()
        networks.allocate(replace(holder, endpoints={"bridge": _fixed("172.17.0.50")}))
        with pytest.raises(Conflict, match="Address already in use"):
            networks.allocate(request(endpoints={"bridge": _fixed("172.17.0.50")}))
        with pytest.raises(NotFound, match="network nosuch not found"):
            networks.allocate(request("nosuch"))
        with pytest.raises(NotFound):
            networks.allocate(request(endpoints={"nosuch": EndpointSettings()}))
        networks.release(holder.container_id)
        networks.settle()
        assert len(link_names()) == len(before)
        assert len(daemons.pins()) == pins
        assert networks.allocate(request()).endpoints["bridge"].ip_address == "172.17.0.2"


def _fixed(address: str) -> EndpointSettings:
    return EndpointSettings(ipam_config=EndpointIpamConfig(ipv4_address=address))


def test_an_address_is_given_again_only_when_its_interface_is_gone(daemons: Bench) -> None:
    with daemons.running() as networks:
        first = request()
        address = networks.allocate(first).endpoints["bridge"].ip_address
        networks.release(first.container_id)
        assert networks.allocate(request()).endpoints["bridge"].ip_address != address
        networks.settle()
        assert networks.allocate(request()).endpoints["bridge"].ip_address == address


def test_releasing_twice_or_what_never_was_is_no_error(daemons: Bench) -> None:
    with daemons.running() as networks:
        asked = request()
        sandbox = networks.allocate(asked)
        networks.release(sandbox.id)
        networks.release(asked.container_id)
        networks.release("nobody")
        with pytest.raises(NotFound):
            networks.sandbox(asked.container_id)


def test_fifty_at_once_are_all_different_and_all_gone_afterwards(daemons: Bench) -> None:
    with daemons.running() as networks:
        found: list[Sandbox] = []
        failures: list[BaseException] = []
        barrier = threading.Barrier(50)
        requests = [request() for _ in range(50)]

        def take(number: int) -> None:
            barrier.wait()
            try:
                found.append(networks.allocate(requests[number]))
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=take, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        addresses = {sandbox.endpoints["bridge"].ip_address for sandbox in found}
        assert len(addresses) == len({sandbox.netns_path for sandbox in found}) == 50
        for sandbox in found[::10]:
            (link,) = (each for each in ip_json("addr", netns_path=sandbox.netns_path) if each["ifname"] == "eth0")
            assert [each["local"] for each in link["addr_info"]] == [sandbox.endpoints["bridge"].ip_address]
        for asked in requests:
            networks.release(asked.container_id)
    assert link_names() == {"lo", "pyker0"}
    assert daemons.pins() == []


def test_a_new_daemon_adopts_the_living_and_clears_away_the_rest(daemons: Bench) -> None:
    living, dead = request(), request()
    with daemons.running(BridgeOptions(pool_size=2)) as networks:
        kept, lost = networks.allocate(living), networks.allocate(dead)
        networks.settle()
        links, pins = link_names(), set(daemons.pins())
        networks._pool._size = 0  # the daemon is killed: neither its pool nor anything else is taken down
        networks._pool._attached.clear()
        networks._pool._bare.clear()
    assert link_names() == links
    assert set(daemons.pins()) == pins
    server = serve(kept.netns_path, b"still here", 80)
    with daemons.running(BridgeOptions(pool_size=0), live={living.container_id: kept}) as networks:
        assert daemons.pins() == [os.path.basename(kept.netns_path)]
        assert networks.sandbox(living.container_id) == kept
        assert ask(kept.endpoints["bridge"].ip_address, 80) == b"still here"
        fresh = networks.allocate(request())
        assert fresh.endpoints["bridge"].ip_address == lost.endpoints["bridge"].ip_address
        assert networks.endpoints(networks.get("bridge").id)[living.container_id] == kept.endpoints["bridge"]
        stop(server)
        networks.release(living.container_id)
        assert networks._reaper.flush()
        assert os.path.basename(kept.netns_path) not in daemons.pins()
    with daemons.running(BridgeOptions(pool_size=0)):
        assert link_names() == {"lo", "pyker0"}


def test_foreign_interfaces_in_the_bridge_are_left_alone(daemons: Bench) -> None:
    with daemons.running():
        run("ip", "link", "add", "name", "veth-mine", "type", "veth", "peer", "name", "mine-peer")
        run("ip", "link", "set", "veth-mine", "master", "pyker0")
        run("ip", "link", "add", "name", "vethpmine", "type", "veth", "peer", "name", "mine2-peer")
    with daemons.running():
        assert {"veth-mine", "vethpmine"} <= link_names()


@pytest.mark.parametrize("size", [0, 2])
def test_a_bridge_that_somebody_deleted_comes_back(daemons: Bench, size: int) -> None:
    with daemons.running(BridgeOptions(pool_size=size)) as networks:
        networks.settle()
        run("ip", "link", "del", "pyker0")
        sandbox = networks.allocate(request())
        server = serve(sandbox.netns_path, b"hello", 80)
        assert ask(sandbox.endpoints["bridge"].ip_address, 80) == b"hello"
        stop(server)


def _network(name: str, subnet: str = "", **more: object) -> Network:
    pools = (IpamPool(subnet=subnet),) if subnet else ()
    return replace(Network(id=NetworkId(""), name=name, driver="bridge", created="", pools=pools), **more)


def test_networks_of_the_users_own(daemons: Bench) -> None:
    with daemons.running() as networks:
        made = networks.create(_network("n1", "10.99.0.0/24"))
        assert made.pools[0].gateway == "10.99.0.1"
        assert f"br-{made.id[:12]}" in link_names()
        with pytest.raises(Conflict, match="network with name n1 already exists"):
            networks.create(_network("n1"))
        with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
            networks.create(_network("n2", "10.99.0.128/25"))
        with pytest.raises(NotFound, match='plugin "zz" not found'):
            networks.create(_network("n2", driver="zz"))
        with pytest.raises(NotSupported, match="IPv6"):
            networks.create(_network("n2", "fd00:9::/64"))
        with pytest.raises(Forbidden, match="predefined host network"):
            networks.create(_network("host"))
        chosen = networks.create(_network("n2"))
        assert chosen.pools[0].subnet == "172.18.0.0/16"
        asked = request("n1")
        sandbox = networks.allocate(asked)
        assert sandbox.endpoints["n1"].ip_address == "10.99.0.2"
        with pytest.raises(Forbidden, match="has active endpoints"):
            networks.remove("n1")
        networks.release(asked.container_id)
        networks.remove("n1")
        assert f"br-{made.id[:12]}" not in link_names()
        with pytest.raises(Forbidden, match="bridge is a pre-defined network and cannot be removed"):
            networks.remove("bridge")
    with daemons.running() as networks:
        assert networks.get("n2") == chosen
        networks.remove("n2")
    assert link_names() == {"lo", "pyker0"}


def test_networks_are_kept_apart_and_a_container_may_be_on_two(daemons: Bench) -> None:
    with daemons.running() as networks:
        networks.create(_network("n1", "10.99.0.0/24"))
        lone, other = networks.allocate(request()), networks.allocate(request("n1"))
        both = networks.allocate(request("n1", endpoints={"bridge": EndpointSettings(), "n1": EndpointSettings()}))
        server = serve(other.netns_path, b"n1 only", 80)
        target = other.endpoints["n1"].ip_address
        with pytest.raises(OSError):
            ask(target, 80, netns_path=lone.netns_path)
        assert ask(target, 80, netns_path=both.netns_path) == b"n1 only"
        assert set(both.endpoints) == {"bridge", "n1"}
        names = {link["ifname"] for link in ip_json("link", netns_path=both.netns_path)}
        assert names == {"lo", "eth0", "eth1"}
        assert both.endpoints["n1"].endpoint_id != both.endpoints["bridge"].endpoint_id
        stop(server)


def test_an_internal_network_has_no_way_out(daemons: Bench) -> None:
    with daemons.running() as networks:
        networks.create(_network("inner", "10.98.0.0/24", internal=True))
        sandbox = networks.allocate(request("inner"))
        assert sandbox.endpoints["inner"].gateway == ""
        assert ip_json("route", "show", "default", netns_path=sandbox.netns_path) == []


def test_a_container_cannot_be_given_two_sandboxes(daemons: Bench) -> None:
    with daemons.running() as networks:
        asked = request()
        networks.allocate(asked)
        with pytest.raises(Conflict):
            networks.allocate(asked)


def test_without_libnftables_the_refusal_names_the_package_and_nothing_is_made(
    daemons: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyker.libcontainer.nftables._LIBRARY", "libnosuch.so.1")
    with pytest.raises(NotSupported) as raised, daemons.running():
        pass
    assert "libnftables1" in raised.value.hint
    assert link_names() == {"lo"}
    with daemons.running(BridgeOptions(pool_size=1, iptables=False)) as networks:
        assert networks.allocate(request()).endpoints["bridge"].ip_address == "172.17.0.2"


def test_without_a_default_bridge(daemons: Bench) -> None:
    with daemons.running(BridgeOptions(pool_size=1, bridge="none")) as networks:
        with pytest.raises(NotFound, match="network bridge not found"):
            networks.allocate(request())
        networks.allocate(request("none"))
        assert link_names() == {"lo"}
        assert [item for item in nft_json() if "metainfo" not in item] == []
        networks.create(_network("n1"))
        assert networks.allocate(request("n1")).endpoints["n1"].ip_address == "172.17.0.2"


@pytest.mark.parametrize(
    "options",
    [
        {"com.docker.network.bridge.name": 'x"; flush'},
        {"com.docker.network.bridge.name": "sixteen-letters-"},
        {"com.docker.network.driver.mtu": "many"},
        {"com.docker.network.bridge.enable_icc": "perhaps"},
    ],
)
def test_impossible_options_are_refused_and_leave_nothing(daemons: Bench, options: dict[str, str]) -> None:
    with daemons.running() as networks:
        networks.settle()
        before = link_names()
        with pytest.raises(InvalidParameter):
            networks.create(_network("n1", options=options))
        assert link_names() == before
        assert {network.name for network in networks.list()} == {"bridge", "host", "none"}
        networks.create(_network("n1"))


def test_closing_twice_is_closing_once(daemons: Bench) -> None:
    with daemons.running() as networks:
        networks.close()
