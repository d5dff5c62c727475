"""Pull and push as streams of records, with the names, credentials and platforms that may be asked for; search."""

from __future__ import annotations

import re
import tarfile
from base64 import urlsafe_b64encode

import pytest

from tests.conformance.conftest import Shelf
from tests.support import images
from tests.support.asking import filters, get, image_id, message, records
from tests.support.engines import Engine, Reply

EMPTY = {"X-Registry-Auth": "e30="}


def _one(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "one", b"1\n")


def _two(tar: tarfile.TarFile) -> None:
    images.add_file(tar, "two", b"22\n")


def _pull(engine: Engine, reference: str, query: str = "", **headers: str) -> Reply:
    name, _, tag = reference.rpartition(":")
    return engine.request("POST", f"/images/create?fromImage={name}&tag={tag}{query}", headers=headers)


@pytest.mark.claim("POST /images/create", "rule-pull")
def test_the_records_of_a_pull(engine: Engine, shelf: Shelf) -> None:
    reference = shelf.add("transfer/records:1", layers=(_one, _two), label="transfer-records")
    reply = _pull(engine, reference)
    assert reply.status == 200 and reply.headers["content-type"] == "application/json"
    assert reply.body.count(b"\r\n") == reply.body.count(b"\n") == len(records(reply))
    told = records(reply)
    assert told[0] == {"status": "Pulling from transfer/records", "id": "1"}
    identities = [record["id"] for record in told if record["status"] == "Pulling fs layer"]
    assert len(identities) == 2 and all(re.fullmatch(r"[0-9a-f]{12}", each) for each in identities)
    for each in identities:
        states = [record["status"] for record in told if record.get("id") == each]
        # The reference engine leaves states out when they follow each other fast, but never the first and the last.
        steps = [s for s in ("Pulling fs layer", "Download complete", "Pull complete") if s in states]
        assert states[0] == "Pulling fs layer" and states[-1] == "Pull complete"
        assert [s for s in states if s in steps] == steps
        assert all("progressDetail" in record for record in told if record.get("id") == each)
    done = [record["id"] for record in told if record["status"] == "Pull complete"]
    assert done == identities
    assert re.fullmatch(r"Digest: sha256:[0-9a-f]{64}", told[-2]["status"])
    assert told[-1] == {"status": f"Status: Downloaded newer image for {reference}"}
    engine.docker("rmi", reference, check=True)


@pytest.mark.claim("POST /images/create", "rule-pull")
def test_without_a_tag_every_tag_is_pulled(engine: Engine, shelf: Shelf) -> None:
    first = shelf.add("transfer/all:first", layers=(_one,), label="transfer-first")
    second = shelf.add("transfer/all:second", layers=(_two,), label="transfer-second")
    name = first.rpartition(":")[0]
    reply = engine.request("POST", f"/images/create?fromImage={name}")
    assert reply.status == 200
    assert image_id(engine, first) != image_id(engine, second)
    engine.docker("rmi", first, second, check=True)
    out = engine.docker("pull", "-a", name, check=True).out
    assert "first: Pulling from" in out and "second: Pulling from" in out
    engine.docker("rmi", first, second, check=True)


@pytest.mark.claim("POST /images/create", "rule-image-references")
def test_by_digest_and_by_digest_as_tag(engine: Engine, shelf: Shelf) -> None:
    reference = shelf.add("transfer/digest:1", layers=(_one,), label="transfer-digest")
    engine.docker("pull", "-q", reference, check=True)
    digest = get(engine, f"/images/{reference}/json")["RepoDigests"][0]
    wanted = image_id(engine, reference)
    engine.docker("rmi", reference, check=True)
    name, _, hexadecimal = digest.partition("@")
    for query in (f"fromImage={digest}", f"fromImage={name}&tag={hexadecimal}"):
        assert engine.request("POST", f"/images/create?{query}").status == 200
        row = get(engine, f"/images/{digest}/json")
        assert (row["Id"], row["RepoDigests"]) == (wanted, [digest])
        assert row["RepoTags"] in ([], ["<none>:<none>"])
        assert engine.request("DELETE", f"/images/{digest}").status == 200


@pytest.mark.claim("POST /images/create", "rule-pull")
@pytest.mark.parametrize("header", ["e30=", "!!!", "", urlsafe_b64encode(b'{"username":"u","password":"p"}').decode()])
def test_credentials_that_nobody_asks_for(engine: Engine, busybox: str, header: str) -> None:
    assert _pull(engine, busybox, **{"X-Registry-Auth": header}).status == 200


@pytest.mark.claim("POST /images/create", "rule-pull", "rule-errors-in-streams")
@pytest.mark.parametrize(
    ("name", "query", "status", "words"),
    [
        ("{0}/nope/x:1", "", 404, "manifest for {0}/nope/x:1 not found: manifest unknown: manifest unknown"),
        ("127.0.0.1:1/x:1", "", 500, "connect: connection refused"),
        ("UPPER:1", "", 400, "must be lowercase"),
        ("{0}/test/busybox:1", "&platform=a/b/c/d", 400, "cannot parse platform specifier"),
    ],
    ids=["unknown", "refused", "upper", "platform"],
)
def test_what_fails_before_the_first_record(
    engine: Engine, shelf: Shelf, name: str, query: str, status: int, words: str
) -> None:
    reply = _pull(engine, name.format(shelf.registry.address), query)
    assert reply.status == status and words.format(shelf.registry.address) in message(reply), reply


@pytest.mark.claim("POST /images/create", "rule-pull")
def test_an_unknown_repository(engine: Engine, shelf: Shelf) -> None:
    reply = engine.request("POST", f"/images/create?fromImage={shelf.registry.address}/nope/x")
    words = f"repository {shelf.registry.address}/nope/x not found: name unknown: repository name not known to registry"
    assert (reply.status, message(reply)) == (404, words)


@pytest.mark.claim("POST /images/create", "rule-pull")
def test_another_platform_is_told(engine: Engine, busybox: str) -> None:
    """The registry has one image, for the platform of the machine."""
    reply = engine.request("POST", f"/images/create?fromImage={busybox}&platform=linux/s390x")
    words = "was found but does not match the specified platform: wanted linux/s390x, actual: linux/amd64"
    assert records(reply)[-1] == {"status": f"WARNING: image with reference {busybox} {words}"}


@pytest.mark.claim("POST /images/{name}/push", "rule-push")
def test_the_records_of_a_push(engine: Engine, shelf: Shelf) -> None:
    reference = shelf.add("transfer/source:1", layers=(_one, _two), label="transfer-source")
    target = f"{shelf.registry.address}/transfer/target:1"
    engine.docker("pull", "-q", reference, check=True)
    engine.docker("tag", reference, target, check=True)
    name = target.rpartition(":")[0]
    reply = engine.request("POST", f"/images/{name}/push?tag=1", headers=EMPTY)
    told = records(reply)
    assert reply.status == 200
    assert told[0] == {"status": f"The push refers to repository [{name}]"}
    layers = get(engine, f"/images/{target}/json")["RootFS"]["Layers"]
    assert {record["id"] for record in told if "id" in record} == {layer[7:19] for layer in layers}
    assert [record["id"] for record in told if record.get("status") == "Preparing"] == [
        layer[7:19] for layer in reversed(layers)
    ]
    digest, size = re.fullmatch(r"1: digest: (sha256:[0-9a-f]{64}) size: (\d+)", told[-2]["status"]).groups()  # type: ignore[union-attr]
    assert told[-1] == {"progressDetail": {}, "aux": {"Tag": "1", "Digest": digest, "Size": int(size)}}
    assert f"{name}@{digest}" in get(engine, f"/images/{target}/json")["RepoDigests"]
    again = records(engine.request("POST", f"/images/{name}/push?tag=1", headers=EMPTY))
    assert sum(record.get("status") == "Layer already exists" for record in again) == 2
    assert again[-1] == told[-1]
    engine.docker("rmi", reference, target, check=True)


@pytest.mark.claim("POST /images/{name}/push", "rule-push")
def test_without_a_tag_every_tag_is_pushed(engine: Engine, shelf: Shelf, busybox: str) -> None:
    name = f"{shelf.registry.address}/transfer/tags"
    for tag in ("a", "b"):
        engine.docker("tag", busybox, f"{name}:{tag}", check=True)
    out = engine.docker("push", "-a", name, check=True).out
    assert re.search(r"^a: digest: ", out, re.M) and re.search(r"^b: digest: ", out, re.M)
    engine.docker("rmi", f"{name}:a", f"{name}:b", check=True)


@pytest.mark.claim("POST /images/{name}/push", "rule-push")
def test_a_push_needs_a_header_or_a_body(engine: Engine, busybox: str) -> None:
    """A name of its own: an engine that pushes nevertheless must not replace what other tests pull."""
    target = busybox.replace("test/busybox:1", "test/no-header:1")
    engine.docker("tag", busybox, target, check=True)
    reply = engine.request("POST", f"/images/{target}/push?tag=1")
    engine.docker("rmi", target, check=True)
    assert (reply.status, message(reply)) == (400, "Bad parameters and missing X-Registry-Auth: EOF")


@pytest.mark.claim("POST /images/{name}/push", "rule-push", "rule-errors-in-streams")
@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("", "An image does not exist locally with the tag: {}"),
        ("9", "An image does not exist locally with the tag: {}"),
    ],
)
def test_push_of_what_is_not_there(engine: Engine, shelf: Shelf, tag: str, words: str) -> None:
    name = f"{shelf.registry.address}/transfer/nothing"
    reply = engine.request("POST", f"/images/{name}/push?tag={tag}", headers=EMPTY)
    last = records(reply)[-1]
    assert reply.status == 200
    assert last == {"errorDetail": {"message": words.format(name)}, "error": words.format(name)}


@pytest.mark.claim("POST /images/{name}/push", "rule-errors-in-streams")
def test_push_to_a_registry_that_does_not_answer(engine: Engine, busybox: str) -> None:
    target = "127.0.0.1:1/transfer/away:1"
    engine.docker("tag", busybox, target, check=True)
    done = engine.docker("push", target)
    assert done.code == 1 and "connect: connection refused" in done.err
    engine.docker("rmi", target, check=True)


@pytest.mark.claim("GET /images/search", "rule-search")
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("term=x&limit=200", "Limit 200 is outside the range of [1, 100]"),
        ("term=x&limit=-1", "Limit -1 is outside the range of [1, 100]"),
        (f"term=x&{filters(bogus=['a'])}", "Invalid filter 'bogus'"),
        (f"term=x&{filters(stars=['a'])}", "Invalid filter 'stars=a'"),
    ],
    ids=["many", "negative", "key", "stars"],
)
def test_searches_that_cannot_be(engine: Engine, query: str, words: str) -> None:
    reply = engine.request("GET", f"/images/search?{query}")
    assert (reply.status, message(reply)) == (400, words)


@pytest.mark.claim("GET /images/search", "rule-search")
def test_search_asks_the_registry_that_the_term_names(engine: Engine) -> None:
    reply = engine.request("GET", "/images/search?term=127.0.0.1:1/x")
    assert reply.status == 500 and "dial tcp 127.0.0.1:1: connect: connection refused" in message(reply)
