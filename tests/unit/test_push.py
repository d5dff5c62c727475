"""Push, against a registry that behaves and one that does not."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.engine.job import CancelToken
from pyker.errors import Cancelled, InvalidParameter, SystemFailure
from pyker.jobs.images import PushLayer
from pyker.registry.answers import Refused, Unreachable
from pyker.types.ids import short
from pyker.types.reference import parse
from tests.support.fault_registry import DOCKER_MANIFEST, FaultRegistry, Image, digest_of, make_tar
from tests.support.transfers import Transfers


@pytest.fixture
def image(transfers: Transfers) -> Iterator[Image]:
    """An image that was pulled from somewhere else; its second layer is the big one."""
    with FaultRegistry(host="127.0.0.3") as source:
        big = random.Random(5).randbytes(600_000)
        made = source.add_image("src", [make_tar({"a": b"1"}), make_tar({"b": big})])
        assert transfers.pull(f"{source.host}/src").error is None
        yield made


def tag(transfers: Transfers, image: Image, name: str) -> None:
    transfers.graph.name(parse(name), image.image_id)  # type: ignore[arg-type]


def test_the_lines_and_what_arrives(registry: FaultRegistry, transfers: Transfers, image: Image) -> None:
    name = f"{registry.host}/team/app:1"
    tag(transfers, image, name)
    outcome = transfers.push(f"{registry.host}/team/app", "1")
    assert outcome.error is None
    media_type, raw = registry.manifests["team/app", "1"]
    manifest = json.loads(raw)
    top, base = short(image.diff_ids[1]), short(image.diff_ids[0])
    assert outcome.lines[:3] == [
        f"The push refers to repository [{registry.host}/team/app]",
        f"{top}: Preparing",
        f"{base}: Preparing",
    ]
    assert sorted(outcome.lines[3:5]) == sorted([f"{top}: Pushed", f"{base}: Pushed"])
    digest = digest_of(raw)
    assert outcome.lines[5] == f"1: digest: {digest} size: {len(raw)}"
    assert outcome.progress[-1].aux == {"Tag": "1", "Digest": digest, "Size": len(raw)}
    assert media_type == manifest["mediaType"] == DOCKER_MANIFEST
    assert manifest["config"]["digest"] == image.image_id
    for layer in manifest["layers"]:
        assert len(registry.blobs[layer["digest"]]) == layer["size"]
    assert transfers.graph.named(parse(f"{registry.host}/team/app@{digest}")) == image.image_id
    assert transfers.events[-1].action == "push"


def test_what_was_pushed_can_be_pulled(
    registry: FaultRegistry, transfers: Transfers, image: Image, tmp_path: Path
) -> None:
    tag(transfers, image, f"{registry.host}/team/app:1")
    transfers.push(f"{registry.host}/team/app", "1")
    other = Transfers(tmp_path / "other")
    assert other.pull(f"{registry.host}/team/app", "1").error is None
    assert list(other.graph.images) == [image.image_id]
    assert [layer.diff_id for layer in other.graph.layers.values()] == image.diff_ids
    other.close()


def test_the_second_push_sends_no_layer(registry: FaultRegistry, transfers: Transfers, image: Image) -> None:
    tag(transfers, image, f"{registry.host}/team/app:1")
    first = transfers.push(f"{registry.host}/team/app", "1")
    registry.requests.clear()
    second = transfers.push(f"{registry.host}/team/app", "1")
    assert {line for line in second.lines if line.endswith("Layer already exists")} == {
        line.replace("Preparing", "Layer already exists") for line in second.lines[1:3]
    }
    assert second.lines[-1] == first.lines[-1]
    assert registry.asked("uploads") == []


def test_the_same_layers_get_the_same_digests_anywhere(transfers: Transfers, image: Image) -> None:
    digests = []
    for _ in range(2):
        with FaultRegistry() as registry:
            tag(transfers, image, f"{registry.host}/app:1")
            assert transfers.push(f"{registry.host}/app", "1").error is None
            digests.append(registry.manifests["app", "1"][1])
    assert digests[0] == digests[1]


def test_a_neighbours_layer_is_mounted(registry: FaultRegistry, transfers: Transfers, image: Image) -> None:
    tag(transfers, image, f"{registry.host}/team/app:1")
    transfers.push(f"{registry.host}/team/app", "1")
    tag(transfers, image, f"{registry.host}/other/app:1")
    registry.requests.clear()
    outcome = transfers.push(f"{registry.host}/other/app", "1")
    assert set(outcome.lines[3:5]) == {f"{short(diff_id)}: Mounted from team/app" for diff_id in image.diff_ids}
    assert registry.asked("uploads", "PATCH") == []


def test_a_registry_that_does_not_mount_gets_the_layer(
    registry: FaultRegistry, transfers: Transfers, image: Image
) -> None:
    registry.mounts = False
    tag(transfers, image, f"{registry.host}/team/app:1")
    transfers.push(f"{registry.host}/team/app", "1")
    tag(transfers, image, f"{registry.host}/other/app:1")
    outcome = transfers.push(f"{registry.host}/other/app", "1")
    assert sum(line.endswith("Pushed") for line in outcome.lines) == 2
    assert registry.uploads == {}


def test_a_layer_that_the_registry_lost_is_sent_again(
    registry: FaultRegistry, transfers: Transfers, image: Image
) -> None:
    tag(transfers, image, f"{registry.host}/team/app:1")
    transfers.push(f"{registry.host}/team/app", "1")
    registry.owners["team/app"].clear()
    outcome = transfers.push(f"{registry.host}/team/app", "1")
    assert outcome.error is None
    assert sum(line.endswith("Pushed") for line in outcome.lines) == 2


def test_a_lost_layer_is_forgotten_and_asked_for_once(
    registry: FaultRegistry, transfers: Transfers, image: Image
) -> None:
    tag(transfers, image, f"{registry.host}/team/app:1")
    transfers.push(f"{registry.host}/team/app", "1")
    registry.owners["team/app"].clear()
    registry.requests.clear()
    registry.fault("uploads/", method="POST", status=403)
    assert transfers.push(f"{registry.host}/team/app", "1").error is not None
    heads = [item.path for item in registry.asked("/blobs/sha256", "HEAD")]
    assert len(heads) == len(set(heads))
    name = f"{registry.host}/team/app"
    known = [origin for origins in transfers.graph.known.values() for origin in origins if origin.repository == name]
    assert len(known) < 2


def test_absolute_locations(registry: FaultRegistry, transfers: Transfers, image: Image) -> None:
    registry.relative_locations = False
    tag(transfers, image, f"{registry.host}/team/app:1")
    assert transfers.push(f"{registry.host}/team/app", "1").error is None


def test_a_cut_upload_goes_on_where_the_registry_says(registry: FaultRegistry, transfers: Transfers) -> None:
    with FaultRegistry(host="127.0.0.3") as source:
        made = source.add_image("src", [make_tar({"b": random.Random(5).randbytes(600_000)})])
        transfers.pull(f"{source.host}/src")
    tag(transfers, made, f"{registry.host}/app:1")
    registry.fault("uploads/", method="PATCH", cut=50_000, times=1)
    outcome = transfers.push(f"{registry.host}/app", "1")
    assert outcome.error is None
    first, second = registry.asked("uploads/", "PATCH")
    assert "content-range" not in first.headers
    assert second.headers["content-range"].startswith("50000-")
    (layer,) = json.loads(registry.manifests["app", "1"][1])["layers"]
    assert len(registry.blobs[layer["digest"]]) == layer["size"] == 50_000 + second.body_bytes


def test_an_upload_that_is_forgotten_begins_anew(registry: FaultRegistry, transfers: Transfers, image: Image) -> None:
    tag(transfers, image, f"{registry.host}/team/app:1")
    registry.fault("uploads/", method="PATCH", status=404, times=1)
    outcome = transfers.push(f"{registry.host}/team/app", "1")
    assert outcome.error is None
    assert transfers.waited == 5


def test_an_upload_that_never_works_ends_after_five_attempts(
    registry: FaultRegistry, transfers: Transfers, image: Image
) -> None:
    tag(transfers, image, f"{registry.host}/team/app:1")
    registry.fault("uploads/", method="PATCH", status=503)
    outcome = transfers.push(f"{registry.host}/team/app", "1")
    assert isinstance(outcome.error, Refused | Unreachable)
    assert any("Retrying in 5 seconds" in line for line in outcome.lines)
    assert ("team/app", "1") not in registry.manifests


def test_a_refused_push(registry: FaultRegistry, transfers: Transfers, image: Image) -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]})
    registry.fault("uploads/", method="POST", status=403, body=body.encode())
    tag(transfers, image, f"{registry.host}/team/app:1")
    outcome = transfers.push(f"{registry.host}/team/app", "1")
    assert str(outcome.error) == "denied: requested access to the resource is denied"


def test_nobody_logged_in(registry: FaultRegistry, transfers: Transfers, image: Image) -> None:
    registry.basic = ("u", "p")
    tag(transfers, image, f"{registry.host}/team/app:1")
    assert str(transfers.push(f"{registry.host}/team/app", "1").error) == "no basic auth credentials"


def test_names_that_are_not_there(registry: FaultRegistry, transfers: Transfers, image: Image) -> None:
    name = f"{registry.host}/team/app"
    outcome = transfers.push(name, "1")
    assert outcome.lines == [f"The push refers to repository [{name}]"]
    assert type(outcome.error) is SystemFailure
    assert str(outcome.error) == f"An image does not exist locally with the tag: {name}"
    tag(transfers, image, f"{name}:1")
    assert str(transfers.push(name, "2").error) == f"tag does not exist: {name}:2"
    assert str(transfers.push(f"{name}@sha256:{'0' * 64}", "").error) == "cannot push a digest reference"
    assert isinstance(transfers.push("Foo", "1").error, InvalidParameter)
    assert registry.requests == []


def test_without_a_tag_every_tag(registry: FaultRegistry, transfers: Transfers, image: Image) -> None:
    for text in ("1", "2"):
        tag(transfers, image, f"{registry.host}/team/app:{text}")
    assert transfers.push(f"{registry.host}/team/app", "").error is None
    assert {("team/app", "1"), ("team/app", "2")} <= set(registry.manifests)


def test_a_cancelled_push_tells_the_registry(registry: FaultRegistry, transfers: Transfers) -> None:
    """With one layer: of an upload that another began just then, and had no answer about, nobody knows the address."""
    with FaultRegistry(host="127.0.0.3") as source:
        image = source.add_image("src", [make_tar({"a": b"1"})])
        assert transfers.pull(f"{source.host}/src").error is None
    tag(transfers, image, f"{registry.host}/team/app:1")
    token = CancelToken()
    transfers.on_wait = token.cancel
    registry.fault("uploads/", method="PATCH", status=503)
    outcome = transfers.push(f"{registry.host}/team/app", "1", cancel=token)
    assert isinstance(outcome.error, Cancelled)
    assert registry.uploads == {}
    assert ("team/app", "1") not in registry.manifests


def test_a_layer_job_alone_is_refused(transfers: Transfers) -> None:
    job = PushLayer(repository="x", diff_id="sha256:" + "0" * 64, index=0)
    assert isinstance(transfers.run(job).error, InvalidParameter)


def test_nothing_is_left_in_the_spool(
    registry: FaultRegistry, transfers: Transfers, image: Image, tmp_path: Path
) -> None:
    tag(transfers, image, f"{registry.host}/team/app:1")
    transfers.push(f"{registry.host}/team/app", "1")
    assert list((tmp_path / "push").iterdir()) == []
