"""``python -m pyker.graphdriver.overlaytrial FOLDER``: can overlayfs keep layers under FOLDER? Answers in JSON.

Mounts in a mount namespace of its own, so that nothing of it is seen or stays. ``native_diff`` is whether the upper
folder alone tells what changed: false where the kernel renames folders by redirects in spite of ``redirect_dir=off``.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import tempfile
from typing import Any

from pyker.graphdriver import backing
from pyker.libcontainer import syscalls

_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = (1 << 14) | (1 << 18)
_MNT_DETACH = 2


def trial(where: str) -> dict[str, Any]:
    """Mount, delete, rename, and look at what is left in the upper folder."""
    base = tempfile.mkdtemp(prefix=".pyker-overlay-trial-", dir=where)
    try:
        names = {}
        for name in ("l1", "l2", "upper", "work", "merged"):
            names[name] = os.path.join(base, name)
            os.mkdir(names[name])
        os.mkdir(os.path.join(names["l1"], "folder"))
        for lower, file in (("l1", "one"), ("l2", "two")):
            with open(os.path.join(names[lower], file), "w"):
                pass
        try:
            os.setxattr(names["l1"], "trusted.pyker", b"y")
        except OSError as error:
            return {"usable": False, "reason": f"{where!r} keeps no trusted attributes: {error.strerror}"}
        with os.scandir(names["l1"]) as listing:
            d_type = all(entry.is_dir(follow_symlinks=False) == (entry.name == "folder") for entry in listing)
        data = "lowerdir={l1}:{l2},upperdir={upper},workdir={work}".format(**names)
        if os.path.exists("/sys/module/overlay/parameters/redirect_dir"):
            data += ",redirect_dir=off"
        syscalls.unshare(_CLONE_NEWNS)
        syscalls.mount("", "/", "", _MS_REC_PRIVATE)
        try:
            syscalls.mount("overlay", names["merged"], "overlay", 0, data)
        except OSError as error:
            return {"usable": False, "reason": _why(where, error)}
        try:
            return _look(names, d_type)
        finally:
            syscalls.umount2(names["merged"], _MNT_DETACH)
    finally:
        syscalls.remove_tree(base)


def _look(names: dict[str, str], d_type: bool) -> dict[str, Any]:
    merged = names["merged"]
    if sorted(os.listdir(merged)) != ["folder", "one", "two"]:
        return {"usable": False, "reason": "an overlay of two folders does not show both"}
    os.unlink(os.path.join(merged, "two"))
    whiteout = os.lstat(os.path.join(names["upper"], "two"))
    if not stat.S_ISCHR(whiteout.st_mode) or whiteout.st_rdev != 0:
        return {"usable": False, "reason": "overlayfs leaves no whiteout for a deleted file"}
    try:
        os.rename(os.path.join(merged, "folder"), os.path.join(merged, "moved"))
        native = not os.listxattr(os.path.join(names["upper"], "moved"))
    except OSError as error:
        native = error.errno == errno.EXDEV
    return {"usable": True, "d_type": d_type, "native_diff": native}


def _why(where: str, error: OSError) -> str:
    kind = backing.name(where)
    if kind in ("overlayfs", "aufs", "nfs"):
        return (
            f"{where!r} is on {kind}, which cannot take an overlay's writes: choose a data root on another file system"
        )
    return f"mount(2) of an overlay under {where!r} ({kind}): {error.strerror}"


if __name__ == "__main__":
    print(json.dumps(trial(sys.argv[1])))  # noqa: T201 (the answer)
