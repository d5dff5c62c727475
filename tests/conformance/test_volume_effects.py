"""What a volume does in a container: what it holds at first, who sees it, and how it is mounted."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.conftest import Shelf
from tests.support import images
from tests.support.asking import get, message, post
from tests.support.engines import Engine


def _furnished(tar: tarfile.TarFile) -> None:
    images.add_dir(tar, "data", 0o2750, uid=33, gid=10)
    images.add_file(tar, "data/file", b"from the image\n", 0o640, uid=1, gid=1)
    images.add_link(tar, "data/link", "file")
    images.add_dir(tar, "data/sub", 0o700, uid=33)
    images.add_file(tar, "data/sub/deep", b"deep\n")


@pytest.fixture
def furnished(engine: Engine, shelf: Shelf) -> str:
    """An image with files where volumes are mounted."""
    reference = f"{shelf.registry.address}/volumes/furnished:1"
    if engine.request("GET", f"/images/{reference}/json").status != 200:
        shelf.add("volumes/furnished:1", layers=(images.busybox_layer, _furnished), label="furnished")
        engine.docker("pull", "-q", reference, check=True)
    return reference


def _run(engine: Engine, *arguments: str) -> str:
    return engine.docker("run", "--rm", "--network", "none", *arguments, check=True).out


LOOK = "stat -c '%a %u %g %F' /data /data/file /data/link /data/sub; cat /data/sub/deep"
AS_IN_THE_IMAGE = [
    "2750 33 10 directory",
    "640 1 1 regular file",
    "777 0 0 symbolic link",
    "700 33 0 directory",
    "deep",
]


@pytest.mark.claim("rule-volume-copy-up", "break-volumes")
@pytest.mark.parametrize(
    "mount", ["-v {}:/data", "--mount type=volume,src={},dst=/data", "-v /data"], ids=["v", "mount", "anonymous"]
)
def test_an_empty_volume_takes_over_what_the_image_has(engine: Engine, furnished: str, volume: str, mount: str) -> None:
    assert _run(engine, *mount.format(volume).split(), furnished, "sh", "-c", LOOK).splitlines() == AS_IN_THE_IMAGE


@pytest.mark.claim("rule-volume-copy-up", "break-volumes")
def test_only_an_empty_volume_does(engine: Engine, furnished: str, volume: str) -> None:
    folder = post(engine, "/volumes/create", {"Name": volume}, status=201)["Mountpoint"]
    engine.sandbox.run(["touch", f"{folder}/mine"])
    assert _run(engine, "-v", f"{volume}:/data", furnished, "ls", "/data") == "mine\n"


@pytest.mark.claim("rule-volume-copy-up")
@pytest.mark.parametrize("mount", ["-v {}:/data:nocopy", "--mount type=volume,src={},dst=/data,volume-nocopy"])
def test_nocopy(engine: Engine, furnished: str, volume: str, mount: str) -> None:
    assert _run(engine, *mount.format(volume).split(), furnished, "ls", "-a", "/data").split() == [".", ".."]


@pytest.mark.claim("rule-volume-copy-up")
def test_a_bind_is_never_filled(engine: Engine, furnished: str, volume: str) -> None:
    folder = post(engine, "/volumes/create", {"Name": volume}, status=201)["Mountpoint"]
    assert _run(engine, "-v", f"{folder}:/data", furnished, "ls", "-a", "/data").split() == [".", ".."]


@pytest.mark.claim("rule-volume-names", "rule-volume-remove")
def test_what_one_container_writes_the_next_reads(engine: Engine, busybox: str, volume: str) -> None:
    _run(engine, "-v", f"{volume}:/v", busybox, "sh", "-c", "echo kept >/v/file")
    assert _run(engine, "-v", f"{volume}:/v:ro", busybox, "cat", "/v/file") == "kept\n"
    folder = get(engine, f"/volumes/{volume}")["Mountpoint"]
    assert engine.sandbox.run(["cat", f"{folder}/file"]).stdout == b"kept\n"


@pytest.mark.claim("rule-mount-modes")
@pytest.mark.parametrize("mount", ["-v {}:/v:ro", "--mount type=volume,src={},dst=/v,readonly"], ids=["v", "mount"])
def test_read_only(engine: Engine, busybox: str, volume: str, mount: str) -> None:
    done = engine.docker("run", "--rm", *mount.format(volume).split(), busybox, "touch", "/v/x")
    assert done.code == 1 and "Read-only file system" in done.err


@pytest.mark.claim("rule-mount-modes")
def test_mounts_in_inspect(engine: Engine, busybox: str, volume: str, name: str) -> None:
    engine.docker("create", "--name", name, "-v", f"{volume}:/a:ro", "-v", "/b", busybox, check=True)
    mounts: Any = engine.inspect(name)["Mounts"]
    by_place = {mount["Destination"]: mount for mount in mounts}
    assert by_place["/a"] == {
        "Type": "volume",
        "Name": volume,
        "Source": f"{engine.data_root}/volumes/{volume}/_data",
        "Destination": "/a",
        "Driver": "local",
        "Mode": "ro",
        "RW": False,
        "Propagation": "",
    }
    assert re.fullmatch(r"[0-9a-f]{64}", by_place["/b"]["Name"]) and by_place["/b"]["RW"] is True


@pytest.mark.claim("rule-mount-modes")
@pytest.mark.parametrize(
    ("bind", "status", "words"),
    [
        ("{}:/v:bogus", (400, 500), "invalid mode: bogus"),
        (
            "{}:rel",
            (400, 500),
            "invalid volume specification: '{}:rel': invalid mount config for type \"volume\": invalid",
        ),
        ("{}:/", (400, 500), "destination can't be '/'"),
        (".bad:/v", (400,), 'create .bad: ".bad" includes invalid characters for a local volume name'),
    ],
    ids=["mode", "relative", "root", "name"],
)
def test_mounts_that_cannot_be(
    engine: Engine, busybox: str, volume: str, name: str, bind: str, status: tuple[int, ...], words: str
) -> None:
    body = {"Image": busybox, "HostConfig": {"Binds": [bind.format(volume)]}}
    reply = engine.request("POST", f"/containers/create?name={name}", body)
    assert reply.status in status and words.format(volume) in message(reply), reply
    assert engine.request("GET", f"/volumes/{volume}").status == 404


@pytest.mark.claim("rule-volume-remove", "break-volumes")
@pytest.mark.parametrize("way", ["rm -v", "--rm"])
def test_anonymous_volumes_go_and_named_ones_stay(
    engine: Engine, busybox: str, volume: str, name: str, way: str
) -> None:
    before = {row["Name"] for row in get(engine, "/volumes")["Volumes"] or ()}
    mounts = ["-v", f"{volume}:/named", "-v", "/anonymous", "--name", name]
    if way == "--rm":
        engine.docker("run", "--rm", *mounts, busybox, "true", check=True)
    else:
        engine.docker("run", *mounts, busybox, "true", check=True)
        engine.docker("rm", "-v", name, check=True)
    assert {row["Name"] for row in get(engine, "/volumes")["Volumes"]} == before | {volume}


@pytest.mark.claim("rule-volume-remove")
def test_without_v_an_anonymous_volume_stays(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("create", "--name", name, "-v", "/anonymous", busybox, check=True)
    mounts: Any = engine.inspect(name)["Mounts"]
    made = mounts[0]["Name"]
    engine.docker("rm", name, check=True)
    try:
        assert get(engine, f"/volumes/{made}")["Name"] == made
    finally:
        engine.request("DELETE", f"/volumes/{made}")


@pytest.mark.claim("rule-volume-remove", "rule-mount-modes")
def test_volumes_from(engine: Engine, busybox: str, volume: str, names: Callable[[], str]) -> None:
    owner, writer, reader = names(), names(), names()
    engine.docker("create", "--name", owner, "-v", f"{volume}:/v", busybox, check=True)
    engine.docker("run", "--name", writer, "--volumes-from", owner, busybox, "sh", "-c", "echo x >/v/f", check=True)
    flags = ["--name", reader, "--volumes-from", f"{owner}:ro"]
    done = engine.docker("run", *flags, busybox, "sh", "-c", "cat /v/f; echo y >/v/f")
    assert done.out == "x\n" and "Read-only file system" in done.err
    missing = engine.docker("run", "--rm", "--volumes-from", "nosuch", busybox, "true")
    assert missing.code == 125 and "No such container: nosuch" in missing.err


@pytest.mark.claim("POST /volumes/create", "rule-mount-modes")
def test_a_volume_with_a_file_system_of_its_own(engine: Engine, busybox: str, volume: str) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=33"}
    value = post(engine, "/volumes/create", {"Name": volume, "DriverOpts": options}, status=201)
    assert value["Options"] == options
    script = "grep ' /v ' /proc/mounts; stat -c %u /v; df -k /v | tail -n 1"
    lines = _run(engine, "-v", f"{volume}:/v", busybox, "sh", "-c", script).splitlines()
    assert lines[0].startswith("tmpfs /v tmpfs rw") and lines[1] == "33" and lines[2].split()[1] == "1024"


@pytest.mark.claim("POST /volumes/create", "rule-mount-modes")
def test_a_volume_that_is_a_folder_of_the_host(engine: Engine, busybox: str, volume: str, name: str) -> None:
    engine.sandbox.run(["mkdir", "-p", "/run/shared-folder"])
    try:
        flags = ["--opt", "type=none", "--opt", "o=bind", "--opt", "device=/run/shared-folder"]
        engine.docker("volume", "create", *flags, volume, check=True)
        _run(engine, "-v", f"{volume}:/v", busybox, "sh", "-c", "echo out >/v/file")
        assert engine.sandbox.run(["cat", "/run/shared-folder/file"]).stdout == b"out\n"
    finally:
        engine.sandbox.run(["rm", "-r", "/run/shared-folder"])


@pytest.mark.claim("POST /containers/create", "rule-volume-names")
def test_labels_of_a_volume_made_with_its_container(engine: Engine, busybox: str, volume: str, name: str) -> None:
    mount = f"type=volume,src={volume},dst=/v,volume-label=kind=made"
    engine.docker("create", "--name", name, "--mount", mount, busybox, check=True)
    assert get(engine, f"/volumes/{volume}")["Labels"] == {"kind": "made"}


@pytest.mark.claim("rule-volume-names")
def test_an_images_volumes_are_anonymous(engine: Engine, shelf: Shelf, name: str) -> None:
    reference = shelf.add("volumes/declared:1", label="declared", config={"Volumes": {"/declared": {}}})
    engine.docker("run", "--name", name, reference, "true", check=True)
    (mount,) = engine.inspect(name)["Mounts"]  # type: ignore[misc]
    assert mount["Destination"] == "/declared" and re.fullmatch(r"[0-9a-f]{64}", mount["Name"])
    engine.docker("rm", "-v", name, check=True)
    assert engine.request("GET", f"/volumes/{mount['Name']}").status == 404
    engine.docker("rmi", reference, check=True)
