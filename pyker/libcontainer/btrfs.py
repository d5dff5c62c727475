"""Subvolumes and snapshots of btrfs, by ioctl. Source: linux/btrfs.h, btrfs-subvolume(8)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from pyker.errors import InvalidParameter, KernelError
from pyker.libcontainer import syscalls as sc

SUPER_MAGIC = 0x9123683E
FIRST_INODE = 256
"""The inode number of every subvolume's root folder."""

_SUBVOL_CREATE, _SNAP_DESTROY, _SNAP_CREATE_V2 = 0x5000940E, 0x5000940F, 0x50009417
_SUBVOL_RDONLY = 1 << 1
_NAME_BYTES = 255
_ARGS = struct.Struct("=q4088s")
_ARGS_V2 = struct.Struct("=qQQ32x4040s")
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


def is_btrfs(path: str) -> bool:
    """Whether ``path``, a folder, is on btrfs."""
    fd = os.open(path, _OPEN_DIR & ~os.O_NOFOLLOW)
    try:
        return sc.fstatfs_type(fd) & 0xFFFFFFFF == SUPER_MAGIC
    finally:
        os.close(fd)


def _name(name: str) -> bytes:
    encoded = os.fsencode(name)
    if not 0 < len(encoded) <= _NAME_BYTES or b"/" in encoded or encoded in (b".", b".."):
        raise InvalidParameter(f"invalid name of a subvolume: {name!r}")
    return encoded


def _ioctl(folder: str, name: str, request: int, call: str, arguments: bytes) -> None:
    try:
        fd = os.open(folder, _OPEN_DIR)
        try:
            # A buffer that may be written to: of others, Python takes a kilobyte at most.
            fcntl.ioctl(fd, request, bytearray(arguments))
        finally:
            os.close(fd)
    except OSError as error:
        number = error.errno or 0
        raise KernelError(
            f"btrfs: {call} {os.path.join(folder, name)!r}: {os.strerror(number)}",
            syscall="ioctl",
            errno=number,
            stage="graphdriver",
            hint="an ordinary folder, or another file system" if number == errno.ENOTTY else "",
        ) from error


def create(folder: str, name: str) -> None:
    """Make an empty subvolume in ``folder``. Raises: KernelError, EEXIST if there is something of that name."""
    _ioctl(folder, name, _SUBVOL_CREATE, "BTRFS_IOC_SUBVOL_CREATE", _ARGS.pack(0, _name(name)))


def snapshot(source: str, folder: str, name: str, *, readonly: bool = False) -> None:
    """Make a subvolume that begins as a copy of ``source``; nothing is copied until one of the two changes.

    Subvolumes inside ``source`` are empty folders in it. Raises: KernelError.
    """
    try:
        fd = os.open(source, _OPEN_DIR)
    except OSError as error:
        raise KernelError.from_oserror(error, syscall="open", stage="graphdriver") from error
    try:
        flags = _SUBVOL_RDONLY if readonly else 0
        _ioctl(folder, name, _SNAP_CREATE_V2, "BTRFS_IOC_SNAP_CREATE_V2", _ARGS_V2.pack(fd, 0, flags, _name(name)))
    finally:
        os.close(fd)


def destroy(folder: str, name: str) -> None:
    """Delete a subvolume with all that is in it, subvolumes too. Raises: KernelError, ENOENT if it is not there."""
    arguments = _ARGS.pack(0, _name(name))
    try:
        _ioctl(folder, name, _SNAP_DESTROY, "BTRFS_IOC_SNAP_DESTROY", arguments)
    except KernelError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        # A container may have made some of its own.
        _destroy_inside(os.path.join(folder, name))
        _ioctl(folder, name, _SNAP_DESTROY, "BTRFS_IOC_SNAP_DESTROY", arguments)


def _destroy_inside(path: str) -> None:
    for top, folders, _, _ in os.fwalk(path, topdown=False, follow_symlinks=False):
        for each in folders:
            if is_subvolume(os.path.join(top, each)):
                destroy(top, each)


def is_subvolume(path: str) -> bool:
    """Whether ``path`` is a subvolume's root; symlinks are not followed."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return found.st_ino == FIRST_INODE and os.path.isdir(path) and not os.path.islink(path)
