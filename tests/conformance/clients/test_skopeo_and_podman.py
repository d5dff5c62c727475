"""skopeo, which moves images between engine, registry and folder, and podman as another client of the same registry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import Shelf
from tests.support import images
from tests.support.engines import Engine


def skopeo(engine: Engine, *arguments: str) -> str:
    """Run skopeo where the engine and the registry are; returns what it prints."""
    return engine.sandbox.run(["skopeo", "--insecure-policy", *arguments]).stdout.decode()


def configuration(engine: Engine, source: str, *options: str) -> dict[str, Any]:
    value = json.loads(skopeo(engine, "inspect", "--config", *options, source))
    assert isinstance(value, dict)
    return value


@pytest.fixture
def pushed(engine: Engine, shelf: Shelf, busybox: str) -> Iterator[str]:
    """An image that the engine pushed."""
    target = f"{shelf.registry.address}/clients/from-engine:1"
    engine.docker("tag", busybox, target, check=True)
    engine.docker("push", "-q", target, check=True)
    yield target
    engine.docker("rmi", target)


@pytest.mark.claim("client-skopeo")
def test_skopeo_reads_what_the_engine_pushed(engine: Engine, pushed: str, busybox: str) -> None:
    found = configuration(engine, f"docker://{pushed}", "--tls-verify=false")
    image = engine.request("GET", f"/images/{busybox}/json").json()
    assert isinstance(image, dict)
    assert found["rootfs"]["diff_ids"] == image["RootFS"]["Layers"]
    assert found["config"]["Labels"] == {"test": "busybox"}


@pytest.mark.claim("client-skopeo")
@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_the_engine_pulls_what_skopeo_pushed(
    engine: Engine, shelf: Shelf, tmp_path: Path, name: str, form: str
) -> None:
    layout = images.make(tmp_path / "image", label=f"skopeo-{form}")
    reference = shelf.registry.push(layout, f"clients/{form}:1", form=form)
    assert engine.docker("run", "--rm", "--name", name, reference, "echo", "runs").out == "runs\n"
    engine.docker("rmi", reference, check=True)


@pytest.mark.claim("client-skopeo", "GET /images/{name}/get")
def test_skopeo_takes_an_image_out_of_the_engine(engine: Engine, busybox: str, tmp_path: Path) -> None:
    options = ("copy", "-q", "--src-daemon-host", engine.host)
    skopeo(engine, *options, f"docker-daemon:{busybox}", f"oci:{tmp_path}/out:latest")
    image = engine.request("GET", f"/images/{busybox}/json").json()
    assert isinstance(image, dict)
    assert configuration(engine, f"oci:{tmp_path}/out:latest")["rootfs"]["diff_ids"] == image["RootFS"]["Layers"]


@pytest.mark.claim("client-skopeo", "POST /images/load")
def test_skopeo_puts_an_image_into_the_engine(engine: Engine, tmp_path: Path, repository: str, name: str) -> None:
    layout = images.make(tmp_path / "image", label="skopeo-in")
    options = ("copy", "-q", "--dest-daemon-host", engine.host)
    skopeo(engine, *options, f"oci:{layout}:latest", f"docker-daemon:{repository}:1")
    assert engine.docker("run", "--rm", "--name", name, f"{repository}:1", "echo", "runs").out == "runs\n"


@pytest.fixture
def podman(engine: Engine, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """podman with a store of its own, beside the engine."""
    # It refuses longer paths for what is only of this boot; /run is the sandbox's own.
    roots = ("--root", str(tmp_path / "store"), "--runroot", "/run/podman-client", "--storage-driver", "vfs")

    def run(*arguments: str) -> str:
        return engine.sandbox.run(["podman", *roots, *arguments], timeout=120).stdout.decode()

    yield run
    run("rmi", "-a", "-f")


@pytest.mark.claim("client-podman")
@pytest.mark.requires("podman")
def test_podman_pulls_what_the_engine_pushed(
    engine: Engine, podman: Callable[..., str], pushed: str, busybox: str
) -> None:
    podman("pull", "-q", "--tls-verify=false", pushed)
    found = json.loads(podman("image", "inspect", pushed))[0]
    image = engine.request("GET", f"/images/{busybox}/json").json()
    assert isinstance(image, dict)
    assert f"sha256:{found['Id']}" == image["Id"] and found["RootFS"]["Layers"] == image["RootFS"]["Layers"]


@pytest.mark.claim("client-podman")
@pytest.mark.requires("podman")
def test_the_engine_pulls_what_podman_pushed(
    engine: Engine, shelf: Shelf, podman: Callable[..., str], tmp_path: Path, name: str
) -> None:
    layout = images.make(tmp_path / "image", label="podman")
    reference = f"{shelf.registry.address}/clients/from-podman:1"
    loaded = podman("pull", "-q", f"oci:{layout}:latest").strip()
    podman("push", "-q", "--tls-verify=false", loaded, f"docker://{reference}")
    assert engine.docker("run", "--rm", "--name", name, reference, "echo", "runs").out == "runs\n"
    image = engine.request("GET", f"/images/{reference}/json").json()
    assert isinstance(image, dict) and image["Id"] == f"sha256:{loaded}"
    engine.docker("rmi", reference, check=True)
