"""A data root on a disk that is too small: a clear error, nothing left behind, and an engine that goes on working."""

from __future__ import annotations

import os
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import engines, images
from tests.support.containers import listed_as_ended
from tests.support.engines import Engine
from tests.support.registry import Registry

pytestmark = pytest.mark.requires("root", "loop", "busybox", "docker-registry", "skopeo", "docker-cli")

DISK_BYTES = 48 * 1024 * 1024
TOO_BIG_BYTES = 70 * 1024 * 1024


@pytest.fixture
def small(engine: Engine, tmp_path: Path) -> Iterator[tuple[Engine, Registry]]:
    """An engine of the kind under test whose data root is a loop file system of 48 MiB."""
    made = engines.find(engine.specification)(tmp_path / "small")
    disk = tmp_path / "disk"
    with open(disk, "wb") as file:
        file.truncate(DISK_BYTES)
    made.sandbox.run(["mkfs.ext4", "-q", "-m", "0", str(disk)])
    made.data_root.mkdir()
    made.sandbox.run(["mount", "-o", "loop", str(disk), str(made.data_root)])
    try:
        made.start()
        with Registry(tmp_path / "registry", made.sandbox) as registry:
            yield made, registry
    finally:
        made.stop()


def _free_bytes(engine: Engine) -> int:
    out = engine.sandbox.run(["stat", "-f", "-c", "%a %S", str(engine.data_root)]).stdout.split()
    return int(out[0]) * int(out[1])


@pytest.mark.claim("rule-errors-in-streams", "registry-verify")
def test_a_pull_that_does_not_fit(small: tuple[Engine, Registry], tmp_path: Path) -> None:
    engine, registry = small

    def big(tar: tarfile.TarFile) -> None:
        images.add_file(tar, "big", random.Random(1).randbytes(TOO_BIG_BYTES))

    reference = registry.push(images.make(tmp_path / "big", layers=(images.busybox_layer, big)), "disk/big:1")
    fits = registry.push(images.make(tmp_path / "fits", label="fits"), "disk/fits:1")
    before = _free_bytes(engine)
    done = engine.docker("pull", reference, timeout=120)
    assert done.code == 1 and "no space left on device" in (done.out + done.err).lower(), done
    assert engine.request("GET", "/images/json").json() == []
    if engine.kind == "pyker":
        # The reference keeps the layers below the one that failed; nothing of this image stays here.
        assert _free_bytes(engine) > before - 4 * 1024 * 1024
    engine.docker("pull", "-q", fits, check=True)
    assert engine.docker("run", "--rm", fits, "echo", "fits").out == "fits\n"


@pytest.mark.claim("rule-log-file")
def test_a_container_that_fills_the_disk(small: tuple[Engine, Registry], tmp_path: Path) -> None:
    engine, registry = small
    reference = registry.push(images.make(tmp_path / "fits", label="fits"), "disk/fits:1")
    engine.docker("pull", "-q", reference, check=True)
    done = engine.docker("run", "--name", "hog", reference, "sh", "-c", "cat /dev/zero > /full; echo end", timeout=120)
    assert "No space left on device" in done.err, done
    listed_as_ended(engine, "hog")
    engine.docker("rm", "hog", check=True)
    assert engine.docker("run", "--rm", reference, "echo", "room").out == "room\n"
    assert os.path.isdir(engine.data_root)
