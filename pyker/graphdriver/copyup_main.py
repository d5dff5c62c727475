"""A process that fills new volumes with what the image has at their destination.

It sees the container's root file system in a mount namespace of its own, so that nothing of it shows on the host, and
resolves paths inside that root: a hostile symlink stays inside. Reads one JSON request on stdin; exit status 0 or, with
the reason on stderr, 1. Source: Docker API v1.45 VolumeOptions.NoCopy; openat2(2) RESOLVE_IN_ROOT.
"""

from __future__ import annotations

import json
import os
import sys

from pyker.graphdriver.archive import copytree
from pyker.libcontainer import mounts
from pyker.libcontainer import syscalls as sc
from pyker.types.mount import Mount


def main() -> int:
    """Do what stdin asks."""
    request = json.load(sys.stdin)
    try:
        fill(Mount(**{**request["rootfs"], "options": tuple(request["rootfs"]["options"])}), request)
    except OSError as error:
        sys.stderr.write(f"{sc.call_of(error) or 'copy'}: {error}\n")
        return 1
    return 0


def fill(rootfs: Mount, request: dict[str, object]) -> None:
    """Mount the root file system at ``request["at"]`` and copy each pair of ``request["copies"]``."""
    at = str(request["at"])
    copies = request["copies"]
    sc.unshare(sc.CLONE_NEWNS)
    sc.mount("", "/", "", sc.MS_REC | sc.MS_PRIVATE)
    mounts.mount_root(rootfs, at)
    root = os.open(at, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if not isinstance(copies, list):
        raise OSError("copies is not a list")
    for source, target in copies:
        copy_one(root, source, target)


def copy_one(root: int, source: str, target: str) -> None:
    """Copy the folder ``source`` of the image into the empty folder ``target``, whose owner and mode become its own."""
    try:
        source_fd = sc.openat2(root, source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, sc.RESOLVE_IN_ROOT)
    except (FileNotFoundError, NotADirectoryError):
        return
    target_fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copytree.copy(source_fd, target_fd)
        there = os.fstat(source_fd)
        os.fchown(target_fd, there.st_uid, there.st_gid)
        os.fchmod(target_fd, there.st_mode & 0o7777)
    finally:
        os.close(source_fd)
        os.close(target_fd)


if __name__ == "__main__":
    sys.exit(main())
