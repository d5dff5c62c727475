"""A layer's tar into a folder. Whatever the tar holds, nothing outside that folder is touched.

Later entries replace earlier ones as the reference engine does it: a folder stays where a folder comes again, all else
gives way. Deletions (``.wh.x``, ``.wh..wh..opq``) become overlayfs whiteouts or are carried out, by the driver's style,
and only ever concern what lower layers brought. Folders get their modes, times and attributes at the very end.

Source: OCI image-spec layer.md#whiteouts; Linux Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import replace

from fastcrc import crc64

from pyker.errors import Corrupt, InvalidParameter
from pyker.graphdriver.archive.contents import content_size
from pyker.graphdriver.archive.entry import (
    BLOCK_DEVICE,
    CHAR,
    DIRECTORY,
    FIFO,
    GLOBAL_HEADER,
    LINK,
    REGULAR,
    SYMLINK,
    Entry,
    TarStream,
    next_entry,
    padding,
)
from pyker.graphdriver.archive.rooted import RootedTree, clean
from pyker.graphdriver.archive.tarsplit import SplitWriter

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
_META = b".wh..wh."
_OPAQUE_XATTR = "trusted.overlay.opaque"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ID_MAX = 0xFFFFFFFE


class Extractor:
    """Writes entries below ``root_fd``. ``whiteouts`` is "overlay" or "none", as ``GraphDriver.whiteout_style`` says.

    "kept": names that mean deletions in a layer are names as any other. ``keep_kinds``: no folder gives way to anything
    else, nor anything else to a folder.

    ``replaced`` says that something of this very tar gave way to something else of it, so that file data may be gone.
    """

    def __init__(self, root_fd: int, whiteouts: str, *, keep_kinds: bool = False) -> None:
        self._tree = RootedTree(root_fd, created=self._implied)
        self._overlay = whiteouts == "overlay"
        self._deletes = whiteouts != "kept"
        self._keep_kinds = keep_kinds
        self._folders: dict[bytes, Entry | None] = {}
        self._unpacked: set[bytes] = set()
        self._whited_out: set[bytes] = set()
        self.replaced = False

    def close(self) -> None:
        """Give back descriptors."""
        self._tree.close()

    def keeps_data(self, entry: Entry) -> bool:
        """Whether ``entry`` becomes a file that holds exactly its data, to be handed to ``file``."""
        return (
            entry.kind == REGULAR and entry.sparse is None and not entry.name.rpartition(b"/")[2].startswith(WHITEOUT)
        )

    def file(self, entry: Entry, data: Iterator[memoryview]) -> int:
        """Make a regular file; returns the CRC-64 of its data."""
        crc = 0
        fd = self._create_file(entry)
        try:
            if entry.sparse is None:
                for piece in data:
                    crc = crc64.go_iso(piece, crc)
                    while piece:
                        piece = piece[os.write(fd, piece) :]
            else:
                _write_sparse(fd, entry, data)
            self._finish_file(fd, entry)
        finally:
            os.close(fd)
        return crc

    def add(self, entry: Entry) -> None:
        """Make anything but a regular file, or carry out a whiteout."""
        self._tree.trim()
        name = clean(entry.name)
        parent, _, base = name.rpartition(b"/")
        if entry.kind == GLOBAL_HEADER:
            return
        if self._deletes and base.startswith(WHITEOUT):
            self._whiteout(entry, parent, base)
            return
        if not name:
            if entry.kind != DIRECTORY:
                raise Corrupt("the root of the tar is not a folder")
            self._folders[b""] = entry
            return
        if entry.kind == DIRECTORY:
            self._folder(entry, parent, base)
        elif entry.kind == LINK:
            self._link(entry, parent, base)
        else:
            dir_fd, _ = self._place(parent, base)
            if entry.kind == SYMLINK:
                os.symlink(entry.linkname, base, dir_fd=dir_fd)
            elif entry.kind in (CHAR, BLOCK_DEVICE):
                kind = stat.S_IFCHR if entry.kind == CHAR else stat.S_IFBLK
                os.mknod(base, kind | 0o600, os.makedev(entry.devmajor, entry.devminor), dir_fd=dir_fd)
            elif entry.kind == FIFO:
                os.mkfifo(base, 0o600, dir_fd=dir_fd)
            else:
                raise Corrupt(f"unhandled tar header type {entry.kind!r}")
            self._finish_node(dir_fd, base, entry)

    def finish(self) -> None:
        """Give the folders their owners, modes, attributes and times."""
        for path in sorted(self._folders, reverse=True):
            entry = self._folders[path]
            self._tree.trim()
            try:
                fd, real = self._tree.directory(path)
            except (FileNotFoundError, Corrupt):
                continue
            if real != path:
                continue
            if entry is None:
                os.fchmod(fd, 0o755)
                continue
            _own(fd, entry)
            _set_xattrs(fd, entry.xattrs)
            os.fchmod(fd, entry.mode)
            _set_times(fd, entry.mtime_ns)

    def _implied(self, fd: int, path: bytes) -> None:
        self._folders.setdefault(path, None)
        if path in self._whited_out:
            os.setxattr(fd, _OPAQUE_XATTR, b"y")

    def _place(self, parent: bytes, base: bytes) -> tuple[int, bytes]:
        """Make room for a non-folder: its parent's descriptor, and its real path."""
        dir_fd, real = self._tree.directory(parent, create=True)
        path = real + b"/" + base if real else base
        try:
            found = os.stat(base, dir_fd=dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            if self._keep_kinds and stat.S_ISDIR(found.st_mode):
                raise InvalidParameter(f'cannot overwrite directory "{_plain(path)}" with non-directory')
            self._give_way(dir_fd, base, path)
            dir_fd, _ = self._tree.directory(parent, create=True)
        if not self._overlay:
            self._unpacked.add(path)
        return dir_fd, path

    def _give_way(self, dir_fd: int, base: bytes, path: bytes) -> None:
        if path not in self._whited_out:
            self.replaced = True
        below = path + b"/"
        self._folders = {
            known: e for known, e in self._folders.items() if known != path and not known.startswith(below)
        }
        self._tree.remove(dir_fd, base)

    def _create_file(self, entry: Entry) -> int:
        self._tree.trim()
        name = clean(entry.name)
        parent, _, base = name.rpartition(b"/")
        if not base:
            raise Corrupt("the root of the tar is not a folder")
        dir_fd, real = self._tree.directory(parent, create=True)
        if not self._overlay:
            self._unpacked.add(real + b"/" + base if real else base)
        try:
            return os.open(base, _CREATE, 0o600, dir_fd=dir_fd)
        except FileExistsError:
            dir_fd, _ = self._place(parent, base)
            return os.open(base, _CREATE, 0o600, dir_fd=dir_fd)

    def _finish_file(self, fd: int, entry: Entry) -> None:
        if entry.uid or entry.gid:
            _own(fd, entry)
        if entry.xattrs:
            _set_xattrs(fd, entry.xattrs)
        os.fchmod(fd, entry.mode)
        _set_times(fd, entry.mtime_ns)

    def _finish_node(self, dir_fd: int, base: bytes, entry: Entry) -> None:
        if entry.uid or entry.gid:
            _check_ids(entry)
            os.chown(base, entry.uid, entry.gid, dir_fd=dir_fd, follow_symlinks=False)
        if entry.xattrs:
            _set_xattrs(b"/proc/self/fd/%d/%b" % (dir_fd, base), entry.xattrs)
        if entry.kind != SYMLINK:
            os.chmod(base, entry.mode, dir_fd=dir_fd)
        _set_times(base, entry.mtime_ns, dir_fd=dir_fd)

    def _folder(self, entry: Entry, parent: bytes, base: bytes) -> None:
        dir_fd, real = self._tree.directory(parent, create=True)
        path = real + b"/" + base if real else base
        try:
            os.mkdir(base, 0o700, dir_fd=dir_fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(base, dir_fd=dir_fd, follow_symlinks=False).st_mode):
                if self._keep_kinds:
                    raise InvalidParameter(f'cannot overwrite non-directory "{_plain(path)}" with directory') from None
                self._give_way(dir_fd, base, path)
                dir_fd, _ = self._tree.directory(parent, create=True)
                os.mkdir(base, 0o700, dir_fd=dir_fd)
        if path in self._whited_out and self._overlay:
            self._make_opaque(path)
        self._folders[path] = entry
        if not self._overlay:
            self._unpacked.add(path)

    def _link(self, entry: Entry, parent: bytes, base: bytes) -> None:
        target_parent, _, target = clean(entry.linkname).rpartition(b"/")
        dir_fd, path = self._tree.directory(parent, create=True)
        path = path + b"/" + base if path else base
        try:
            target_fd, target_real = self._tree.directory(target_parent)
            found = os.stat(target, dir_fd=target_fd, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                raise Corrupt(f"hard link to the folder {_shown(entry.linkname)}")
            if path == (target_real + b"/" + target if target_real else target):
                return
            try:
                os.link(target, base, src_dir_fd=target_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
            except FileExistsError:
                dir_fd, _ = self._place(parent, base)
                target_fd, _ = self._tree.directory(target_parent)
                os.link(target, base, src_dir_fd=target_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
        except FileNotFoundError as error:
            raise Corrupt(f"hard link to {_shown(entry.linkname)}, which is not in the layer") from error
        if not self._overlay:
            self._unpacked.add(path)
        # The reference engine gives the inode the owner, mode and time of whichever name came last.
        same = (
            (found.st_uid, found.st_gid) == (entry.uid, entry.gid)
            and found.st_mtime_ns == entry.mtime_ns
            and (stat.S_IMODE(found.st_mode) == entry.mode)
        )
        if not same and not stat.S_ISLNK(found.st_mode):
            _check_ids(entry)
            os.chown(base, entry.uid, entry.gid, dir_fd=dir_fd, follow_symlinks=False)
            # chown(2) has cleared what had it: setuid bits come back here, a capability comes with its own header.
            os.chmod(base, entry.mode, dir_fd=dir_fd)
            _set_times(base, entry.mtime_ns, dir_fd=dir_fd)
        if entry.xattrs:
            _set_xattrs(b"/proc/self/fd/%d/%b" % (dir_fd, base), entry.xattrs)

    def _whiteout(self, entry: Entry, parent: bytes, base: bytes) -> None:
        if base == OPAQUE:
            dir_fd, real = self._tree.directory(parent, create=True)
            if self._overlay:
                os.setxattr(dir_fd, _OPAQUE_XATTR, b"y")
            else:
                self._empty_of_lower(dir_fd, real)
            return
        if base.startswith(_META):
            return
        hidden = base[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise Corrupt(f"invalid whiteout {_shown(entry.name)}")
        dir_fd, real = self._tree.directory(parent, create=True)
        path = real + b"/" + hidden if real else hidden
        if self._overlay:
            try:
                os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=dir_fd)
            except FileExistsError:
                # What came with this layer stays; a folder must not show what lower layers have at its place.
                if stat.S_ISDIR(os.stat(hidden, dir_fd=dir_fd, follow_symlinks=False).st_mode):
                    self._make_opaque(path)
            else:
                self._finish_whiteout(dir_fd, hidden, entry)
            self._whited_out.add(path)
            return
        try:
            found = os.stat(hidden, dir_fd=dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if path not in self._unpacked and not any(known.startswith(path + b"/") for known in self._unpacked):
            self._folders.pop(path, None)
            self._tree.remove(dir_fd, hidden)
        elif stat.S_ISDIR(found.st_mode):
            fd, _ = self._tree.directory(path)
            self._empty_of_lower(fd, path)

    def _finish_whiteout(self, dir_fd: int, name: bytes, entry: Entry) -> None:
        if entry.uid or entry.gid:
            _check_ids(entry)
            os.chown(name, entry.uid, entry.gid, dir_fd=dir_fd, follow_symlinks=False)

    def _make_opaque(self, path: bytes) -> None:
        fd, _ = self._tree.directory(path)
        os.setxattr(fd, _OPAQUE_XATTR, b"y")

    def _empty_of_lower(self, dir_fd: int, path: bytes) -> None:
        """Remove what this tar did not bring, in style "none"."""
        for name in os.listdir(b"/proc/self/fd/%d" % dir_fd):
            child = path + b"/" + name if path else name
            below = child + b"/"
            kept = child in self._unpacked or any(known.startswith(below) for known in self._unpacked)
            dir_fd, _ = self._tree.directory(path)
            if not kept:
                self._tree.remove(dir_fd, name)
            elif stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
                self._empty_of_lower(self._tree.directory(child)[0], child)


def _write_sparse(fd: int, entry: Entry, data: Iterator[memoryview]) -> None:
    piece = memoryview(b"")
    os.ftruncate(fd, entry.real_size)
    for offset, length in entry.sparse or ():
        while length:
            if not piece:
                piece = next(data)
            written = os.pwrite(fd, piece[:length], offset)
            piece = piece[written:]
            offset += written
            length -= written


def _check_ids(entry: Entry) -> None:
    if not (0 <= entry.uid <= _ID_MAX and 0 <= entry.gid <= _ID_MAX):
        raise Corrupt(f"{_shown(entry.name)} has an owner that no system has: {entry.uid}:{entry.gid}")


def _own(fd: int, entry: Entry) -> None:
    _check_ids(entry)
    os.fchown(fd, entry.uid, entry.gid)


def _set_times(target: int | bytes, mtime_ns: int, dir_fd: int | None = None) -> None:
    """Both times are the tar's mtime. What the file system's range does not hold becomes 1970."""
    times = (mtime_ns, mtime_ns)
    try:
        if isinstance(target, int):
            os.utime(target, ns=times)
        else:
            os.utime(target, ns=times, dir_fd=dir_fd, follow_symlinks=False)
    except OverflowError:
        _set_times(target, 0, dir_fd)


def _set_xattrs(target: int | bytes, xattrs: dict[bytes, bytes]) -> None:
    """Those of overlayfs itself are left out: a layer could use them to show files that it does not hold."""
    for name, value in xattrs.items():
        if name.startswith((b"trusted.overlay.", b"user.overlay.")):
            continue
        try:
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except ValueError as error:
            raise Corrupt(f"the attribute {_shown(name)} has an invalid name") from error
        except OSError as error:
            # Not every file system has each kind, and links and devices take no user.*: no reason to refuse a layer.
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise


def _shown(name: bytes) -> str:
    return repr(_plain(name))


def _plain(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def put(chunks: Iterator[bytes], root_fd: int, folder: bytes, *, keep_kinds: bool) -> None:
    """Extract a tar that no layer is made of into ``folder`` below ``root_fd``; links lead nowhere outside ``root_fd``.

    Raises:
        Corrupt: the tar is damaged, or a name in it leads out of ``folder``. What was written by then stays.
        InvalidParameter: see ``Extractor``.
    """
    stream = TarStream(chunks)
    extractor = Extractor(root_fd, "kept", keep_kinds=keep_kinds)
    prefix = folder.strip(b"/") + b"/" if folder.strip(b"/") else b""
    try:
        while (entry := next_entry(stream)) is not None:
            moved = replace(entry, name=(prefix + clean(entry.name)).rstrip(b"/"))
            if entry.kind == LINK:
                moved = replace(moved, linkname=prefix + clean(entry.linkname))
            if entry.kind == REGULAR:
                extractor.file(moved, stream.data(entry.size))
            else:
                for _ in stream.data(entry.size):
                    continue
                extractor.add(moved)
            stream.keep(padding(entry.size))
            stream.raw.clear()
        extractor.finish()
    except (OverflowError, ValueError) as error:
        raise Corrupt(f"invalid tar header: {error}") from error
    finally:
        extractor.close()


def apply(chunks: Iterator[bytes], root_fd: int, whiteouts: str, split: SplitWriter) -> tuple[int, bool]:
    """Extract a tar below ``root_fd`` and write its tar-split data.

    Returns the size of what it brought, as the reference engine counts it, and whether ``tarsplit.lost`` has to look
    for data that is gone.

    Raises:
        Corrupt: the tar is damaged or holds what no layer can. What was written by then stays: remove it.
    """
    stream = TarStream(chunks)
    extractor = Extractor(root_fd, whiteouts)
    size = 0
    try:
        while (entry := next_entry(stream)) is not None:
            if extractor.keeps_data(entry):
                split.segment(stream.raw)
                crc = extractor.file(entry, stream.data(entry.size))
                split.file(entry.name, entry.size, crc)
                size += entry.size
            else:
                size += entry.real_size if entry.sparse is not None else entry.size
                if entry.kind == SYMLINK and whiteouts == "overlay":
                    size += len(entry.linkname)
                if entry.kind == REGULAR and entry.sparse is not None:
                    extractor.file(entry, _kept(stream, entry.size, split))
                else:
                    for _ in _kept(stream, entry.size, split):
                        continue
                    extractor.add(entry)
                if entry.kind != GLOBAL_HEADER:
                    split.segment(stream.raw)
                    split.file(entry.name, 0, 0)
            stream.keep(padding(entry.size))
        _finish_split(stream, split)
        extractor.finish()
    except (OverflowError, ValueError) as error:
        raise Corrupt(f"invalid tar header: {error}") from error
    finally:
        extractor.close()
    if extractor.replaced and whiteouts == "overlay":
        size = content_size(root_fd)
    return size, extractor.replaced or split.repeated


def resplit(chunks: Iterator[bytes], split: SplitWriter, inline: set[int]) -> None:
    """Write the tar-split data of the same tar again, with the data of the files numbered in ``inline`` in it."""
    stream = TarStream(chunks)
    number = 0
    while (entry := next_entry(stream)) is not None:
        kept = (
            entry.kind == REGULAR and entry.sparse is None and not entry.name.rpartition(b"/")[2].startswith(WHITEOUT)
        )
        split.segment(stream.raw)
        if kept and entry.size and number not in inline:
            crc = 0
            for piece in stream.data(entry.size):
                crc = crc64.go_iso(piece, crc)
            split.file(entry.name, entry.size, crc)
        else:
            for _ in _kept(stream, entry.size, split):
                continue
        number += bool(kept and entry.size)
        stream.keep(padding(entry.size))
    _finish_split(stream, split)


def _kept(stream: TarStream, size: int, split: SplitWriter) -> Iterator[memoryview]:
    """A member's data, which also goes to the tar-split data."""
    for piece in stream.data(size):
        stream.raw.append(bytes(piece))
        split.segment(stream.raw)
        yield piece


def _finish_split(stream: TarStream, split: SplitWriter) -> None:
    split.segment(stream.raw)
    for piece in stream.rest():
        split.segment([piece])
    split.close()
