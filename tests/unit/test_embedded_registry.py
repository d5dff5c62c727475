"""The registry inside the engine and the images that it makes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from pyker.errors import NotFound, Unavailable
from pyker.registry.embedded import EmbeddedRegistry
from pyker.registry.embedded.images import SHIPPED, STEPS_LABEL, assemble, find_busybox, is_static
from pyker.registry.embedded.layers import Entry, make_layer, stored_gzip
from tests.support.transfers import Transfers

pytestmark = pytest.mark.requires("busybox")


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedRegistry]:
    registry = EmbeddedRegistry(str(tmp_path / "registry"))
    yield registry
    registry.close()


class Answer:
    def __init__(self, registry: EmbeddedRegistry, path: str, method: str = "GET", **headers: str) -> None:
        connection = HTTPConnection(registry.url().removeprefix("http://"), timeout=5)
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        self.status = reply.status
        self.headers = {name.lower(): value for name, value in reply.getheaders()}
        self.body = reply.read()
        connection.close()


def test_every_image_can_be_pulled(embedded: EmbeddedRegistry, tmp_path: Path) -> None:
    transfers = Transfers(tmp_path / "t", options={"local": {"pyker.local": embedded.url}})
    for name in SHIPPED:
        outcome = transfers.pull(f"pyker.local/{name}", platform="")
        assert outcome.error is None
        assert outcome.lines[-1] == f"Status: Downloaded newer image for pyker.local/{name}:latest"
    assert isinstance(transfers.pull("pyker.local/nosuch").error, NotFound)
    assert len(transfers.graph.layers) == 4
    transfers.close()


def test_hello_has_at_least_three_layers_and_asks_for_its_steps(embedded: EmbeddedRegistry) -> None:
    manifest = json.loads(Answer(embedded, "/v2/hello/manifests/latest").body)
    assert len(manifest["layers"]) >= 3
    config = json.loads(Answer(embedded, f"/v2/hello/blobs/{manifest['config']['digest']}").body)
    assert config["config"]["Labels"] == {STEPS_LABEL: "/run/pyker/steps.txt"}
    for descriptor, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        blob = Answer(embedded, f"/v2/hello/blobs/{descriptor['digest']}").body
        assert len(blob) == descriptor["size"]
        assert "sha256:" + hashlib.sha256(blob).hexdigest() == descriptor["digest"]
        plain = subprocess.run(["gzip", "-dc"], input=blob, capture_output=True, check=True).stdout
        assert "sha256:" + hashlib.sha256(plain).hexdigest() == diff_id


def test_the_same_busybox_gives_the_same_digests() -> None:
    first, second = assemble("/bin/busybox"), assemble("/bin/busybox")
    assert first.manifests == second.manifests
    assert first.content.keys() == second.content.keys()


def test_a_layer_is_the_same_on_every_machine() -> None:
    layer = make_layer(
        [Entry(path="a/", mode=0o755), Entry(path="a/b", data=b"x" * 70_000), Entry(path="c", target="a/b")]
    )
    assert layer.diff_id == "sha256:c8f0fb1e29757cb3d1101d61584163d7d16864b78244fb691b15fb8a1e50bbae"
    assert layer.digest == "sha256:c698e520402d8a232c376d9b59f404401089b598d6256797974fb6a7d935534d"
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer.blob))) as tar:
        names = {member.name: member for member in tar}
    assert names["a"].isdir()
    assert names["a/b"].size == 70_000
    assert names["c"].linkname == "a/b"
    assert {member.mtime for member in names.values()} == {1735689600}
    assert {member.uid for member in names.values()} == {0}


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 200_000])
def test_stored_gzip_is_gzip(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    packed = stored_gzip(data[:size])
    assert subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=True).stdout == data[:size]


def test_ranges(embedded: EmbeddedRegistry) -> None:
    manifest = json.loads(Answer(embedded, "/v2/hello/manifests/latest").body)
    path = f"/v2/hello/blobs/{manifest['layers'][0]['digest']}"
    whole = Answer(embedded, path)
    assert whole.status == 200
    part = Answer(embedded, path, Range="bytes=1000-")
    assert (part.status, part.body) == (206, whole.body[1000:])
    assert part.headers["content-range"] == f"bytes 1000-{len(whole.body) - 1}/{len(whole.body)}"
    assert Answer(embedded, path, Range="bytes=5-9").body == whole.body[5:10]
    assert Answer(embedded, path, Range=f"bytes={len(whole.body)}-").status == 416
    head = Answer(embedded, path, "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(whole.body)))


def test_the_rest_of_the_interface(embedded: EmbeddedRegistry) -> None:
    assert Answer(embedded, "/v2/").status == 200
    assert json.loads(Answer(embedded, "/v2/_catalog").body) == {"repositories": sorted(SHIPPED)}
    assert json.loads(Answer(embedded, "/v2/hello/tags/list").body) == {"name": "hello", "tags": ["latest"]}
    answer = Answer(embedded, "/v2/web/manifests/latest")
    digest = answer.headers["docker-content-digest"]
    assert digest == "sha256:" + hashlib.sha256(answer.body).hexdigest()
    assert Answer(embedded, f"/v2/web/manifests/{digest}").body == answer.body
    assert Answer(embedded, f"/v2/hello/manifests/{digest}").status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/",
        "/v2/hello/manifests/other",
        "/v2/nosuch/tags/list",
        "/v2/hello/blobs/sha256:" + "0" * 64,
        "/v2/hello/blobs/..%2F..%2Fetc%2Fpasswd",
        "/v2/hello/blobs/../../../../etc/passwd",
        "/v2/../../etc/passwd/blobs/x",
    ],
)
def test_what_is_not_there(embedded: EmbeddedRegistry, path: str) -> None:
    answer = Answer(embedded, path)
    assert answer.status == 404
    assert json.loads(answer.body)["errors"][0]["code"]


def test_it_takes_no_uploads(embedded: EmbeddedRegistry) -> None:
    assert Answer(embedded, "/v2/hello/blobs/uploads/", "POST").status == 501


def test_it_starts_at_its_first_use_and_ends_without_a_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    registry = EmbeddedRegistry(str(tmp_path / "registry"))
    assert threading.active_count() == before
    assert not (tmp_path / "registry").exists()
    url = registry.url()
    assert registry.url() == url
    registry.close()
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        HTTPConnection(url.removeprefix("http://"), timeout=5).connect()


def test_it_listens_on_loopback_only(embedded: EmbeddedRegistry) -> None:
    assert embedded.url().startswith("http://127.0.0.1:")


# What the images are made of


def test_no_busybox_names_the_package(tmp_path: Path) -> None:
    registry = EmbeddedRegistry(str(tmp_path / "r"), busybox_paths=(str(tmp_path / "none"),))
    with pytest.raises(Unavailable) as caught:
        registry.url()
    assert str(caught.value).endswith("none, which is missing: install the package busybox-static")


def test_a_dynamic_busybox_is_told(tmp_path: Path) -> None:
    shutil.copy(shutil.which("ls") or "/bin/ls", tmp_path / "busybox")
    with pytest.raises(Unavailable, match="install the package busybox-static"):
        find_busybox([str(tmp_path / "busybox")])


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELF\x02\x01" + b"\xff" * 58])
def test_what_is_no_static_program(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "busybox"
    path.write_bytes(content)
    assert not is_static(str(path))


def test_this_machines_busybox_is_static() -> None:
    assert is_static("/bin/busybox")
