"""Volumes as objects: made, listed, inspected, removed and pruned."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest

from tests.support.asking import filters, get, message, post
from tests.support.engines import Engine

FIELDS = {"CreatedAt", "Driver", "Labels", "Mountpoint", "Name", "Options", "Scope"}


def _names(engine: Engine, query: str = "") -> set[str]:
    return {row["Name"] for row in get(engine, f"/volumes?{query}")["Volumes"] or ()}


@pytest.mark.claim("POST /volumes/create")
def test_create_answers_the_volume(engine: Engine, volume: str) -> None:
    value = post(engine, "/volumes/create", {"Name": volume, "Labels": {"x": "y"}}, status=201)
    assert set(value) >= FIELDS
    datetime.fromisoformat(value["CreatedAt"])
    assert value == {
        "CreatedAt": value["CreatedAt"],
        "Driver": "local",
        "Labels": {"x": "y"},
        "Mountpoint": f"{engine.data_root}/volumes/{volume}/_data",
        "Name": volume,
        "Options": None,
        "Scope": "local",
    }
    assert engine.sandbox.run(["stat", "-c", "%F", value["Mountpoint"]]).stdout == b"directory\n"


@pytest.mark.claim("POST /volumes/create", "rule-volume-names")
def test_create_again_is_the_same_volume(engine: Engine, volume: str) -> None:
    first = post(engine, "/volumes/create", {"Name": volume, "Labels": {"x": "y"}}, status=201)
    again = post(engine, "/volumes/create", {"Name": volume, "Labels": {"other": "z"}}, status=201)
    assert again == first


@pytest.mark.claim("POST /volumes/create", "rule-volume-names")
def test_without_a_name_it_gets_one(engine: Engine) -> None:
    made = post(engine, "/volumes/create", {}, status=201)["Name"]
    try:
        assert re.fullmatch(r"[0-9a-f]{64}", made)
        assert made in _names(engine)
    finally:
        engine.request("DELETE", f"/volumes/{made}")


@pytest.mark.claim("POST /volumes/create", "rule-volume-names")
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"Name": "a"}, "create a: volume name is too short, names should be at least two alphanumeric characters"),
        ({"Name": "../a"}, 'create ../a: "../a" includes invalid characters for a local volume name, only '),
        ({"Name": "-ab"}, 'create -ab: "-ab" includes invalid characters for a local volume name, only '),
        ({"Name": "vv", "DriverOpts": {"bogus": "x"}}, 'create vv: invalid option: "bogus"'),
        ({"Name": "vv", "DriverOpts": {"type": "tmpfs"}}, 'create vv: missing required option: "device"'),
    ],
    ids=["short", "dots", "dash", "option", "device"],
)
def test_volumes_that_cannot_be(engine: Engine, body: dict[str, Any], words: str) -> None:
    before = _names(engine)
    reply = engine.request("POST", "/volumes/create", body)
    assert reply.status == 400 and message(reply).startswith(words)
    assert _names(engine) == before


@pytest.mark.claim("POST /volumes/create")
def test_an_unknown_driver(engine: Engine, volume: str) -> None:
    """The reference engine looks for a plugin of that name for fifteen seconds."""
    reply = engine.request("POST", "/volumes/create", {"Name": volume, "Driver": "nosuch"})
    words = f'create {volume}: error looking up volume plugin nosuch: plugin "nosuch" not found'
    assert (reply.status, message(reply)) == (404, words)


@pytest.mark.claim("GET /volumes/{name}")
def test_inspect(engine: Engine, volume: str) -> None:
    made = post(engine, "/volumes/create", {"Name": volume}, status=201)
    value = get(engine, f"/volumes/{volume}")
    assert value == made and value["Labels"] in ({}, None)
    reply = engine.request("GET", "/volumes/nosuch")
    assert (reply.status, message(reply)) == (404, "get nosuch: no such volume")


@pytest.mark.claim("GET /volumes")
def test_the_list(engine: Engine, volume: str) -> None:
    post(engine, "/volumes/prune")
    made = post(engine, "/volumes/create", {"Name": volume, "Labels": {"x": "y"}}, status=201)
    value = get(engine, "/volumes")
    assert set(value) == {"Volumes", "Warnings"} and value["Warnings"] in (None, [])
    assert made in value["Volumes"]


@pytest.mark.claim("GET /volumes", "rule-filters-names", "rule-filters-logic")
def test_filters_of_the_list(engine: Engine, busybox: str, volume: str, name: str) -> None:
    post(engine, "/volumes/create", {"Name": volume, "Labels": {"x": "y"}}, status=201)
    for query, found in (
        (filters(name=[volume]), True),
        (filters(name=["nosuch"]), False),
        (filters(driver=["local"]), True),
        (filters(driver=["nosuch"]), False),
        (filters(label=["x"]), True),
        (filters(label=["x=y"]), True),
        (filters(label=["x=z"]), False),
        (filters(dangling=["true"]), True),
        (filters(dangling=["false"]), False),
        (filters(label=["x"], dangling=["false"]), False),
    ):
        assert (volume in _names(engine, query)) is found, query
    engine.docker("create", "--name", name, "-v", f"{volume}:/v", busybox, check=True)
    assert volume in _names(engine, filters(dangling=["false"]))
    assert volume not in _names(engine, filters(dangling=["true"]))


@pytest.mark.claim("GET /volumes", "POST /volumes/prune", "rule-filters-unknown")
@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("GET", f"/volumes?{filters(bogus=['a'])}", "Invalid filter 'bogus'"),
        ("GET", f"/volumes?{filters(dangling=['a'])}", "Invalid filter 'dangling=[a]'"),
        ("POST", f"/volumes/prune?{filters(bogus=['a'])}", "Invalid filter 'bogus'"),
    ],
    ids=["list", "dangling", "prune"],
)
def test_filters_that_volumes_do_not_have(engine: Engine, method: str, path: str, words: str) -> None:
    reply = engine.request(method, path)
    assert (reply.status, message(reply)) == (400, words)


@pytest.mark.claim("DELETE /volumes/{name}", "rule-volume-remove")
def test_remove_takes_the_data(engine: Engine, volume: str) -> None:
    folder = post(engine, "/volumes/create", {"Name": volume}, status=201)["Mountpoint"]
    engine.sandbox.run(["touch", f"{folder}/file"])
    reply = engine.request("DELETE", f"/volumes/{volume}")
    assert (reply.status, reply.body) == (204, b"")
    assert engine.sandbox.run(["ls", f"{engine.data_root}/volumes/{volume}"], check=False).returncode != 0
    gone = engine.request("DELETE", f"/volumes/{volume}")
    assert (gone.status, message(gone)) == (404, f"get {volume}: no such volume")
    assert engine.request("DELETE", f"/volumes/{volume}?force=1").status == 204


@pytest.mark.claim("DELETE /volumes/{name}", "rule-volume-remove")
def test_a_volume_in_use_stays(engine: Engine, busybox: str, volume: str, name: str) -> None:
    made = engine.docker("create", "--name", name, "-v", f"{volume}:/v", busybox, check=True).out.strip()
    for query in ("", "?force=1"):
        reply = engine.request("DELETE", f"/volumes/{volume}{query}")
        assert (reply.status, message(reply)) == (409, f"remove {volume}: volume is in use - [{made}]")
    engine.docker("rm", name, check=True)
    assert engine.request("DELETE", f"/volumes/{volume}").status == 204


@pytest.mark.claim("POST /volumes/prune", "rule-prune")
def test_prune_takes_what_nobody_uses(engine: Engine, busybox: str, volume: str, name: str) -> None:
    """Asked as by a client from before API 1.42: since then it takes anonymous volumes alone unless told."""
    post(engine, "/v1.41/volumes/prune")
    folder = post(engine, "/volumes/create", {"Name": volume}, status=201)["Mountpoint"]
    engine.docker("create", "--name", name, "-v", f"{volume}:/v", busybox, check=True)
    assert post(engine, "/v1.41/volumes/prune")["VolumesDeleted"] in (None, [])
    engine.docker("rm", name, check=True)
    engine.sandbox.run(["dd", "if=/dev/zero", f"of={folder}/file", "bs=1000", "count=5"])
    assert post(engine, "/v1.41/volumes/prune") == {"VolumesDeleted": [volume], "SpaceReclaimed": 5000}
    assert volume not in _names(engine)


@pytest.mark.claim("POST /volumes/prune")
@pytest.mark.parametrize(
    ("query", "stays"),
    [(filters(label=["x=z"]), True), (filters(label=["x=y"]), False), (filters(label_=["x"]), True)],
    ids=["other-label", "label", "label!"],
)
def test_filters_of_prune(engine: Engine, volume: str, query: str, stays: bool) -> None:
    post(engine, "/volumes/create", {"Name": volume, "Labels": {"x": "y"}}, status=201)
    value = post(engine, f"/v1.41/volumes/prune?{query}")
    assert (volume in (value["VolumesDeleted"] or [])) is not stays
    assert (volume in _names(engine)) is stays


@pytest.mark.claim("POST /volumes/create", "GET /volumes", "GET /volumes/{name}", "DELETE /volumes/{name}")
@pytest.mark.requires("docker-cli-28")
def test_docker_volume_commands(engine: Engine, volume: str) -> None:
    assert engine.docker("volume", "create", "--label", "a=b", volume, check=True).out == f"{volume}\n"
    lines = engine.docker("volume", "ls", check=True).out.splitlines()
    assert lines[0].split() == ["DRIVER", "VOLUME", "NAME"] and ["local", volume] in [line.split() for line in lines]
    template = "{{.Name}} {{.Driver}} {{.Labels.a}}"
    assert engine.docker("volume", "inspect", "-f", template, volume, check=True).out == f"{volume} local b\n"
    assert engine.docker("inspect", "-f", "{{.Name}}", volume, check=True).out == f"{volume}\n"
    assert engine.docker("volume", "rm", volume, check=True).out == f"{volume}\n"
    gone = engine.docker("volume", "inspect", volume)
    assert (gone.code, gone.out) == (1, "[]\n")
    assert gone.err.strip().endswith(f"get {volume}: no such volume")
