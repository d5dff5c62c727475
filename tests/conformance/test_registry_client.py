"""The engine as a registry's client, with a registry that is scripted: tokens, types, platforms, faults, errors."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.fault_registry import Apart

PORT = 5017
HOST = f"127.0.0.1:{PORT}"
Script = Callable[[str], Apart]


@pytest.fixture
def scripted(engine: Engine) -> Iterator[Script]:
    """Starts the registry beside the engine; the images that came from it are removed afterwards."""
    started: list[Apart] = []

    def start(script: str) -> Apart:
        started.append(Apart(engine.sandbox.popen, script, port=PORT))
        return started[-1]

    yield start
    for registry in started:
        registry.close()
    rows: Any = engine.request("GET", "/images/json").json()
    for row in rows:
        names = [*(row["RepoTags"] or []), *(row["RepoDigests"] or [])]
        if any(name.startswith(HOST) for name in names):
            engine.request("DELETE", f"/images/{row['Id']}?force=1")


def image_id(engine: Engine, reference: str) -> str:
    value: Any = engine.request("GET", f"/images/{reference}/json").json()
    return str(value["Id"])


@pytest.mark.claim("registry-token", "registry-ping-challenge")
def test_a_token_is_asked_for_and_kept(engine: Engine, scripted: Script) -> None:
    registry = scripted("registry.bearer = ('user', 'secret'); image = registry.three_layers()")
    credentials = engine.docker("login", "-u", "user", "--password-stdin", HOST, input="secret\n")
    try:
        assert credentials.code == 0, credentials
        before = registry.ask("len(registry.requests)")
        assert engine.docker("pull", f"{HOST}/team/app").code == 0
        asked: Any = registry.ask(
            f"[[r.method, r.path, r.headers.get('authorization', '')] for r in registry.requests[{before}:]]"
        )
        tokens = [each for each in asked if "scope=" in each[1]]
        assert tokens and all(
            "repository%3Ateam%2Fapp%3Apull" in path or "repository:team/app:pull" in path for _, path, _ in tokens
        )
        blobs = [each for each in asked if "/blobs/" in each[1]]
        assert len(blobs) >= 4 and all(header.startswith("Bearer ") for _, _, header in blobs)
        assert len(tokens) < len(blobs)
    finally:
        engine.docker("logout", HOST)


@pytest.mark.claim("registry-token", "registry-credentials")
def test_a_redirect_elsewhere_gets_no_token(engine: Engine, scripted: Script) -> None:
    script = """
other = FaultRegistry(host="127.0.0.2", port=5018)
other.three_layers()
registry.bearer = ("user", "secret")
image = registry.three_layers()
registry.fault("/blobs/", redirect=other.url)
"""
    registry = scripted(script)
    assert engine.docker("login", "-u", "user", "--password-stdin", HOST, input="secret\n").code == 0
    try:
        assert engine.docker("pull", f"{HOST}/team/app").code == 0
    finally:
        engine.docker("logout", HOST)
    sent: Any = registry.ask("[r.headers.get('authorization') for r in other.requests]")
    assert sent and set(sent) == {None}


@pytest.mark.claim("registry-manifest-types", "registry-layer-types")
@pytest.mark.parametrize("kind", ["docker", "oci"])
@pytest.mark.parametrize("compression", ["gzip", "plain"])
def test_types_of_manifests_and_layers(engine: Engine, scripted: Script, kind: str, compression: str) -> None:
    registry = scripted(f"image = registry.three_layers(oci={kind == 'oci'}, compression={compression!r})")
    done = engine.docker("pull", f"{HOST}/team/app")
    assert done.code == 0, done
    assert f"Digest: {registry.ask('image.digest')}" in done.out
    assert image_id(engine, f"{HOST}/team/app") == registry.ask("image.image_id")


@pytest.mark.claim("registry-layer-types")
def test_layers_in_zstd(engine: Engine, scripted: Script) -> None:
    scripted("image = registry.three_layers(oci=True, compression='zstd')")
    done = engine.docker("pull", f"{HOST}/team/app")
    assert done.code == 0, done


@pytest.mark.claim("registry-platforms")
@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_the_image_for_this_platform_is_chosen(engine: Engine, scripted: Script, kind: str) -> None:
    script = f"""
import platform
here = {{"x86_64": "amd64", "aarch64": "arm64"}}[platform.machine()]
ours = registry.add_image("app", [make_tar({{"ours": b"1"}})], tag="ours", architecture=here)
other = registry.add_image("app", [make_tar({{"other": b"1"}})], tag="other", architecture="s390x")
index = registry.add_index("app", [registry.entry(other, "s390x"), registry.entry(ours, here)], oci={kind == "oci"})
"""
    registry = scripted(script)
    done = engine.docker("pull", f"{HOST}/app")
    assert done.code == 0, done
    assert f"Digest: {registry.ask('index')}" in done.out
    assert image_id(engine, f"{HOST}/app") == registry.ask("ours.image_id")


@pytest.mark.claim("registry-platforms", "registry-errors")
def test_an_index_without_this_platform(engine: Engine, scripted: Script) -> None:
    scripted(
        "other = registry.add_image('app', [make_tar({'other': b'1'})], tag='other', architecture='s390x')\n"
        "registry.add_index('app', [registry.entry(other, 's390x')])"
    )
    done = engine.docker("pull", f"{HOST}/app")
    assert done.code == 1 and "no matching manifest for linux/" in done.err, done


@pytest.mark.claim("registry-verify")
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("registry.fault(image.layers[1], corrupt=True)", "filesystem layer verification failed"),
        ("registry.blobs[digest_of(image.config)] = image.config + b' '", "verification"),
        (
            "registry.add_image('team/app', [make_tar({'a': b'1'})], diff_ids=['sha256:' + '1' * 64])",
            "layers from manifest",
        ),
    ],
    ids=["layer", "config", "diff-id"],
)
def test_what_is_not_what_it_should_be_is_refused(engine: Engine, scripted: Script, script: str, words: str) -> None:
    def there() -> list[str]:
        return sorted(engine.docker("images", "-q", "--no-trunc").out.split())

    before = there()
    scripted(f"image = registry.three_layers()\n{script}")
    done = engine.docker("pull", f"{HOST}/team/app", timeout=120)
    assert done.code == 1 and words in done.err, done
    assert there() == before


@pytest.mark.claim("registry-resume")
def test_a_broken_download_is_taken_up_again(engine: Engine, scripted: Script) -> None:
    registry = scripted("image = registry.one_layer()\nregistry.fault(image.layers[0], cut=200_000, times=1)")
    done = engine.docker("pull", f"{HOST}/team/app", timeout=120)
    assert done.code == 0, done
    assert registry.ask("len(registry.asked(image.layers[0]))") == 2


@pytest.mark.claim("registry-parallel")
def test_no_more_than_three_layers_come_at_once(engine: Engine, scripted: Script) -> None:
    script = """
image = registry.add_image("team/app", [make_tar({f"f{n}": noise(100_000, n)}) for n in range(8)])
"""
    registry = scripted(script)
    assert engine.docker("pull", f"{HOST}/team/app").code == 0
    most = registry.ask("registry.most_concurrent")
    assert isinstance(most, int) and 1 <= most <= 4


@pytest.mark.claim("registry-errors", "rule-pull")
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("status=401, body=errors('UNAUTHORIZED', 'who are you')", "who are you"),
        ("status=403, body=errors('DENIED', 'not for you')", "not for you"),
        ("status=429, body=errors('TOOMANYREQUESTS', 'slow down')", "slow down"),
        ("status=500, body=b'plain words'", ""),
    ],
    ids=["401", "403", "429", "500"],
)
def test_what_the_registry_says_is_told(engine: Engine, scripted: Script, fault: str, words: str) -> None:
    scripted(f"image = registry.three_layers()\nregistry.fault('/manifests/', {fault})")
    done = engine.docker("pull", f"{HOST}/team/app", timeout=120)
    assert done.code == 1 and words in done.err and done.err.strip(), done


WARNING = """
image = registry.three_layers()
registry.headers = [("Warning", '299 - "This image is \\xc2\\x9b31mold, and will go."'), ("Warning", '199 - "stale"')]
"""
SHOWN = "This image is 31mold, and will go."


@pytest.mark.claim("registry-warnings")
def test_what_a_registry_warns_of_is_shown(engine: Engine, scripted: Script) -> None:
    scripted(WARNING)
    for client in (engine.docker, engine.pyker):
        for command, word in (("pull", "Digest: "), ("push", "latest: digest: ")):
            done = client(command, f"{HOST}/team/app", check=True)
            lines = done.out.splitlines()
            assert [line for line in lines if "old" in line] == [f"Warning: {SHOWN}"], done
            assert any(line.startswith(word) for line in lines) and "stale" not in done.out
    rows: Any = engine.request("POST", f"/images/create?fromImage={HOST}/team/app&tag=latest").body.splitlines()
    assert [json.loads(row) for row in rows if b"Warning" in row] == [{"status": f"Warning: {SHOWN}"}]


@pytest.mark.claim("registry-warnings")
def test_a_warning_changes_nothing_else(engine: Engine, scripted: Script) -> None:
    """Neither the image nor what is answered of one that is not there, although there is something to tell."""
    missing = f"/images/create?fromImage={HOST}/team/app&tag=none"
    registry = scripted(WARNING)
    done = engine.docker("pull", f"{HOST}/team/app", check=True)
    assert "\x9b" not in done.out and done.out.splitlines()[-1] == f"{HOST}/team/app:latest"
    assert image_id(engine, f"{HOST}/team/app") == registry.ask("image.image_id")
    warned = engine.request("POST", missing)
    registry.ask("registry.headers.clear()", run=True)
    unwarned = engine.request("POST", missing)
    assert (warned.status, warned.body) == (unwarned.status, unwarned.body)
    assert warned.status >= 400 and b"manifest unknown" in warned.body, warned


@pytest.mark.claim("registry-warnings")
def test_warnings_of_another_host_are_not_shown(engine: Engine, scripted: Script) -> None:
    script = """
other = FaultRegistry(host="127.0.0.2", port=5018)
other.three_layers()
other.headers = [("Warning", '299 - "Of somebody else."')]
image = registry.three_layers()
registry.fault("/blobs/", redirect=other.url)
"""
    registry = scripted(script)
    done = engine.docker("pull", f"{HOST}/team/app", check=True)
    assert registry.ask("len(other.asked('/blobs/'))") and "somebody" not in done.out + done.err


@pytest.mark.claim("registry-user-agent")
def test_the_registry_is_told_who_asks(engine: Engine, scripted: Script) -> None:
    registry = scripted("image = registry.three_layers()")
    headers = {"X-Meta-Reason": "conformance", "X-Other": "private", "User-Agent": "some-client/1.2"}
    reply = engine.request("POST", f"/images/create?fromImage={HOST}/team/app&tag=latest", headers=headers)
    assert reply.status == 200 and b"Downloaded newer image" in reply.body, reply
    sent: Any = registry.ask(
        "[[r.path, r.headers] for r in registry.requests if '/blobs/' in r.path or '/man' in r.path]"
    )
    assert len(sent) >= 5
    for path, each in sent:
        assert re.match(r"docker/\S+ .*\bos/linux\b", each["user-agent"]), (path, each)
        assert "x-other" not in each
    manifests = [each for path, each in sent if "/manifests/" in path]
    assert all(each["x-meta-reason"] == "conformance" for each in manifests), manifests


@pytest.mark.claim("registry-tags-in-pages", "rule-pull")
def test_all_tags_of_a_repository(engine: Engine, scripted: Script) -> None:
    registry = scripted(
        "registry.tag_page = 2\n"
        "for n in range(5): registry.add_image('team/app', [make_tar({'number': b'%d' % n})], tag=f't{n}')"
    )
    done = engine.docker("pull", "-a", f"{HOST}/team/app")
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert [line for line in lines if "Pulling from" in line] == [f"t{n}: Pulling from team/app" for n in range(5)]
    assert lines[-2:] == [f"Status: Downloaded newer image for {HOST}/team/app", f"{HOST}/team/app"]
    assert registry.ask("len(registry.asked('/tags/list'))") == 3
    listed: Any = engine.request("GET", "/images/json").json()
    assert {f"{HOST}/team/app:t{n}" for n in range(5)} <= {tag for row in listed for tag in row["RepoTags"] or ()}


@pytest.mark.claim("registry-mirrors")
def test_a_mirror_is_asked_first_and_passed_over_if_it_fails(engine: Engine, another: Callable[..., Engine]) -> None:
    """Two mirrors: the first is there and broken, the second has the image. Docker Hub itself is out of reach."""
    own = another(*engine.mirror(f"http://{HOST}"), *engine.mirror(f"http://127.0.0.1:{PORT + 1}"))
    broken = Apart(own.sandbox.popen, "registry.fault('/', status=500, body=b'broken')", port=PORT)
    with broken, Apart(own.sandbox.popen, "image = registry.three_layers('library/mirrored')", port=PORT + 1) as second:
        done = own.docker("pull", "mirrored", timeout=120)
        assert done.code == 0, done
        assert f"Digest: {second.ask('image.digest')}" in done.out
        assert done.out.splitlines()[-1] == "docker.io/library/mirrored:latest"
        assert broken.ask("len(registry.requests)") and second.ask("len(registry.asked(image.layers[0]))") == 1
        # Of another registry than Docker Hub they know nothing.
        asked = broken.ask("len(registry.requests)"), second.ask("len(registry.requests)")
        assert own.docker("pull", "127.0.0.1:1/library/mirrored").code == 1
        assert (broken.ask("len(registry.requests)"), second.ask("len(registry.requests)")) == asked


@pytest.mark.claim("registry-unpack-confined", "registry-unpack")
def test_no_entry_of_a_layer_leaves_its_folder(engine: Engine, scripted: Script) -> None:
    script = """
import io, tarfile
buffer = io.BytesIO()
with tarfile.open(fileobj=buffer, mode="w") as tar:
    link = tarfile.TarInfo("way"); link.type = tarfile.SYMTYPE; link.linkname = "/tmp"; tar.addfile(link)
    info = tarfile.TarInfo("way/conformance-escaped"); info.size = 1; tar.addfile(info, io.BytesIO(b"x"))
registry.add_image("team/app", [buffer.getvalue()])
"""
    scripted(script)
    engine.docker("pull", f"{HOST}/team/app")
    assert engine.sandbox.run(["ls", "/tmp/conformance-escaped"], check=False).returncode != 0


@pytest.mark.claim("registry-reference-grammar")
@pytest.mark.parametrize(
    "name",
    ["a//b", "a:b:c", "a@sha256:12", "http://a/b", "127.0.0.1:5000/A/b", "a:" + "t" * 129],
)
def test_names_that_are_none(engine: Engine, name: str) -> None:
    done = engine.docker("pull", name)
    assert done.code == 1 and "invalid" in done.err.lower(), done


@pytest.mark.claim("registry-push", "registry-push-mount", "registry-push-again")
def test_a_push_sends_each_blob_once(engine: Engine, scripted: Script, busybox: str) -> None:
    registry = scripted("")
    target = f"{HOST}/team/pushed:1"
    engine.docker("tag", busybox, target, check=True)
    first = engine.docker("push", target, check=True)
    sent = registry.ask("len([r for r in registry.requests if r.method == 'PUT' and '/uploads/' in r.path])")
    again = engine.docker("push", target, check=True)
    after = registry.ask("len([r for r in registry.requests if r.method == 'PUT' and '/uploads/' in r.path])")
    assert "Pushed" in first.out and "Layer already exists" in again.out
    assert sent == after == 2
    assert first.out.splitlines()[-1] == again.out.splitlines()[-1]
    raw: Any = registry.ask("registry.manifests['team/pushed', '1'][1].decode()")
    manifest = json.loads(raw)
    assert f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}" in first.out
    assert image_id(engine, busybox) == manifest["config"]["digest"]
