"""``GET /events``: what was told, in which words, and to whom."""

from __future__ import annotations

import json
import select
import subprocess
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.conftest import Shelf
from tests.support import images
from tests.support.asking import filters, image_id, import_image, message, post
from tests.support.engines import Engine
from tests.support.sandbox import terminate, wait_until

pytestmark = pytest.mark.claim("GET /events", "rule-events")


def _one(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "one", b"1\n")


class Watch:
    """Everything since it was made, asked for afterwards."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._since = time.time_ns()

    def told(self, query: str = "", version: str = "v1.41") -> list[dict[str, Any]]:
        until = time.time_ns()
        span = "&".join(
            f"{name}={at // 10**9}.{at % 10**9:09d}" for name, at in (("since", self._since), ("until", until))
        )
        reply = self._engine.request("GET", f"/{version}/events?{span}&{query}")
        assert reply.status == 200 and reply.headers["content-type"] == "application/json"
        return [json.loads(line) for line in reply.body.splitlines()]

    def actions(self, query: str = "") -> list[str]:
        return [f"{event['Type']} {event['Action']}" for event in self.told(query)]


@pytest.fixture
def watch(engine: Engine) -> Iterator[Watch]:
    return Watch(engine)


def test_an_event_of_a_container(engine: Engine, watch: Watch, busybox: str, name: str) -> None:
    before = time.time_ns()
    made = engine.docker("create", "--name", name, "--label", "l=m", busybox, check=True).out.strip()
    (event,) = watch.told(filters(type=["container"]))
    assert event == {
        "status": "create",
        "id": made,
        "from": busybox,
        "Type": "container",
        "Action": "create",
        "Actor": {"ID": made, "Attributes": {"image": busybox, "name": name, "l": "m", "test": "busybox"}},
        "scope": "local",
        "time": event["timeNano"] // 10**9,
        "timeNano": event["timeNano"],
    }
    assert before <= event["timeNano"] <= time.time_ns()


def test_the_life_of_a_container(engine: Engine, watch: Watch, busybox: str, name: str) -> None:
    engine.docker("create", "--name", name, busybox, "sleep", "600", check=True)
    for verb in ("start", "pause", "unpause", "restart -t 0", "stop -t 0", "rm"):
        engine.docker(*verb.split(), name, check=True)
    told = watch.actions(filters(type=["container"]))
    assert [action.partition(" ")[2] for action in told if not action.endswith("kill")] == [
        *("create", "start", "pause", "unpause"),
        *("die", "stop", "start", "restart"),
        *("die", "stop", "destroy"),
    ]


def test_what_events_carry(engine: Engine, watch: Watch, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, busybox, "sleep", "600", check=True)
    engine.docker("rename", name, f"{name}-b", check=True)
    engine.docker("kill", "-s", "USR1", f"{name}-b", check=True)
    engine.docker("kill", f"{name}-b", check=True)
    engine.docker("wait", f"{name}-b", check=True)
    engine.docker("rename", f"{name}-b", name, check=True)
    found = {
        event["Action"]: event["Actor"]["Attributes"] for event in reversed(watch.told(filters(type=["container"])))
    }
    assert (found["rename"]["name"], found["rename"]["oldName"]) == (f"{name}-b", f"/{name}")
    assert found["kill"]["signal"] == "10"
    assert found["die"]["exitCode"] == "137"


def test_networks_and_volumes_of_a_container(
    engine: Engine, watch: Watch, busybox: str, network: str, volume: str, name: str
) -> None:
    engine.docker("network", "create", network, check=True)
    identity = engine.docker(
        "run", "-d", "--name", name, "--network", network, "-v", f"{volume}:/v:ro", busybox, "sleep", "600", check=True
    ).out.strip()
    engine.docker("rm", "-f", name, check=True)
    engine.docker("network", "rm", network, check=True)
    told = watch.told(filters(type=["network", "volume"]))
    assert sorted(f"{event['Type']} {event['Action']}" for event in told) == [
        "network connect", "network create", "network destroy", "network disconnect",
        "volume create", "volume mount", "volume unmount",
    ]  # fmt: skip
    found = {event["Action"]: event["Actor"]["Attributes"] for event in told if event["Type"] == "network"}
    assert found["connect"] == {"container": identity, "name": network, "type": "bridge"} == found["disconnect"]
    assert found["destroy"] == {"name": network, "type": "bridge"}
    mount = next(event for event in told if event["Action"] == "mount")
    assert mount["Actor"] == {
        "ID": volume,
        "Attributes": {
            "container": identity, "destination": "/v", "driver": "local", "propagation": "", "read/write": "false",
        },
    }  # fmt: skip
    assert not {"status", "id", "from"} & set(mount)


def test_a_volume_is_made_and_destroyed(engine: Engine, watch: Watch, volume: str) -> None:
    post(engine, "/volumes/create", {"Name": volume}, status=201)
    engine.request("DELETE", f"/volumes/{volume}")
    told = watch.told(filters(volume=[volume]))
    assert [(event["Action"], event["Actor"]) for event in told] == [
        ("create", {"ID": volume, "Attributes": {"driver": "local"}}),
        ("destroy", {"ID": volume, "Attributes": {"driver": "local"}}),
    ]


def test_images_are_pulled_tagged_pushed_and_deleted(engine: Engine, watch: Watch, shelf: Shelf) -> None:
    reference = shelf.add("events/image:1", layers=(_one,), label="events")
    engine.docker("pull", "-q", reference, check=True)
    identity = image_id(engine, reference)
    other = f"{shelf.registry.address}/events/other:1"
    engine.docker("tag", reference, other, check=True)
    engine.docker("push", "-q", other, check=True)
    engine.docker("rmi", other, reference, check=True)
    told = [(event["Action"], event["Actor"]["ID"], event["Actor"]["Attributes"]["name"]) for event in watch.told()]
    assert told[:4] == [
        ("pull", reference, reference.rpartition(":")[0]),
        ("tag", identity, other),
        ("push", other, other.rpartition(":")[0]),
        ("untag", identity, identity),
    ]
    assert told[-1] == ("delete", identity, identity)
    labels = {event["Action"]: event["Actor"]["Attributes"].get("test") for event in watch.told()}
    assert labels["pull"] == labels["tag"] == labels["push"] == "events"


def test_import_is_told(engine: Engine, watch: Watch, repository: str) -> None:
    identity = import_image(engine, f"{repository}:1", _one)
    told = {(event["Action"], event["Actor"]["ID"]) for event in watch.told(filters(type=["image"]))}
    assert {("import", identity), ("tag", identity)} == told


@pytest.mark.claim("rule-filters-logic")
def test_filters(engine: Engine, watch: Watch, busybox: str, name: str) -> None:
    engine.docker("run", "--name", name, "--label", "kind=test", busybox, "true", check=True)
    wait_until(lambda: watch.actions(filters(container=[name], event=["die"])), what="the end among the events")
    assert watch.actions(filters(container=[name], event=["start", "die"])) == ["container start", "container die"]
    assert watch.actions(filters(label=["kind=test"], event=["create"])) == ["container create"]
    assert watch.actions(filters(label=["kind=other"])) == []
    assert watch.actions(filters(image=[busybox], event=["die"])) == ["container die"]
    assert watch.actions(filters(network=["bridge"])) == ["network connect", "network disconnect"]
    assert watch.actions(filters(type=["volume"])) == []
    assert watch.actions(filters(scope=["swarm"])) == []
    assert watch.actions(filters(event=["start"])) == ["container start"]


@pytest.mark.parametrize(
    ("query", "statuses", "words"),
    [
        ("since=2&until=1", (400,), "`since` time (2) cannot be after `until` time (1)"),
        ("since=abc", (400, 500), 'strconv.ParseInt: parsing "abc": invalid syntax'),
        ("filters=xx", (400, 500), "invalid character 'x' looking for beginning of value"),
    ],
    ids=["order", "time", "filters"],
)
def test_what_cannot_be_asked(engine: Engine, query: str, statuses: tuple[int, ...], words: str) -> None:
    reply = engine.request("GET", f"/events?{query}")
    assert reply.status in statuses and message(reply) == words


def test_docker_events_follows(engine: Engine, busybox: str, name: str) -> None:
    """The stream is open before anything happens, and one event is one line."""
    watcher = subprocess.Popen(
        ["docker", "events", "--filter", f"container={name}", "--format", "{{json .}}"],
        env={**engine.environment(), "DOCKER_HOST": engine.host},
        stdout=subprocess.PIPE,
    )
    try:
        assert watcher.stdout is not None
        made = engine.docker("create", "--name", name, busybox, check=True).out.strip()
        # The watcher may have come too late for that: something happens until it has seen one.
        for _ in range(200):
            engine.request("POST", f"/containers/{made}/rename?name={name}-b")
            engine.request("POST", f"/containers/{made}/rename?name={name}")
            if first := _line(watcher):
                break
        assert first is not None and json.loads(first)["Actor"]["ID"] == made
    finally:
        terminate(watcher)
        watcher.stdout.close()  # type: ignore[union-attr]


def _line(process: subprocess.Popen[bytes]) -> bytes | None:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 0.2)
    return process.stdout.readline() if ready else None


def test_until_now_ends_the_stream(engine: Engine) -> None:
    done = engine.docker("events", "--since", "1s", "--until", "0s")
    assert done.code == 0, done
