"""The graph on a real graphdriver: what is kept, what is shared, what goes, and what a crash leaves."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.errors import Cancelled, Corrupt, NotFound, NotSupported, PykerError
from pyker.graph.graph import Graph
from pyker.graph.layers import Layer
from pyker.graphdriver.base import GraphDriver
from pyker.graphdriver.overlay2 import Overlay2Driver
from pyker.graphdriver.vfs import VfsDriver
from pyker.types.ids import ChainId, ContainerId, DiffId, ImageId
from pyker.types.reference import parse
from tests.support.layers import file, folder, members, symlink

pytestmark = pytest.mark.requires("root", "overlay")

BASE = members(folder("etc"), file("etc/passwd", b"root"), folder("bin", 0o755), file("bin/sh", b"#!" * 3000))
MORE = members(file("etc/more", b"more"), file(".wh.bin"))
OTHER = members(file("other", b"other"))


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Rig:
    """A graph that can be closed and opened again."""

    def __init__(self, root: Path, kind: type[Overlay2Driver] | type[VfsDriver]) -> None:
        self.root = root
        self.kind = kind
        self.graph = self.open()

    def driver(self) -> GraphDriver:
        return self.kind(str(self.root / self.kind.name))

    def open(self) -> Graph:
        self.graph = Graph(str(self.root), self.driver())
        return self.graph

    def reopen(self) -> Graph:
        self.graph.close()
        return self.open()

    def register(self, tar: bytes, parent: ChainId | None = None) -> Layer:
        blob = self.root / "blob"
        blob.write_bytes(gzip.compress(tar))
        return self.graph.layers.register(
            str(blob), "", DiffId(digest(tar)), parent, cancel=lambda: False, progress=lambda _: None
        )

    def image(self, *tars: bytes, label: str = "", name: str = "") -> ImageId:
        with self.graph.layers.hold():
            parent: ChainId | None = None
            for tar in tars:
                parent = self.register(tar, parent).chain_id
            config = {
                "config": {"Labels": {"l": label}},
                "rootfs": {"type": "layers", "diff_ids": [*map(digest, tars)]},
            }
            image_id = self.graph.create_image(json.dumps(config).encode())
        if name:
            self.graph.tag(parse(name), image_id)
        return image_id

    def folders(self) -> set[str]:
        """Names of the driver's folders, the short links' aside."""
        home = self.root / self.kind.name / ("dir" if self.kind is VfsDriver else "")
        return {name for name in os.listdir(home) if name != "l"}

    @property
    def layerdb(self) -> Path:
        return self.root / "image" / self.kind.name / "layerdb"

    @property
    def imagedb(self) -> Path:
        return self.root / "image" / self.kind.name / "imagedb"


@pytest.fixture(params=[Overlay2Driver, VfsDriver], ids=["overlay2", "vfs"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "data", request.param)
    yield made
    made.graph.close()


def test_the_shape_on_disk(rig: Rig) -> None:
    """As the document shows it and as dockerd 20.10 makes it."""
    image_id = rig.image(BASE, MORE, name="bb:1")
    base, top = rig.graph.images.get(image_id).chain_ids
    assert top == digest(f"{base} {digest(MORE)}".encode())
    record = rig.layerdb / "sha256" / top.removeprefix("sha256:")
    assert sorted(os.listdir(record)) == ["cache-id", "diff", "parent", "size", "tar-split.json.gz"]
    assert (record / "parent").read_text() == base
    assert (record / "diff").read_text() == digest(MORE)
    assert (record / "size").read_text() == "4"
    assert sorted(os.listdir(rig.layerdb / "sha256" / base.removeprefix("sha256:"))) == [
        "cache-id", "diff", "size", "tar-split.json.gz",
    ]  # fmt: skip
    content = rig.imagedb / "content" / "sha256" / image_id.removeprefix("sha256:")
    assert digest(content.read_bytes()) == image_id
    names = json.loads((rig.root / "image" / rig.kind.name / "repositories.json").read_text())
    assert names == {"Repositories": {"bb": {"bb:1": image_id}}}
    rig.graph.layers.create_rw(ContainerId("c" * 64), top, {})
    mounts = rig.layerdb / "mounts" / ("c" * 64)
    assert sorted(os.listdir(mounts)) == ["init-id", "mount-id", "parent"]
    assert (mounts / "parent").read_text() == top
    assert (mounts / "init-id").read_text().endswith("-init")


def test_the_tar_comes_out_again(rig: Rig) -> None:
    image = rig.graph.images.get(rig.image(BASE, MORE))
    for chain_id, tar in zip(image.chain_ids, (BASE, MORE), strict=True):
        with rig.graph.layers.open_tar(chain_id) as stream:
            assert stream.read() == tar
        with rig.graph.layers.open_tar(chain_id, compression="gzip") as stream:
            packed = stream.read()
        assert gzip.decompress(packed) == tar
        assert stream.result["digest"] == digest(packed)


def test_closing_a_tar_early(rig: Rig) -> None:
    layer = rig.graph.images.get(rig.image(members(file("big", os.urandom(5_000_000))))).chain_ids[0]
    with rig.graph.layers.open_tar(layer) as stream:
        assert 0 < len(stream.read(1000)) <= 1000
    with rig.graph.layers.open_tar(layer) as stream:
        assert len(stream.read()) > 5_000_000


def test_layers_are_shared_and_freed_with_the_last_image(rig: Rig) -> None:
    before = rig.folders()
    one = rig.image(BASE, MORE)
    two = rig.image(BASE, OTHER)
    assert len(rig.folders() - before) == 3
    base, top = rig.graph.images.get(one).chain_ids
    assert rig.graph.delete_image(one) == [top]
    other = rig.graph.images.get(two).chain_ids[1]
    assert rig.graph.delete_image(two) == [other, base]
    assert rig.folders() == before
    assert os.listdir(rig.layerdb / "sha256") == []


def test_a_container_keeps_its_layers(rig: Rig) -> None:
    image_id = rig.image(BASE)
    top = rig.graph.images.get(image_id).top
    container = ContainerId("c" * 64)
    rig.graph.layers.create_rw(container, top, {})
    rig.graph.delete_image(image_id)
    rig.reopen()
    assert "etc" in os.listdir(rig.driver().diff_path(rig.graph.layers.chain(top)[0].cache_id))
    rig.graph.layers.remove_rw(container)
    rig.graph.layers.remove_rw(container)
    assert rig.folders() == set()
    assert os.listdir(rig.layerdb / "mounts") == []


def test_what_the_engine_mounts_on_is_there(rig: Rig) -> None:
    """The layer between image and container has what the image lacks, and no more."""
    awkward = members(
        folder("etc", 0o750, uid=3), symlink("etc/resolv.conf", "/run/somewhere/else"), file("etc/hosts", b"mine"),
        folder("proc", 0o555), symlink("etc/mtab", "../proc/self/mounts"), file("dev", b"a file"),
    )  # fmt: skip
    top = rig.graph.images.get(rig.image(awkward)).top
    container = ContainerId("c" * 64)
    rig.graph.layers.create_rw(container, top, {})
    init = (rig.layerdb / "mounts" / container / "init-id").read_text()
    made = Path(rig.graph.driver.diff_path(init))  # type: ignore[arg-type]
    assert (made / "etc" / "resolv.conf").read_bytes() == b"" and not (made / "etc" / "resolv.conf").is_symlink()
    assert (made / "etc" / "hostname").is_file()
    assert (made / "dev" / "shm").is_dir() and (made / "dev" / "console").is_file()
    assert (made / ".dockerenv").is_file()
    assert ((made / "etc").stat().st_uid, (made / "etc").stat().st_mode & 0o777) == (3, 0o750)
    if rig.kind is Overlay2Driver:
        assert sorted(os.listdir(made / "etc")) == ["hostname", "resolv.conf"]
        assert not (made / "proc").exists()
    rig.graph.layers.create_rw(ContainerId("d" * 64), top, {})
    assert (rig.layerdb / "mounts" / ("d" * 64) / "init-id").read_text() == init


def test_an_image_whose_folders_are_links_to_the_machine(rig: Rig, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "hosts").symlink_to("elsewhere")
    tar = members(symlink("etc", str(outside)), symlink("dev", "../../../../../../../.." + str(outside)))
    rig.graph.layers.create_rw(ContainerId("c" * 64), rig.graph.images.get(rig.image(tar)).top, {})
    assert os.listdir(outside) == ["hosts"] and (outside / "hosts").is_symlink()


def test_a_shared_init_layer_survives_a_restart(rig: Rig) -> None:
    """Running containers stand on it."""
    top = rig.graph.images.get(rig.image(BASE)).top
    rig.graph.layers.create_rw(ContainerId("c" * 64), top, {})
    init = (rig.layerdb / "mounts" / ("c" * 64) / "init-id").read_text()
    mark = Path(rig.graph.driver.diff_path(init)) / "mark"  # type: ignore[arg-type]
    mark.write_text("the same folder")
    rig.reopen()
    rig.graph.layers.create_rw(ContainerId("d" * 64), top, {})
    assert mark.exists()


def test_size_of_what_a_container_wrote(rig: Rig) -> None:
    top = rig.graph.images.get(rig.image(BASE)).top
    container = ContainerId("c" * 64)
    rig.graph.layers.create_rw(container, top, {})
    upper = Path(rig.graph.layers.rootfs(container).upperdir)
    (upper / "new").write_bytes(b"x" * 1234)
    os.link(upper / "new", upper / "again")
    os.symlink("12345", upper / "link")
    assert rig.graph.layers.size_rw(container) == 1239
    assert rig.graph.layers.size(top) == 6004


@pytest.mark.parametrize("damage", ["digest", "cut", "garbage"])
def test_a_bad_layer_leaves_nothing(rig: Rig, damage: str) -> None:
    before = rig.folders()
    blob = rig.root / "blob"
    data = gzip.compress(BASE)
    blob.write_bytes({"digest": data, "cut": data[:-30], "garbage": b"no tar at all" * 100}[damage])
    wanted = DiffId(digest(MORE if damage == "digest" else BASE))
    with pytest.raises(Corrupt):
        rig.graph.layers.register(str(blob), "", wanted, None, cancel=lambda: False, progress=lambda _: None)
    assert rig.folders() == before
    assert os.listdir(rig.layerdb / "tmp") == os.listdir(rig.layerdb / "sha256") == []


def test_cancelling_leaves_nothing(rig: Rig) -> None:
    blob = rig.root / "blob"
    blob.write_bytes(members(file("big", bytes(200_000_000))))
    seen: list[int] = []
    with pytest.raises(Cancelled):
        rig.graph.layers.register(
            str(blob), "", DiffId(digest(b"")), None, cancel=lambda: bool(seen), progress=seen.append
        )
    assert rig.folders() == set()
    assert rig.register(BASE).diff_id == digest(BASE)


def test_a_worker_that_dies(rig: Rig) -> None:
    """It is noticed, nothing stays, and the next layer gets a new one."""
    blob = rig.root / "blob"
    blob.write_bytes(members(file("big", bytes(200_000_000))))

    def kill(_: int) -> None:
        me = os.getpid()
        for pid in Path(f"/proc/{me}/task/{threading.get_native_id()}/children").read_text().split():
            if b"archive.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)

    with pytest.raises(PykerError, match="worker died"):
        rig.graph.layers.register(str(blob), "", DiffId(digest(b"")), None, cancel=lambda: False, progress=kill)
    assert rig.folders() == set()
    assert rig.register(BASE).diff_id == digest(BASE)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    """On a small file system of its own, in a mount namespace of another process."""
    script = f"""
mount -t tmpfs -o size=6m tmpfs {tmp_path} || exit 9
exec python3 - <<'END'
import os
from pyker.graph.graph import Graph
from pyker.graphdriver.vfs import VfsDriver
from pyker.errors import KernelError
graph = Graph("{tmp_path}", VfsDriver("{tmp_path}/vfs"))
try:
    graph.layers.add("{tmp_path}.blob", None, cancel=lambda: False)
except KernelError as error:
    print(error, os.listdir("{tmp_path}/vfs/dir"))
graph.close()
END
"""
    Path(f"{tmp_path}.blob").write_bytes(members(file("big", bytes(9_000_000))))
    try:
        done = subprocess.run(
            ["unshare", "-m", "--propagation", "private", "bash", "-c", script.replace("python3", _python())],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    finally:
        os.unlink(f"{tmp_path}.blob")
    assert "No space left on device" in done.stdout and done.stdout.strip().endswith("[]"), done


def _python() -> str:
    import sys

    return sys.executable


# After a crash


def test_leftovers_go_at_the_next_start(rig: Rig) -> None:
    image_id = rig.image(BASE, name="bb:1")
    rig.graph.driver.create("f" * 64, [])  # type: ignore[arg-type]
    (rig.layerdb / "tmp" / "write-set-abc").mkdir()
    (rig.layerdb / "tmp" / "write-set-abc" / "diff").write_text("half")
    unnamed = rig.register(OTHER)
    (rig.imagedb / "content" / "sha256" / f"{'a' * 64}.123.tmp").write_text("half")
    (rig.root / "image" / rig.kind.name / "repositories.json.123.tmp").write_text("half")
    if rig.kind is Overlay2Driver:
        os.symlink("../gone/diff", rig.root / "overlay2" / "l" / ("A" * 26))
    graph = rig.reopen()
    assert graph.lookup("bb:1") == image_id
    assert graph.layers.get(unnamed.chain_id) is None
    assert len(rig.folders()) == 1
    left = [name for top, _, files in os.walk(rig.root / "image") for name in files if name.endswith(".tmp")]
    assert left == [] and os.listdir(rig.layerdb / "tmp") == []
    if rig.kind is Overlay2Driver:
        assert len(os.listdir(rig.root / "overlay2" / "l")) == 1


@pytest.mark.parametrize("name", ["diff", "cache-id", "size"])
def test_an_empty_layer_record(rig: Rig, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The image that stood on it is gone, with a warning; everything else works."""
    broken, whole = rig.image(BASE, MORE, name="bb:1"), rig.image(OTHER, name="bb:2")
    base = rig.graph.images.get(broken).chain_ids[0]
    rig.graph.close()
    (rig.layerdb / "sha256" / base.removeprefix("sha256:") / name).write_text("")
    with caplog.at_level(logging.WARNING):
        graph = rig.open()
    assert graph.images.ids() == [whole]
    assert broken in caplog.text and base in caplog.text
    with pytest.raises(NotFound, match="No such image: bb:1"):
        graph.lookup("bb:1")
    assert rig.image(BASE, MORE, name="bb:1") == broken
    assert graph.lookup("bb:1") == broken


@pytest.mark.parametrize("content", [b"", b'{"rootfs":{"type":"layers","diff_ids":[]}}', b"\xff\xfe"])
def test_a_damaged_configuration(rig: Rig, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    image_id = rig.image(BASE, name="bb:1")
    rig.graph.close()
    (rig.imagedb / "content" / "sha256" / image_id.removeprefix("sha256:")).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        graph = rig.open()
    assert graph.images.ids() == [] and image_id in caplog.text
    assert rig.folders() == set()


@pytest.mark.parametrize("content", ["", "{", '{"Repositories":7}', '{"Repositories":{"a":{"A B":"sha256:x"}}}'])
def test_damaged_names(rig: Rig, content: str) -> None:
    image_id = rig.image(BASE, name="bb:1")
    rig.graph.close()
    (rig.root / "image" / rig.kind.name / "repositories.json").write_text(content)
    graph = rig.open()
    assert graph.lookup(image_id) == image_id
    graph.tag(parse("bb:2"), image_id)
    assert rig.reopen().lookup("bb:2") == image_id


def test_a_container_record_that_is_empty_stops_the_sweep(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody knows whose folder that is: deleting it would be worse than keeping it."""
    top = rig.graph.images.get(rig.image(BASE)).top
    container = ContainerId("c" * 64)
    rig.graph.layers.create_rw(container, top, {})
    folders = rig.folders()
    (rig.layerdb / "mounts" / container / "mount-id").write_text("")
    with caplog.at_level(logging.WARNING):
        rig.reopen()
    assert container in caplog.text
    assert rig.folders() == folders


def test_a_container_whose_folder_is_gone(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """A crash in the middle of its removal."""
    image_id = rig.image(BASE)
    container = ContainerId("c" * 64)
    rig.graph.layers.create_rw(container, rig.graph.images.get(image_id).top, {})
    rig.graph.driver.remove((rig.layerdb / "mounts" / container / "mount-id").read_text())  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        rig.reopen()
    assert container in caplog.text and os.listdir(rig.layerdb / "mounts") == []
    rig.graph.delete_image(image_id)
    assert rig.folders() == set()


def test_a_store_of_the_reference_is_not_swept(rig: Rig) -> None:
    """Its builder keeps folders that only its own database names."""
    rig.graph.driver.create("f" * 64, [])  # type: ignore[arg-type]
    (rig.root / "buildkit").mkdir()
    rig.reopen()
    assert rig.folders() == {"f" * 64}


def test_the_database_is_made_again_from_the_files(rig: Rig) -> None:
    image_id = rig.image(BASE, MORE, name="bb:1")
    base, top = rig.graph.images.get(image_id).chain_ids
    rig.graph.close()
    for suffix in ("", "-wal", "-shm"):
        (rig.root / "image" / rig.kind.name / f"graph.db{suffix}").unlink(missing_ok=True)
    graph = rig.open()
    graph.db.flush()
    assert graph.db.below(image_id) == [top, base]
    assert graph.db.named("image", "docker.io/library/bb:1") == image_id


def test_the_database_follows(rig: Rig) -> None:
    image_id = rig.image(BASE, name="bb:1")
    base = rig.graph.images.get(image_id).chain_ids[0]
    rig.graph.hold(ContainerId("c1"), image_id)
    rig.graph.db.flush()
    assert rig.graph.holders(image_id) == ["c1"]
    assert [edge.source for edge in rig.graph.db.edges_to(image_id)] == ["c1"]
    assert rig.graph.db.below("c1") == [image_id, base]
    rig.graph.release(ContainerId("c1"))
    rig.graph.untag(parse("bb:1"))
    rig.graph.delete_image(image_id)
    rig.graph.db.flush()
    assert rig.graph.db.entities("layer") == rig.graph.db.entities("image") == rig.graph.db.entities("container") == []
    assert rig.graph.db.named("image", "docker.io/library/bb:1") is None


# At the same time


def test_the_same_layer_from_two_pulls(rig: Rig) -> None:
    with rig.graph.layers.hold():
        found: list[Layer] = []
        blob = rig.root / "same"
        blob.write_bytes(gzip.compress(BASE))

        def pull() -> None:
            found.append(
                rig.graph.layers.register(
                    str(blob), "", DiffId(digest(BASE)), None, cancel=lambda: False, progress=lambda _: None
                )
            )

        threads = [threading.Thread(target=pull) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({layer.cache_id for layer in found}) == 1 and len(found) == 4
        assert len(rig.folders()) == 1


def test_removing_while_pulling(rig: Rig) -> None:
    """A layer that a pull has found stays until the pull is over."""
    first = rig.image(BASE, MORE)
    base = rig.graph.images.get(first).chain_ids[0]
    with rig.graph.layers.hold():
        assert rig.graph.layers.get(base) is not None
        rig.graph.delete_image(first)
        other = rig.register(OTHER, base)
        assert other.parent == base
        config = {"rootfs": {"type": "layers", "diff_ids": [digest(BASE), digest(OTHER)]}}
        second = rig.graph.create_image(json.dumps(config).encode())
    assert {layer.chain_id for layer in rig.graph.layers.all()} == {base, other.chain_id}
    assert rig.graph.delete_image(second) == [other.chain_id, base]
    assert rig.folders() == set()


def test_lookups(rig: Rig) -> None:
    one, two = rig.image(BASE, label="1", name="bb:1"), rig.image(BASE, label="2", name="127.0.0.1:5000/team/bb")
    graph = rig.graph
    graph.tag(parse(f"bb@{digest(b'manifest')}"), one)
    assert {graph.lookup(name) for name in ("bb:1", "docker.io/library/bb:1", "library/bb:1", one, one[7:])} == {one}
    assert graph.lookup(f"bb@{digest(b'manifest')}") == graph.lookup(one[7:19]) == graph.lookup(one[:25]) == one
    assert graph.lookup("127.0.0.1:5000/team/bb") == two
    for name, said in (
        ("bb", "bb:latest"), ("nosuch", "nosuch:latest"), ("a.b/c:9", "a.b/c:9"), ("f" * 64, f"sha256:{'f' * 64}"),
    ):  # fmt: skip
        with pytest.raises(NotFound, match=rf"^No such image: {said}$"):
            graph.lookup(name)


# The machine's own root file system


def test_the_view_of_the_machine(tmp_path: Path) -> None:
    """It shows "/", takes writes elsewhere, and does not show the engine's own data."""
    rig = Rig(tmp_path / "data", Overlay2Driver)
    (rig.root / "secret").write_text("the engine's own")
    container = ContainerId("c" * 64)
    image = rig.graph.images.get(rig.graph.lookup("host"))
    rig.graph.layers.create_rw(container, image.top, {})
    spec = rig.graph.layers.rootfs(container)
    merged = tmp_path / "merged"
    merged.mkdir()
    inside = f"""
set -e
cd {spec.mount.workdir}
mount -t overlay overlay -o {",".join(spec.mount.options)} {merged}
cd {merged}
cmp etc/passwd /etc/passwd
ls -A .{rig.root} | wc -l
ls -A proc sys | grep -c . || true
echo new > etc/written-by-the-test
rm etc/passwd
test ! -e etc/passwd
test -f .dockerenv -a -d dev/shm -a ! -L etc/resolv.conf
"""
    before = os.stat("/etc/passwd")
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", inside], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "0"
    assert os.stat("/etc/passwd") == before and not os.path.exists("/etc/written-by-the-test")
    assert (Path(spec.upperdir) / "etc" / "written-by-the-test").read_text() == "new\n"
    rig.graph.layers.remove_rw(container)
    assert rig.folders() == set()
    rig.graph.close()


def test_a_container_over_the_machine_survives_a_restart(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "data", Overlay2Driver)
    container = ContainerId("c" * 64)
    rig.graph.layers.create_host_rw(container)
    before = rig.graph.layers.rootfs(container)
    assert rig.reopen().layers.rootfs(container) == before
    rig.graph.close()


def test_vfs_has_no_view_of_the_machine(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "data", VfsDriver)
    with pytest.raises(NotSupported, match="needs the overlay2 driver"):
        rig.graph.layers.create_host_rw(ContainerId("c" * 64))
    assert os.listdir(rig.layerdb / "mounts") == []
    rig.graph.close()
