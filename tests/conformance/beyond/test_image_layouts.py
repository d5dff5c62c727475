"""Archives as OCI image layouts, which the reference engine of the suite neither writes nor reads, and hostile ones."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.asking import get, image_id, import_image, records
from tests.support.engines import Engine

pytestmark = [pytest.mark.only_pyker, pytest.mark.claim("rule-load-save")]


def _one(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "one", b"1\n")


def _load(engine: Engine, archive: bytes) -> list[dict[str, Any]]:
    reply = engine.request("POST", "/images/load", archive, headers={"Content-Type": "application/x-tar"})
    assert reply.status == 200, reply
    return records(reply)


@pytest.mark.claim("GET /images/get")
def test_a_saved_image_is_a_layout_too(engine: Engine, repository: str, tmp_path: Path) -> None:
    import_image(engine, f"{repository}:1", _one)
    file = tmp_path / "saved.tar"
    file.write_bytes(engine.request("GET", f"/images/{repository}:1/get").body)
    raw = engine.sandbox.run(["skopeo", "inspect", "--raw", "--config", f"oci-archive:{file}:1"]).stdout
    assert images.digest(raw) == image_id(engine, f"{repository}:1")
    with tarfile.open(file) as tar:
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == f"docker.io/{repository}:1"


@pytest.mark.claim("POST /images/load")
def test_load_reads_a_layout(engine: Engine, repository: str, tmp_path: Path) -> None:
    layout = images.make(tmp_path / "layout", layers=(_one,), label=repository)
    index = json.loads((layout / "index.json").read_text())
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": f"{repository}:7"}
    (layout / "index.json").write_text(json.dumps(index))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(layout, arcname=".")
    assert _load(engine, buffer.getvalue()) == [{"stream": f"Loaded image: {repository}:7\n"}]
    found = get(engine, f"/images/{repository}:7/json")
    assert found["RootFS"]["Layers"] == [images.digest(images.tar_of(_one))]


def _outside(tar: tarfile.TarFile) -> None:
    images.add_link(tar, "config.json", "/etc/passwd")


def _above(tar: tarfile.TarFile) -> None:
    images.add_link(tar, "config.json", "../../../../etc/passwd")


def _around(tar: tarfile.TarFile) -> None:
    images.add_link(tar, "config.json", "other.json")
    images.add_link(tar, "other.json", "config.json")


def _missing(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "other.json", b"{}")


def _device(tar: tarfile.TarFile) -> None:
    images.add_device(tar, "config.json", 1, 5)


def _no_image(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "config.json", b'{"rootfs":{"type":"layers","diff_ids":["sha256:../../x"]}}')


def _deep(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "config.json", b"[" * 100_000)


@pytest.mark.claim("POST /images/load")
@pytest.mark.parametrize("hostile", [_outside, _above, _around, _missing, _device, _no_image, _deep])
def test_hostile_archives_are_refused_and_leave_nothing(
    engine: Engine, repository: str, hostile: Callable[[tarfile.TarFile], None]
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        hostile(tar)
        manifest = [{"Config": "config.json", "RepoTags": [f"{repository}:1"], "Layers": ["layer.tar"]}]
        images.add_file(tar, "manifest.json", json.dumps(manifest).encode())
    before = get(engine, "/images/json?all=1")
    told = _load(engine, buffer.getvalue())
    assert told[-1]["error"] and "root:" not in told[-1]["error"]
    assert get(engine, "/images/json?all=1") == before
    assert [name for name in os.listdir(engine.data_root / "tmp") if name.startswith(".load-")] == []
