"""Images as list, inspect and history show them, and what the list can be asked for."""

from __future__ import annotations

import re
import tarfile
from datetime import datetime
from typing import Any

import pytest

from tests.conformance.conftest import Shelf
from tests.support import images
from tests.support.asking import filters, get, image_id, import_image, message
from tests.support.engines import Engine


def _one(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "srv/one", b"1\n")


def _two(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "srv/two", b"22\n")


def _row(engine: Engine, reference: str, query: str = "") -> dict[str, Any]:
    return next(row for row in get(engine, f"/images/json{query}") if reference in (row["RepoTags"] or ()))


def _tags(engine: Engine, query: str) -> set[str]:
    return {tag for row in get(engine, f"/images/json?{query}") for tag in row["RepoTags"] or ()}


@pytest.mark.claim("GET /images/json", "rule-image-list")
def test_a_row_of_the_list(engine: Engine, busybox: str) -> None:
    row = _row(engine, busybox)
    assert {
        "Id",
        "ParentId",
        "RepoTags",
        "RepoDigests",
        "Created",
        "Size",
        "SharedSize",
        "Labels",
        "Containers",
    } <= set(row)
    assert row["Id"] == image_id(engine, busybox)
    assert isinstance(row["Created"], int) and row["Created"] == images.EPOCH
    assert (row["SharedSize"], row["Containers"], row["ParentId"]) == (-1, -1, "")
    assert row["Labels"] == {"test": "busybox"}
    assert re.fullmatch(r".*/test/busybox@sha256:[0-9a-f]{64}", row["RepoDigests"][0])


@pytest.mark.claim("GET /images/json", "rule-image-list")
def test_an_image_without_labels_or_digest(engine: Engine, repository: str) -> None:
    import_image(engine, f"{repository}:1", _one)
    row = _row(engine, f"{repository}:1")
    assert row["Labels"] is None
    assert row["RepoDigests"] == [f"{repository}@<none>"] or not row["RepoDigests"]


@pytest.mark.claim("GET /images/json")
def test_every_name_of_an_image_is_in_one_row(engine: Engine, repository: str) -> None:
    import_image(engine, f"{repository}:1", _one)
    for tag in ("2", "3"):
        engine.docker("tag", f"{repository}:1", f"{repository}:{tag}", check=True)
    assert set(_row(engine, f"{repository}:1")["RepoTags"]) == {f"{repository}:{tag}" for tag in "123"}
    listed = engine.docker("images", repository, "--format", "{{.Tag}} {{.ID}}", check=True).out.split()
    assert set(listed[::2]) == {"1", "2", "3"} and len(set(listed[1::2])) == 1


@pytest.mark.claim("GET /images/json", "rule-image-list")
def test_an_image_that_lost_its_name_is_dangling(engine: Engine, repository: str) -> None:
    first = import_image(engine, f"{repository}:1", _one)
    import_image(engine, f"{repository}:1", _two)
    try:
        row = next(row for row in get(engine, f"/images/json?{filters(dangling=['true'])}") if row["Id"] == first)
        assert row["RepoTags"] in (["<none>:<none>"], [])
        assert first not in [row["Id"] for row in get(engine, f"/images/json?{filters(dangling=['false'])}")]
        out = engine.docker("images", "-f", "dangling=true", "--no-trunc", check=True).out
        assert re.search(rf"^<none> +<none> +{first} ", out, re.M), out
    finally:
        engine.docker("rmi", first, check=True)


@pytest.mark.claim("GET /images/json", "rule-filters-names")
@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("{0}", True),
        ("{0}:1", True),
        ("{0}:2", False),
        ("own/*", True),
        ("*", False),
        ("{0}:*", True),
        ("own/r*", True),
        ("nosuch", False),
    ],
)
def test_filter_by_reference(engine: Engine, repository: str, pattern: str, found: bool) -> None:
    import_image(engine, f"{repository}:1", _one)
    tags = _tags(engine, filters(reference=[pattern.format(repository)]))
    assert (f"{repository}:1" in tags) is found


@pytest.mark.claim("GET /images/json", "rule-filters-logic")
def test_filters_by_age_and_label(engine: Engine, shelf: Shelf, repository: str) -> None:
    older, newer = f"{repository}:older", f"{repository}:newer"
    import_image(engine, older, _one, "LABEL kind=first")
    import_image(engine, newer, _two, "LABEL kind=second")
    assert newer in _tags(engine, filters(since=[older])) and older not in _tags(engine, filters(since=[older]))
    assert older in _tags(engine, filters(before=[newer])) and newer not in _tags(engine, filters(before=[newer]))
    assert {older, newer} <= _tags(engine, filters(label=["kind"]))
    assert _tags(engine, filters(label=["kind=first"])) == {older}
    assert _tags(engine, filters(label=["kind=first", "kind=second"])) == set()
    unknown = engine.request("GET", f"/images/json?{filters(before=['nosuch'])}")
    assert (unknown.status, message(unknown)) == (404, "No such image: nosuch:latest")


@pytest.mark.claim("GET /images/json", "rule-filters-unknown")
@pytest.mark.parametrize(
    ("query", "words"),
    [(filters(foo=["a"]), "Invalid filter 'foo'"), (filters(dangling=["bogus"]), "Invalid filter 'dangling=[bogus]'")],
)
def test_filters_that_images_do_not_have(engine: Engine, query: str, words: str) -> None:
    reply = engine.request("GET", f"/images/json?{query}")
    assert (reply.status, message(reply)) == (400, words)


@pytest.mark.claim("GET /images/json")
@pytest.mark.requires("docker-cli-28")
def test_docker_images_prints_decimal_sizes_and_short_ids(engine: Engine, busybox: str) -> None:
    lines = engine.docker("images", check=True).out.splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    name, _, tag = busybox.rpartition(":")
    row = next(line.split() for line in lines if line.split()[:2] == [name, tag])
    assert row[2] == image_id(engine, busybox)[7:19]
    assert re.fullmatch(r"[0-9.]+[kM]B", row[-1])
    assert engine.docker("images", "-q", "--no-trunc", name, check=True).out.strip() == image_id(engine, busybox)


@pytest.mark.claim("GET /images/{name}/json", "rule-image-inspect")
def test_inspect_has_every_field(engine: Engine, busybox: str) -> None:
    value = get(engine, f"/v1.41/images/{busybox}/json")
    assert {"Id", "RepoTags", "RepoDigests", "Parent", "Comment", "Created", "Container", "ContainerConfig",
            "DockerVersion", "Author", "Config", "Architecture", "Os", "Size", "VirtualSize", "GraphDriver", "RootFS",
            "Metadata"} <= set(value)  # fmt: skip
    assert "Variant" not in value
    assert value["Created"] == "2023-11-14T22:13:20Z"
    assert (value["Architecture"], value["Os"]) == ("amd64", "linux")
    assert value["Size"] == value["VirtualSize"] > 1_000_000
    assert value["RootFS"]["Type"] == "layers" and len(value["RootFS"]["Layers"]) == 1
    assert value["Config"]["Cmd"] == ["sh"] and value["Config"]["Labels"] == {"test": "busybox"}
    assert value["Config"]["Entrypoint"] is None and value["Config"]["Volumes"] is None
    datetime.fromisoformat(value["Metadata"]["LastTagTime"])


@pytest.mark.claim("GET /images/{name}/json", "rule-image-inspect")
def test_inspect_names_the_folders_of_the_graphdriver(engine: Engine, shelf: Shelf) -> None:
    reference = shelf.add("records/folders:1", layers=(_one, _two), label="folders")
    engine.docker("pull", "-q", reference, check=True)
    driver = get(engine, f"/images/{reference}/json")["GraphDriver"]
    assert driver["Name"] == "overlay2"
    assert set(driver["Data"]) == {"LowerDir", "MergedDir", "UpperDir", "WorkDir"}
    seen = engine.sandbox.run(["cat", f"{driver['Data']['UpperDir']}/srv/two", f"{driver['Data']['LowerDir']}/srv/one"])
    assert seen.stdout == b"22\n1\n"
    engine.docker("rmi", reference, check=True)


@pytest.mark.claim("GET /images/{name}/json", "rule-image-references")
def test_inspect_finds_an_image_by_each_of_its_names(engine: Engine, repository: str) -> None:
    wanted = import_image(engine, f"{repository}:latest", _one)
    digits = wanted.removeprefix("sha256:")
    for name in (
        repository,
        f"{repository}:latest",
        f"docker.io/{repository}",
        wanted,
        digits,
        digits[:12],
        f"sha256:{digits[:12]}",
    ):
        assert image_id(engine, name) == wanted, name
    for name in (f"{repository}:other", "0" * 12, "sha256:" + "0" * 64, "nosuch"):
        reply = engine.request("GET", f"/images/{name}/json")
        assert reply.status == 404 and "No such image: " in message(reply), name


@pytest.mark.claim("GET /images/{name}/json", "rule-image-references")
def test_inspect_by_digest(engine: Engine, busybox: str) -> None:
    digest = get(engine, f"/images/{busybox}/json")["RepoDigests"][0]
    assert image_id(engine, digest) == image_id(engine, busybox)


@pytest.mark.claim("GET /images/{name}/json", "rule-image-id")
def test_the_id_is_the_digest_of_the_file_as_stored(engine: Engine, busybox: str) -> None:
    wanted = image_id(engine, busybox)
    stored = engine.data_root / "image" / "overlay2" / "imagedb" / "content" / "sha256" / wanted.removeprefix("sha256:")
    assert images.digest(stored.read_bytes()) == wanted


@pytest.mark.claim("GET /images/{name}/history", "rule-image-history")
def test_history_newest_first(engine: Engine, shelf: Shelf) -> None:
    reference = shelf.add("records/history:1", layers=(_one, _two), label="history")
    engine.docker("pull", "-q", reference, check=True)
    rows = get(engine, f"/images/{reference}/history")
    assert [set(row) for row in rows] == [{"Id", "Created", "CreatedBy", "Tags", "Size", "Comment"}] * 2
    assert [(row["Id"], row["CreatedBy"], row["Size"]) for row in rows] == [
        (image_id(engine, reference), "layer 1", 3),
        ("<missing>", "layer 0", 2),
    ]
    assert [row["Tags"] for row in rows] == [[reference], None]
    assert {row["Created"] for row in rows} == {images.EPOCH}
    engine.docker("rmi", reference, check=True)


@pytest.mark.claim("GET /images/{name}/history")
@pytest.mark.requires("docker-cli-28")
def test_docker_history(engine: Engine, repository: str) -> None:
    wanted = import_image(engine, f"{repository}:1", _two)
    lines = engine.docker("history", f"{repository}:1", check=True).out.splitlines()
    assert lines[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert lines[1].startswith(wanted[7:19]) and lines[1].rstrip().endswith("3B        Imported from -"), lines
    assert engine.docker("history", "-q", "--no-trunc", f"{repository}:1", check=True).out.strip() == wanted


@pytest.mark.claim("GET /images/{name}/history")
def test_history_of_an_unknown_image(engine: Engine) -> None:
    reply = engine.request("GET", "/images/nosuch/history")
    assert (reply.status, message(reply)) == (404, "No such image: nosuch:latest")
