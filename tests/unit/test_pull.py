"""Pull, against a registry that behaves and one that does not."""

from __future__ import annotations

import pytest

from pyker.errors import Corrupt, InvalidParameter, NotFound, NotSupported
from pyker.jobs.images import Pull, PullLayer
from pyker.registry.answers import BadAnswer, Refused, Unreachable
from pyker.types.ids import Digest, short
from pyker.types.reference import parse
from tests.support.fault_registry import DOCKER_MANIFEST, FaultRegistry, errors, make_tar
from tests.support.transfers import Transfers

# What the user sees


def test_the_lines_of_a_first_pull(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.three_layers()
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
    image = registry.three_layers()
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
    image = registry.three_layers()
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
    image = registry.three_layers()
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


@pytest.mark.claim("registry-manifest-types", "registry-layer-types")
@pytest.mark.parametrize(("oci", "compression"), [(False, "gzip"), (True, "gzip"), (True, "zstd"), (True, "plain")])
def test_formats(registry: FaultRegistry, transfers: Transfers, oci: bool, compression: str) -> None:
    image = registry.three_layers(oci=oci, compression=compression)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert [layer.diff_id for layer in transfers.graph.layers.values()] == image.diff_ids


@pytest.mark.claim("registry-platforms")
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
    image = registry.three_layers("app")
    entry = registry.entry(image, "amd64")
    for tag in ("one", "two", "three", "four"):
        digest = registry.add_index("app", [entry], tag=tag)
        media_type, raw = registry.manifests["app", digest]
        platform = {"os": "linux", "architecture": "amd64"}
        entry = {"mediaType": media_type, "digest": digest, "size": len(raw), "platform": platform}
    assert transfers.pull(f"{registry.host}/app", "three").error is None
    assert isinstance(transfers.pull(f"{registry.host}/app", "four").error, BadAnswer)


def test_the_wrong_platform_is_told(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.three_layers()
    outcome = transfers.pull(f"{registry.host}/team/app", platform="linux/arm64")
    assert outcome.lines[-1] == (
        f"WARNING: image with reference {registry.host}/team/app:latest was found but does not match the specified "
        "platform: wanted linux/arm64, actual: linux/amd64"
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
    registry.three_layers()
    registry.fault("/manifests/", drop=True, times=1)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    registry.fault("/v2/", drop=True)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert str(outcome.error) == f'Get "{registry.url}/v2/": EOF'


def test_no_proxy_stands_before_this_machine(
    registry: FaultRegistry, transfers: Transfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.three_layers()
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert transfers.pull(f"{registry.host}/team/app").error is None
    assert len(registry.requests) > 3


def test_headers_for_the_registry_go_to_it_alone(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.three_layers()
    with FaultRegistry(host="127.0.0.2") as elsewhere:
        elsewhere.three_layers()
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
    image = registry.three_layers()
    registry.fault("/manifests/", corrupt=True)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert isinstance(outcome.error, Corrupt)
    assert str(outcome.error) == f"manifest verification failed for digest {image.digest}"


def test_a_manifest_that_is_not_what_its_header_says(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.three_layers()
    registry.fault("/manifests/", method="HEAD", status=405)
    assert transfers.pull(f"{registry.host}/team/app").error is None
    registry.fault("/manifests/", corrupt=True)
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert str(outcome.error) == f"manifest verification failed for digest {image.digest}"


def test_a_configuration_of_no_known_length_is_bounded(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.three_layers()
    registry.blobs[image.image_id] = b" " * (9 << 20)
    registry.fault(image.image_id, chunked=True)
    outcome = transfers.pull(f"{registry.host}/team/app")
    words = "error pulling image configuration: image config is longer than the 8388608 bytes that are allowed"
    assert str(outcome.error) == words


def test_a_configuration_that_is_not_its_digest(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.three_layers()
    registry.fault(image.image_id, corrupt=True)
    outcome = transfers.pull(f"{registry.host}/team/app")
    words = f"error pulling image configuration: image config verification failed for digest {image.image_id}"
    assert str(outcome.error) == words
    assert transfers.graph.layers == {}


def test_a_missing_layer(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.three_layers()
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
