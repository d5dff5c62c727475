"""``rmi``: names go first, then what nobody needs; and what stands in its way."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable

import pytest

from tests.conformance.conftest import Shelf
from tests.support import images
from tests.support.asking import get, image_id, import_image, message
from tests.support.engines import Engine, Reply

pytestmark = pytest.mark.claim("DELETE /images/{name}", "rule-image-delete")


def _one(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "one", b"1\n")


def _remove(engine: Engine, name: str, query: str = "") -> Reply:
    return engine.request("DELETE", f"/images/{name}{query}")


def test_the_last_name_takes_the_image_with_it(engine: Engine, repository: str) -> None:
    wanted = import_image(engine, f"{repository}:1", _one)
    layer = get(engine, f"/images/{wanted}/json")["RootFS"]["Layers"][0]
    reply = _remove(engine, f"{repository}:1")
    assert reply.status == 200
    assert reply.json() == [{"Untagged": f"{repository}:1"}, {"Deleted": wanted}, {"Deleted": layer}]
    assert _remove(engine, wanted).status == 404


def test_a_name_of_several_is_only_untagged(engine: Engine, repository: str) -> None:
    wanted = import_image(engine, f"{repository}:1", _one)
    engine.docker("tag", wanted, f"{repository}:2", check=True)
    assert _remove(engine, f"{repository}:2").json() == [{"Untagged": f"{repository}:2"}]
    assert image_id(engine, f"{repository}:1") == wanted


def test_by_id_with_one_name(engine: Engine, repository: str) -> None:
    wanted = import_image(engine, f"{repository}:1", _one)
    value = _remove(engine, wanted[7:19]).json()
    assert isinstance(value, list)
    assert value[:2] == [{"Untagged": f"{repository}:1"}, {"Deleted": wanted}]


@pytest.mark.claim("rule-image-conflict")
@pytest.mark.parametrize("other", ["{}:2", "{}-b:1"], ids=["same-repository", "another"])
def test_by_id_with_several_names(engine: Engine, repository: str, other: str) -> None:
    wanted = import_image(engine, f"{repository}:1", _one)
    other = other.format(repository)
    engine.docker("tag", wanted, other, check=True)
    short = wanted[7:19]
    reply = _remove(engine, short)
    assert reply.status == 409
    assert message(reply) == (
        f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    )
    assert image_id(engine, other) == wanted
    forced = _remove(engine, short, "?force=1")
    assert forced.status == 200
    value = json.loads(forced.body)
    assert {row["Untagged"] for row in value if "Untagged" in row} == {f"{repository}:1", other}
    assert {"Deleted": wanted} in value


def test_a_digest_goes_with_the_last_tag_of_its_repository(engine: Engine, shelf: Shelf) -> None:
    reference = shelf.add("remove/digest:1", layers=(_one,), label="remove-digest")
    engine.docker("pull", "-q", reference, check=True)
    digest = get(engine, f"/images/{reference}/json")["RepoDigests"][0]
    wanted = image_id(engine, reference)
    value = _remove(engine, reference).json()
    assert isinstance(value, list)
    assert value[:3] == [{"Untagged": reference}, {"Untagged": digest}, {"Deleted": wanted}]


@pytest.mark.claim("rule-image-conflict")
def test_a_stopped_containers_image_must_be_forced(engine: Engine, shelf: Shelf, names: Callable[[], str]) -> None:
    reference = shelf.add("remove/stopped:1", label="remove-stopped")
    engine.docker("pull", "-q", reference, check=True)
    container = names()
    identity = engine.docker("create", "--name", container, reference, check=True).out.strip()
    wanted = image_id(engine, reference)
    reply = _remove(engine, reference)
    assert reply.status == 409
    assert message(reply) == (
        f'conflict: unable to remove repository reference "{reference}" (must force) - container {identity[:12]} '
        f"is using its referenced image {wanted[7:19]}"
    )
    by_id = _remove(engine, wanted[7:19])
    assert by_id.status == 409
    assert message(by_id) == (
        f"conflict: unable to delete {wanted[7:19]} (must be forced) - image is being used by stopped container "
        f"{identity[:12]}"
    )
    # By force the name goes; the layers stay as long as the container stands on them.
    forced = _remove(engine, reference, "?force=1")
    assert forced.status == 200 and {"Untagged": reference} in json.loads(forced.body)
    assert engine.docker("start", "-a", container).code == 0


@pytest.mark.claim("rule-image-conflict")
def test_a_running_containers_image_stays(engine: Engine, shelf: Shelf, name: str) -> None:
    reference = shelf.add("remove/running:1", label="remove-running")
    engine.docker("run", "-d", "--name", name, reference, "sleep", "600", check=True)
    identity = str(engine.inspect(name)["Id"])
    wanted = image_id(engine, reference)
    for query in ("", "?force=1"):
        reply = _remove(engine, wanted[7:19], query)
        assert reply.status == 409
        assert message(reply) == (
            f"conflict: unable to delete {wanted[7:19]} (cannot be forced) - image is being used by running container "
            f"{identity[:12]}"
        )
    assert image_id(engine, reference) == wanted


def test_what_is_not_there(engine: Engine) -> None:
    reply = _remove(engine, "nosuch")
    assert (reply.status, message(reply)) == (404, "No such image: nosuch:latest")
    unknown = "sha256:" + "1" * 64
    reply = _remove(engine, unknown)
    assert (reply.status, message(reply)) == (404, f"No such image: {unknown}")
    reply = _remove(engine, "UPPER")
    assert reply.status == 400 and "must be lowercase" in message(reply)


@pytest.mark.requires("docker-cli-28")
def test_docker_rmi_of_several(engine: Engine, repository: str) -> None:
    """One that is not there doesn't keep the others."""
    import_image(engine, f"{repository}:1", _one)
    done = engine.docker("rmi", "nosuch", f"{repository}:1")
    assert done.code == 1
    assert re.match(rf"Untagged: {repository}:1\nDeleted: sha256:", done.out)
    assert done.err.strip() == "Error response from daemon: No such image: nosuch:latest"


def test_layers_that_another_image_has_stay(engine: Engine, shelf: Shelf, name: str) -> None:
    def top(tar: tarfile.TarFile) -> None:
        images.add_file(tar, "srv/top", b"top\n")

    lower = shelf.add("remove/lower:1", label="remove-lower")
    upper = shelf.add("remove/upper:1", layers=(images.busybox_layer, top), label="remove-upper")
    engine.docker("pull", "-q", lower, check=True)
    engine.docker("pull", "-q", upper, check=True)
    base = get(engine, f"/images/{lower}/json")["RootFS"]["Layers"][0]
    gone = json.loads(_remove(engine, lower).body)
    assert {"Deleted": base} not in gone
    assert engine.docker("run", "--rm", "--name", name, upper, "cat", "/srv/top", check=True).out == "top\n"
    engine.docker("rmi", upper, check=True)
