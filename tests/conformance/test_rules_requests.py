"""Rules for every request: booleans, filters, limits, times, names, and what is null, empty or absent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.compare import ZERO_TIME, Comparison
from tests.support.engines import Engine


def rows(engine: Engine, path: str) -> list[Any]:
    value = engine.request("GET", path).json()
    assert isinstance(value, list)
    return value


def filtered(path: str, filters: object) -> str:
    return f"{path}{'&' if '?' in path else '?'}filters={quote(json.dumps(filters))}"


@pytest.fixture
def family(engine: Engine, busybox: str, names: Callable[[], str]) -> Iterator[list[str]]:
    """Three containers with labels: the first runs, the second has ended with 3, the third was only created."""
    made = [names() for _ in range(3)]
    flags = ["--label", "family", "--label", "part=one"]
    engine.docker("run", "-d", "--name", made[0], *flags, busybox, "sleep", "300", check=True)
    engine.docker("run", "--name", made[1], "--label", "family", "--label", "part=two", busybox, "sh", "-c", "exit 3")
    engine.docker("create", "--name", made[2], "--label", "family", busybox, check=True)
    yield made


@pytest.mark.claim("rule-booleans-in-query", "break-filters-and-booleans", "GET /containers/json")
@pytest.mark.parametrize(
    ("text", "meaning"),
    [("1", True), ("true", True), ("True", True), ("yes", True), ("anything", True), ("-1", True),
     ("0", False), ("false", False), ("False", False), ("no", False), ("NONE", False), ("", False), ("%20no", False)],
)  # fmt: skip
def test_booleans(engine: Engine, busybox: str, name: str, text: str, meaning: bool) -> None:
    made: Any = engine.request("POST", f"/containers/create?name={name}", {"Image": busybox}).json()
    assert (made["Id"] in [row["Id"] for row in rows(engine, f"/containers/json?all={text}")]) is meaning


@pytest.mark.claim("rule-filters-logic", "rule-filters-dialects", "rule-filters-names", "GET /containers/json")
def test_filters_of_containers(engine: Engine, family: list[str]) -> None:
    running, ended, created = family

    def found(**filters: object) -> list[str]:
        names = [row["Names"][0][1:] for row in rows(engine, filtered("/containers/json?all=1", filters))]
        return [name for name in family if name in names]

    assert found(label=["family"]) == family
    assert found(label=["family", "part=one"]) == [running]
    assert found(label={"family": True, "part=two": True}) == [ended]
    assert found(label=["part=one", "part=two"]) == []
    assert found(status=["running", "created"], label=["family"]) == [running, created]
    assert found(exited=["3"], label=["family"]) == [ended]
    assert found(name=[ended]) == [ended]
    assert found(name=[f"^/{created}$"]) == [created]
    assert found(name=[running, created]) == [running, created]
    assert found(name=[running], label=["part=two"]) == []
    short = str(engine.inspect(running)["Id"])[:12]
    assert found(id=[short]) == [running]
    assert found(before=[ended], label=["family"]) == [running]
    assert found(since=[running], label=["family"]) == [ended, created]
    assert found(network=["bridge"], label=["family"], status=["running"]) == [running]


@pytest.mark.claim("rule-limit-minus-one", "break-filters-and-booleans", "GET /containers/json")
def test_limits_and_unknown_parameters(engine: Engine, family: list[str]) -> None:
    running, ended, created = family
    label = {"label": ["family"]}

    def found(query: str) -> list[str]:
        return [row["Names"][0][1:] for row in rows(engine, filtered(f"/containers/json?{query}", label))]

    assert found("limit=-1") == [running]
    assert found("limit=-1&all=1") == [created, ended, running]
    assert found("limit=2") == [created, ended]
    assert found("trunc_cmd=1&size=False&link=False&all=1&bogus=3") == [created, ended, running]


@pytest.mark.claim("rule-filters-dialects", "rule-filters-logic", "GET /images/json", "GET /networks")
def test_both_dialects_mean_the_same(engine: Engine, busybox: str) -> None:
    for path, key, value in (
        ("/images/json", "reference", busybox),
        ("/images/json", "label", "test=busybox"),
        ("/images/json", "dangling", "false"),
        ("/networks", "name", "bridge"),
        ("/networks", "driver", "host"),
        ("/networks", "type", "builtin"),
        ("/containers/json", "ancestor", busybox),
    ):
        go, python = (
            sorted(row["Id"] for row in rows(engine, filtered(path, {key: each}))) for each in ({value: True}, [value])
        )
        assert go == python
        assert path == "/containers/json" or go, (path, key)


@pytest.mark.claim("rule-filters-unknown", "rule-errors-are-json")
@pytest.mark.parametrize(
    ("path", "filters"),
    [
        ("/containers/json", '{"foo":["x"]}'),
        ("/containers/json", '{"status":["bogus"]}'),
        ("/images/json", '{"foo":["x"]}'),
        ("/networks", '{"foo":["x"]}'),
        ("/volumes", '{"foo":["x"]}'),
    ],
)
def test_filters_that_cannot_be(compare: Comparison, path: str, filters: str) -> None:
    joined = f"{path}{'&' if '?' in path else '?'}filters={quote(filters)}"
    assert compare.api("GET", joined, values=True).tested.status == 400


@pytest.mark.claim("rule-times", "GET /containers/{id}/json")
def test_times(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("create", "--name", name, busybox, "true", check=True)
    state = engine.state(name)
    assert (state["StartedAt"], state["FinishedAt"]) == (ZERO_TIME, ZERO_TIME)
    engine.docker("start", "-a", name, check=True)
    state = engine.state(name)
    stamp = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
    created = engine.inspect(name)["Created"]
    for value in (created, state["StartedAt"], state["FinishedAt"]):
        assert stamp.fullmatch(str(value)), value
    assert str(created) < min(str(state["StartedAt"]), str(state["FinishedAt"]))


@pytest.mark.claim("rule-ids", "rule-container-names")
def test_ways_to_name_a_container(engine: Engine, busybox: str, name: str) -> None:
    made: Any = engine.request("POST", f"/containers/create?name={name}", {"Image": busybox}).json()
    whole = made["Id"]
    assert re.fullmatch(r"[0-9a-f]{64}", whole)
    for way in (whole, whole[:12], whole[:5], name):
        assert engine.inspect(way)["Id"] == whole, way
    assert engine.inspect(name)["Name"] == f"/{name}"
    for way in (whole.upper(), name[:-1] if len(name) > 2 else "zz", f"{name}x"):
        assert engine.request("GET", f"/containers/{way}/json").status == 404, way


@pytest.mark.claim("rule-container-names", "POST /containers/create")
def test_a_container_without_a_name_gets_one(engine: Engine, busybox: str) -> None:
    made: Any = engine.request("POST", "/containers/create", {"Image": busybox}).json()
    try:
        assert re.fullmatch(r"/[a-z]+_[a-z]+\d?", str(engine.inspect(made["Id"])["Name"]))
    finally:
        engine.request("DELETE", f"/containers/{made['Id']}")


@pytest.mark.claim("rule-image-references", "GET /images/{name}/json")
def test_ways_to_name_an_image(engine: Engine, busybox: str) -> None:
    image: Any = engine.request("GET", f"/images/{busybox}/json").json()
    plain = image["Id"].removeprefix("sha256:")
    engine.docker("tag", busybox, "ways-to-name:latest", check=True)
    try:
        ways = [busybox, image["RepoDigests"][0], image["Id"], plain, plain[:12], f"sha256:{plain[:12]}"]
        ways += ["ways-to-name", "docker.io/library/ways-to-name", "library/ways-to-name:latest"]
        for way in ways:
            found: Any = engine.request("GET", f"/images/{way}/json").json()
            assert found.get("Id") == image["Id"], way
    finally:
        engine.docker("rmi", "ways-to-name:latest")


IGNORED = {
    # What else there is on an engine, and whether the bridge was there before it.
    "/images/{image}/json": ("Metadata",),
    "/images/json": ("Labels", "RepoTags", "RepoDigests"),
    "/system/df": ("Images.Labels", "Images.RepoTags", "Images.RepoDigests", "Volumes", "BuildCache"),
    "/networks": ("IPAM.Config.Gateway",),
    "/networks/bridge": ("IPAM.Config.Gateway",),
    # What is the machine's or the release's own.
    "/info": ("ClientInfo", "ContainerdCommit", "RuncCommit", "InitCommit", "Warnings", "Runtimes", "SecurityOptions",
              "GenericResources", "DefaultAddressPools", "ProductLicense", "CDISpecDirs", "Labels", "DriverStatus"),
    "/version": ("Components.Details", "Components"),
}  # fmt: skip


@pytest.mark.claim("rule-null-and-empty")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/containers/json", marks=pytest.mark.claim("GET /containers/json")),
        pytest.param("/containers/{}/json", marks=pytest.mark.claim("GET /containers/{id}/json")),
        pytest.param("/containers/{}/top", marks=pytest.mark.claim("GET /containers/{id}/top")),
        pytest.param("/images/json", marks=pytest.mark.claim("GET /images/json")),
        pytest.param("/images/{image}/json", marks=pytest.mark.claim("GET /images/{name}/json")),
        pytest.param("/images/{image}/history", marks=pytest.mark.claim("GET /images/{name}/history")),
        pytest.param("/networks", marks=pytest.mark.claim("GET /networks")),
        pytest.param("/networks/bridge", marks=pytest.mark.claim("GET /networks/{id}")),
        pytest.param("/networks/host", marks=pytest.mark.claim("GET /networks/{id}")),
        pytest.param("/info", marks=pytest.mark.claim("GET /info", "rule-info-fields")),
        pytest.param("/version", marks=pytest.mark.claim("GET /version", "rule-version-fields")),
        pytest.param("/plugins", marks=pytest.mark.claim("GET /plugins", "rule-plugins-none")),
        pytest.param("/volumes", marks=pytest.mark.claim("GET /volumes")),
        pytest.param("/system/df", marks=pytest.mark.claim("GET /system/df")),
    ],
)
def test_shapes_of_what_is_read(compare: Comparison, path: str) -> None:
    image = compare.pulled()
    compare("run", "-d", "--name", compare.name, image, "sleep", "300")
    whole = path.replace("{image}", image).replace("{}", compare.name)
    compare.api("GET", whole, ignoring=IGNORED.get(path, ()))


@pytest.mark.claim("rule-null-and-empty", "GET /containers/{id}/json", "GET /containers/json")
@pytest.mark.parametrize(
    ("state", "flags"),
    [
        ("created", []),
        ("exited", []),
        ("running", ["-p", "80", "--expose", "81"]),
        ("running", ["--network", "none"]),
        ("running", ["--network", "host"]),
        ("running", ["-e", "A=1", "-l", "b=2", "-w", "/tmp", "-u", "www", "--hostname", "box"]),
        ("running", ["--memory", "64m", "--cpus", "1", "--pids-limit", "50", "--restart", "on-failure:2"]),
        ("running", ["--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN", "--tmpfs", "/t", "--read-only", "--init"]),
        ("running", ["--entrypoint", "sleep"]),
    ],
)
def test_shapes_of_a_container(compare: Comparison, state: str, flags: list[str]) -> None:
    image = compare.pulled()
    verb = {"created": ["create"], "exited": ["run"], "running": ["run", "-d"]}[state]
    command = ["300"] if "--entrypoint" in flags else ["true"] if state == "exited" else ["sleep", "300"]
    compare(*verb, "--name", compare.name, *flags, image, *command)
    compare.api("GET", f"/containers/{compare.name}/json")
    compare.api("GET", filtered("/containers/json?all=1&size=1", {"name": [compare.name]}))


@pytest.mark.claim("rule-null-and-empty", "rule-create-reply", "POST /containers/create")
def test_shape_of_what_create_answers(compare: Comparison) -> None:
    image = compare.pulled()
    compare.api("POST", f"/containers/create?name={compare.name}", {"Image": image}, values=True)
    compare.api("POST", f"/containers/{compare.name}/start", values=True)
    compare.api("POST", f"/containers/{compare.name}/wait", values=True)


@pytest.mark.claim("rule-errors-are-json", "break-status-words")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/containers/nosuch/json", None),
        ("GET", "/networks/nosuch", None),
        ("DELETE", "/images/nosuch", None),
        ("DELETE", "/networks/nosuch", None),
        ("DELETE", "/networks/bridge", None),
        ("POST", "/containers/nosuch/rename?name=x1", None),
        ("POST", "/containers/nosuch/pause", None),
        ("POST", "/containers/nosuch/resize?h=1&w=1", None),
        ("POST", "/containers/nosuch/exec", {"Cmd": ["true"]}),
        ("POST", "/exec/nosuch/start", {}),
        ("GET", "/exec/nosuch/json", None),
        ("POST", "/images/nosuch/tag?repo=a&tag=b", None),
        ("POST", "/containers/create?name=a", {"Image": "x"}),
        ("GET", "/volumes/nosuch", None),
        ("DELETE", "/volumes/nosuch", None),
        ("GET", "/nosuch", None),
        ("GET", "/v1.99/containers/json", None),
        ("GET", "/services", None),
        ("GET", "/swarm", None),
    ],
)
def test_errors_are_the_reference_engines(compare: Comparison, method: str, path: str, body: object) -> None:
    def newest_apart(text: bytes) -> bytes:
        return re.sub(rb"API version is 1\.\d+", b"API version is the newest", text)

    said = compare.both(lambda engine: engine.request(method, path if "/v1" in path else f"/v1.41{path}", body))
    assert said[0].status == said[1].status >= 400, said
    assert newest_apart(said[0].body) == newest_apart(said[1].body)
    assert said[1].headers["content-type"] == "application/json"
