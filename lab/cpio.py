"""A cpio archive of the format that the kernel reads as an initrd. Source: kernel buffer-format.rst, "newc"."""

from __future__ import annotations

import stat


class Archive:
    """Files, folders and symlinks, all of root's, in the order in which they were added."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._inode = 0

    def folder(self, name: str) -> None:
        self._add(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        self._add(name, stat.S_IFREG | mode, data)

    def symlink(self, name: str, target: str) -> None:
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def finish(self) -> bytes:
        """The whole archive. Archives may be joined: the kernel reads one after the other."""
        self._add("TRAILER!!!", 0, b"")
        data = b"".join(self._parts)
        return data + bytes(-len(data) % 512)

    def _add(self, name: str, mode: int, data: bytes) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (self._inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._parts.append(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))
