"""Version gates: the version of a request decides how it is answered. What an engine does not speak yet is skipped."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.engines import Engine, Reply
from tests.support.sandbox import wait_until


def speaks(engine: Engine, version: str) -> None:
    """Skip where the engine is older than ``version``."""
    value: Any = engine.request("GET", "/version").json()
    newest = tuple(map(int, value["ApiVersion"].split(".")))
    if newest < tuple(map(int, version.split("."))):
        pytest.skip(f"speaks API {value['ApiVersion']}, older than {version}")


def asked(engine: Engine, version: str, path: str) -> Any:
    reply = engine.request("GET", f"/v{version}{path}")
    assert reply.status == 200, reply
    return reply.json()


@pytest.mark.claim("gate-1.44-virtual-size", "GET /images/json", "GET /images/{name}/json")
def test_virtual_size(engine: Engine, busybox: str) -> None:
    for path in (f"/images/{busybox}/json", "/images/json"):
        old = asked(engine, "1.41", path)
        assert "VirtualSize" in (old[0] if isinstance(old, list) else old)
    speaks(engine, "1.44")
    for path in (f"/images/{busybox}/json", "/images/json"):
        new = asked(engine, "1.44", path)
        assert "VirtualSize" not in (new[0] if isinstance(new, list) else new)


@pytest.mark.claim("gate-1.45-image-config", "GET /images/{name}/json")
def test_the_container_of_an_image(engine: Engine, busybox: str) -> None:
    assert {"Container", "ContainerConfig"} <= set(asked(engine, "1.41", f"/images/{busybox}/json"))
    speaks(engine, "1.45")
    assert not {"Container", "ContainerConfig"} & set(asked(engine, "1.45", f"/images/{busybox}/json"))


@pytest.mark.claim("gate-1.43-none-names", "GET /images/json")
def test_images_without_a_name(engine: Engine, busybox: str, name: str) -> None:
    """An image loses its name to another; its digest goes with it."""
    image: Any = engine.request("GET", f"/images/{busybox}/json").json()
    rows = {version: asked(engine, version, "/images/json") for version in ("1.41",)}
    mine = next(row for row in rows["1.41"] if row["Id"] == image["Id"])
    assert busybox in mine["RepoTags"] and isinstance(mine["RepoDigests"], list)
    engine.docker("create", "--name", name, busybox, check=True)
    engine.docker("rmi", "-f", *image["RepoTags"])
    try:
        old = next((row for row in asked(engine, "1.41", "/images/json?all=1") if row["Id"] == image["Id"]), None)
        if old is not None:
            assert old["RepoTags"] == ["<none>:<none>"]
            speaks(engine, "1.43")
            new = next(row for row in asked(engine, "1.43", "/images/json?all=1") if row["Id"] == image["Id"])
            assert not new["RepoTags"]
    finally:
        engine.docker("pull", "-q", busybox, check=True)


@pytest.mark.claim("gate-1.42-stop-signal", "POST /containers/{id}/stop", "POST /containers/{id}/restart")
@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_a_signal_for_stop(engine: Engine, busybox: str, name: str, verb: str) -> None:
    speaks(engine, "1.42")
    script = "trap 'echo usr1; exit 11' USR1; trap 'echo term; exit 12' TERM; echo ready; while :; do sleep 0.1; done"
    engine.docker("run", "-d", "--name", name, busybox, "sh", "-c", script, check=True)
    wait_until(lambda: "ready" in engine.docker("logs", name).out, what="its being ready")
    assert engine.request("POST", f"/v1.42/containers/{name}/{verb}?signal=USR1&t=20").status == 204
    assert "usr1" in engine.docker("logs", name).out


@pytest.mark.claim("gate-1.42-stop-signal", "rule-limit-minus-one")
def test_an_older_stop_knows_no_signal(engine: Engine, busybox: str, name: str) -> None:
    script = "trap 'exit 11' USR1; trap 'exit 12' TERM; echo ready; while :; do sleep 0.1; done"
    engine.docker("run", "-d", "--name", name, busybox, "sh", "-c", script, check=True)
    wait_until(lambda: "ready" in engine.docker("logs", name).out, what="its being ready")
    assert engine.request("POST", f"/v1.41/containers/{name}/stop?signal=USR1&t=20").status == 204
    assert engine.state(name)["ExitCode"] == 12


@pytest.mark.claim("gate-1.42-wait-condition", "POST /containers/{id}/wait")
def test_an_impossible_condition(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("create", "--name", name, busybox, check=True)
    speaks(engine, "1.42")
    reply = engine.request("POST", f"/v1.42/containers/{name}/wait?condition=bogus")
    assert reply.status == 400 and b"bogus" in reply.body


def stream_type(engine: Engine, path: str, version: str) -> str:
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(20)
        wire.connect(engine.socket)
        wire.sendall(
            f"POST /v{version}{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += wire.recv(4096)
    line = next(each for each in head.split(b"\r\n") if each.lower().startswith(b"content-type:"))
    return line.partition(b":")[2].strip().decode()


@pytest.mark.claim("gate-1.42-multiplexed", "POST /containers/{id}/attach", "rule-stream-frames")
@pytest.mark.parametrize("terminal", [False, True])
def test_the_type_of_a_stream(engine: Engine, busybox: str, name: str, terminal: bool) -> None:
    flags = ["-t"] if terminal else []
    engine.docker("run", "-d", *flags, "--name", name, busybox, "sleep", "300", check=True)
    path = f"/containers/{name}/attach?stream=1&stdout=1"
    assert stream_type(engine, path, "1.41") == "application/vnd.docker.raw-stream"
    speaks(engine, "1.42")
    word = "raw" if terminal else "multiplexed"
    assert stream_type(engine, path, "1.42") == f"application/vnd.docker.{word}-stream"


def connected(engine: Engine, image: str, name: str, networks: list[str], version: str) -> Reply:
    body = {
        "Image": image,
        "Cmd": ["sleep", "300"],
        "HostConfig": {"NetworkMode": networks[0]},
        "NetworkingConfig": {"EndpointsConfig": {network: {} for network in networks}},
    }
    return engine.request("POST", f"/v{version}/containers/create?name={name}", body)


@pytest.fixture
def two_networks(engine: Engine, name: str) -> Iterator[list[str]]:
    made = [f"{name}-a", f"{name}-b"]
    for network in made:
        engine.docker("network", "create", network, check=True)
    yield made
    engine.request("DELETE", f"/containers/{name}?force=1")
    for network in made:
        engine.docker("network", "rm", network)


@pytest.mark.claim("gate-1.44-endpoints", "POST /containers/create")
def test_several_networks_at_create(engine: Engine, busybox: str, name: str, two_networks: list[str]) -> None:
    old = connected(engine, busybox, name, two_networks, "1.41")
    assert old.status == 400 and b"Container cannot be connected to network endpoints" in old.body, old
    speaks(engine, "1.44")
    assert connected(engine, busybox, name, two_networks, "1.44").status == 201
    engine.docker("start", name, check=True)
    settings: Any = engine.inspect(name)["NetworkSettings"]
    assert set(settings["Networks"]) == set(two_networks)


@pytest.mark.claim("gate-1.45-aliases", "GET /containers/{id}/json")
def test_the_short_id_among_the_aliases(engine: Engine, busybox: str, name: str, network: str) -> None:
    engine.docker("network", "create", network, check=True)
    flags = ["--name", name, "--network", network, "--network-alias", "other"]
    engine.docker("run", "-d", *flags, busybox, "sleep", "300", check=True)
    old = asked(engine, "1.41", f"/containers/{name}/json")
    assert {old["Id"][:12], "other"} <= set(old["NetworkSettings"]["Networks"][network]["Aliases"])
    speaks(engine, "1.45")
    new = asked(engine, "1.45", f"/containers/{name}/json")
    assert new["NetworkSettings"]["Networks"][network]["Aliases"] == ["other"]


@pytest.mark.claim("gate-1.42-volume-prune", "POST /volumes/prune", "rule-prune")
def test_a_prune_of_volumes(engine: Engine, busybox: str, volume: str) -> None:
    assert engine.request("POST", "/volumes/create", {"Name": volume}).status == 201
    speaks(engine, "1.42")
    spared: Any = engine.request("POST", "/v1.42/volumes/prune").json()
    assert volume not in (spared["VolumesDeleted"] or [])
    pruned: Any = engine.request("POST", "/v1.41/volumes/prune").json()
    assert volume in pruned["VolumesDeleted"]


@pytest.mark.claim("gate-ping-by-version", "rule-path-versions")
@pytest.mark.parametrize("version", ["1.24", "1.30", "1.40", "1.41"])
def test_every_version_down_to_the_oldest_is_spoken(engine: Engine, busybox: str, version: str) -> None:
    for path in ("/version", "/info", "/containers/json", "/images/json", "/networks", f"/images/{busybox}/json"):
        assert engine.request("GET", f"/v{version}{path}").status == 200, path


@pytest.mark.claim("rule-version-too-old", "rule-version-too-new")
def test_the_bounds_that_are_told_are_those_that_hold(engine: Engine) -> None:
    value: Any = engine.request("GET", "/version").json()
    for version, status in ((value["ApiVersion"], 200), (value["MinAPIVersion"], 200)):
        assert engine.request("GET", f"/v{version}/version").status == status
    major, minor = value["ApiVersion"].split(".")
    assert engine.request("GET", f"/v{major}.{int(minor) + 1}/version").status == 400
