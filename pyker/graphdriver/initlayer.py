"""The layer between an image and a container's own: mount points that the engine needs and the image may lack.

The reference engine makes one for each container by mounting the image. Here it is worked out from the layers' folders
without a mount, once for each image, and shared by all its containers.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

_OPAQUE_XATTR = "trusted.overlay.opaque"

POINTS: tuple[tuple[str, str], ...] = (
    (".dockerenv", "file"),
    ("dev/console", "file"),
    ("dev/pts", "dir"),
    ("dev/shm", "dir"),
    ("etc/hostname", "file"),
    ("etc/hosts", "file"),
    ("etc/mtab", "/proc/mounts"),
    ("etc/resolv.conf", "file"),
    ("proc", "dir"),
    ("sys", "dir"),
)
"""Path and what it is: dir, an empty file, or a symlink's target."""


def populate(target: str, layers: Sequence[str]) -> None:
    """Make in ``target`` what none of ``layers`` (folders, topmost first, whiteouts as overlayfs has them) shows.

    A symlink where a file or folder has to be gives way to it: mounting on it would lead elsewhere. Folders on the way
    get the attributes that they have in the image, as if overlayfs had copied them up.
    """
    for path, kind in POINTS:
        folder, name = os.path.split(path)
        below = list(layers)
        made = target
        for part in filter(None, folder.split("/")):
            below, found = _look(below, part)
            made = os.path.join(made, part)
            _folder(made, found)
        _, there = _look(below, name)
        place = os.path.join(made, name)
        if kind == "dir":
            if there is None or not stat.S_ISDIR(there.st_mode):
                _folder(place, None)
        elif kind == "file":
            if there is None or stat.S_ISLNK(there.st_mode):
                _file(place)
        elif there is None and not os.path.lexists(place):
            os.symlink(kind, place)
    _drop_empty(target)


def hide(target: str, path: str, layers: Sequence[str]) -> None:
    """Make in ``target`` an empty folder at the absolute ``path`` that covers what ``layers`` have there."""
    below = list(layers)
    made = target
    for part in filter(None, path.split("/")):
        below, found = _look(below, part)
        if found is None:
            return
        made = os.path.join(made, part)
        _folder(made, found)
    os.setxattr(made, _OPAQUE_XATTR, b"y")


def _look(layers: Sequence[str], name: str) -> tuple[list[str], os.stat_result | None]:
    """``name`` in a merged folder: the folders that it merges, and the topmost one's (or the other thing's) status."""
    folders: list[str] = []
    top: os.stat_result | None = None
    for layer in layers:
        place = os.path.join(layer, name)
        try:
            found = os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(found.st_mode):
            whiteout = stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
            if top is None and not whiteout:
                top = found
            break
        folders.append(place)
        top = top or found
        if _opaque(place):
            break
    return folders, top


def _opaque(folder: str) -> bool:
    try:
        return os.getxattr(folder, _OPAQUE_XATTR, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _folder(path: str, like: os.stat_result | None) -> None:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            return
        # An image's own link or file, in a driver without a union: what comes next must not go where it leads.
        os.unlink(path)
        os.mkdir(path, 0o755)
    if like is not None and stat.S_ISDIR(like.st_mode):
        os.chown(path, like.st_uid, like.st_gid)
        os.chmod(path, stat.S_IMODE(like.st_mode))
    else:
        os.chmod(path, 0o755)


def _file(path: str) -> None:
    if os.path.islink(path):
        os.unlink(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o755)
    try:
        os.fchmod(fd, 0o755)
    finally:
        os.close(fd)


def _drop_empty(target: str) -> None:
    """A folder that was only made on the way to something the image has."""
    for name in ("dev", "etc"):
        try:
            os.rmdir(os.path.join(target, name))
        except OSError:
            continue
