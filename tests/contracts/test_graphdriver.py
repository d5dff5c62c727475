"""One suite for every graphdriver: layers stack, containers write above them, nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from pyker.errors import NotSupported, SystemFailure
from pyker.graphdriver import select
from pyker.graphdriver.base import GraphDriver, RootfsSpec
from pyker.graphdriver.btrfs import BtrfsDriver
from pyker.graphdriver.overlay2 import Overlay2Driver
from pyker.graphdriver.vfs import VfsDriver
from pyker.libcontainer import syscalls
from pyker.types.ids import CacheId
from pyker.types.mount import Mount
from tests.support import layers
from tests.support.forked import in_child
from tests.support.layers import entry, file, folder, members
from tests.support.namespaces import isolated

pytestmark = pytest.mark.requires("root", "overlay")

Seen = dict[str, list[object]]


def view(spec: RootfsSpec, place: Path, *writes: str) -> Seen:
    """Mount in a mount namespace of another process, run ``writes`` in it, and list what is to be seen."""
    place.mkdir(exist_ok=True)
    return in_child(lambda: _seen(spec.mount, str(place), writes))


def _seen(mount: Mount, target: str, writes: Sequence[str]) -> Seen:
    syscalls.unshare(0x00020000)
    syscalls.mount("", "/", "", (1 << 14) | (1 << 18))
    if mount.workdir:
        os.chdir(mount.workdir)
    if mount.fstype == "bind":
        syscalls.mount(mount.source, target, "", 4096)
    else:
        syscalls.mount("overlay", target, "overlay", 0, ",".join(mount.options))
    os.chdir(target)
    for line in writes:
        exec(line, {"os": os, "open": open})
    found: Seen = {}
    for top, folders, files in os.walk("."):
        for name in folders + files:
            path = os.path.join(top, name)
            info = os.lstat(path)
            text = Path(path).read_text() if stat.S_ISREG(info.st_mode) else ""
            found[os.path.relpath(path)] = [oct(info.st_mode), info.st_uid, info.st_mtime_ns, text]
    return found


@pytest.fixture(
    params=[
        Overlay2Driver,
        pytest.param(BtrfsDriver, marks=pytest.mark.requires("btrfs", "loop")),
        VfsDriver,
    ],
    ids=["overlay2", "btrfs", "vfs"],
)
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GraphDriver]:
    root = tmp_path / "driver"
    place = on_btrfs(tmp_path) if request.param is BtrfsDriver else contextlib.nullcontext()
    with place:
        yield request.param(str(root))
        mounts = Path("/proc/thread-self/mountinfo").read_text()
        assert f"{root}/" not in mounts


@contextlib.contextmanager
def on_btrfs(folder: Path) -> Iterator[None]:
    """``folder/driver`` is a btrfs, in a mount namespace of this thread's own."""
    image = folder / "btrfs.img"
    with open(image, "wb") as made:
        made.truncate(256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True)
    (folder / "driver").mkdir()
    with isolated():
        subprocess.run(["mount", "-o", "loop", str(image), str(folder / "driver")], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", str(folder / "driver")], check=True)


def layer(driver: GraphDriver, name: str, parents: list[CacheId], tar: bytes) -> CacheId:
    cache_id = CacheId(name * 64)
    made = driver.create(cache_id, parents)
    layers.apply_bytes(tar, Path(made), driver.whiteout_style())
    for kind in ("tar", "split"):
        Path(f"{made}.{kind}").unlink()
    driver.commit(cache_id)
    return cache_id


def stack(driver: GraphDriver) -> list[CacheId]:
    """Three layers, topmost first: the second deletes and hides, the third adds."""
    first = layer(driver, "a", [], members(
        folder("d", 0o711), file("d/old", b"1"), folder("h"), file("h/hidden", b"1"), file("gone", b"1"),
        file("changed", b"1"), (entry("owned", uid=1234, mode=0o4755), b"x"),
    ))  # fmt: skip
    second = layer(driver, "b", [first], members(
        file(".wh.gone"), folder("h"), file("h/.wh..wh..opq"), file("h/shown", b"2"), file("changed", b"22"),
    ))  # fmt: skip
    third = layer(driver, "c", [second, first], members(file("d/new", b"3"), folder("gone"), file("gone/again", b"3")))
    return [third, second, first]


@pytest.mark.claim("graphdriver-gives-rootfs", "graphdriver-stores")
def test_layers_stack(driver: GraphDriver, tmp_path: Path) -> None:
    chain = stack(driver)
    top = CacheId("e" * 64)
    driver.create_rw(top, chain, storage_opt={})
    seen = view(driver.rootfs(top, chain), tmp_path / "merged")
    assert sorted(seen) == [
        "changed", "d", "d/new", "d/old", "gone", "gone/again", "h", "h/shown", "owned",
    ]  # fmt: skip
    assert seen["changed"][3] == "22"
    assert seen["owned"][:3] == ["0o104755", 1234, 1_700_000_000_000_000_000]


def test_a_container_writes_above(driver: GraphDriver, tmp_path: Path) -> None:
    chain = stack(driver)
    below = {name: layers.tree(Path(driver.diff_path(name))) for name in chain}
    one, two = CacheId("1" * 64), CacheId("2" * 64)
    for cache_id in (one, two):
        driver.create_rw(cache_id, chain, storage_opt={})
    spec = driver.rootfs(one, chain)
    view(spec, tmp_path / "merged", "open('d/old', 'w').write('w')", "os.unlink('changed')", "os.mkdir('made')")
    assert (Path(spec.upperdir) / "d" / "old").read_text() == "w"
    again = view(driver.rootfs(one, chain), tmp_path / "merged")
    assert "changed" not in again and "made" in again and again["d/old"][3] == "w"
    other = view(driver.rootfs(two, chain), tmp_path / "merged")
    assert other["changed"][3] == "22" and other["d/old"][3] == "1" and "made" not in other
    assert {name: layers.tree(Path(driver.diff_path(name))) for name in chain} == below


def test_a_read_only_view_has_no_upper(driver: GraphDriver, tmp_path: Path) -> None:
    chain = stack(driver)
    assert driver.rootfs(chain[0], chain[1:], readonly=True).upperdir == ""
    seen = view(driver.rootfs(chain[0], chain[1:], readonly=True), tmp_path / "merged")
    assert seen["d/new"][3] == "3"


def test_removing(driver: GraphDriver) -> None:
    """What was made goes, twice is no error, and the others stay."""
    chain = stack(driver)
    top = CacheId("e" * 64)
    driver.create_rw(top, chain, storage_opt={})
    assert driver.exists(top)
    driver.remove(top)
    driver.remove(top)
    assert not driver.exists(top)
    assert all(driver.exists(cache_id) for cache_id in chain)
    for cache_id in chain:
        driver.remove(cache_id)
    left = [name for top, folders, files in os.walk(driver.root) for name in folders + files]
    assert left in ([], ["l"], ["dir"], ["subvolumes"])


def test_pruning_keeps_what_is_named(driver: GraphDriver) -> None:
    chain = stack(driver)
    half = CacheId("f" * 64)
    driver.create(half, chain)
    removed = driver.prune({chain[1], chain[2]})
    assert sorted(removed) == sorted([chain[0], half])
    assert [driver.exists(cache_id) for cache_id in chain] == [False, True, True]


def test_creating_again_after_a_crash(driver: GraphDriver) -> None:
    cache_id = CacheId("a" * 64)
    made = Path(driver.create(cache_id, []))
    (made / "half").write_text("written")
    assert os.listdir(driver.create(cache_id, [])) == []


def test_quota_is_refused(driver: GraphDriver) -> None:
    with pytest.raises(SystemFailure):
        driver.create_rw(CacheId("a" * 64), [], storage_opt={"size": "10G"})


def test_128_layers(tmp_path: Path) -> None:
    """As many as an image may have, whose links do not fit a page with full paths."""
    driver = Overlay2Driver(str(tmp_path / "a-long-name-for-the-folder-of-the-driver" / "overlay2"))
    chain: list[CacheId] = []
    for number in range(128):
        cache_id = CacheId(f"{number:064x}")
        made = driver.create(cache_id, chain)
        (Path(made) / f"file{number}").write_text(str(number))
        (Path(made) / "top").write_text(str(number))
        chain.insert(0, cache_id)
    top = CacheId("e" * 64)
    driver.create_rw(top, chain, storage_opt={})
    spec = driver.rootfs(top, chain)
    assert sum(map(len, spec.mount.options)) + len(spec.mount.options) < 4096
    seen = view(spec, tmp_path / "merged")
    assert len(seen) == 129 and seen["top"][3] == "127"


def test_a_root_that_mount_options_cannot_hold(tmp_path: Path) -> None:
    driver = Overlay2Driver(str(tmp_path / "with,comma:and\\backslash" / "overlay2"))
    chain = stack(driver)
    top = CacheId("e" * 64)
    driver.create_rw(top, chain, storage_opt={})
    assert "owned" in view(driver.rootfs(top, chain), tmp_path / "merged")


def test_a_lost_link_is_made_again(tmp_path: Path) -> None:
    """An empty ``link`` file, as a power cut leaves it."""
    driver = Overlay2Driver(str(tmp_path / "overlay2"))
    chain = stack(driver)
    (tmp_path / "overlay2" / chain[1] / "link").write_text("")
    again = Overlay2Driver(str(tmp_path / "overlay2"))
    again.prune(set(chain))
    top = CacheId("e" * 64)
    again.create_rw(top, chain, storage_opt={})
    assert "h/shown" in view(again.rootfs(top, chain), tmp_path / "merged")


# Selection


def choose(root: Path, flag: str = "", environment: Mapping[str, str] | None = None) -> str:
    return select.select(str(root), select.asked_for(flag, environment or {})).name


@pytest.mark.claim("graphdriver-by-system", "graphdriver-environment")
def test_selection(tmp_path: Path) -> None:
    """The flag, then PYKER_DRIVER, then DOCKER_DRIVER, then prior data, then the first that works."""
    assert choose(tmp_path / "1") == "overlay2"
    assert choose(tmp_path / "2", "vfs", {"PYKER_DRIVER": "overlay2"}) == "vfs"
    assert choose(tmp_path / "3", "", {"PYKER_DRIVER": "vfs", "DOCKER_DRIVER": "overlay2"}) == "vfs"
    assert choose(tmp_path / "4", "", {"DOCKER_DRIVER": "vfs"}) == "vfs"
    (tmp_path / "5" / "image" / "vfs" / "layerdb" / "sha256" / "abc").mkdir(parents=True)
    assert choose(tmp_path / "5") == "vfs"
    (tmp_path / "5" / "image" / "overlay2" / "layerdb" / "sha256" / "abc").mkdir(parents=True)
    with pytest.raises(SystemFailure, match="several valid graphdrivers"):
        choose(tmp_path / "5")
    assert choose(tmp_path / "5", "overlay2") == "overlay2"


@pytest.mark.parametrize("name", ["aufs", "overlay", "devicemapper", "nosuch"])
def test_a_driver_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotSupported, match=f"driver not supported: '{name}': .+available: overlay2, btrfs, vfs"):
        choose(tmp_path, name)


def test_overlay_on_overlay_is_refused(tmp_path: Path) -> None:
    """Asked of the kernel, in a mount namespace of its own."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    script = (
        f"mount -t overlay overlay -o lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work "
        f"{tmp_path}/merged && exec {sys.executable} -c "
        f"'from pyker.graphdriver.overlay2 import Overlay2Driver as D; print(D.probe(\"{tmp_path}/merged/overlay2\"))'"
    )
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script], capture_output=True, text=True, check=True
    )
    assert "usable=False" in done.stdout and "overlayfs, which cannot take" in done.stdout
    assert os.listdir(tmp_path / "upper") == []


def test_a_leftover_that_is_in_use_stops_nobody(tmp_path: Path) -> None:
    """Something is mounted below it; seen from the namespace where that is so."""
    driver = Overlay2Driver(str(tmp_path / "overlay2"))
    made = driver.create(CacheId("a" * 64), [])
    driver.create(CacheId("b" * 64), [])
    script = (
        f"mount -t tmpfs tmpfs {made} && exec {sys.executable} -c "
        f"'from pyker.graphdriver.overlay2 import Overlay2Driver as D; print(D(\"{driver.root}\").prune(()))'"
    )
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(["b" * 64])
    assert "stays" in done.stderr


def test_a_probe_leaves_nothing(tmp_path: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    assert Overlay2Driver.probe(str(tmp_path / "deep" / "er")).usable
    assert os.listdir(tmp_path) == []
    assert Path("/proc/self/mountinfo").read_text() == before


def test_status(tmp_path: Path) -> None:
    pairs = dict(Overlay2Driver(str(tmp_path / "overlay2")).status())
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True)
    assert pairs["Backing Filesystem"] == {"ext2/ext3": "extfs"}.get(kind.stdout.strip(), kind.stdout.strip())
    assert pairs["Supports d_type"] == "true"
    assert list(pairs) == ["Backing Filesystem", "Supports d_type", "Native Overlay Diff", "userxattr"]


# btrfs


@pytest.mark.requires("btrfs", "loop")
def test_layers_are_snapshots_that_share_their_blocks(tmp_path: Path) -> None:
    with on_btrfs(tmp_path):
        driver = BtrfsDriver(str(tmp_path / "driver"))
        chain = stack(driver)
        for cache_id in chain:
            assert os.stat(driver.diff_path(cache_id)).st_ino == 256
        big = Path(driver.diff_path(chain[0]), "big")
        big.write_bytes(os.urandom(32 << 20))
        subprocess.run(["sync", "-f", str(big)], check=True)
        free = os.statvfs(driver.root).f_bavail * os.statvfs(driver.root).f_frsize
        for number in range(20):
            driver.create_rw(CacheId(f"{number:064x}"), chain, storage_opt={})
        subprocess.run(["sync", "-f", str(big)], check=True)
        spent = free - os.statvfs(driver.root).f_bavail * os.statvfs(driver.root).f_frsize
        assert spent < 8 << 20, "snapshots copied"


@pytest.mark.requires("btrfs", "loop")
def test_subvolumes_that_a_container_made_go_with_it(tmp_path: Path) -> None:
    with on_btrfs(tmp_path):
        driver = BtrfsDriver(str(tmp_path / "driver"))
        top = CacheId("e" * 64)
        driver.create_rw(top, [], storage_opt={})
        folder = driver.diff_path(top)
        os.mkdir(f"{folder}/deep")
        for where, name in ((f"{folder}/deep", "one"), (f"{folder}/deep/one", "two")):
            subprocess.run(["btrfs", "-q", "subvolume", "create", f"{where}/{name}"], check=True)
        driver.remove(top)
        assert os.listdir(os.path.dirname(folder)) == []


@pytest.mark.requires("btrfs", "loop")
def test_the_btrfs_probe_tries_it_and_leaves_nothing(tmp_path: Path) -> None:
    answer = BtrfsDriver.probe("/proc/elsewhere/btrfs")
    assert not answer.usable
    assert answer.reason.startswith("/proc is on ")
    assert answer.reason.endswith(", not on btrfs")
    with on_btrfs(tmp_path):
        assert BtrfsDriver.probe(str(tmp_path / "driver" / "deep" / "btrfs")).usable
        assert os.listdir(tmp_path / "driver") == []
        assert choose(tmp_path / "driver", "btrfs") == "btrfs"
