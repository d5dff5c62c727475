"""What a container's layer changed of what lies below it.

Names are looked at one folder at a time, from descriptors, and no symlink is followed: what a container made of its
layer leads nowhere else. Source: Docker API v1.45 GET /containers/{id}/changes; Linux overlayfs.rst.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence

MODIFIED, ADDED, DELETED = 0, 1, 2
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = "trusted.overlay.opaque"
_CAPABILITY = "security.capability"
Change = tuple[int, bytes]
"""Kind, and path from the root."""


def changes(upper: int, lowers: Sequence[int], *, union: bool) -> Iterator[Change]:
    """Compare the folder ``upper`` with ``lowers`` (topmost first); the descriptors stay the caller's.

    ``union``: ``upper`` holds only what differs, with overlayfs's marks for what is gone. Else it is a whole tree.
    A folder below which something changed counts as modified. Ordered by path.
    """
    yield from _folder(b"", upper, list(lowers), union=union, whole=not union)


def _folder(path: bytes, upper: int, lowers: list[int], *, union: bool, whole: bool) -> Iterator[Change]:
    """Below one folder; with ``whole`` it does not show what only ``lowers`` have."""
    here = {os.fsencode(name) for name in os.listdir(upper)}
    gone = (_visible(lowers) - here) if whole else set()
    for name in sorted(here | gone):
        where = path + b"/" + name
        if name in gone:
            yield DELETED, where
            continue
        try:
            found = os.stat(name, dir_fd=upper, follow_symlinks=False)
        except FileNotFoundError:
            # A running container took it back meanwhile.
            continue
        old = _below(lowers, name)
        if union and _whiteout(found):
            if old is not None:
                yield DELETED, where
        elif old is None:
            yield ADDED, where
            if stat.S_ISDIR(found.st_mode):
                yield from _inside(where, upper, name, [], union=union)
        elif stat.S_ISDIR(found.st_mode):
            with contextlib.ExitStack() as stack:
                inner = _open_below(lowers, name, stack) if stat.S_ISDIR(old.st_mode) else []
                below = list(_inside(where, upper, name, inner, union=union))
            if below or _differ(found, old) or not stat.S_ISDIR(old.st_mode):
                yield MODIFIED, where
            yield from below
        elif _differ(found, old) or _attribute(upper, name) != _first_attribute(lowers, name):
            yield MODIFIED, where
            if stat.S_ISDIR(old.st_mode):
                with contextlib.ExitStack() as stack:
                    for lost in sorted(_visible(_open_below(lowers, name, stack))):
                        yield DELETED, where + b"/" + lost


def _inside(path: bytes, upper: int, name: bytes, lowers: list[int], *, union: bool) -> Iterator[Change]:
    try:
        fd = os.open(name, _OPEN_DIR, dir_fd=upper)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        yield from _folder(path, fd, lowers, union=union, whole=not union or _opaque(fd))
    finally:
        os.close(fd)


def _below(lowers: Sequence[int], name: bytes) -> os.stat_result | None:
    """What the lower folders together have as ``name``."""
    for fd in lowers:
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        return None if _whiteout(found) else found
    return None


def _open_below(lowers: Sequence[int], name: bytes, stack: contextlib.ExitStack) -> list[int]:
    """The folders that are together shown as ``name``."""
    found: list[int] = []
    for lower in lowers:
        try:
            fd = os.open(name, _OPEN_DIR, dir_fd=lower)
        except FileNotFoundError:
            continue
        except OSError:
            # No folder: it hides what is below it.
            break
        stack.callback(os.close, fd)
        found.append(fd)
        if _opaque(fd):
            break
    return found


def _visible(lowers: Sequence[int]) -> set[bytes]:
    """The names that the lower folders show together."""
    shown: set[bytes] = set()
    hidden: set[bytes] = set()
    for fd in lowers:
        for name in map(os.fsencode, os.listdir(fd)):
            if name not in shown and name not in hidden:
                mark = _whiteout(os.stat(name, dir_fd=fd, follow_symlinks=False))
                (hidden if mark else shown).add(name)
    return shown


def _whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, _OPAQUE) == b"y"
    except OSError:
        return False


def _attribute(dir_fd: int, name: bytes) -> bytes:
    try:
        return os.getxattr(b"/proc/self/fd/%d/%b" % (dir_fd, name), _CAPABILITY, follow_symlinks=False)
    except OSError:
        return b""


def _first_attribute(lowers: Sequence[int], name: bytes) -> bytes:
    for fd in lowers:
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=fd, follow_symlinks=False)
            return _attribute(fd, name)
    return b""


def _differ(found: os.stat_result, old: os.stat_result) -> bool:
    """A folder's size and time change with what is in it, and say nothing."""
    if (found.st_mode, found.st_uid, found.st_gid, found.st_rdev) != (old.st_mode, old.st_uid, old.st_gid, old.st_rdev):
        return True
    if stat.S_ISDIR(found.st_mode):
        return False
    return (found.st_mtime_ns, found.st_size) != (old.st_mtime_ns, old.st_size)
