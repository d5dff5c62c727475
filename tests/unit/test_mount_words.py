"""mount(8) words to flags, and commands to executables."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from pyker.errors import KernelError
from pyker.libcontainer import cgroupmounts, command, mounts
from pyker.libcontainer import syscalls as sc
from pyker.types.mount import Mount


def test_flags_propagation_and_data_are_told_apart() -> None:
    options = mounts.parse(("ro", "nosuid", "rslave", "size=64k", "mode=755", "", "rbind"))
    assert options.set == sc.MS_RDONLY | sc.MS_NOSUID
    assert options.propagation == sc.MS_SLAVE | sc.MS_REC
    assert options.data == "size=64k,mode=755"
    assert options.recursive


def test_the_last_of_two_opposites_wins() -> None:
    options = mounts.parse(("ro", "rw", "nosuid", "suid", "exec", "noexec"))
    assert options.set == sc.MS_NOEXEC
    assert options.clear & (sc.MS_RDONLY | sc.MS_NOSUID) == sc.MS_RDONLY | sc.MS_NOSUID
    assert not options.clear & sc.MS_NOEXEC


@pytest.mark.parametrize(
    ("words", "attr_set", "attr_clr"),
    [
        (("ro",), sc.MOUNT_ATTR_RDONLY, 0),
        (("rw", "nodev"), sc.MOUNT_ATTR_NODEV, sc.MOUNT_ATTR_RDONLY),
        (("noatime",), sc.MOUNT_ATTR_NOATIME, sc.MOUNT_ATTR__ATIME),
        (("relatime",), sc.MOUNT_ATTR_RELATIME, sc.MOUNT_ATTR__ATIME),
        (("strictatime", "nodiratime"), sc.MOUNT_ATTR_STRICTATIME | sc.MOUNT_ATTR_NODIRATIME, sc.MOUNT_ATTR__ATIME),
    ],
)
def test_attributes_of_mount_setattr(words: tuple[str, ...], attr_set: int, attr_clr: int) -> None:
    assert mounts.attributes(mounts.parse(words)) == (attr_set, attr_clr)


def test_cgroup_mounts_and_what_is_below_them_wait() -> None:
    wanted = tuple(
        Mount(target=target, fstype=fstype)
        for target, fstype in (
            ("/proc", "proc"),
            ("/sys", "sysfs"),
            ("/sys/fs/cgroup", "cgroup"),
            ("/sys/fs/cgroup/extra", "bind"),
            ("/sys/fs/cgroup2", "bind"),
        )
    )
    before, after = cgroupmounts.split(wanted)
    assert [mount.target for mount in before] == ["/proc", "/sys", "/sys/fs/cgroup2"]
    assert [mount.target for mount in after] == ["/sys/fs/cgroup", "/sys/fs/cgroup/extra"]


@pytest.fixture
def path(tmp_path: Path) -> str:
    for folder, name, mode in (("a", "tool", 0o644), ("b", "tool", 0o755), ("b", "data", 0o644)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).touch()
        (tmp_path / folder / name).chmod(mode)
    (tmp_path / "b/folder").mkdir()
    return f"{tmp_path}/a:{tmp_path}/b"


def test_the_first_executable_in_path(path: str) -> None:
    assert command.find("tool", path) == path.split(":")[1] + "/tool"


@pytest.mark.parametrize("name", ["nosuch", "data", "folder"])
def test_what_path_does_not_have(path: str, name: str) -> None:
    with pytest.raises(KernelError) as caught:
        command.find(name, path)
    assert caught.value.message == f'exec: "{name}": executable file not found in $PATH'
    assert (caught.value.errno, caught.value.stage) == (errno.ENOENT, "exec")


@pytest.mark.parametrize(
    ("name", "text", "number"),
    [
        ("b/nosuch", 'exec: "{0}": stat {0}: no such file or directory', errno.ENOENT),
        ("b/data", 'exec: "{0}": permission denied', errno.EACCES),
        ("b/folder", 'exec: "{0}": is a directory', errno.EISDIR),
        ("b/data/x", 'exec: "{0}": stat {0}: not a directory', errno.ENOTDIR),
    ],
)
def test_a_name_with_a_slash_is_taken_as_it_is(tmp_path: Path, path: str, name: str, text: str, number: int) -> None:
    del path
    full = f"{tmp_path}/{name}"
    with pytest.raises(KernelError) as caught:
        command.find(full, "")
    assert (caught.value.message, caught.value.errno) == (text.format(full), number)


def test_an_empty_command_is_one_that_is_not_found() -> None:
    with pytest.raises(KernelError, match=r'exec: "": executable file not found in \$PATH'):
        command.find("", "/bin")


def test_environment() -> None:
    assert command.environment(("A=1", "B", "=x", "A=2", "C=a=b"), "/root") == {"A": "2", "C": "a=b", "HOME": "/root"}
    assert command.environment(("HOME=",), "/root")["HOME"] == "/root"
    assert command.environment(("HOME=/h",), "/root")["HOME"] == "/h"


def test_small_files_only_and_regular_ones(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100)
    assert command.read_small(str(tmp_path / "f"), 10) == b"x" * 10
    assert command.read_small(str(tmp_path / "missing")) == b""
    os.mkfifo(tmp_path / "pipe")
    assert command.read_small(str(tmp_path / "pipe")) == b""
    assert command.read_small(str(tmp_path)) == b""


def test_remove_tree_takes_everything_and_follows_nothing(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/link").symlink_to(outside)
    (tree / "a/b/f").touch()
    sc.remove_tree(str(tree))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["outside"]
    assert (outside / "kept").exists()


def test_remove_tree_has_no_limit_of_depth(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    os.mkdir("top", dir_fd=fd)
    for _ in range(3000):
        lower = os.open("top" if _ == 0 else "d", os.O_RDONLY, dir_fd=fd)
        os.mkdir("d", dir_fd=lower)
        os.close(fd)
        fd = lower
    os.close(fd)
    try:
        sc.remove_tree(str(tmp_path / "top"))
        assert list(tmp_path.iterdir()) == []
    finally:
        # What clears up after pytest fails on such a depth, and in every later run too.
        subprocess.run(["rm", "-rf", str(tmp_path / "top")], check=True)


def test_remove_tree_of_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sc.remove_tree(str(tmp_path / "missing"))


def test_errors_name_the_call() -> None:
    with pytest.raises(OSError, match="openat2: No such file or directory") as caught:
        sc.openat2(sc.AT_FDCWD, "/no/such", os.O_RDONLY)
    assert sc.call_of(caught.value) == "openat2"
    assert sc.call_of(OSError(2, "No such file or directory")) == ""
