"""The jobs about networks, over a fake of the networks: filters, what is asked of the network, and events."""

from __future__ import annotations

from typing import cast

import pytest

from pyker.container.record import Container, NetworkSettings, State
from pyker.daemon.networks import NetworkHandlers
from pyker.engine.job import JobContext
from pyker.errors import InvalidParameter, NotFound
from pyker.jobs.containers import AllocateInterface, ReleaseInterface
from pyker.jobs.networks import CreateNetwork, InitNetworkDriver, InspectNetwork, ListNetworks, RemoveNetwork
from pyker.networkdriver.base import Network, Sandbox, SandboxRequest
from pyker.networkdriver.networks import Networks
from pyker.types.config import ContainerConfig, EndpointIpamConfig, EndpointSettings, HostConfig, PortBinding
from pyker.types.events import Event
from pyker.types.ids import ContainerId, ImageId, NetworkId

CONTEXT = cast(JobContext, None)
WEB = ContainerId("c" * 64)


def network(name: str, driver: str = "bridge", created: str = "2026-01-01T00:00:00Z", **labels: str) -> Network:
    return Network(
        id=NetworkId(name.encode().hex().ljust(64, "0")), name=name, driver=driver, created=created, labels=labels
    )


class FakeNetworks:
    """Remembers what was asked, and gives one endpoint."""

    def __init__(self) -> None:
        self.known = [
            network("bridge"),
            network("host", "host"),
            network("none", "null"),
            network("front", created="2026-03-01T00:00:00Z", tier="web"),
            network("back", created="2026-02-01T00:00:00Z", tier="db", team="a"),
        ]
        self.live: dict[ContainerId, Sandbox] = {}
        self.requests: list[SandboxRequest] = []

    def start(self, live: dict[ContainerId, Sandbox]) -> None:
        self.live = dict(live)

    def list(self) -> list[Network]:
        return self.known

    def get(self, name: str) -> Network:
        for each in self.known:
            if name in (each.name, each.id):
                return each
        raise NotFound(f"network {name} not found")

    def endpoints(self, identifier: NetworkId) -> dict[ContainerId, EndpointSettings]:
        return {
            container: endpoint
            for container, sandbox in self.live.items()
            for endpoint in sandbox.endpoints.values()
            if endpoint.network_id == identifier
        }

    def allocate(self, asked: SandboxRequest) -> Sandbox:
        self.requests.append(asked)
        found = self.get(asked.mode)
        endpoint = EndpointSettings(network_id=found.id, endpoint_id="e", ip_address="10.9.0.2")
        self.live[asked.container_id] = Sandbox(id="s", netns_path="/n", endpoints={found.name: endpoint})
        return self.live[asked.container_id]

    def sandbox(self, container: ContainerId) -> Sandbox:
        if container not in self.live:
            raise NotFound("none")
        return self.live[container]

    def release(self, identifier: str) -> None:
        del self.live[ContainerId(identifier)]

    def create(self, wanted: Network) -> Network:
        made = network(wanted.name, wanted.driver)
        self.known.append(made)
        return made

    def remove(self, name: str) -> Network:
        found = self.get(name)
        self.known.remove(found)
        return found


class FakeContainers:
    def __init__(self, *containers: Container) -> None:
        self.containers = list(containers)

    def get(self, name: str) -> Container:
        return next(each for each in self.containers if name in (each.id, each.name))

    def all(self) -> list[Container]:
        return self.containers


def container(
    host_config: HostConfig | None = None,
    config: ContainerConfig | None = None,
    settings: NetworkSettings | None = None,
    *,
    running: bool = False,
) -> Container:
    return Container(
        id=WEB,
        name="web",
        created="",
        path="true",
        args=(),
        config=config or ContainerConfig(),
        host_config=host_config or HostConfig(),
        image=ImageId("sha256:0"),
        driver="overlay2",
        state=State(running=running),
        network_settings=settings or NetworkSettings(),
    )


class Bench:
    def __init__(self, *containers: Container) -> None:
        self.networks = FakeNetworks()
        self.events: list[Event] = []
        self.handlers = NetworkHandlers(cast(Networks, self.networks), FakeContainers(*containers), self.events.append)

    def names(self, **filters: str) -> list[str]:
        wanted = {key: (value,) for key, value in filters.items()}
        return [view.network.name for view in self.handlers.list(ListNetworks(filters=wanted), CONTEXT)]

    def request(self, mode: str = "bridge") -> SandboxRequest:
        self.handlers.allocate_interface(AllocateInterface(container=WEB, mode=mode), CONTEXT)
        return self.networks.requests[-1]


def test_newest_networks_come_first() -> None:
    assert Bench().names()[:2] == ["front", "back"]


@pytest.mark.parametrize(
    ("key", "value", "names"),
    [
        ("name", "^b", {"bridge", "back"}),
        ("driver", "null", {"none"}),
        ("type", "custom", {"front", "back"}),
        ("type", "builtin", {"bridge", "host", "none"}),
        ("label", "tier", {"front", "back"}),
        ("label", "tier=db", {"back"}),
        ("scope", "swarm", set()),
        ("id", network("back").id[:8], {"back"}),
        ("dangling", "true", {"front", "back"}),
        ("dangling", "false", {"bridge", "host", "none"}),
    ],
)
def test_filters(key: str, value: str, names: set[str]) -> None:
    assert set(Bench().names(**{key: value})) == names


@pytest.mark.parametrize("filters", [{"nosuch": "x"}, {"type": "x"}, {"dangling": "x"}])
def test_wrong_filters(filters: dict[str, str]) -> None:
    with pytest.raises(InvalidParameter):
        Bench().names(**filters)


def test_a_network_shows_its_containers_by_name() -> None:
    bench = Bench(container())
    bench.request("front")
    view = bench.handlers.inspect(InspectNetwork(network="front"), CONTEXT)
    assert {key: (name, endpoint.ip_address) for key, (name, endpoint) in view.containers.items()} == {
        WEB: ("web", "10.9.0.2")
    }
    assert bench.names(dangling="true") == ["back"]


def test_a_binding_counts_only_for_an_exposed_port() -> None:
    binding = (PortBinding(host_port="8080"),)
    bench = Bench(
        container(
            HostConfig(port_bindings={"80/tcp": binding, "81/tcp": binding}),
            ContainerConfig(exposed_ports={"80/tcp": {}, "90/tcp": {}}),
        )
    )
    asked = bench.request()
    assert asked.ports == {"80/tcp": binding}
    assert set(asked.exposed) == {"80/tcp", "90/tcp"}


def test_publish_all_gives_every_other_exposed_port_a_free_one() -> None:
    binding = (PortBinding(host_port="8080"),)
    bench = Bench(
        container(
            HostConfig(port_bindings={"80/tcp": binding}, publish_all_ports=True),
            ContainerConfig(exposed_ports={"80/tcp": {}, "90/udp": {}}),
        )
    )
    assert bench.request().ports == {"80/tcp": binding, "90/udp": (PortBinding(),)}


def test_the_mac_address_of_the_user_is_asked_for_and_a_derived_one_is_not() -> None:
    ours = NetworkSettings(
        networks={"bridge": EndpointSettings(ip_address="10.9.0.2", mac_address="02:42:0a:09:00:02")}
    )
    assert Bench(container(settings=ours)).request().endpoints["bridge"].mac_address == ""
    theirs = NetworkSettings(
        networks={"bridge": EndpointSettings(ip_address="10.9.0.2", mac_address="02:00:00:00:00:07")}
    )
    assert Bench(container(settings=theirs)).request().endpoints["bridge"].mac_address == "02:00:00:00:00:07"
    config = ContainerConfig(mac_address="02:00:00:00:00:08")
    assert Bench(container(config=config, settings=ours)).request().endpoints["bridge"].mac_address == (
        "02:00:00:00:00:08"
    )
    assert Bench(container(config=config)).request("host").endpoints == {}


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        (EndpointSettings(ipam_config=EndpointIpamConfig(ipv4_address="10.9.0.9")), "user specified IP address"),
        (EndpointSettings(aliases=("al",)), "network-scoped alias"),
    ],
)
def test_what_only_user_defined_networks_can_do(endpoint: EndpointSettings, words: str) -> None:
    settings = NetworkSettings(networks={"bridge": endpoint})
    with pytest.raises(InvalidParameter, match=words):
        Bench(container(settings=settings)).request()
    assert Bench(container(settings=NetworkSettings(networks={"front": endpoint}))).request("front")


def test_events_of_a_sandbox() -> None:
    bench = Bench(container())
    bench.request("front")
    bench.handlers.release_interface(ReleaseInterface(container=WEB), CONTEXT)
    bench.handlers.release_interface(ReleaseInterface(container=WEB), CONTEXT)
    assert [(event.kind, event.action, event.attributes) for event in bench.events] == [
        ("network", "connect", {"container": WEB, "name": "front", "type": "bridge"}),
        ("network", "disconnect", {"container": WEB, "name": "front", "type": "bridge"}),
    ]
    assert {event.actor_id for event in bench.events} == {network("front").id}


def test_at_start_up_the_sandboxes_of_running_containers_are_handed_over() -> None:
    settings = NetworkSettings(
        sandbox_id="s",
        sandbox_key="/run/x/netns/s",
        networks={"bridge": EndpointSettings(ip_address="10.9.0.2")},
        ports={"80/tcp": (PortBinding(host_ip="0.0.0.0", host_port="8080"),), "81/tcp": None},
    )
    for running in (True, False):
        bench = Bench(container(settings=settings, running=running))
        bench.handlers.init_networkdriver(InitNetworkDriver(), CONTEXT)
        expected = Sandbox(id="s", netns_path="/run/x/netns/s", endpoints=settings.networks, ports=settings.ports)
        assert bench.networks.live == ({WEB: expected} if running else {})


def test_creating_and_removing() -> None:
    bench = Bench()
    identifier = bench.handlers.create(CreateNetwork(network_name="new"), CONTEXT)
    bench.handlers.remove(RemoveNetwork(network="new"), CONTEXT)
    assert [(event.action, event.actor_id) for event in bench.events] == [
        ("create", identifier),
        ("destroy", identifier),
    ]
    for name in ("", " "):
        with pytest.raises(InvalidParameter):
            bench.handlers.create(CreateNetwork(network_name=name), CONTEXT)
    with pytest.raises(NotFound, match='plugin "zz" not found'):
        bench.handlers.create(CreateNetwork(network_name="x", ipam_driver="zz"), CONTEXT)
