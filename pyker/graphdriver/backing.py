"""What file system a folder is on. Source: statfs(2)."""

from __future__ import annotations

import os

from pyker.libcontainer import syscalls

_NAMES = {
    0xEF53: "extfs",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x01021994: "tmpfs",
    0x794C7630: "overlayfs",
    0x2FC12FC1: "zfs",
    0x61756673: "aufs",
    0x6969: "nfs",
    0x65735546: "fuseblk",
    0x52654973: "reiserfs",
    0xF2F52010: "f2fs",
    0xCA451A4E: "bcachefs",
}


def name(path: str) -> str:
    """The reference engine's word for it, such as ``extfs``; ``<unknown>`` for one it has no word for."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _NAMES.get(syscalls.fstatfs_type(fd) & 0xFFFFFFFF, "<unknown>")
    finally:
        os.close(fd)
