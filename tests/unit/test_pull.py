"""Pull, against a registry that behaves and one that does not."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.errors import Cancelled, Corrupt, InvalidParameter, NotFound, NotSupported
from pyker.jobs.images import Pull, PullLayer, RegistryAuth
from pyker.registry.answers import BadAnswer, Refused, Unreachable
from pyker.registry.downloads import NoSpace
from pyker.types.ids import Digest, short
from pyker.types.reference import parse
from tests.support.fault_registry import DOCKER_MANIFEST, FaultRegistry, Image, digest_of, make_tar
from tests.support.transfers import Transfers


@pytest.fixture
def registry() -> Iterator[FaultRegistry]:
    with FaultRegistry() as registry:
        yield registry


@pytest.fixture
def transfers(tmp_path: Path) -> Iterator[Transfers]:
    transfers = Transfers(tmp_path)
    yield transfers
    transfers.close()


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that no compressor makes smaller."""
    return random.Random(seed).randbytes(size)


def three_layers(registry: FaultRegistry, name: str = "team/app", **options: object) -> Image:
    tars = [make_tar({f"file{number}": bytes([number]) * 1000}) for number in range(3)]
    return registry.add_image(name, tars, **options)  # type: ignore[arg-type]


def one_layer(registry: FaultRegistry, size: int = 500_000, name: str = "team/app") -> Image:
    return registry.add_image(name, [make_tar({"data": noise(size)})])


def layer_jobs(transfers: Transfers) -> int:
    """How many layers are under way."""
    return sum(record.name == "pull_layer" for record in transfers.engine.running())


# What the user sees


def test_the_lines_of_a_first_pull(registry: FaultRegistry, transfers: Transfers) -> None:
    image = three_layers(registry)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert outcome.error is None
    ids = [short(layer) for layer in image.layers]
    assert outcome.lines[:4] == ["latest: Pulling from team/app", *(f"{item}: Pulling fs layer" for item in ids)]
    assert outcome.lines[-2:] == [
        f"Digest: {image.digest}",
        f"Status: Downloaded newer image for {registry.host}/team/app:latest",
    ]
    for item in ids:
        assert [status for status in outcome.of(item) if status != "Waiting"] == [
            "Pulling fs layer",
            "Downloading",
            "Verifying Checksum",
            "Download complete",
            "Extracting",
            "Pull complete",
        ]
    complete = [line for line in outcome.lines if line.endswith("Pull complete")]
    assert complete == [f"{item}: Pull complete" for item in ids]
    graph = transfers.graph
    assert graph.images[image.image_id] == image.config  # type: ignore[index]
    assert graph.named(parse(f"{registry.host}/team/app:latest")) == image.image_id
    assert graph.named(parse(f"{registry.host}/team/app@{image.digest}")) == image.image_id
    assert [(event.action, event.actor_id) for event in transfers.events] == [
        ("pull", f"{registry.host}/team/app:latest")
    ]
    assert transfers.partial() == {}


def test_the_second_pull_is_up_to_date_and_fetches_no_layer(registry: FaultRegistry, transfers: Transfers) -> None:
    image = three_layers(registry)
    transfers.pull(f"{registry.host}/team/app")
    registry.requests.clear()
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert outcome.lines == [
        "latest: Pulling from team/app",
        f"Digest: {image.digest}",
        f"Status: Image is up to date for {registry.host}/team/app:latest",
    ]
    assert registry.asked("/blobs/") == []


def test_shared_layers_exist_already(registry: FaultRegistry, transfers: Transfers) -> None:
    base = [make_tar({"a": b"1"}), make_tar({"b": b"2"})]
    first = registry.add_image("one", base)
    second = registry.add_image("two", [*base, make_tar({"c": b"3"})])
    transfers.pull(f"{registry.host}/one")
    outcome = transfers.pull(f"{registry.host}/two")
    assert outcome.lines[1:4] == [
        f"{short(first.layers[0])}: Already exists",
        f"{short(first.layers[1])}: Already exists",
        f"{short(second.layers[2])}: Pulling fs layer",
    ]
    assert len(registry.asked(first.layers[0])) == 1
    assert set(transfers.graph.retained.values()) == {0}


def test_by_digest(registry: FaultRegistry, transfers: Transfers) -> None:
    image = three_layers(registry)
    outcome = transfers.pull(f"{registry.host}/team/app", image.digest)
    name = f"{registry.host}/team/app@{image.digest}"
    assert outcome.lines[0] == f"{name}: Pulling from team/app"
    assert outcome.lines[-1] == f"Status: Downloaded newer image for {name}"
    assert list(transfers.graph.names) == [name]


def test_without_a_tag_every_tag_page_by_page(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.tag_page = 2
    for tag in ("a", "b", "c"):
        registry.add_image("many", [make_tar({"file": tag.encode()})], tag=tag)
    outcome = transfers.pull(f"{registry.host}/many", "")
    assert [line for line in outcome.lines if "Pulling from" in line] == [f"{tag}: Pulling from many" for tag in "abc"]
    assert outcome.lines[-1] == f"Status: Downloaded newer image for {registry.host}/many"
    assert len(registry.asked("tags/list")) == 2


def test_a_moved_tag_is_newer(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.add_image("app", [make_tar({"a": b"1"})])
    transfers.pull(f"{registry.host}/app")
    moved = registry.add_image("app", [make_tar({"a": b"2"})])
    outcome = transfers.pull(f"{registry.host}/app")
    assert outcome.lines[-1].startswith("Status: Downloaded newer image")
    assert transfers.graph.named(parse(f"{registry.host}/app:latest")) == moved.image_id


def test_layers_are_jobs_of_their_own(registry: FaultRegistry, transfers: Transfers) -> None:
    image = three_layers(registry)
    seen: list[tuple[str, str]] = []
    transfers.graph.before_register = lambda _diff_id: seen.extend(
        (record.name, str(record.arguments.get("digest"))) for record in transfers.engine.running()
    )
    transfers.pull(f"{registry.host}/team/app")
    assert {("pull_layer", layer) for layer in image.layers} <= set(seen)


def test_a_layer_job_alone_is_refused(transfers: Transfers) -> None:
    job = PullLayer(repository="x", digest=Digest("sha256:" + "0" * 64), size=1, index=0)
    assert isinstance(transfers.run(job).error, InvalidParameter)


# Formats


@pytest.mark.parametrize(("oci", "compression"), [(False, "gzip"), (True, "gzip"), (True, "zstd"), (True, "plain")])
def test_formats(registry: FaultRegistry, transfers: Transfers, oci: bool, compression: str) -> None:
    image = three_layers(registry, oci=oci, compression=compression)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert [layer.diff_id for layer in transfers.graph.layers.values()] == image.diff_ids


@pytest.mark.parametrize("oci", [False, True])
def test_an_index(registry: FaultRegistry, transfers: Transfers, oci: bool) -> None:
    arm = registry.add_image("app", [make_tar({"a": b"arm"})], tag="x1", architecture="arm64", oci=oci)
    amd = registry.add_image("app", [make_tar({"a": b"amd"})], tag="x2", oci=oci)
    unknown = {**registry.entry(amd, "unknown"), "platform": {"os": "unknown", "architecture": "unknown"}}
    index = registry.add_index(
        "app", [unknown, registry.entry(arm, "arm64", "v8"), registry.entry(amd, "amd64")], oci=oci
    )
    outcome = transfers.pull(f"{registry.host}/app")
    assert list(transfers.graph.images) == [amd.image_id]
    assert f"Digest: {index}" in outcome.lines
    transfers.pull(f"{registry.host}/app", platform="linux/arm64")
    assert set(transfers.graph.images) == {amd.image_id, arm.image_id}


def test_no_image_for_this_platform(registry: FaultRegistry, transfers: Transfers) -> None:
    arm = registry.add_image("app", [make_tar({"a": b"arm"})], tag="arm", architecture="arm64")
    registry.add_index("app", [registry.entry(arm, "arm64")])
    outcome = transfers.pull(f"{registry.host}/app")
    assert isinstance(outcome.error, NotFound)
    assert str(outcome.error) == "no matching manifest for linux/amd64 in the manifest list entries"
    assert transfers.graph.images == {}


def test_an_index_in_an_index_is_followed_but_not_for_ever(registry: FaultRegistry, transfers: Transfers) -> None:
    image = three_layers(registry, "app")
    entry = registry.entry(image, "amd64")
    for tag in ("one", "two", "three", "four"):
        digest = registry.add_index("app", [entry], tag=tag)
        media_type, raw = registry.manifests["app", digest]
        platform = {"os": "linux", "architecture": "amd64"}
        entry = {"mediaType": media_type, "digest": digest, "size": len(raw), "platform": platform}
    assert transfers.pull(f"{registry.host}/app", "three").error is None
    assert isinstance(transfers.pull(f"{registry.host}/app", "four").error, BadAnswer)


def test_the_wrong_platform_is_told(registry: FaultRegistry, transfers: Transfers) -> None:
    three_layers(registry)
    outcome = transfers.pull(f"{registry.host}/team/app", platform="linux/arm64")
    assert outcome.lines[-1] == (
        f"WARNING: image with reference {registry.host}/team/app was found but does not match the specified platform: "
        "wanted linux/arm64, actual: linux/amd64"
    )


def test_foreign_layers_come_from_their_own_place(registry: FaultRegistry, transfers: Transfers) -> None:
    with FaultRegistry(host="127.0.0.2") as elsewhere:
        tar = make_tar({"a": b"foreign"})
        image = registry.add_image("app", [tar])
        elsewhere.add_blob(registry.blobs[image.layers[0]], "foreign")
        url = f"{elsewhere.url}/v2/foreign/blobs/{image.layers[0]}"
        image = registry.add_image("app", [tar], urls=[url])
        registry.owners["app"].discard(image.layers[0])
        assert transfers.pull(f"{registry.host}/app").error is None
        assert len(elsewhere.asked("/blobs/")) == 1


# Refusals


def errors(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


UNKNOWN = "manifest for {name}:latest not found: manifest unknown: manifest unknown"
DENIED = "pull access denied for {name}, repository does not exist or may require 'docker login': denied: no"


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (404, errors("MANIFEST_UNKNOWN", "manifest unknown"), NotFound, UNKNOWN),
        (404, errors("NAME_UNKNOWN", "no such"), NotFound, "repository {name} not found: name unknown: no such"),
        (403, errors("DENIED", "no"), NotFound, DENIED),
        (401, errors("UNAUTHORIZED", "who"), Refused, "unauthorized: who"),
        (429, errors("TOOMANYREQUESTS", "Slow down."), Refused, "toomanyrequests: Slow down."),
        (500, b"", Refused, "received unexpected HTTP status: 500 Internal Server Error"),
    ],
)
def test_refusals(
    registry: FaultRegistry, transfers: Transfers, status: int, body: bytes, kind: type, words: str
) -> None:
    registry.fault("/manifests/", status=status, body=body)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert type(outcome.error) is kind
    assert str(outcome.error) == words.format(name=f"{registry.host}/team/app")
    assert outcome.progress == []


def test_a_repository_that_a_token_does_not_reach(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.bearer = ("", "")
    challenge = f'Bearer realm="{registry.realm}",service="s",error="insufficient_scope"'
    body = errors("UNAUTHORIZED", "authentication required")
    registry.fault("/manifests/", status=401, body=body, headers={"WWW-Authenticate": challenge})
    outcome = transfers.pull(f"{registry.host}/team/app")
    words = DENIED.format(name=f"{registry.host}/team/app").removesuffix("no")
    assert str(outcome.error) == words + "requested access to the resource is denied"
    assert isinstance(outcome.error, NotFound)


def test_a_kept_connection_that_ended_is_no_failure(registry: FaultRegistry, transfers: Transfers) -> None:
    three_layers(registry)
    registry.fault("/manifests/", drop=True, times=1)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    registry.fault("/v2/", drop=True)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert str(outcome.error) == f'Get "{registry.url}/v2/": EOF'


def test_no_proxy_stands_before_this_machine(
    registry: FaultRegistry, transfers: Transfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_layers(registry)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert len(registry.requests) > 3


def test_headers_for_the_registry_go_to_it_alone(registry: FaultRegistry, transfers: Transfers) -> None:
    image = three_layers(registry)
    with FaultRegistry(host="127.0.0.2") as elsewhere:
        three_layers(elsewhere)
        registry.fault(image.layers[0], redirect=elsewhere.url)
        meta = {"X-Meta-Source": "here", "X-Other": "no"}
        job = Pull(image=f"{registry.host}/team/app", tag="latest", platform="linux/amd64", meta_headers=meta)
        assert transfers.run(job).error is None
        assert registry.asked(image.layers[0])[0].headers["x-meta-source"] == "here"
        assert not any("x-other" in item.headers for item in registry.requests)
        assert not any("x-meta-source" in item.headers for item in elsewhere.requests)


def test_nobody_there(transfers: Transfers) -> None:
    outcome = transfers.pull("127.0.0.1:1/x")
    words = 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
    assert isinstance(outcome.error, Unreachable)
    assert str(outcome.error) == words


def test_no_such_host(transfers: Transfers) -> None:
    outcome = transfers.pull("no-such-registry.invalid/x")
    assert isinstance(outcome.error, Unreachable)
    assert str(outcome.error).startswith(
        'Get "https://no-such-registry.invalid/v2/": dial tcp: lookup no-such-registry.invalid: '
    )


def test_bad_references(transfers: Transfers) -> None:
    assert isinstance(transfers.pull("Foo").error, InvalidParameter)
    assert isinstance(transfers.pull("foo", "no tag").error, InvalidParameter)
    assert isinstance(transfers.pull("foo", platform="a/b/c/d").error, InvalidParameter)


def test_schema_1_is_refused_clearly(registry: FaultRegistry, transfers: Transfers) -> None:
    raw = b'{"schemaVersion":1,"fsLayers":[]}'
    registry.add_manifest("old", "latest", "application/vnd.docker.distribution.manifest.v1+prettyjws", raw)
    outcome = transfers.pull(f"{registry.host}/old")
    assert isinstance(outcome.error, NotSupported)
    assert "schema 1" in str(outcome.error)


def test_a_truncated_manifest(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.add_manifest("app", "latest", DOCKER_MANIFEST, b'{"schemaVersion":2,')
    assert isinstance(transfers.pull(f"{registry.host}/app").error, BadAnswer)


def test_a_huge_manifest_is_not_read(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.add_manifest("app", "latest", DOCKER_MANIFEST, b"{" + b" " * (4 << 20) + b"}")
    assert isinstance(transfers.pull(f"{registry.host}/app").error, BadAnswer)


def test_a_manifest_that_is_not_its_digest(registry: FaultRegistry, transfers: Transfers) -> None:
    image = three_layers(registry)
    registry.fault("/manifests/", corrupt=True)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert isinstance(outcome.error, Corrupt)
    assert str(outcome.error) == f"manifest verification failed for digest {image.digest}"


def test_a_manifest_that_is_not_what_its_header_says(registry: FaultRegistry, transfers: Transfers) -> None:
    image = three_layers(registry)
    registry.fault("/manifests/", method="HEAD", status=405)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    registry.fault("/manifests/", corrupt=True)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert str(outcome.error) == f"manifest verification failed for digest {image.digest}"


def test_a_configuration_of_no_known_length_is_bounded(registry: FaultRegistry, transfers: Transfers) -> None:
    image = three_layers(registry)
    registry.blobs[image.image_id] = b" " * (9 << 20)
    registry.fault(image.image_id, chunked=True)
    outcome = transfers.pull(f"{registry.host}/team/app")
    words = "error pulling image configuration: image config is longer than the 8388608 bytes that are allowed"
    assert str(outcome.error) == words


def test_a_configuration_that_is_not_its_digest(registry: FaultRegistry, transfers: Transfers) -> None:
    image = three_layers(registry)
    registry.fault(image.image_id, corrupt=True)
    outcome = transfers.pull(f"{registry.host}/team/app")
    words = f"error pulling image configuration: image config verification failed for digest {image.image_id}"
    assert str(outcome.error) == words
    assert transfers.graph.layers == {}


def test_a_missing_layer(registry: FaultRegistry, transfers: Transfers) -> None:
    image = three_layers(registry)
    registry.owners["team/app"].discard(image.layers[1])
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert str(outcome.error) == "unknown blob"
    assert transfers.graph.images == {}
    assert transfers.graph.names == {}


def test_the_wrong_diff_id(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.add_image("app", [make_tar({"a": b"1"})], diff_ids=["sha256:" + "1" * 64])
    outcome = transfers.pull(f"{registry.host}/app")
    assert isinstance(outcome.error, Corrupt)
    assert str(outcome.error).startswith("layers from manifest don't match image configuration")
    assert transfers.graph.images == {}
    assert transfers.partial() == {}


# Layers that come badly


def test_a_wrong_digest_leaves_nothing(registry: FaultRegistry, transfers: Transfers) -> None:
    image = one_layer(registry)
    registry.fault(image.layers[0], corrupt=True)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert isinstance(outcome.error, Corrupt)
    assert str(outcome.error) == f"filesystem layer verification failed for digest {image.layers[0]}"
    assert transfers.partial() == {}
    assert transfers.graph.layers == {}
    assert transfers.graph.names == {}
    assert len(registry.asked(image.layers[0])) == 1


def test_a_cut_download_goes_on_where_it_ended(registry: FaultRegistry, transfers: Transfers) -> None:
    image = one_layer(registry)
    registry.fault(image.layers[0], cut=200_000, times=1)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert outcome.error is None
    asked = registry.asked(image.layers[0])
    assert [item.headers.get("range") for item in asked] == [None, "bytes=200000-"]
    assert f"{short(image.layers[0])}: Retrying in 1 second" in outcome.lines


def test_cuts_that_bring_something_do_not_end_the_pull(registry: FaultRegistry, transfers: Transfers) -> None:
    image = one_layer(registry, 1_000_000)
    registry.fault(image.layers[0], cut=70_000)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert outcome.error is None
    assert len(registry.asked(image.layers[0])) == 15


def test_cuts_that_bring_nothing_end_it_after_five_attempts(registry: FaultRegistry, transfers: Transfers) -> None:
    image = one_layer(registry)
    registry.fault(image.layers[0], cut=0)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert isinstance(outcome.error, Unreachable)
    assert len(registry.asked(image.layers[0])) == 5
    assert transfers.waited == 5 + 10 + 15 + 20
    waits = [line.partition(": ")[2] for line in outcome.lines if "Retrying" in line]
    assert waits[:6] == [
        *(f"Retrying in {left} seconds" for left in (5, 4, 3, 2)),
        "Retrying in 1 second",
        "Retrying in 10 seconds",
    ]


def test_a_passing_error_is_tried_again(registry: FaultRegistry, transfers: Transfers) -> None:
    image = one_layer(registry)
    registry.fault(image.layers[0], status=503, times=2)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert len(registry.asked(image.layers[0])) == 3


def test_retry_after_is_heeded(registry: FaultRegistry, transfers: Transfers) -> None:
    image = one_layer(registry)
    registry.fault(image.layers[0], status=429, times=1, headers={"Retry-After": "17"})
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert transfers.waited == 17


def test_a_final_error_is_not_tried_again(registry: FaultRegistry, transfers: Transfers) -> None:
    image = one_layer(registry)
    registry.fault(image.layers[0], status=403, body=errors("DENIED", "no"))
    assert isinstance(transfers.pull(f"{registry.host}/team/app").error, NotFound)
    assert len(registry.asked(image.layers[0])) == 1


def test_a_registry_without_ranges_starts_over(registry: FaultRegistry, transfers: Transfers) -> None:
    image = one_layer(registry)
    registry.fault(image.layers[0], cut=300_000, times=1)
    registry.fault(image.layers[0], no_range=True)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert len(registry.asked(image.layers[0])) == 2


@pytest.mark.parametrize("cut", [-1, 300_000])
def test_a_body_of_unknown_length(registry: FaultRegistry, transfers: Transfers, cut: int) -> None:
    image = one_layer(registry)
    registry.fault(image.layers[0], chunked=True, cut=cut, times=1)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert len(registry.asked(image.layers[0])) == (1 if cut < 0 else 2)


def test_another_range_than_the_one_asked_for(registry: FaultRegistry, transfers: Transfers) -> None:
    image = one_layer(registry)
    registry.fault(image.layers[0], cut=300_000, times=1)
    registry.fault(image.layers[0], lie_range=True, times=1)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert [item.headers.get("range") for item in registry.asked(image.layers[0])] == [None, "bytes=300000-", None]


def test_a_part_of_an_earlier_life_is_used(registry: FaultRegistry, transfers: Transfers, tmp_path: Path) -> None:
    image = one_layer(registry)
    blob = registry.blobs[image.layers[0]]
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / image.layers[0].replace(":", "-")).write_bytes(blob[:123_456])
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert [item.headers.get("range") for item in registry.asked(image.layers[0])] == ["bytes=123456-"]


def test_a_part_that_is_whole_needs_no_request(registry: FaultRegistry, transfers: Transfers, tmp_path: Path) -> None:
    image = one_layer(registry)
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / image.layers[0].replace(":", "-")).write_bytes(registry.blobs[image.layers[0]])
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert registry.asked(image.layers[0]) == []


@pytest.mark.parametrize("size", [1000, 600_000])
def test_a_bad_part_of_an_earlier_life_is_dropped(
    registry: FaultRegistry, transfers: Transfers, tmp_path: Path, size: int
) -> None:
    image = one_layer(registry)
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / image.layers[0].replace(":", "-")).write_bytes(b"\0" * size)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert transfers.partial() == {}


def test_a_layer_that_is_longer_than_it_should_be(registry: FaultRegistry, transfers: Transfers) -> None:
    image = one_layer(registry)
    registry.blobs[image.layers[0]] += b"more"
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert isinstance(outcome.error, BadAnswer)
    assert transfers.graph.layers == {}


def test_a_stalled_download_is_tried_again(registry: FaultRegistry, tmp_path: Path) -> None:
    transfers = Transfers(tmp_path, options={"stall_timeout_s": 0.2})
    image = one_layer(registry)
    fault = registry.fault(image.layers[0], hold=threading.Event(), hold_after=100_000, times=1)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert fault.reached.is_set()
    assert [item.headers.get("range") for item in registry.asked(image.layers[0])] == [None, "bytes=100000-"]
    transfers.close()


# Several at once


def test_three_downloads_at_once_in_the_whole_daemon(registry: FaultRegistry, transfers: Transfers) -> None:
    tars = [make_tar({"data": noise(300_000, seed)}) for seed in range(8)]
    for name, own in (("one", tars[:4]), ("two", tars[4:])):
        registry.fault(registry.add_image(name, own).image_id)  # a configuration comes without delay
    hold = threading.Event()
    registry.fault("/blobs/", hold=hold, hold_after=10)
    pulls = [transfers.start_pull(f"{registry.host}/{name}") for name in ("one", "two")]
    assert registry.wait_for(lambda: sum("Waiting" in line for pull in pulls for line in pull.lines) == 5)
    assert registry.wait_for(lambda: registry.concurrent == 3)
    hold.set()
    assert [pull.outcome().error for pull in pulls] == [None, None]


def test_two_pulls_of_one_layer_fetch_it_once(registry: FaultRegistry, transfers: Transfers) -> None:
    tar = make_tar({"data": noise(400_000)})
    image = registry.add_image("one", [tar])
    registry.add_image("two", [tar], config={"author": "somebody else"})
    hold = threading.Event()
    fault = registry.fault(image.layers[0], hold=hold, hold_after=100_000, times=1)
    first = transfers.start_pull(f"{registry.host}/one")
    assert fault.reached.wait(10)
    second = transfers.start_pull(f"{registry.host}/two")
    assert registry.wait_for(lambda: layer_jobs(transfers) == 2)
    hold.set()
    assert first.outcome().error is None
    assert second.outcome().error is None
    assert len(registry.asked(image.layers[0])) == 1
    assert len(transfers.graph.images) == 2
    assert transfers.partial() == {}


def test_the_second_goes_on_when_the_first_client_leaves(registry: FaultRegistry, transfers: Transfers) -> None:
    tar = make_tar({"data": noise(400_000)})
    image = registry.add_image("one", [tar])
    registry.add_image("two", [tar], config={"author": "somebody else"})
    fault = registry.fault(f"one/blobs/{image.layers[0]}", hold=threading.Event(), hold_after=100_000, times=1)
    first = transfers.start_pull(f"{registry.host}/one")
    assert fault.reached.wait(10)
    assert registry.wait_for(lambda: transfers.partial() == {image.layers[0].replace(":", "-"): 100_000})
    second = transfers.start_pull(f"{registry.host}/two")
    assert registry.wait_for(lambda: layer_jobs(transfers) == 2)
    first.cancel.cancel()
    assert isinstance(first.outcome().error, Cancelled)
    assert second.outcome().error is None
    assert [item.headers.get("range") for item in registry.asked(f"two/blobs/{image.layers[0]}")] == ["bytes=100000-"]


def test_a_cancelled_pull_ends_at_once_and_keeps_what_came(registry: FaultRegistry, transfers: Transfers) -> None:
    image = one_layer(registry)
    fault = registry.fault(image.layers[0], hold=threading.Event(), hold_after=100_000, times=1)
    pull = transfers.start_pull(f"{registry.host}/team/app")
    assert fault.reached.wait(10)
    name = image.layers[0].replace(":", "-")
    assert registry.wait_for(lambda: transfers.partial() == {name: 100_000})
    pull.cancel.cancel()
    assert isinstance(pull.outcome(4).error, Cancelled)
    assert transfers.partial() == {name: 100_000}
    assert transfers.graph.layers == {}
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert registry.asked(image.layers[0])[-1].headers["range"] == "bytes=100000-"


@pytest.mark.parametrize("part", ["/v2/", "/manifests/", "/blobs/"])
def test_a_registry_that_never_answers_does_not_hold_a_client(
    registry: FaultRegistry, transfers: Transfers, part: str
) -> None:
    one_layer(registry)
    fault = registry.fault(part, silent=True, hold=threading.Event())
    pull = transfers.start_pull(f"{registry.host}/team/app")
    assert fault.reached.wait(10)
    pull.cancel.cancel()
    assert isinstance(pull.outcome(3).error, Cancelled)


def test_one_bad_layer_stops_the_others(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.add_image("app", [make_tar({"data": noise(300_000, seed)}) for seed in range(3)])
    slow = registry.fault(image.layers[0], hold=threading.Event(), hold_after=1000)
    registry.fault(image.layers[2], corrupt=True, hold=slow.reached)
    outcome = transfers.start_pull(f"{registry.host}/app").outcome(4)
    assert slow.reached.is_set()
    assert str(outcome.error) == f"filesystem layer verification failed for digest {image.layers[2]}"


def test_layers_are_applied_in_order_whatever_comes_first(registry: FaultRegistry, transfers: Transfers) -> None:
    image = three_layers(registry)
    hold = threading.Event()
    registry.fault(image.layers[0], hold=hold, hold_after=1)
    pull = transfers.start_pull(f"{registry.host}/team/app")
    assert registry.wait_for(lambda: len(registry.asked("/blobs/")) == 4)
    assert transfers.graph.registered == []
    hold.set()
    assert pull.outcome().error is None
    assert [transfers.graph.layers[chain].diff_id for chain in transfers.graph.registered] == image.diff_ids


def test_a_bad_layer_takes_the_others_parts_with_it(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.add_image("app", [make_tar({"data": noise(300_000, seed)}) for seed in range(3)])
    slow = registry.fault(image.layers[0], hold=threading.Event(), hold_after=1000)
    registry.fault(image.layers[2], corrupt=True, hold=slow.reached)
    assert isinstance(transfers.start_pull(f"{registry.host}/app").outcome(4).error, Corrupt)
    assert slow.reached.is_set()
    assert transfers.partial() == {}


def test_a_registry_that_fails_leaves_the_parts(registry: FaultRegistry, transfers: Transfers) -> None:
    image = one_layer(registry)
    registry.fault(image.layers[0], cut=100_000, times=1)
    registry.fault(image.layers[0], status=403)
    assert isinstance(transfers.pull(f"{registry.host}/team/app").error, Refused)
    assert transfers.partial() == {image.layers[0].replace(":", "-"): 100_000}


def test_a_full_disk(registry: FaultRegistry, transfers: Transfers, monkeypatch: pytest.MonkeyPatch) -> None:
    image = one_layer(registry)

    def full(_file: int, _data: object, _offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyker.registry.downloads.os.pwrite", full)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert type(outcome.error) is NoSpace
    assert str(outcome.error).endswith(": no space left on device")
    assert transfers.partial() == {}
    assert len(registry.asked(image.layers[0])) == 1


# Other places


def test_a_mirror_comes_first(tmp_path: Path) -> None:
    with FaultRegistry() as main, FaultRegistry(host="127.0.0.2") as mirror:
        image = three_layers(main)
        three_layers(mirror)
        transfers = Transfers(tmp_path, options={"mirrors": (f"{main.host}={mirror.url}",)})
        assert transfers.pull(f"{main.host}/team/app").error is None
        assert main.requests == []
        assert list(transfers.graph.images) == [image.image_id]
        transfers.close()


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_mirror_that_asks_for_credentials_gets_none(tmp_path: Path, scheme: str) -> None:
    with FaultRegistry() as main, FaultRegistry(host="127.0.0.2") as mirror:
        for registry in (main, mirror):
            three_layers(registry)
            setattr(registry, scheme, ("user", "geheim"))
        transfers = Transfers(tmp_path, options={"mirrors": (f"{main.host}={mirror.url}",)})
        auth = RegistryAuth(username="user", password="geheim")
        assert transfers.pull(f"{main.host}/team/app", auth=auth).error is None
        assert mirror.requests != []
        assert not any("authorization" in item.headers or "account" in item.path for item in mirror.requests)
        transfers.close()


@pytest.mark.parametrize("how", ["gone", "unknown", "broken", "corrupt"])
def test_a_mirror_that_fails_is_passed_over(tmp_path: Path, how: str) -> None:
    with FaultRegistry() as main, FaultRegistry(host="127.0.0.2") as mirror:
        image = three_layers(main)
        url = mirror.url
        match how:
            case "gone":
                url = "http://127.0.0.1:1"
            case "broken":
                three_layers(mirror)
                mirror.fault("/manifests/", status=502)
            case "corrupt":
                three_layers(mirror)
                mirror.fault(image.layers[1], corrupt=True)
            case _:
                pass
        transfers = Transfers(tmp_path, options={"mirrors": (f"{main.host}={url}",)})
        assert transfers.pull(f"{main.host}/team/app").error is None
        assert list(transfers.graph.images) == [image.image_id]
        transfers.close()


def test_what_a_mirror_cut_off_is_finished_elsewhere(tmp_path: Path) -> None:
    with FaultRegistry() as main, FaultRegistry(host="127.0.0.2") as mirror:
        image = one_layer(main)
        one_layer(mirror)
        mirror.fault(image.layers[0], cut=200_000, times=1)
        mirror.fault(image.layers[0], status=404)
        transfers = Transfers(tmp_path, options={"mirrors": (f"{main.host}={mirror.url}",)})
        assert transfers.pull(f"{main.host}/team/app").error is None
        assert [item.headers.get("range") for item in main.asked(image.layers[0])] == ["bytes=200000-"]
        transfers.close()


def test_digests_are_what_sha256sum_says(registry: FaultRegistry) -> None:
    image = three_layers(registry)
    assert digest_of(registry.blobs[image.layers[0]]) == image.layers[0]
