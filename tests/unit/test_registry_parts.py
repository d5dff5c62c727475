"""The registry client's pure parts: options, challenges, refusals, manifests, platforms, places in a queue."""

from __future__ import annotations

import json
import threading

import pytest

from pyker.engine.job import CancelToken
from pyker.errors import Cancelled, Corrupt, InvalidParameter, NotFound, NotSupported, PykerError, SystemFailure
from pyker.registry.answers import BadAnswer, refusal
from pyker.registry.auth import Credentials
from pyker.registry.cancel import NEVER
from pyker.registry.challenge import parse_challenges
from pyker.registry.config import RegistryConfig, check_insecure_registry, check_mirror
from pyker.registry.endpoints import pull_endpoints, push_endpoints
from pyker.registry.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1_SIGNED,
    Descriptor,
    Index,
    Manifest,
    Platform,
    Raw,
    digest_of,
    parse,
    parse_config,
    verify,
)
from pyker.registry.platforms import choose, host_platform, parse_platform, suits
from pyker.registry.slots import Slots
from pyker.types.ids import Digest

SHA = Digest("sha256:" + "b" * 64)


# Options


@pytest.mark.claim("registry-insecure")
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:5000", "127.9.9.9:1", "localhost:5000", "[::1]:5000"])
def test_loopback_is_always_insecure(host: str) -> None:
    assert RegistryConfig().insecure(host)


@pytest.mark.claim("registry-insecure")
def test_insecure_by_name_port_and_network() -> None:
    config = RegistryConfig(insecure_registries=("reg.example:5000", "plain.example", "10.1.0.0/16"))
    assert config.insecure("reg.example:5000")
    assert not config.insecure("reg.example")
    assert config.insecure("plain.example:8080")
    assert config.insecure("10.1.2.3:5000")
    assert not config.insecure("10.2.2.3:5000")
    assert not config.insecure("docker.io")


def test_endpoints() -> None:
    config = RegistryConfig(
        mirrors=("https://m.example/", "reg.example=http://near.example:5000"),
        local={"pyker.local": lambda: "http://127.0.0.1:1234"},
    )

    def urls(domain: str) -> list[str]:
        return [endpoint.url for endpoint in pull_endpoints(domain, config)]

    assert urls("docker.io") == ["https://m.example", "https://registry-1.docker.io"]
    assert urls("reg.example") == ["http://near.example:5000", "https://reg.example"]
    assert urls("127.0.0.1:5000") == ["https://127.0.0.1:5000", "http://127.0.0.1:5000"]
    assert urls("pyker.local") == ["http://127.0.0.1:1234"]
    assert [endpoint.url for endpoint in push_endpoints("docker.io", config)] == ["https://registry-1.docker.io"]


@pytest.mark.claim("registry-mirrors")
@pytest.mark.parametrize("good", ["https://m.example", "http://m:5000/", "reg.example:5000=https://m.example"])
def test_mirrors_that_are_taken(good: str) -> None:
    assert check_mirror(good) == good


@pytest.mark.parametrize(
    "bad", ["m.example", "ftp://m", "https://u:p@m.example", "https://m/?a=b", "https://m/#x", "https://", "https://-"]
)
def test_mirrors_that_are_refused(bad: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid mirror"):
        check_mirror(bad)


def test_bad_options_are_refused_at_once() -> None:
    with pytest.raises(InvalidParameter):
        RegistryConfig(mirrors=("ftp://m",))
    with pytest.raises(InvalidParameter):
        RegistryConfig(insecure_registries=("http://reg",))


def test_a_refused_mirror_shows_no_password() -> None:
    with pytest.raises(InvalidParameter) as caught:
        check_mirror("https://user:geheim@m.example")
    assert "geheim" not in str(caught.value)


def test_insecure_registries_that_are_refused() -> None:
    for good in ("reg.example", "reg.example:5000", "10.0.0.0/8", "[::1]:5000"):
        assert check_insecure_registry(good) == good
    for bad in ("http://reg", "10.0.0.0/99", "reg:port", "reg:0", "reg:99999", "-reg", "a b"):
        with pytest.raises(InvalidParameter):
            check_insecure_registry(bad)


# Challenges and refusals


def test_challenges() -> None:
    header = (
        'Bearer realm="https://a.b/token?x=1,2",service="s", scope="repository:a/b:pull,push" , Basic realm="q\\"x"'
    )
    bearer, basic = parse_challenges(header)
    assert bearer.scheme == "bearer"
    assert bearer.parameters == {
        "realm": "https://a.b/token?x=1,2",
        "service": "s",
        "scope": "repository:a/b:pull,push",
    }
    assert (basic.scheme, basic.parameters) == ("basic", {"realm": 'q"x'})


@pytest.mark.parametrize(
    ("header", "schemes"),
    [
        ("", []),
        ("Basic", ["basic"]),
        ("Negotiate, Basic realm=x", ["negotiate", "basic"]),
        ("BEARER REALM=x", ["bearer"]),
        (",,, =", []),
        ('Bearer realm="unclosed', ["bearer"]),
        ("x" * 100_000, ["x" * 8192]),
    ],
)
def test_odd_challenges(header: str, schemes: list[str]) -> None:
    assert [challenge.scheme for challenge in parse_challenges(header)] == schemes


def _errors(code: str, **more: str) -> bytes:
    return json.dumps({"errors": [{"code": code, **more}]}).encode()


@pytest.mark.parametrize(
    ("status", "body", "words", "passing"),
    [
        (404, _errors("MANIFEST_UNKNOWN", message="manifest unknown"), "manifest unknown: manifest unknown", False),
        (429, _errors("TOOMANYREQUESTS", message="Slow down."), "toomanyrequests: Slow down.", True),
        (401, b'{"details": "incorrect password"}', "unauthorized: incorrect password", False),
        (401, b"", "unauthorized: authentication required", False),
        (403, _errors("DENIED"), "denied: denied", False),
        (500, b"oops", "received unexpected HTTP status: 500 Internal Server Error", True),
        (503, _errors("UNAVAILABLE"), "received unexpected HTTP status: 503 Service Unavailable", True),
    ],
)
def test_refusals_in_the_reference_engines_words(status: int, body: bytes, words: str, passing: bool) -> None:
    error = refusal(status, body, {})
    assert str(error) == words
    assert error.passing is passing


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "unexpected end of JSON input"),
        ("<html>no</html>", "invalid character '<' looking for beginning of value"),
        ('{"errors": []}', "no error details found in HTTP response body"),
        ("[1]", "no error details found in HTTP response body"),
    ],
)
def test_refusals_that_are_no_registrys(body: str, words: str) -> None:
    error = refusal(404, body.encode(), {})
    assert str(error) == f"error parsing HTTP 404 response body: {words}: {json.dumps(body)}"


@pytest.mark.claim("registry-rate-limits")
def test_retry_after_is_bounded() -> None:
    assert refusal(429, b"", {"retry-after": "7"}).retry_after_s == 7
    assert refusal(429, b"", {"retry-after": "999999"}).retry_after_s == 60
    assert refusal(429, b"", {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}).retry_after_s == 0


def test_credentials_do_not_show_themselves() -> None:
    text = repr(Credentials(username="u", password="geheim", identity_token="marke", registry_token="zeichen"))
    assert "geheim" not in text
    assert "marke" not in text
    assert "zeichen" not in text


# Manifests


def _descriptor(media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": SHA, "size": 3, **more}


CONFIG = _descriptor("application/vnd.docker.container.image.v1+json")
LAYER = _descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip")


def _raw(body: object, media_type: str = "") -> Raw:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Raw(media_type=media_type, digest=digest_of(data), body=data)


def test_a_manifest_is_read() -> None:
    body = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": CONFIG, "layers": [LAYER, LAYER]}
    manifest = parse(_raw(body, DOCKER_MANIFEST + "; charset=utf-8"))
    assert isinstance(manifest, Manifest)
    assert [layer.digest for layer in manifest.layers] == [SHA, SHA]
    assert manifest.config.size == 3


@pytest.mark.parametrize("header", ["", "text/plain", "application/json", OCI_INDEX])
def test_the_type_may_be_in_the_header_or_in_the_body(header: str) -> None:
    index = parse(_raw({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [_descriptor(OCI_MANIFEST)]}, header))
    assert isinstance(index, Index)


@pytest.mark.parametrize(
    ("body", "header", "error"),
    [
        (b'{"schemaVersion":2,', DOCKER_MANIFEST, BadAnswer),
        (b"[]", DOCKER_MANIFEST, BadAnswer),
        (b"[" * 100_000, DOCKER_MANIFEST, BadAnswer),
        ({"schemaVersion": 1, "fsLayers": []}, SCHEMA1_SIGNED, NotSupported),
        ({"schemaVersion": 1, "fsLayers": []}, "application/json", NotSupported),
        ({"config": CONFIG, "layers": [], "manifests": []}, OCI_MANIFEST, BadAnswer),
        ({"config": CONFIG, "layers": [], "manifests": []}, OCI_INDEX, BadAnswer),
        ({"mediaType": OCI_INDEX, "config": CONFIG, "layers": []}, OCI_MANIFEST, BadAnswer),
        ({"mediaType": OCI_INDEX, "manifests": []}, OCI_MANIFEST, BadAnswer),
        ({"mediaType": 7, "manifests": []}, "", BadAnswer),
        ({"layers": []}, DOCKER_MANIFEST, BadAnswer),
        ({"config": CONFIG, "layers": {}}, DOCKER_MANIFEST, BadAnswer),
        ({"config": CONFIG, "layers": [{**LAYER, "digest": "sha256:../../etc/passwd"}]}, DOCKER_MANIFEST, BadAnswer),
        ({"config": CONFIG, "layers": [{**LAYER, "size": -1}]}, DOCKER_MANIFEST, BadAnswer),
        ({"config": CONFIG, "layers": [{**LAYER, "size": True}]}, DOCKER_MANIFEST, BadAnswer),
        ({"config": CONFIG, "layers": [{**LAYER, "size": 1 << 60}]}, DOCKER_MANIFEST, BadAnswer),
        ({"config": CONFIG, "layers": [{**LAYER, "urls": [1]}]}, DOCKER_MANIFEST, BadAnswer),
        ({"config": CONFIG, "layers": [LAYER] * 2049}, DOCKER_MANIFEST, BadAnswer),
        ({"config": CONFIG, "layers": [_descriptor("application/x-evil")]}, DOCKER_MANIFEST, NotSupported),
        ({"config": _descriptor("application/vnd.cncf.helm.config.v1"), "layers": []}, OCI_MANIFEST, SystemFailure),
        ({"what": 1}, "application/json", NotSupported),
    ],
)
def test_hostile_manifests(body: object, header: str, error: type[PykerError]) -> None:
    with pytest.raises(error):
        parse(_raw(body, header))


def test_a_plugin_is_told_from_an_image() -> None:
    config = _descriptor("application/vnd.docker.plugin.v1+json")
    with pytest.raises(SystemFailure) as caught:
        parse(_raw({"schemaVersion": 2, "config": config, "layers": []}, DOCKER_MANIFEST))
    words = 'Encountered remote "application/vnd.docker.plugin.v1+json"(plugin) when fetching'
    assert str(caught.value) == words


def test_verify() -> None:
    verify(b"x", digest_of(b"x"), "layer")
    with pytest.raises(Corrupt, match=f"^manifest verification failed for digest {SHA}$"):
        verify(b"x", SHA, "manifest")


@pytest.mark.parametrize(
    ("config", "layers", "error"),
    [
        ({"rootfs": {"diff_ids": [SHA]}}, 2, Corrupt),
        ({"rootfs": {"diff_ids": ["nonsense"]}}, 1, BadAnswer),
        ({"rootfs": []}, 1, BadAnswer),
        ({}, 1, BadAnswer),
        ({"os": "windows", "rootfs": {"diff_ids": [SHA]}}, 1, InvalidParameter),
    ],
)
def test_configurations_that_are_refused(config: object, layers: int, error: type[PykerError]) -> None:
    with pytest.raises(error):
        parse_config(json.dumps(config).encode(), layers)


# Platforms


def _index(*platforms: str, attested: bool = False) -> Index:
    entries = []
    for number, text in enumerate(platforms):
        system, _, rest = text.partition("/")
        architecture, _, variant = rest.partition("/")
        entries.append(
            Descriptor(
                media_type=OCI_MANIFEST,
                digest=Digest(f"sha256:{number:064d}"),
                size=1,
                platform=Platform(os=system, architecture=architecture, variant=variant),
                attestation=attested and number == 0,
            )
        )
    return Index(digest=SHA, media_type=DOCKER_LIST, manifests=tuple(entries))


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64", ["linux/arm64/v8", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], 1),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v3", "linux/amd64/v4"], 2),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2"], 1),
        ("linux/amd64", ["linux/386"], 0),
        ("linux/arm64", ["linux/arm64/v8"], 0),
        ("linux/arm64/v8", ["linux/arm64"], 0),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm64"], 1),
        ("linux/arm/v7", ["linux/arm/v7", "linux/arm/v6"], 0),
        ("linux/arm", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("linux/s390x", ["unknown/unknown", "linux/s390x"], 1),
        ("linux/x86_64", ["linux/amd64"], 0),
    ],
)
def test_the_best_platform_is_chosen(wanted: str, offered: list[str], chosen: int) -> None:
    found = choose(_index(*offered), parse_platform(wanted))
    assert int(found.digest.rpartition(":")[2]) == chosen


def test_no_platform_matches() -> None:
    with pytest.raises(NotFound) as caught:
        choose(_index("linux/arm64", "windows/amd64", "unknown/unknown"), parse_platform("linux/amd64"))
    assert str(caught.value) == "no matching manifest for linux/amd64 in the manifest list entries"


def test_attestations_are_no_images() -> None:
    index = _index("linux/amd64", "linux/amd64", attested=True)
    assert choose(index, parse_platform("amd64")).digest.endswith("1")


def test_platforms_that_cannot_be_read() -> None:
    for text in ("", "a/b/c/d", "linux/arm/v7/x", "linux/../x"):
        with pytest.raises(InvalidParameter, match="cannot parse platform specifier: invalid argument"):
            parse_platform(text)
    assert parse_platform("linux") == host_platform()
    assert suits(Platform(architecture="arm64"), parse_platform("linux/arm64/v8"))
    assert not suits(Platform(architecture="amd64"), parse_platform("linux/arm64"))


# Places


def test_places_are_given_in_the_order_of_the_queue() -> None:
    slots = Slots(2)
    first, second, third, fourth = (slots.queue() for _ in range(4))
    assert [place.admitted for place in (first, second, third, fourth)] == [True, True, False, False]
    second.leave()
    second.leave()
    assert third.admitted
    assert not fourth.admitted
    third.leave()
    first.leave()
    assert fourth.admitted


def test_who_leaves_the_queue_takes_no_place() -> None:
    slots = Slots(1)
    first, second, third = (slots.queue() for _ in range(3))
    second.leave()
    first.leave()
    assert third.admitted
    third.leave()
    assert slots.queue().admitted


def test_waiting_for_a_place_ends_with_the_cancel_token() -> None:
    slots = Slots(1)
    held, waiting = slots.queue(), slots.queue()
    token = CancelToken()
    thread = threading.Thread(target=token.cancel)
    thread.start()
    with pytest.raises(Cancelled):
        waiting.enter(token)
    thread.join()
    waiting.leave()
    held.leave()
    again = slots.queue()
    again.enter(NEVER)
    assert again.admitted
