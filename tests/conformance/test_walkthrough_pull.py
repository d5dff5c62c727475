"""The document's first walkthrough: docker pull, step by step, with the stock client and with Pyker's own."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import pytest

from tests.conformance.conftest import Client, Shelf
from tests.support import images
from tests.support.compare import Alike
from tests.support.engines import Engine
from tests.support.recorder import Recorder

LAYERS_OF = {"overlay2": "overlay2", "vfs": "vfs/dir", "btrfs": "btrfs/subvolumes"}
"""Where each graphdriver keeps the files of layers, below the data root."""


def _graphdriver(engine: Engine) -> str:
    value = engine.request("GET", "/info").json()
    assert isinstance(value, dict)
    return str(value["Driver"])


def _layers(tag: str) -> dict[str, object]:
    def second(tar: tarfile.TarFile) -> None:
        images.add_file(tar, "srv/second", b"2\n" + tag.encode())

    def third(tar: tarfile.TarFile) -> None:
        images.add_file(tar, "srv/third", b"3\n")
        images.add_file(tar, "srv/.wh.second")

    return {"layers": (images.busybox_layer, second, third), "label": tag}


@pytest.mark.claim(
    "pull-from-line",
    "pull-complete",
    "pull-already-exists",
    "pull-digest",
    "pull-status",
    "pull-full-name",
    "shape-pull",
    "POST /images/create",
    "rule-pull",
)
def test_pull_shows_the_documents_lines(engine: Engine, shelf: Shelf, cli: Client) -> None:
    reference = shelf.add(f"walk/pull-{cli.name}:1", **_layers(f"lines-{cli.name}"))
    done = cli("pull", reference)
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert lines[0] == f"1: Pulling from walk/pull-{cli.name}"
    fresh = [line for line in lines if line.endswith(": Pull complete")]
    known = [line for line in lines if line.endswith(": Already exists")]
    assert len(fresh) + len(known) == 3, lines
    assert re.fullmatch(r"Digest: sha256:[0-9a-f]{64}", lines[-3])
    assert lines[-2] == f"Status: Downloaded newer image for {reference}"
    assert lines[-1] == reference


@pytest.mark.claim(
    "pull-step-post", "pull-step-url", "pull-step-router", "POST /images/create", "summary-router-judges-method"
)
def test_pull_is_one_post_to_images_create(engine: Engine, shelf: Shelf, cli: Client, recorder: Recorder) -> None:
    reference = shelf.add(f"walk/post-{cli.name}:1", label=f"post-{cli.name}")
    done = cli("pull", reference, host=recorder.host)
    assert done.code == 0, done
    asked = [e for e in recorder.exchanges if e.path != "/_ping"]
    assert [(e.method, e.path, e.status) for e in asked] == [("POST", "/images/create", 200)]
    assert "fromImage=" in asked[0].query and "tag=1" in asked[0].query


@pytest.mark.claim("pull-status", "graph-reuses", "shape-pull")
def test_second_pull_is_up_to_date(alike: Alike, cli: Client) -> None:
    busybox = alike.pulled()
    lines = alike("pull", busybox, cli=cli.argv).out.splitlines()
    assert len(lines) == 4, lines
    assert lines[2] == f"Status: Image is up to date for {busybox}"


@pytest.mark.claim("pull-already-exists", "graph-reuses", "graph-layer-by-layer")
def test_layers_that_are_here_are_not_fetched_again(engine: Engine, shelf: Shelf, busybox: str) -> None:
    def top(tar: tarfile.TarFile) -> None:
        images.add_file(tar, "srv/top", b"top\n")

    reference = shelf.add("walk/shared:1", layers=(images.busybox_layer, top), label="shared")
    lines = engine.docker("pull", reference, check=True).out.splitlines()
    assert sum(line.endswith("Already exists") for line in lines) == 1
    assert sum(line.endswith("Pull complete") for line in lines) == 1


@pytest.mark.claim("rule-image-id", "disk-imagedb")
def test_image_id_is_the_digest_of_its_config(engine: Engine, shelf: Shelf) -> None:
    reference = shelf.add("walk/id:1", label="id")
    engine.docker("pull", reference, check=True)
    value = engine.request("GET", f"/images/{reference}/json").json()
    assert isinstance(value, dict)
    raw = shelf.registry.sandbox.run(
        ["skopeo", "--insecure-policy", "inspect", "--raw", "--config", "--tls-verify=false", f"docker://{reference}"]
    ).stdout
    assert value["Id"] == images.digest(raw)


@pytest.mark.claim(
    "graph-imagedb",
    "graph-layerdb",
    "graph-record-size",
    "graph-record-rootfs",
    "disk-imagedb",
    "disk-layerdb",
    "disk-overlay2",
    "disk-repositories",
    "pull-step-driver",
    "graphdriver-stores",
)
def test_the_store_has_the_documents_shape(engine: Engine, busybox: str) -> None:
    value = engine.request("GET", f"/images/{busybox}/json").json()
    assert isinstance(value, dict)
    driver = _graphdriver(engine)
    image = engine.data_root / "image" / driver
    hexid = value["Id"].removeprefix("sha256:")
    assert (image / "imagedb" / "content" / "sha256" / hexid).is_file()
    chain = value["RootFS"]["Layers"][0].removeprefix("sha256:")
    layer = image / "layerdb" / "sha256" / chain
    assert {"diff", "cache-id", "size", "tar-split.json.gz"} <= {entry.name for entry in layer.iterdir()}
    assert (image / "repositories.json").is_file()
    files = engine.data_root / LAYERS_OF[driver] / (layer / "cache-id").read_text()
    if driver != "overlay2":
        assert (files / "bin" / "busybox").is_file()
        return
    assert (files / "diff" / "bin" / "busybox").is_file()
    link = (files / "link").read_text()
    assert (engine.data_root / "overlay2" / "l" / link).resolve() == (files / "diff").resolve()


@pytest.mark.claim("graph-layer-order", "graph-layers", "graphdriver-gives-rootfs", "registry-unpack")
def test_whiteouts_hide_files_of_lower_layers(alike: Alike) -> None:
    reference = alike.pulled(alike.add("walk/white:1", **_layers("white")))
    done = alike("run", "--rm", "--name", alike.name, reference, "ls", "/srv")
    assert done.out == "third\n", done


@pytest.mark.claim("rule-image-references", "POST /images/create", "graph-versions")
def test_pull_by_digest(alike: Alike, engine: Engine) -> None:
    value = engine.request("GET", f"/images/{alike.pulled()}/json").json()
    assert isinstance(value, dict)
    # What other tests pushed has the same digest in other repositories.
    reference = next(each for each in value["RepoDigests"] if "/test/busybox@" in each)
    done = alike("pull", reference)
    assert done.code == 0, done
    digest = reference.partition("@")[2]
    assert done.out.splitlines()[0] == f"{reference}: Pulling from test/busybox"
    assert f"Digest: {digest}\n" in done.out


@pytest.mark.claim("registry-errors", "rule-pull")
def test_unknown_tag_is_a_404_with_the_registrys_words(alike: Alike, shelf: Shelf) -> None:
    reference = f"{shelf.registry.address}/walk/nothing:1"
    done = alike("pull", reference)
    assert done.code == 1
    assert done.err.strip() == (
        f"Error response from daemon: manifest for {reference} not found: manifest unknown: manifest unknown"
    )


def _refusal(engine: Engine, query: str) -> tuple[int, str]:
    """What is said of a pull that never begins."""
    reply = engine.request("POST", f"/v1.41/images/create?{query}")
    value = reply.json()
    assert isinstance(value, dict)
    return reply.status, value["message"]


@pytest.mark.claim("registry-reference-grammar", "POST /images/create")
def test_bad_reference_is_refused(alike: Alike) -> None:
    # Since 25 the name stands in brackets after the words.
    said = alike.agree(lambda engine: re.sub(r" \([^)]*\)", "", str(_refusal(engine, "fromImage=library/UPPER&tag=1"))))
    assert said == "(400, 'invalid reference format: repository name must be lowercase')"


@pytest.mark.claim("registry-errors", "POST /images/create")
def test_registry_that_does_not_answer(alike: Alike) -> None:
    status, said = alike.agree(lambda engine: _refusal(engine, "fromImage=127.0.0.1:1/x/y&tag=1"))
    assert status == 500 and "connection refused" in said


@pytest.mark.claim(
    "registry-push", "POST /images/{name}/push", "rule-push", "shape-push", "registry-push-again", "break-images"
)
def test_pushed_image_keeps_its_layers(engine: Engine, shelf: Shelf) -> None:
    source = shelf.add("walk/source:1", **_layers("push"))
    engine.docker("pull", source, check=True)
    target = f"{shelf.registry.address}/walk/target:1"
    engine.docker("tag", source, target, check=True)
    done = engine.docker("push", target)
    assert done.code == 0, done
    assert done.out.splitlines()[0] == f"The push refers to repository [{target.rpartition(':')[0]}]"
    assert re.search(r"^1: digest: sha256:[0-9a-f]{64} size: \d+$", done.out, re.M), done.out
    engine.docker("rmi", source, target, check=True)
    engine.docker("pull", target, check=True)
    assert engine.docker("run", "--rm", target, "cat", "/srv/third", check=True).out == "3\n"
    again = engine.docker("push", target, check=True)
    assert again.out.count("Layer already exists") == 3


@pytest.mark.claim("DELETE /images/{name}", "rule-image-delete", "shape-rmi")
def test_rmi_says_what_it_untagged_and_deleted(alike: Alike, engine: Engine) -> None:
    reference = alike.pulled(alike.add("walk/rmi:1", **_layers("rmi")))
    done = alike("rmi", reference)
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert lines[0] == f"Untagged: {reference}"
    assert re.fullmatch(r"Untagged: .*/walk/rmi@sha256:[0-9a-f]{64}", lines[1])
    assert all(re.fullmatch(r"Deleted: sha256:[0-9a-f]{64}", line) for line in lines[2:])
    assert engine.request("GET", f"/images/{reference}/json").status == 404


@pytest.mark.claim("DELETE /images/{name}", "rule-image-delete", "graphdriver-stores")
def test_rmi_frees_the_layers_on_disk(engine: Engine, shelf: Shelf, tmp_path: Path) -> None:
    reference = shelf.add(
        "walk/free:1", layers=(lambda tar: images.add_file(tar, "only-here", b"x" * 100),), label="free"
    )
    driver = engine.data_root / LAYERS_OF[_graphdriver(engine)]
    before = {entry.name for entry in driver.iterdir()}
    engine.docker("pull", reference, check=True)
    assert {entry.name for entry in driver.iterdir()} != before
    engine.docker("rmi", reference, check=True)
    assert {entry.name for entry in driver.iterdir()} == before


@pytest.mark.claim("POST /images/{name}/tag", "rule-tag", "graph-versions", "GET /images/json")
def test_tag_and_images(engine: Engine, busybox: str) -> None:
    engine.docker("tag", busybox, "walk-tagged:x", check=True)
    try:
        listed = engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}", check=True).out.splitlines()
        assert "walk-tagged:x" in listed and busybox in listed
    finally:
        engine.docker("rmi", "walk-tagged:x", check=True)


@pytest.mark.claim("DELETE /images/{name}", "rule-image-delete")
@pytest.mark.requires("docker-cli-28")
def test_rmi_of_unknown_image(alike: Alike) -> None:
    done = alike("rmi", "nosuch")
    assert (done.code, done.err.strip()) == (1, "Error response from daemon: No such image: nosuch:latest")
