"""What one tree changes of another, and Go's way to write a mode."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pyker.graphdriver.archive.changes import ADDED, DELETED, MODIFIED, changes
from pyker.server.routes.files import go_mode


def compared(upper: Path, *lowers: Path, union: bool = False) -> dict[str, int]:
    fds = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in (upper, *lowers)]
    try:
        return {path.decode(): kind for kind, path in changes(fds[0], fds[1:], union=union)}
    finally:
        for fd in fds:
            os.close(fd)


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    folder = tmp_path / "lower"
    (folder / "dir" / "inner").mkdir(parents=True)
    (folder / "dir" / "file").write_text("old")
    (folder / "same").write_text("same")
    return folder


def copied(lower: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(lower, tmp_path / "upper", symlinks=True))


def test_the_same_tree_has_no_changes(lower: Path, tmp_path: Path) -> None:
    assert compared(copied(lower, tmp_path), lower) == {}


def test_a_whole_tree(lower: Path, tmp_path: Path) -> None:
    upper = copied(lower, tmp_path)
    (upper / "dir" / "file").write_text("longer than before")
    (upper / "dir" / "inner").rmdir()
    (upper / "new" / "below").mkdir(parents=True)
    assert compared(upper, lower) == {
        "/dir": MODIFIED, "/dir/file": MODIFIED, "/dir/inner": DELETED, "/new": ADDED, "/new/below": ADDED,
    }  # fmt: skip


def test_a_union_shows_what_it_does_not_hold(lower: Path, tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "dir").mkdir(parents=True)
    (upper / "dir" / "added").touch()
    assert compared(upper, lower, union=True) == {"/dir": MODIFIED, "/dir/added": ADDED}


def test_the_topmost_of_several_counts(lower: Path, tmp_path: Path) -> None:
    middle, upper = tmp_path / "middle", tmp_path / "upper"
    middle.mkdir()
    (middle / "same").write_text("other")
    upper.mkdir()
    (upper / "same").write_text("other")
    os.utime(upper / "same", ns=(0, (middle / "same").stat().st_mtime_ns))
    assert compared(upper, middle, lower, union=True) == {}


def test_a_file_in_place_of_a_folder_and_back(lower: Path, tmp_path: Path) -> None:
    upper = copied(lower, tmp_path)
    (upper / "dir" / "file").unlink()
    (upper / "dir" / "inner").rmdir()
    (upper / "dir").rmdir()
    (upper / "dir").touch()
    (upper / "same").unlink()
    (upper / "same").mkdir()
    (upper / "same" / "x").touch()
    assert compared(upper, lower) == {
        "/dir": MODIFIED, "/dir/file": DELETED, "/dir/inner": DELETED, "/same": MODIFIED, "/same/x": ADDED,
    }  # fmt: skip


def test_a_link_is_not_followed(lower: Path, tmp_path: Path) -> None:
    """What a container put in place of a folder leads nowhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").touch()
    upper = copied(lower, tmp_path)
    (upper / "link").symlink_to(outside)
    assert compared(upper, lower) == {"/link": ADDED}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (stat.S_IFREG | 0o644, 0o644),
        (stat.S_IFDIR | 0o755, 2147484141),
        (stat.S_IFLNK | 0o777, 0o777 | 1 << 27),
        (stat.S_IFCHR | 0o666, 0o666 | 1 << 26 | 1 << 21),
        (stat.S_IFREG | 0o4755, 0o755 | 1 << 23),
        (stat.S_IFDIR | 0o1777, 0o777 | 1 << 31 | 1 << 20),
    ],
)
def test_modes_of_go(mode: int, expected: int) -> None:
    assert go_mode(mode) == expected
