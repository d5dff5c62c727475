"""``GET /distribution/{name}/json``: what a registry has, without pulling it."""

from __future__ import annotations

import json
import subprocess
import tarfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from tests.conformance.conftest import Shelf
from tests.support import images
from tests.support.asking import get, message
from tests.support.engines import Engine
from tests.support.registry import Registry

pytestmark = pytest.mark.claim("GET /distribution/{name}/json", "rule-distribution")


def _one(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "one", b"1\n")


def _raw(registry: Registry, reference: str) -> bytes:
    return registry.sandbox.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]).stdout


def _upload(registry: Registry, name: str, data: bytes) -> dict[str, object]:
    """Send a blob; returns its digest and size, as a descriptor has them."""
    script = (
        "import sys, urllib.request as r\n"
        "url = r.urlopen(r.Request(sys.argv[1], method='POST')).headers['Location']\n"
        "url += ('&' if '?' in url else '?') + 'digest=' + sys.argv[2]\n"
        "r.urlopen(r.Request(url, sys.stdin.buffer.read(), {'Content-Type': 'application/octet-stream'}, method='PUT'))"
    )
    url, digest = f"http://{registry.address}/v2/{name}/blobs/uploads/", images.digest(data)
    registry.sandbox.run(["python3", "-I", "-c", script, url, digest], input=data)
    return {"digest": digest, "size": len(data)}


def _put(registry: Registry, name: str, tag: str, manifest: dict[str, object]) -> tuple[str, bytes]:
    """Write a manifest as it is; returns its digest and its bytes."""
    raw = json.dumps(manifest).encode()
    script = (
        "import sys, urllib.request as r\n"
        "r.urlopen(r.Request(sys.argv[1], sys.stdin.buffer.read(), {'Content-Type': sys.argv[2]}, method='PUT'))"
    )
    url = f"http://{registry.address}/v2/{name}/manifests/{tag}"
    registry.sandbox.run(["python3", "-I", "-c", script, url, str(manifest["mediaType"])], input=raw)
    return images.digest(raw), raw


def test_the_descriptor_of_a_manifest(engine: Engine, shelf: Shelf) -> None:
    reference = shelf.add("distribution/one:1", layers=(_one,), label="distribution")
    raw = _raw(shelf.registry, reference)
    before = {row["Id"] for row in get(engine, "/images/json")}
    value = get(engine, f"/distribution/{reference}/json")
    assert value["Descriptor"] == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": images.digest(raw),
        "size": len(raw),
    }
    # The reference engine reads the platform of Docker's own manifests alone.
    assert value["Platforms"] in (None, [{"architecture": "amd64", "os": "linux"}])
    assert {row["Id"] for row in get(engine, "/images/json")} == before


def test_by_digest(engine: Engine, shelf: Shelf) -> None:
    reference = shelf.add("distribution/digest:1", layers=(_one,), label="distribution-digest")
    digest = images.digest(_raw(shelf.registry, reference))
    value = get(engine, f"/distribution/{reference.rpartition(':')[0]}@{digest}/json")
    assert value["Descriptor"]["digest"] == digest


def test_a_manifest_that_docker_wrote_has_a_platform(engine: Engine, shelf: Shelf, busybox: str) -> None:
    target = f"{shelf.registry.address}/distribution/pushed:1"
    engine.docker("tag", busybox, target, check=True)
    engine.docker("push", "-q", target, check=True)
    engine.docker("rmi", target, check=True)
    value = get(engine, f"/distribution/{target}/json")
    assert value["Descriptor"]["digest"] == images.digest(_raw(shelf.registry, target))
    assert value["Platforms"] == [{"architecture": "amd64", "os": "linux"}]


def test_an_index_has_all_its_platforms(engine: Engine, shelf: Shelf) -> None:
    reference = shelf.add("distribution/index:amd64", layers=(_one,), label="distribution-index")
    raw = _raw(shelf.registry, reference)
    entry = {"mediaType": json.loads(raw)["mediaType"], "digest": images.digest(raw), "size": len(raw)}
    index: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {**entry, "platform": {"architecture": "amd64", "os": "linux"}},
            {**entry, "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"}},
        ],
    }
    _put(shelf.registry, "distribution/index", "all", index)
    value = get(engine, f"/distribution/{shelf.registry.address}/distribution/index:all/json")
    assert value["Descriptor"]["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert value["Platforms"] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux", "variant": "v8"},
    ]


@pytest.mark.claim("registry-referrers")
def test_what_refers_to_an_image_is_found_by_its_digest(engine: Engine, shelf: Shelf, busybox: str) -> None:
    """An artifact, such as a signature, names the image's digest; the tag of a referrers list is made of that digest.

    OCI distribution-spec "Referrers Tag Schema".
    """
    registry, repository = shelf.registry, "distribution/signed"
    target = f"{registry.address}/{repository}:1"
    engine.docker("tag", busybox, target, check=True)
    engine.docker("push", "-q", target, check=True)
    told = get(engine, f"/images/{target}/json")["RepoDigests"]
    digest = next(each.partition("@")[2] for each in told if each.startswith(target.removesuffix(":1")))
    assert digest == images.digest(_raw(registry, target))
    oci, kind = "application/vnd.oci.image.manifest.v1+json", "application/vnd.example.signature"
    artifact: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": oci,
        "artifactType": kind,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", **_upload(registry, repository, b"{}")},
        "layers": [{"mediaType": kind, **_upload(registry, repository, b"signed\n")}],
        "subject": {"mediaType": oci, "digest": digest, "size": len(_raw(registry, target))},
    }
    signature, raw = _put(registry, repository, "artifact", artifact)
    referrers: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{"mediaType": oci, "digest": signature, "size": len(raw), "artifactType": kind}],
    }
    listed, _ = _put(registry, repository, digest.replace(":", "-"), referrers)
    found = get(engine, f"/distribution/{registry.address}/{repository}:{digest.replace(':', '-')}/json")
    assert (found["Descriptor"]["digest"], found["Descriptor"]["mediaType"]) == (listed, referrers["mediaType"])
    # Neither is taken for an image, and the image is what it was.
    before = {row["Id"] for row in get(engine, "/images/json?all=1")}
    for name in (f"{repository}:{digest.replace(':', '-')}", f"{repository}@{signature}"):
        refused = engine.docker("pull", f"{registry.address}/{name}")
        assert refused.code == 1 and refused.err, refused
    assert {row["Id"] for row in get(engine, "/images/json?all=1")} == before
    assert f"Digest: {digest}\n" in engine.docker("pull", target, check=True).out
    engine.docker("rmi", target, check=True)


@pytest.mark.parametrize(
    ("name", "statuses", "words"),
    [
        ("{0}/nope/x:1", (404,), "manifest unknown: manifest unknown"),
        ("UPPER", (400,), "must be lowercase"),
        ("127.0.0.1:1/x", (500,), "connect: connection refused"),
        ("sha256:" + "1" * 64, (400, 500), "no manifest found for full image ID"),
    ],
    ids=["unknown", "upper", "refused", "id"],
)
def test_what_cannot_be_told(engine: Engine, shelf: Shelf, name: str, statuses: tuple[int, ...], words: str) -> None:
    reply = engine.request("GET", f"/distribution/{name.format(shelf.registry.address)}/json")
    assert reply.status in statuses and words in message(reply), reply


@pytest.mark.claim("rule-auth")
@pytest.mark.requires("htpasswd")
def test_a_registry_with_a_password(engine: Engine, busybox: str, tmp_path: Path) -> None:
    passwords = tmp_path / "htpasswd"
    passwords.write_bytes(
        subprocess.run(["htpasswd", "-Bbn", "user", "geheim"], capture_output=True, check=True).stdout
    )
    with Registry(tmp_path / "locked", engine.sandbox, port=5018, htpasswd=str(passwords)) as locked:
        path = f"/distribution/{locked.address}/private/app:1/json"
        reply = engine.request("GET", path)
        assert reply.status in (401, 500) and "no basic auth credentials" in message(reply)
        given = {"username": "user", "password": "geheim", "serveraddress": locked.address}
        header = {"X-Registry-Auth": urlsafe_b64encode(json.dumps(given).encode()).decode()}
        reply = engine.request("GET", path, headers=header)
        assert reply.status == 404 and "manifest unknown" in message(reply)
        wrong = engine.request("POST", "/auth", {**given, "password": "falsch"})
        assert wrong.status in (401, 500) and "unauthorized" in message(wrong).lower()
        right = engine.request("POST", "/auth", given)
        assert right.json() == {"Status": "Login Succeeded", "IdentityToken": ""}
