"""Pulls that go wrong, on a whole engine: a registry that breaks off, a daemon that is killed, a disk that is full."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import Engine, Pyker
from tests.support.fault_registry import Apart
from tests.support.sandbox import wait_until

PORT = 5009
IMAGE = f"127.0.0.1:{PORT}/app"
SCRIPT = """
import random
tar = make_tar({"data": random.Random(1).randbytes(3_000_000)})
image = registry.add_image("app", [tar, make_tar({"small": b"1"})])
"""

pytestmark = [pytest.mark.only_pyker, pytest.mark.requires("root", "overlay")]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Pyker]:
    """An engine of the test's own."""
    engine = Pyker(tmp_path / "engine")
    yield engine
    engine.stop()


def apart(engine: Engine, script: str) -> Apart:
    return Apart(engine.sandbox.popen, SCRIPT + script, port=PORT)


def leftovers(engine: Engine) -> dict[str, list[str]]:
    """What a failed pull could leave: parts, layers, images, names."""
    image = engine.data_root / "image" / "overlay2"
    folders = {
        "partial": engine.data_root / "tmp" / "partial",
        "layers": image / "layerdb" / "sha256",
        "unfinished": image / "layerdb" / "tmp",
        "images": image / "imagedb" / "content" / "sha256",
    }
    found = {name: sorted(os.listdir(path)) if path.is_dir() else [] for name, path in folders.items()}
    return {name: names for name, names in found.items() if names}


@pytest.mark.claim("registry-resume")
def test_a_killed_daemon_goes_on_where_it_was(own: Pyker) -> None:
    own.start()
    with apart(
        own, "registry.fault(image.layers[0], hold=threading.Event(), hold_after=2_000_000, times=1)"
    ) as registry:
        pull = threading.Thread(target=lambda: own.docker("pull", IMAGE))
        pull.start()
        part = own.data_root / "tmp" / "partial" / str(registry.ask("image.layers[0]")).replace(":", "-")
        wait_until(lambda: part.exists() and part.stat().st_size == 2_000_000, what="two million bytes")
        own.kill()
        pull.join()
        own.start()
        done = own.docker("pull", IMAGE)
        assert done.code == 0, done
        ranges = registry.ask("[r.headers.get('range') for r in registry.asked(image.layers[0])]")
        assert ranges == [None, "bytes=2000000-"]
        assert "partial" not in leftovers(own)


@pytest.mark.claim("registry-verify")
def test_a_wrong_digest_leaves_nothing(own: Pyker) -> None:
    own.start()
    with apart(own, "registry.fault(image.layers[0], corrupt=True)") as registry:
        done = own.docker("pull", IMAGE)
        assert done.code == 1
        digest = registry.ask("image.layers[0]")
        assert done.err.strip() == f"filesystem layer verification failed for digest {digest}"
        assert leftovers(own) == {}
        assert own.docker("images", "-q").out == ""


@pytest.mark.claim("registry-verify")
def test_a_wrong_diff_id_leaves_nothing(own: Pyker) -> None:
    own.start()
    with apart(own, "registry.add_image('app', [tar], diff_ids=['sha256:' + '1' * 64])"):
        done = own.docker("pull", IMAGE)
        assert done.code == 1
        assert "layers from manifest don't match image configuration" in done.err
        assert leftovers(own) == {}


@pytest.mark.claim("registry-verify")
@pytest.mark.parametrize(
    "script",
    [
        "registry.add_image('app', [tar[:1_000_000]])",
        "import gzip; registry.add_image('app', [gzip.compress(tar)[:1_000_000]], compression='plain')",
        "registry.add_image('app', [b'no tar at all' * 100])",
    ],
    ids=["tar", "gzip", "noise"],
)
def test_a_truncated_layer_leaves_nothing(own: Pyker, script: str) -> None:
    """Its digest and its diff-id are right, so only unpacking it shows that it is cut."""
    own.start()
    with apart(own, script):
        done = own.docker("pull", IMAGE)
        assert done.code == 1, done
        assert "failed to register layer" in done.err, done
        assert leftovers(own) == {}
        assert own.docker("images", "-q").out == ""
        assert [entry.name for entry in (own.data_root / "overlay2").iterdir()] == ["l"]


@pytest.mark.claim("registry-resume")
def test_a_registry_that_dies_midway(own: Pyker) -> None:
    own.start()
    with apart(own, "registry.fault(image.layers[0], cut=1_000_000, times=1)") as registry:
        done = own.docker("pull", IMAGE)
        assert done.code == 0, done
        assert "Retrying in 1 second" in done.out
        assert registry.ask("[r.headers.get('range') for r in registry.asked(image.layers[0])]") == [
            None,
            "bytes=1000000-",
        ]


@pytest.mark.claim("rule-disconnect", "registry-resume")
def test_a_client_that_leaves_ends_the_pull_and_the_part_stays(own: Pyker) -> None:
    own.start()
    with apart(
        own, "registry.fault(image.layers[0], hold=threading.Event(), hold_after=2_000_000, times=1)"
    ) as registry:
        client = own.sandbox.popen(["docker", "-H", own.host, "pull", IMAGE])
        part = own.data_root / "tmp" / "partial" / str(registry.ask("image.layers[0]")).replace(":", "-")
        wait_until(lambda: part.exists() and part.stat().st_size == 2_000_000, what="two million bytes")
        client.kill()
        client.wait()
        wait_until(lambda: "cancelled" in own.pyker("jobs").out, what="the end of the job")
        assert part.stat().st_size == 2_000_000
        assert own.docker("pull", IMAGE).code == 0


@pytest.mark.claim("rule-errors-in-streams")
@pytest.mark.parametrize("size_kib", [1024, 4096])
def test_a_full_disk(own: Pyker, size_kib: int) -> None:
    """Too small for the download, and too small for the download with its extraction."""
    own.data_root.mkdir(parents=True)
    own.sandbox.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib + 1024}k,mode=711", "tmpfs", str(own.data_root)])
    own.start()
    with apart(own, ""):
        done = own.docker("pull", IMAGE)
        assert done.code == 1
        assert "no space left on device" in done.err.lower(), done
        listed = own.sandbox.run(["find", str(own.data_root / "tmp"), "-type", "f"]).stdout
        assert listed == b""
        assert own.docker("images", "-q").out == ""
        assert own.docker("version").code == 0
