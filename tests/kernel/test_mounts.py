"""Single mounts below a root, in a mount namespace of the test's own: targets, flags, and kernels without new calls."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.libcontainer import mounts
from pyker.libcontainer import syscalls as sc
from pyker.types.mount import Mount
from tests.kernel.containerbench import host_mounts
from tests.support.namespaces import isolated

pytestmark = pytest.mark.requires("root")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A descriptor of a root that is a file system of its own; ``tmp_path / "root"``."""
    with isolated():
        folder = tmp_path / "root"
        folder.mkdir()
        sc.mount("tmpfs", str(folder), "tmpfs")
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)
            sc.umount2(str(folder), sc.MNT_DETACH)


def flags_of(point: Path) -> set[str]:
    lines = Path("/proc/thread-self/mountinfo").read_text().splitlines()
    return set([line.split()[5] for line in lines if line.split()[4] == str(point)][-1].split(","))


def test_missing_folders_on_the_way_are_made(root: int, tmp_path: Path) -> None:
    os.close(mounts.make_target(root, "/a/b/c", "dir"))
    os.close(mounts.make_target(root, "/a/b/f", "file"))
    assert (tmp_path / "root/a/b/c").is_dir()
    assert (tmp_path / "root/a/b/f").is_file()


def test_dots_do_not_lead_out(root: int, tmp_path: Path) -> None:
    os.close(mounts.make_target(root, "/../../x/../y", "dir"))
    assert (tmp_path / "root/y").is_dir()
    assert not (tmp_path / "y").exists()
    assert not Path("/y").exists()


def test_a_file_on_the_way_is_an_error(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/f").touch()
    with pytest.raises(NotADirectoryError):
        mounts.make_target(root, "/f/below", "dir")


def test_an_absolute_link_without_an_end(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/link").symlink_to("/made/here")
    os.close(mounts.make_target(root, "/link/x", "dir"))
    assert (tmp_path / "root/made/here/x").is_dir()
    assert not Path("/made").exists()


@pytest.mark.parametrize("old_kernel", [False, True])
def test_flags_of_a_bind_on_new_and_old_kernels(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old_kernel: bool
) -> None:
    if old_kernel:

        def missing(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSYS, "mount_setattr: Function not implemented")

        monkeypatch.setattr(sc, "mount_setattr", missing)
    source = tmp_path / "source"
    source.mkdir()
    sc.mount("tmpfs", str(source), "tmpfs", sc.MS_NOSUID)
    try:
        mount = Mount(target="/data", fstype="bind", source=str(source), options=("ro", "noexec"))
        mounts.perform(root, mount)
        assert {"ro", "noexec", "nosuid"} <= flags_of(tmp_path / "root/data")
        assert "rw" in flags_of(source)
        with pytest.raises(OSError, match="Read-only"):
            (tmp_path / "root/data/x").touch()
    finally:
        sc.umount2(str(source), sc.MNT_DETACH)


def test_a_plain_bind_takes_only_the_top_mount(root: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    sc.mount("tmpfs", str(source / "below"), "tmpfs")
    try:
        (source / "below/f").touch()
        mounts.perform(root, Mount(target="/one", fstype="bind", source=str(source)))
        mounts.perform(root, Mount(target="/all", fstype="bind", source=str(source), options=("rbind",)))
        assert not (tmp_path / "root/one/below/f").exists()
        assert (tmp_path / "root/all/below/f").exists()
    finally:
        sc.umount2(str(source / "below"), sc.MNT_DETACH)


def test_a_failed_mount_leaves_no_mount(root: int) -> None:
    before = host_mounts()
    with pytest.raises(OSError, match="mount: No such device") as caught:
        mounts.perform(root, Mount(target="/x", fstype="no-such-fs"))
    assert caught.value.filename == "/x"
    assert host_mounts() == before


def test_remove_tree_stops_at_a_mount_even_of_the_same_file_system(root: int, tmp_path: Path) -> None:
    base = tmp_path / "root"
    (base / "kept").mkdir()
    (base / "kept/f").touch()
    (base / "tree/point").mkdir(parents=True)
    sc.mount(str(base / "kept"), str(base / "tree/point"), "", sc.MS_BIND)
    with pytest.raises(OSError) as caught:
        sc.remove_tree(str(base / "tree"))
    assert caught.value.errno in (errno.EXDEV, errno.EBUSY)
    assert (base / "kept/f").exists()
    sc.umount2(str(base / "tree/point"))
    sc.remove_tree(str(base / "tree"))
    assert not (base / "tree").exists()


def test_layers_one_parameter_each(root: int, tmp_path: Path) -> None:
    base = tmp_path / "root"
    for name in ("l1", "l2", "up", "work", "at"):
        (base / name).mkdir()
    (base / "l1/one").touch()
    (base / "l2/two").touch()
    target = os.open(base / "at", os.O_PATH | os.O_CLOEXEC)
    words = {"lowerdir": f"{base}/l1:{base}/l2", "upperdir": f"{base}/up", "workdir": f"{base}/work"}
    try:
        mounts._mount_layer_by_layer("overlay", words, target, 0)
    except OSError as error:
        if error.errno == errno.EINVAL:
            pytest.skip("needs Linux 6.8")
        raise
    finally:
        os.close(target)
    assert sorted(each.name for each in (base / "at").iterdir()) == ["one", "two"]
    sc.umount2(str(base / "at"))
