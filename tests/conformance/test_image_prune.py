"""``image prune``: what has no name, or what nobody uses."""

from __future__ import annotations

import tarfile

import pytest

from tests.support import images
from tests.support.asking import filters, get, image_id, import_image, message, post
from tests.support.engines import Engine

pytestmark = pytest.mark.claim("POST /images/prune", "rule-prune")


def _one(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "one", b"1\n")


def _two(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "two", b"22\n")


def _ids(engine: Engine) -> set[str]:
    return {row["Id"] for row in get(engine, "/images/json")}


def test_only_the_dangling_ones(engine: Engine, repository: str) -> None:
    post(engine, "/images/prune")
    first = import_image(engine, f"{repository}:1", _one)
    layer = get(engine, f"/images/{first}/json")["RootFS"]["Layers"][0]
    second = import_image(engine, f"{repository}:1", _two)
    value = post(engine, "/images/prune")
    assert value == {"ImagesDeleted": [{"Deleted": first}, {"Deleted": layer}], "SpaceReclaimed": 2}
    assert first not in _ids(engine) and second in _ids(engine)
    assert post(engine, "/images/prune") == {"ImagesDeleted": None, "SpaceReclaimed": 0}


def test_all_that_no_container_uses(engine: Engine, busybox: str, repository: str, name: str) -> None:
    wanted = import_image(engine, f"{repository}:1", _one)
    engine.docker("create", "--name", name, busybox, check=True)
    value = post(engine, f"/images/prune?{filters(dangling=['false'])}")
    assert {"Untagged": f"{repository}:1"} in value["ImagesDeleted"] and {"Deleted": wanted} in value["ImagesDeleted"]
    assert image_id(engine, busybox) in _ids(engine) and wanted not in _ids(engine)


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (filters(dangling=["false"], label=["keep"]), "without"),
        (filters(dangling=["false"], label_=["keep"]), "with"),
        (filters(dangling=["false"], until=["1h"]), "both"),
        (filters(dangling=["false"], until=["2001-01-01T00:00:00Z"]), "both"),
    ],
    ids=["label", "label!", "duration", "date"],
)
def test_filters_of_prune(engine: Engine, repository: str, query: str, left: str) -> None:
    names = {"with": f"{repository}:with", "without": f"{repository}:without"}
    import_image(engine, names["with"], _one, "LABEL keep=me")
    import_image(engine, names["without"], _two)
    post(engine, f"/images/prune?{query}")
    found = {tag for row in get(engine, "/images/json") for tag in row["RepoTags"] or ()}
    assert found & set(names.values()) == (set(names.values()) if left == "both" else {names[left]})


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        (filters(bogus=["a"]), 400, "Invalid filter 'bogus'"),
        (filters(dangling=["bogus"]), 400, "Invalid filter 'dangling=[bogus]'"),
        (filters(until=["bogus"]), (400, 500), 'failed to parse value as time or duration: "bogus"'),
    ],
    ids=["key", "dangling", "until"],
)
def test_filters_that_prune_does_not_have(engine: Engine, query: str, status: int, words: str) -> None:
    reply = engine.request("POST", f"/images/prune?{query}")
    assert message(reply) == words
    assert reply.status in (status if isinstance(status, tuple) else (status,))


@pytest.mark.requires("docker-cli-28")
def test_docker_image_prune(engine: Engine, repository: str) -> None:
    post(engine, "/images/prune")
    first = import_image(engine, f"{repository}:1", _one)
    import_image(engine, f"{repository}:1", _two)
    lines = engine.docker("image", "prune", "-f", check=True).out.splitlines()
    assert lines[0] == "Deleted Images:" and lines[1] == f"deleted: {first}"
    assert lines[-1] == "Total reclaimed space: 2B"
