"""``tag``: one more name for an image, and the names that may not be."""

from __future__ import annotations

import tarfile

import pytest

from tests.support import images
from tests.support.asking import image_id, import_image, message
from tests.support.engines import Engine

pytestmark = pytest.mark.claim("POST /images/{name}/tag", "rule-tag")


def _one(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "one", b"1\n")


def test_tag_answers_201_and_the_name_is_there(engine: Engine, repository: str) -> None:
    wanted = import_image(engine, f"{repository}:1", _one)
    reply = engine.request("POST", f"/images/{repository}:1/tag?repo={repository}&tag=2")
    assert (reply.status, reply.body) == (201, b"")
    assert image_id(engine, f"{repository}:2") == wanted


def test_without_a_tag_it_is_latest(engine: Engine, repository: str) -> None:
    wanted = import_image(engine, f"{repository}:1", _one)
    assert engine.request("POST", f"/images/{wanted}/tag?repo={repository}").status == 201
    assert image_id(engine, f"{repository}:latest") == wanted


def test_the_name_may_hold_the_tag(engine: Engine, repository: str) -> None:
    wanted = import_image(engine, f"{repository}:1", _one)
    assert engine.request("POST", f"/images/{wanted}/tag?repo={repository}:7").status == 201
    assert image_id(engine, f"{repository}:7") == wanted


def test_a_tag_moves(engine: Engine, repository: str) -> None:
    first = import_image(engine, f"{repository}:1", _one)
    second = import_image(engine, f"{repository}:2", lambda tar: images.add_file(tar, "two", b"2\n"))
    engine.docker("tag", f"{repository}:2", f"{repository}:1", check=True)
    assert image_id(engine, f"{repository}:1") == second
    assert image_id(engine, first) == first
    engine.docker("rmi", first, check=True)


def test_short_and_long_names_are_the_same(engine: Engine, repository: str) -> None:
    import_image(engine, f"{repository}:1", _one)
    engine.docker("tag", f"{repository}:1", "docker.io/library/familiar-name:1", check=True)
    try:
        assert "familiar-name:1" in engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}", check=True).out
        assert image_id(engine, "familiar-name:1") == image_id(engine, "docker.io/library/familiar-name:1")
    finally:
        assert engine.docker("rmi", "familiar-name:1", check=True).out == "Untagged: familiar-name:1\n"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("repo=UPPER&tag=1", "must be lowercase"),
        ("repo=good&tag=.bad", "invalid tag format"),
        ("repo=good&tag=" + "x" * 129, "invalid tag format"),
        ("repo=bad//name", "invalid reference format"),
        ("", "invalid reference format"),
        ("repo=" + "a" * 64, "cannot specify 64-byte hexadecimal strings"),
        ("repo=" + "a" * 256, "repository name must not be more than 255 characters"),
        ("repo=sha256&tag=1", "refusing to create an ambiguous tag using digest algorithm as name"),
        ("repo=good@sha256:" + "a" * 64, "refusing to create a tag with a digest reference"),
    ],
    ids=["upper", "tag", "long-tag", "slashes", "nothing", "hex", "long", "algorithm", "digest"],
)
def test_names_that_may_not_be(engine: Engine, busybox: str, query: str, words: str) -> None:
    reply = engine.request("POST", f"/images/{busybox}/tag?{query}")
    # Until API 1.42 a name that cannot be parsed was an error of the server.
    assert reply.status in (400, 500) and words in message(reply), reply


def test_an_image_that_is_not_there(engine: Engine, repository: str) -> None:
    reply = engine.request("POST", f"/images/nosuch/tag?repo={repository}")
    assert (reply.status, message(reply)) == (404, "No such image: nosuch:latest")
