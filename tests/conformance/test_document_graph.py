"""The document's graph: images kept with versions and relations, in layers, and what of them is on the disk."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import Shelf
from tests.support import images
from tests.support.compare import Comparison
from tests.support.engines import Engine


def second(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "srv/second", b"2\n")


def third(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "srv/third", b"3\n")


@pytest.fixture
def layered(engine: Engine, shelf: Shelf) -> Iterator[str]:
    """An image of three layers, pulled."""
    reference = shelf.add("graph/layered:1", layers=(images.busybox_layer, second, third), label="layered")
    engine.docker("pull", "-q", reference, check=True)
    yield reference
    engine.docker("rmi", "-f", reference)


def inspected(engine: Engine, reference: str) -> dict[str, Any]:
    value = engine.request("GET", f"/images/{reference}/json").json()
    assert isinstance(value, dict)
    return value


def store(engine: Engine) -> Path:
    return engine.data_root / "image" / "overlay2"


def chain_ids(diff_ids: list[str]) -> list[str]:
    """Source: OCI image-spec config.md#layer-chainid."""
    chain = [diff_ids[0]]
    for diff_id in diff_ids[1:]:
        chain.append("sha256:" + hashlib.sha256(f"{chain[-1]} {diff_id}".encode()).hexdigest())
    return chain


@pytest.mark.claim("graph-keeps-images", "summary-download-is-kept", "pull-purpose", "overview-graph-stores-download")
def test_what_was_pulled_is_kept_and_used_again(engine: Engine, layered: str, shelf: Shelf) -> None:
    asked = shelf.registry
    listed = engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}", check=True).out.splitlines()
    assert layered in listed and layered.startswith(asked.address)
    first = engine.docker("run", "--rm", "--pull", "never", layered, "cat", "/srv/second", check=True)
    assert first.out == "2\n" and first.err == ""


@pytest.mark.claim("graph-versions", "rule-tag", "graph-notes-relations")
def test_versions_of_one_repository(engine: Engine, shelf: Shelf) -> None:
    made = [shelf.add(f"graph/versions:{tag}", label=f"version {tag}") for tag in ("1", "2")]
    try:
        for reference in made:
            engine.docker("pull", "-q", reference, check=True)
        ids = [inspected(engine, reference)["Id"] for reference in made]
        assert len(set(ids)) == 2
        names = json.loads((store(engine) / "repositories.json").read_text())["Repositories"]
        repository = names[f"{shelf.registry.address}/graph/versions"]
        assert [repository[reference] for reference in made] == ids
    finally:
        engine.docker("rmi", "-f", *made)


@pytest.mark.claim("graph-layers", "graph-layer-order", "graph-layer-by-layer", "rule-image-inspect", "disk-chain-id")
def test_layers_are_in_order_and_named_by_their_chain(engine: Engine, layered: str) -> None:
    layers = inspected(engine, layered)["RootFS"]["Layers"]
    assert len(layers) == 3
    parent = ""
    for diff_id, chain in zip(layers, chain_ids(layers), strict=True):
        folder = store(engine) / "layerdb" / "sha256" / chain.removeprefix("sha256:")
        assert (folder / "diff").read_text() == diff_id
        assert ((folder / "parent").read_text() if parent else (folder / "parent").exists()) == (parent or False)
        parent = chain


@pytest.mark.claim("graph-record-metadata", "graph-record-size", "graph-record-rootfs", "disk-layerdb", "disk-overlay2")
def test_each_layer_has_its_records_and_its_files(engine: Engine, layered: str) -> None:
    layers = inspected(engine, layered)["RootFS"]["Layers"]
    for number, chain in enumerate(chain_ids(layers)):
        folder = store(engine) / "layerdb" / "sha256" / chain.removeprefix("sha256:")
        cache = engine.data_root / "overlay2" / (folder / "cache-id").read_text()
        files = [path for path in (cache / "diff").rglob("*") if path.is_file() and not path.is_symlink()]
        sizes = {path.stat().st_ino: path.stat().st_size for path in files}
        assert int((folder / "size").read_text()) == sum(sizes.values())
        if number:
            assert [path.name for path in files] == [("second", "third")[number - 1]]
            lowers = (cache / "lower").read_text().split(":")
            assert len(lowers) == number and all(lower.startswith("l/") for lower in lowers)
            below = (engine.data_root / "overlay2" / lowers[-1]).resolve()
            assert (below / "bin" / "busybox").is_file()
        split = gzip.decompress((folder / "tar-split.json.gz").read_bytes()).splitlines()
        assert all("type" in json.loads(line) for line in split)


@pytest.mark.claim("graph-imagedb", "graph-imagedb-metadata", "disk-imagedb", "disk-repositories", "info-root-dir")
def test_the_records_of_an_image(engine: Engine, layered: str) -> None:
    info: Any = engine.request("GET", "/info").json()
    root = Path(info["DockerRootDir"])
    assert root == engine.data_root and info["Driver"] == "overlay2"
    plain = inspected(engine, layered)["Id"].removeprefix("sha256:")
    raw = (root / "image" / "overlay2" / "imagedb" / "content" / "sha256" / plain).read_bytes()
    assert hashlib.sha256(raw).hexdigest() == plain
    assert json.loads(raw)["rootfs"]["diff_ids"] == inspected(engine, layered)["RootFS"]["Layers"]
    assert (root / "image" / "overlay2" / "imagedb" / "metadata" / "sha256").is_dir()
    engine.docker("tag", layered, "graph-metadata:1", check=True)
    try:
        metadata = root / "image" / "overlay2" / "imagedb" / "metadata" / "sha256" / plain
        assert metadata.is_dir() and (metadata / "lastUpdated").is_file()
    finally:
        engine.docker("rmi", "graph-metadata:1")


@pytest.mark.claim("disk-distribution")
def test_what_a_layer_is_known_by(engine: Engine, layered: str) -> None:
    distribution = store(engine) / "distribution"
    for diff_id in inspected(engine, layered)["RootFS"]["Layers"]:
        known = json.loads((distribution / "v2metadata-by-diffid" / "sha256" / diff_id[7:]).read_text())
        digest = known[-1]["Digest"]
        assert (distribution / "diffid-by-digest" / "sha256" / digest[7:]).read_text() == diff_id
        assert any(entry["SourceRepository"].endswith("/graph/layered") for entry in known)


@pytest.mark.claim("disk-layer-mounts", "disk-containers", "rule-log-file", "rule-network-hosts-file")
def test_the_records_of_a_container(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "--name", name, "--hostname", "boxed", busybox, "echo", "said", check=True)
    identifier = str(engine.inspect(name)["Id"])
    folder = engine.data_root / "containers" / identifier
    there = {entry.name for entry in folder.iterdir()}
    log = f"{identifier}-json.log"
    assert {"config.v2.json", "hostconfig.json", "hostname", "hosts", "resolv.conf", log} <= there, there
    assert (folder / "hostname").read_text() == "boxed\n"
    entry = json.loads((folder / log).read_text())
    assert (entry["log"], entry["stream"]) == ("said\n", "stdout")
    assert json.loads((folder / "config.v2.json").read_text())["ID"] == identifier
    mounts = store(engine) / "layerdb" / "mounts" / identifier
    parent = chain_ids(inspected(engine, busybox)["RootFS"]["Layers"])[-1]
    assert (mounts / "parent").read_text() == parent
    for record in ("mount-id", "init-id"):
        assert (engine.data_root / "overlay2" / (mounts / record).read_text() / "diff").is_dir()


@pytest.mark.claim("graphdriver-gives-rootfs", "run-first-rootfs", "rootfs-private-copy", "registry-image-fills-rootfs",
                   "container-rootfs-of-image", "rootfs-of-the-image", "summary-overlay2-repository")  # fmt: skip
def test_a_container_has_the_layers_below_and_one_of_its_own_above(engine: Engine, layered: str, name: str) -> None:
    engine.docker(
        "run", "--name", name, layered, "sh", "-c", "cat /srv/*; rm /srv/third; echo own > /srv/own", check=True
    )
    driver = engine.inspect(name)["GraphDriver"]
    assert isinstance(driver, dict) and driver["Name"] == "overlay2"
    upper = Path(driver["Data"]["UpperDir"])
    assert (upper / "srv" / "own").read_text() == "own\n"
    assert (upper / "srv" / "third").is_char_device()
    lowers = [Path(path) for path in driver["Data"]["LowerDir"].split(":")]
    top = next(path for path in lowers if (path / "srv" / "third").exists())
    assert (top / "srv" / "third").read_text() == "3\n"
    again = engine.docker("run", "--rm", layered, "ls", "/srv", check=True)
    assert again.out == "second\nthird\n"


@pytest.mark.claim("rootfs-folders", "rootfs-of-the-image")
def test_the_folders_that_a_system_needs(compare: Comparison) -> None:
    image = compare.pulled()
    told = compare("run", "--rm", image, "sh", "-c", "ls -d /bin /root /dev /proc /tmp /sys /etc; ls -A / | sort")
    assert told.tested.out.startswith("/bin\n/dev\n/etc\n/proc\n/root\n/sys\n/tmp\n")


@pytest.mark.claim("rootfs-kernel-is-the-hosts", "isolation-mount")
def test_nothing_of_the_hosts_root_is_left(compare: Comparison) -> None:
    image = compare.pulled()
    script = "uname -r; awk '$5 ~ /pivot|old/' /proc/self/mountinfo; ls -d /boot /usr/lib 2>/dev/null; echo end"
    said = compare("run", "--rm", image, "sh", "-c", script)
    assert said.tested.out == f"{Path('/proc/sys/kernel/osrelease').read_text().strip()}\nend\n"


@pytest.mark.claim("graph-reuses", "summary-repository-first", "run-first-image")
def test_a_local_image_is_used_without_the_registry(engine: Engine, busybox: str) -> None:
    engine.docker("tag", busybox, "127.0.0.1:1/unreachable/app:1", check=True)
    try:
        done = engine.docker("run", "--rm", "127.0.0.1:1/unreachable/app:1", "echo", "local")
        assert (done.code, done.out, done.err) == (0, "local\n", "")
    finally:
        engine.docker("rmi", "127.0.0.1:1/unreachable/app:1")


@pytest.mark.claim("disk-volumes", "rule-volume-copy-up")
def test_an_anonymous_volume_has_its_folder_and_goes_with_its_container(
    engine: Engine, busybox: str, name: str
) -> None:
    engine.docker("create", "--name", name, "-v", "/etc", busybox, check=True)
    mounts: Any = engine.inspect(name)["Mounts"]
    folder = engine.data_root / "volumes" / mounts[0]["Name"] / "_data"
    assert mounts[0]["Source"] == str(folder) and (folder / "passwd").is_file()
    engine.docker("rm", "-v", name, check=True)
    assert not folder.exists()
