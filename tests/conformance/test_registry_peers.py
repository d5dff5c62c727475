"""Push and pull beside others: Debian's docker-registry, skopeo, and the reference engine as the next one to pull."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.conftest import Shelf
from tests.support import images
from tests.support.engines import Dockerd, Engine
from tests.support.registry import Registry


def _odd_files(tar: tarfile.TarFile) -> None:
    """What is easily lost on the way through an engine: owners, modes, times, links, devices, long names."""
    images.add_dir(tar, "srv/odd", 0o2750, uid=33, gid=33)
    images.add_file(tar, "srv/odd/setuid", b"s\n", 0o4755, uid=0)
    images.add_file(tar, "srv/odd/owned", b"o\n", 0o640, uid=1234, gid=4321)
    images.add_file(tar, "srv/odd/" + "n" * 180, b"long\n")
    images.add_link(tar, "srv/odd/soft", "/etc/passwd")
    images.add_link(tar, "srv/odd/hard", "srv/odd/setuid", hard=True)
    images.add_device(tar, "srv/odd/null", 1, 3)


def _whiteout(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "srv/odd/.wh.setuid")


def inspect(registry: Registry, reference: str, *options: str) -> dict[str, object]:
    done = registry.sandbox.run(["skopeo", "inspect", "--tls-verify=false", *options, f"docker://{reference}"])
    value = json.loads(done.stdout)
    assert isinstance(value, dict)
    return value


def image_id(engine: Engine, reference: str) -> object:
    value = engine.request("GET", f"/images/{reference}/json").json()
    assert isinstance(value, dict)
    return value["Id"]


@pytest.fixture
def pushed(engine: Engine, shelf: Shelf) -> Iterator[tuple[str, str]]:
    """An image that the engine pulled and pushed again under another name: (source, target)."""
    layers = (images.busybox_layer, _odd_files, _whiteout)
    source = shelf.add("peers/source:1", layers=layers, label="peers")
    target = f"{shelf.registry.address}/peers/target:1"
    engine.docker("pull", source, check=True)
    engine.docker("tag", source, target, check=True)
    yield source, target
    engine.docker("rmi", "-f", source, target)


@pytest.mark.claim(
    "POST /images/{name}/push",
    "registry-push",
    "registry-push-mount",
    "registry-push-again",
    "disk-tar-split",
    "client-skopeo",
    "break-images",
)
def test_a_pulled_image_is_pushed_with_the_same_layers(engine: Engine, shelf: Shelf, pushed: tuple[str, str]) -> None:
    source, target = pushed
    lines = engine.docker("push", target, check=True).out.splitlines()
    assert lines[0] == f"The push refers to repository [{target.rpartition(':')[0]}]"
    assert sum(": Mounted from " in line for line in lines) == 3, lines
    assert inspect(shelf.registry, target)["Layers"] == inspect(shelf.registry, source)["Layers"]
    assert inspect(shelf.registry, target, "--config") == inspect(shelf.registry, source, "--config")
    again = engine.docker("push", target, check=True).out.splitlines()
    assert sum(line.endswith(": Layer already exists") for line in again) == 3, again
    assert again[-1] == lines[-1]


@pytest.mark.claim("POST /images/{name}/push", "disk-tar-split", "client-skopeo", "registry-push")
def test_layers_packed_anew_are_the_same_tars(
    engine: Engine, shelf: Shelf, pushed: tuple[str, str], tmp_path: Path
) -> None:
    source, _ = pushed
    with Registry(tmp_path / "other", engine.sandbox, port=5007) as other:
        target = f"{other.address}/elsewhere/app:1"
        engine.docker("tag", source, target, check=True)
        lines = engine.docker("push", target, check=True).out.splitlines()
        assert sum(line.endswith(": Pushed") for line in lines) == 3, lines
        want = inspect(shelf.registry, source, "--config")
        assert inspect(other, target, "--config") == want
        raw = other.sandbox.run(["skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{target}"]).stdout
        assert f"digest: {images.digest(raw)} size: {len(raw)}" in lines[-1]
        layers = json.loads(raw)["layers"]
        folder = tmp_path / "copy"
        other.sandbox.run(
            [
                "skopeo",
                "--insecure-policy",
                "copy",
                "-q",
                "--src-tls-verify=false",
                f"docker://{target}",
                f"dir:{folder}",
            ]
        )
        rootfs = want["rootfs"]
        assert isinstance(rootfs, dict)
        plain = [
            images.digest(
                subprocess.run(["gzip", "-dc", folder / layer["digest"][7:]], capture_output=True, check=True).stdout
            )
            for layer in layers
        ]
        assert plain == rootfs["diff_ids"]
        engine.docker("rmi", target)


@pytest.mark.claim("registry-push", "registry-unpack", "client-skopeo")
@pytest.mark.only_pyker
@pytest.mark.requires("dockerd")
def test_the_reference_engine_runs_what_was_pushed(
    engine: Engine, shelf: Shelf, pushed: tuple[str, str], tmp_path: Path
) -> None:
    _, target = pushed
    engine.docker("push", target, check=True)
    other = Dockerd(tmp_path / "reference", sandbox=engine.sandbox, flags=["--bridge", "none", "--iptables=false"])
    try:
        other.start()
        other.docker("pull", target, check=True)
        script = "stat -c '%a %u %g %F' /srv/odd/owned /srv/odd/null; ls /srv/odd | wc -l; test ! -e /srv/odd/setuid"
        theirs = other.docker("run", "--rm", "--network", "none", target, "sh", "-c", script, check=True)
        ours = engine.docker("run", "--rm", "--network", "none", target, "sh", "-c", script, check=True)
        assert theirs.out == ours.out
        assert theirs.out.splitlines()[0] == "640 1234 4321 regular file"
        assert image_id(other, target) == image_id(engine, target)
    finally:
        other.stop()


@pytest.mark.claim("POST /auth", "rule-auth", "registry-ping-challenge", "registry-credentials", "shape-login")
@pytest.mark.requires("htpasswd")
def test_a_registry_with_a_password(engine: Engine, busybox: str, tmp_path: Path) -> None:
    passwords = tmp_path / "htpasswd"
    passwords.write_bytes(
        subprocess.run(["htpasswd", "-Bbn", "user", "geheim"], capture_output=True, check=True).stdout
    )
    with Registry(tmp_path / "locked", engine.sandbox, port=5008, htpasswd=str(passwords)) as locked:
        target = f"{locked.address}/private/app:1"
        engine.docker("tag", busybox, target, check=True)
        refused = engine.docker("push", target)
        assert refused.code == 1
        assert refused.err.strip() == "no basic auth credentials"
        wrong = engine.docker("login", "-u", "user", "--password-stdin", locked.address, input="falsch\n")
        assert wrong.code == 1
        assert "401 Unauthorized" in wrong.err
        right = engine.docker("login", "-u", "user", "--password-stdin", locked.address, input="geheim\n")
        assert right.code == 0, right
        assert "Login Succeeded" in right.out
        engine.docker("push", target, check=True)
        engine.docker("rmi", target, check=True)
        engine.docker("pull", target, check=True)
        engine.docker("logout", locked.address, check=True)
        engine.docker("rmi", target, check=True)
        anonymous = engine.docker("pull", target)
        assert anonymous.code == 1
        assert "no basic auth credentials" in anonymous.err


@pytest.mark.claim("registry-errors", "rule-pull", "rule-push")
def test_what_is_not_there(engine: Engine, shelf: Shelf) -> None:
    name = f"{shelf.registry.address}/nope/x"
    done = engine.docker("pull", f"{name}:1")
    words = f"manifest for {name}:1 not found: manifest unknown: manifest unknown"
    assert (done.code, done.err.strip()) == (1, f"Error response from daemon: {words}")
    done = engine.docker("push", f"{name}:1")
    assert done.code == 1
    assert done.err.strip() == f"An image does not exist locally with the tag: {name}"


@pytest.mark.claim("registry-public", "registry-errors", "registry-reference-grammar")
def test_without_the_internet_a_pull_fails_clearly_and_soon(engine: Engine) -> None:
    done = engine.docker("pull", "busybox", timeout=30)
    assert done.code == 1
    assert 'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io' in done.err


@pytest.mark.claim("registry-private", "run-purpose", "pull-purpose")
@pytest.mark.only_pyker
def test_the_embedded_registry_over_the_whole_path(engine: Engine) -> None:
    first = engine.docker("run", "--rm", "--network", "none", "pyker.local/hello")
    assert first.code == 0, first
    lines = first.err.splitlines()
    assert lines[:2] == ["Unable to find image 'pyker.local/hello:latest' locally", "latest: Pulling from hello"]
    assert sum(line.endswith(": Pull complete") for line in lines) >= 3
    for word in ("Hello!", "pull_layer", "mount_rootfs", "execdriver_run", "Try next:"):
        assert word in first.out, first.out
    second = engine.docker("pull", "pyker.local/web", check=True).out.splitlines()
    assert sum(line.endswith(": Already exists") for line in second) == 2
    missing = engine.docker("pull", "pyker.local/nosuch")
    assert "manifest for pyker.local/nosuch:latest not found" in missing.err
