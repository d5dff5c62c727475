"""``save`` and ``load``: an image as a tar, out of one engine and into another."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import Shelf
from tests.support import images
from tests.support.asking import content, files_of, get, image_id, import_image, message, records
from tests.support.engines import Engine

pytestmark = pytest.mark.claim("rule-load-save")


def _lower(tar: tarfile.TarFile) -> None:
    images.add_dir(tar, "srv", 0o2750, uid=33, gid=33)
    images.add_file(tar, "srv/setuid", b"s\n", 0o4755)
    images.add_file(tar, "srv/" + "n" * 180, b"long\n")
    images.add_file(tar, "srv/linked", b"l\n")
    images.add_link(tar, "srv/hard", "srv/linked", hard=True)
    images.add_device(tar, "srv/null", 1, 3)


def _upper(tar: tarfile.TarFile) -> None:
    images.add_dir(tar, "srv", 0o2750, uid=33, gid=33)
    images.add_file(tar, "srv/.wh.hard")
    images.add_file(tar, "srv/top", b"top\n")


@pytest.fixture
def two_layers(engine: Engine, shelf: Shelf) -> Iterator[str]:
    """An image with what is easily lost: a set-user-ID bit, a hard link, a device, a whiteout, a long name."""
    reference = shelf.add("archive/two:1", layers=(_lower, _upper), label="archive-two")
    engine.docker("pull", "-q", reference, check=True)
    yield reference
    engine.request("DELETE", f"/images/{reference}?force=1")


def _save(engine: Engine, *references: str) -> bytes:
    query = "&".join(f"names={reference}" for reference in references)
    reply = engine.request("GET", f"/images/get?{query}")
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == "application/x-tar"
    return reply.body


def _manifest(archive: bytes) -> list[dict[str, Any]]:
    value = json.loads(content(archive, "manifest.json"))
    assert isinstance(value, list)
    return value


def _load(engine: Engine, archive: bytes, query: str = "?quiet=1") -> list[dict[str, Any]]:
    reply = engine.request("POST", f"/images/load{query}", archive, headers={"Content-Type": "application/x-tar"})
    assert reply.status == 200, reply
    return records(reply)


@pytest.mark.claim("GET /images/get")
def test_the_archive_holds_config_and_layers_as_they_were(engine: Engine, two_layers: str) -> None:
    archive = _save(engine, two_layers)
    (entry,) = _manifest(archive)
    assert entry["RepoTags"] == [two_layers]
    assert images.digest(content(archive, entry["Config"])) == image_id(engine, two_layers)
    diff_ids = get(engine, f"/images/{two_layers}/json")["RootFS"]["Layers"]
    assert [images.digest(content(archive, layer)) for layer in entry["Layers"]] == diff_ids
    assert diff_ids == [images.digest(images.tar_of(layer)) for layer in (_lower, _upper)]


@pytest.mark.claim("GET /images/get")
def test_the_same_images_make_the_same_archive(engine: Engine, two_layers: str) -> None:
    assert _save(engine, two_layers) == _save(engine, two_layers)


@pytest.mark.claim("GET /images/get")
def test_several_names_share_one_entry(engine: Engine, two_layers: str, repository: str) -> None:
    engine.docker("tag", two_layers, f"{repository}:1", check=True)
    archive = _save(engine, two_layers, f"{repository}:1")
    (entry,) = _manifest(archive)
    assert sorted(entry["RepoTags"]) == sorted([two_layers, f"{repository}:1"])
    repositories = json.loads(content(archive, "repositories"))
    assert set(repositories) == {two_layers.rpartition(":")[0], repository}


@pytest.mark.claim("GET /images/get")
def test_several_images_share_their_layers(engine: Engine, shelf: Shelf, two_layers: str) -> None:
    other = shelf.add("archive/one:1", layers=(_lower,), label="archive-one")
    engine.docker("pull", "-q", other, check=True)
    archive = _save(engine, two_layers, other)
    entries = {entry["RepoTags"][0]: entry for entry in _manifest(archive)}
    assert set(entries) == {two_layers, other}
    entry = files_of(archive)
    bottom = [entry[entries[name]["Layers"][0]] for name in (two_layers, other)]
    # The second one is the same file, or a link to it.
    assert sum(member.size > 0 for member in {member.name: member for member in bottom}.values()) == 1
    engine.docker("rmi", other, check=True)


@pytest.mark.claim("GET /images/{name}/get")
def test_one_image_by_path(engine: Engine, two_layers: str) -> None:
    reply = engine.request("GET", f"/images/{two_layers}/get")
    assert reply.status == 200 and reply.headers["content-type"] == "application/x-tar"
    assert reply.body == _save(engine, two_layers)


@pytest.mark.claim("GET /images/{name}/get", "shape-load")
def test_by_id_it_has_no_name(engine: Engine, two_layers: str) -> None:
    wanted = image_id(engine, two_layers)
    archive = engine.request("GET", f"/images/{wanted}/get").body
    assert [entry["RepoTags"] for entry in _manifest(archive)] == [None]
    assert "repositories" not in files_of(archive)
    engine.docker("rmi", two_layers, check=True)
    assert _load(engine, archive) == [{"stream": f"Loaded image ID: {wanted}\n"}]
    assert get(engine, f"/images/{wanted}/json")["RepoTags"] == []
    engine.docker("rmi", wanted, check=True)


@pytest.mark.claim("GET /images/get", "GET /images/{name}/get")
@pytest.mark.parametrize("path", ["/images/get?names=nosuch", "/images/nosuch/get"])
def test_save_of_an_unknown_image(engine: Engine, path: str) -> None:
    reply = engine.request("GET", path)
    assert reply.status == 404 and message(reply).startswith("No such image: nosuch")


@pytest.mark.claim("POST /images/load", "GET /images/get")
def test_what_was_saved_loads_and_runs(engine: Engine, shelf: Shelf, name: str) -> None:
    reference = shelf.add("archive/run:1", layers=(images.busybox_layer, _lower, _upper), label="archive-run")
    engine.docker("pull", "-q", reference, check=True)
    before = get(engine, f"/images/{reference}/json")
    archive = _save(engine, reference)
    engine.docker("rmi", reference, check=True)
    assert _load(engine, archive) == [{"stream": f"Loaded image: {reference}\n"}]
    after = get(engine, f"/images/{reference}/json")
    for field in ("Id", "Config", "RootFS", "Created", "Size"):
        assert after[field] == before[field], field
    script = "stat -c '%a %u %g %F' /srv/setuid /srv/null /srv; cat /srv/top; ls /srv | wc -l"
    done = engine.docker("run", "--rm", "--network", "none", "--name", name, reference, "sh", "-c", script, check=True)
    assert done.out.splitlines() == [
        "4755 0 0 regular file",
        "600 0 0 character special file",
        "2750 33 33 directory",
        "top",
        "5",
    ]
    engine.docker("rmi", reference, check=True)


@pytest.mark.claim("POST /images/load")
@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, bz2.compress, lzma.compress], ids=["tar", "gz", "bz2", "xz"]
)
def test_load_of_each_compression(engine: Engine, repository: str, compress: Callable[[bytes], bytes]) -> None:
    wanted = import_image(engine, f"{repository}:1", _upper)
    archive = _save(engine, f"{repository}:1")
    engine.docker("rmi", f"{repository}:1", check=True)
    assert _load(engine, compress(archive)) == [{"stream": f"Loaded image: {repository}:1\n"}]
    assert image_id(engine, f"{repository}:1") == wanted


@pytest.mark.claim("POST /images/load")
def test_load_without_quiet_shows_each_new_layer(engine: Engine, repository: str) -> None:
    import_image(engine, f"{repository}:1", _upper)
    layer = get(engine, f"/images/{repository}:1/json")["RootFS"]["Layers"][0]
    archive = _save(engine, f"{repository}:1")
    engine.docker("rmi", f"{repository}:1", check=True)
    told = _load(engine, archive, "?quiet=0")
    shown = [record for record in told if record.get("status") == "Loading layer"]
    assert {record["id"] for record in shown} == {layer[7:19]}
    final = shown[-1]["progressDetail"]
    assert final["current"] == final["total"] > 0
    assert told[-1] == {"stream": f"Loaded image: {repository}:1\n"}


@pytest.mark.claim("POST /images/load")
def test_a_name_moves_to_what_is_loaded(engine: Engine, repository: str) -> None:
    first = import_image(engine, f"{repository}:1", _lower)
    archive = _save(engine, f"{repository}:1")
    second = import_image(engine, f"{repository}:1", _upper)
    told = _load(engine, archive)
    assert image_id(engine, f"{repository}:1") == first
    assert told[-1] == {"stream": f"Loaded image: {repository}:1\n"}
    moved = f"The image {repository}:1 already exists, renaming the old one with ID {second} to empty string\n"
    assert {"stream": moved} in told
    engine.docker("rmi", second, check=True)


@pytest.mark.claim("POST /images/load")
@pytest.mark.parametrize("body", [b"garbage" * 100, b"", b"\0" * 1024], ids=["noise", "nothing", "empty-tar"])
def test_load_of_what_is_no_archive(engine: Engine, body: bytes) -> None:
    before = {row["Id"] for row in get(engine, "/images/json")}
    told = _load(engine, body)
    assert told and told[-1]["error"] == told[-1]["errorDetail"]["message"] != ""
    assert {row["Id"] for row in get(engine, "/images/json")} == before


@pytest.mark.claim("POST /images/load")
def test_load_of_an_archive_with_a_layer_that_is_not_the_right_one(engine: Engine, repository: str) -> None:
    wanted = import_image(engine, f"{repository}:1", _upper)
    archive = _save(engine, f"{repository}:1")
    (entry,) = _manifest(archive)
    engine.docker("rmi", f"{repository}:1", check=True)
    other = images.tar_of(_lower)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        images.add_file(tar, "config.json", content(archive, entry["Config"]))
        images.add_file(tar, "layer.tar", other)
        manifest = [{"Config": "config.json", "RepoTags": [f"{repository}:1"], "Layers": ["layer.tar"]}]
        images.add_file(tar, "manifest.json", json.dumps(manifest).encode())
    told = _load(engine, buffer.getvalue())
    assert "invalid diffID for layer 0" in told[-1]["error"], told
    assert engine.request("GET", f"/images/{wanted}/json").status == 404


@pytest.mark.claim("GET /images/get", "POST /images/load", "shape-load")
@pytest.mark.requires("docker-cli-28")
def test_docker_save_and_docker_load(engine: Engine, repository: str, tmp_path: Path) -> None:
    import_image(engine, f"{repository}:1", _upper)
    file = tmp_path / "saved.tar"
    engine.docker("save", "-o", str(file), f"{repository}:1", check=True)
    engine.docker("rmi", f"{repository}:1", check=True)
    assert engine.docker("load", "-i", str(file), check=True).out == f"Loaded image: {repository}:1\n"
    assert engine.docker("load", input=file.read_bytes(), check=True).out == f"Loaded image: {repository}:1\n"


@pytest.mark.claim("GET /images/get")
def test_skopeo_reads_what_save_wrote(engine: Engine, two_layers: str, tmp_path: Path) -> None:
    file = tmp_path / "saved.tar"
    file.write_bytes(_save(engine, two_layers))
    raw = engine.sandbox.run(["skopeo", "inspect", "--raw", "--config", f"docker-archive:{file}"]).stdout
    assert images.digest(raw) == image_id(engine, two_layers)


@pytest.mark.claim("POST /images/load")
def test_load_reads_what_skopeo_wrote(engine: Engine, shelf: Shelf, repository: str, tmp_path: Path) -> None:
    layout = images.make(tmp_path / "layout", layers=(_lower, _upper), label=repository)
    file = tmp_path / "archive.tar"
    engine.sandbox.run(
        ["skopeo", "--insecure-policy", "copy", "-q", f"oci:{layout}:latest", f"docker-archive:{file}:{repository}:1"]
    )
    assert _load(engine, file.read_bytes()) == [{"stream": f"Loaded image: {repository}:1\n"}]
    diff_ids = get(engine, f"/images/{repository}:1/json")["RootFS"]["Layers"]
    assert diff_ids == [images.digest(images.tar_of(layer)) for layer in (_lower, _upper)]
