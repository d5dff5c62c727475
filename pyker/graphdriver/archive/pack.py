"""A folder as a tar: what export, commit and cp send.

PAX where a value needs it (long names, large numbers, nanoseconds, xattrs), plain ustar otherwise, in sorted order, so
that the same tree gives the same bytes.

Source: POSIX pax, "ustar Interchange Format"; OCI image-spec layer.md#whiteouts.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence

from pyker.errors import SystemFailure
from pyker.graphdriver.archive import changes
from pyker.graphdriver.archive.compression import CHUNK
from pyker.graphdriver.archive.entry import BLOCK, padding

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE_XATTR = "trusted.overlay.opaque"
_OCTAL_ID_MAX = 0o7777777
_OCTAL_SIZE_MAX = 0o77777777777
_KINDS = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}
Write = Callable[[bytes], None]


def pack(root_fd: int, write: Write, *, whiteouts: str = "none") -> None:
    """Write a tar of all below ``root_fd``. With ``whiteouts`` "overlay", overlayfs's marks become ``.wh.`` entries."""
    _Packer(write, whiteouts == "overlay").folder(root_fd, b"")
    write(bytes(2 * BLOCK))


def pack_one(dir_fd: int, name: bytes, write: Write) -> None:
    """Write a tar of ``name`` in a folder, with all below it, under that name; what is mounted there is part of it."""
    _Packer(write, overlay=False).member(dir_fd, name, name)
    write(bytes(2 * BLOCK))


def pack_inside(root_fd: int, name: bytes, write: Write) -> None:
    """Write a tar of the folder ``root_fd`` itself, as ``name`` ("." or "/"), and of all that is in it."""
    packer = _Packer(write, overlay=False, prefix=b"/" if name == b"/" else name + b"/")
    packer.top(root_fd)
    packer.folder(root_fd, b"")
    write(bytes(2 * BLOCK))


def pack_changes(root_fd: int, lowers: Sequence[int], write: Write) -> None:
    """Write a tar of what the whole tree ``root_fd`` changes of the folders ``lowers``: a layer above them."""
    packer = _Packer(write, overlay=False)
    gone = os.fstat(root_fd)
    for kind, path in changes.changes(root_fd, lowers, union=False):
        if kind == changes.DELETED:
            packer.whiteout(path[1:], gone)
        else:
            packer.below(root_fd, path[1:])
    write(bytes(2 * BLOCK))


class _Packer:
    def __init__(self, write: Write, overlay: bool, prefix: bytes = b"") -> None:
        self._write = write
        self._overlay = overlay
        self._prefix = prefix
        self._links: dict[tuple[int, int], bytes] = {}

    def top(self, root_fd: int) -> None:
        """The folder that all is in."""
        self._header(b"", os.fstat(root_fd), b"5", 0, xattrs=_xattrs(b"/proc/self/fd/%d" % root_fd))

    def folder(self, dir_fd: int, path: bytes) -> None:
        """All that is in a folder, in the order of names."""
        if self._overlay and _xattr(dir_fd, _OPAQUE_XATTR) == b"y":
            self._header(path + b"/.wh..wh..opq" if path else b".wh..wh..opq", os.fstat(dir_fd), b"0", 0)
        for name in sorted(os.listdir(b"/proc/self/fd/%d" % dir_fd)):
            self.member(dir_fd, name, path + b"/" + name if path else name)

    def below(self, root_fd: int, path: bytes) -> None:
        """The entry at ``path`` alone, without what is in it. No symlink on the way is followed."""
        *folders, name = path.split(b"/")
        with contextlib.ExitStack() as stack:
            dir_fd = root_fd
            try:
                for folder in folders:
                    dir_fd = os.open(folder, _OPEN_DIR, dir_fd=dir_fd)
                    stack.callback(os.close, dir_fd)
                self.member(dir_fd, name, path, deep=False)
            except FileNotFoundError:
                # A running container took it back meanwhile.
                return

    def whiteout(self, path: bytes, found: os.stat_result) -> None:
        """``path`` is not there any more."""
        folder, _, base = path.rpartition(b"/")
        self._header((folder + b"/" if folder else b"") + b".wh." + base, found, b"0", 0)

    def member(self, dir_fd: int, name: bytes, path: bytes, *, deep: bool = True) -> None:
        """One entry, with all below it if ``deep``."""
        found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            return
        if self._overlay and kind == b"3" and found.st_rdev == 0:
            self.whiteout(path, found)
            return
        if found.st_nlink > 1 and kind != b"5":
            first = self._links.setdefault((found.st_dev, found.st_ino), path)
            if first is not path:
                self._header(path, found, b"1", 0, link=first)
                return
        xattrs = _xattrs(b"/proc/self/fd/%d/%b" % (dir_fd, name))
        match kind:
            case b"5":
                self._header(path + b"/", found, kind, 0, xattrs=xattrs)
                if not deep:
                    return
                inner = os.open(name, _OPEN_DIR, dir_fd=dir_fd)
                try:
                    self.folder(inner, path)
                finally:
                    os.close(inner)
            case b"0":
                self._file(dir_fd, name, path, found, xattrs)
            case b"2":
                self._header(path, found, kind, 0, link=os.readlink(name, dir_fd=dir_fd), xattrs=xattrs)
            case _:
                self._header(path, found, kind, 0, xattrs=xattrs)

    def _file(self, dir_fd: int, name: bytes, path: bytes, found: os.stat_result, xattrs: dict[str, bytes]) -> None:
        fd = os.open(name, _OPEN_FILE, dir_fd=dir_fd)
        try:
            left = found.st_size
            self._header(path, found, b"0", left, xattrs=xattrs)
            while left:
                data = os.read(fd, min(left, CHUNK))
                if not data:
                    raise SystemFailure(f"the file {os.fsdecode(path)!r} shrank while it was read")
                self._write(data)
                left -= len(data)
        finally:
            os.close(fd)
        if padding(found.st_size):
            self._write(bytes(padding(found.st_size)))

    def _header(
        self,
        path: bytes,
        found: os.stat_result,
        kind: bytes,
        size: int,
        *,
        link: bytes = b"",
        xattrs: dict[str, bytes] | None = None,
    ) -> None:
        records: dict[bytes, bytes] = {}
        path = self._prefix + path
        if kind == b"1":
            link = self._prefix + link
        prefix, name = _split(path)
        if name is None:
            records[b"path"] = path
            prefix, name = b"", path[:100]
        if len(link) > 100:
            records[b"linkpath"] = link
        if size > _OCTAL_SIZE_MAX:
            records[b"size"] = b"%d" % size
        for key, value in ((b"uid", found.st_uid), (b"gid", found.st_gid)):
            if value > _OCTAL_ID_MAX:
                records[key] = b"%d" % value
        seconds, nanoseconds = divmod(found.st_mtime_ns, 1_000_000_000)
        if nanoseconds or not 0 <= seconds <= _OCTAL_SIZE_MAX:
            records[b"mtime"] = _time(found.st_mtime_ns)
        for attribute, content in (xattrs or {}).items():
            records[b"SCHILY.xattr." + os.fsencode(attribute)] = content
        if records:
            body = b"".join(_record(key, records[key]) for key in sorted(records))
            self._write(_block(b"PaxHeaders.0/" + name[:80], b"x", len(body), 0o644, 0, 0, 0))
            self._write(body + bytes(padding(len(body))))
        device = found.st_rdev if kind in (b"3", b"4") else 0
        self._write(
            _block(
                name,
                kind,
                size if size <= _OCTAL_SIZE_MAX else 0,
                stat.S_IMODE(found.st_mode),
                min(found.st_uid, _OCTAL_ID_MAX),
                min(found.st_gid, _OCTAL_ID_MAX),
                min(max(seconds, 0), _OCTAL_SIZE_MAX),
                link=link[:100],
                prefix=prefix,
                device=(os.major(device), os.minor(device)),
            )
        )


def _split(path: bytes) -> tuple[bytes, bytes | None]:
    """``path`` as ustar's prefix and name; None where it does not fit."""
    if len(path) <= 100:
        return b"", path
    cut = path.find(b"/", len(path) - 101)
    if 0 < cut <= 155 and cut < len(path) - 1:
        return path[:cut], path[cut + 1 :]
    return b"", None


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d" % length + rest


def _time(nanoseconds: int) -> bytes:
    seconds, fraction = divmod(abs(nanoseconds), 1_000_000_000)
    sign = b"-" if nanoseconds < 0 else b""
    return (sign + b"%d.%09d" % (seconds, fraction)).rstrip(b"0").rstrip(b".")


def _block(
    name: bytes,
    kind: bytes,
    size: int,
    mode: int,
    uid: int,
    gid: int,
    mtime: int,
    *,
    link: bytes = b"",
    prefix: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    tail = b"%b%bustar\x0000%b%07o\0%07o\0%b" % (
        kind,
        link.ljust(100, b"\0"),
        bytes(64),
        device[0],
        device[1],
        prefix.ljust(155, b"\0") + bytes(12),
    )
    checksum = sum(head) + sum(tail) + 8 * 0x20
    return head + b"%06o\0 " % checksum + tail


def _xattr(fd: int, name: str) -> bytes:
    try:
        return os.getxattr(fd, name)
    except OSError:
        return b""


def _xattrs(path: bytes) -> dict[str, bytes]:
    """What travels: capabilities and the user's own; overlayfs's and the security modules' belong to this machine."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return {}
    kept = (name for name in names if name == "security.capability" or name.startswith("user."))
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in kept}
