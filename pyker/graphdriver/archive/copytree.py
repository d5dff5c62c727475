"""A copy of a tree that shares blocks where the file system can, and keeps everything that a layer may hold."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat

_FICLONE = 0x40049409
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STEP = 1 << 30
_BLOCK = 1 << 20


def copy(source_fd: int, target_fd: int) -> None:
    """Copy all that is in ``source_fd`` into the empty folder ``target_fd``, and the folder's own attributes.

    Owners, modes, xattrs, times with nanoseconds, hard links within the tree, devices and holes are kept; data is
    shared by FICLONE, else moved by copy_file_range(2). Never crosses into another mount's files: the tree is a layer.
    """
    _Copy(source_fd, target_fd).folder(source_fd, target_fd, b"")


class _Copy:
    def __init__(self, source_root: int, target_root: int) -> None:
        self._target_root = target_root
        self._device = os.fstat(source_root).st_dev
        self._links: dict[int, bytes] = {}
        self._clone = True

    def folder(self, source_fd: int, target_fd: int, path: bytes) -> None:
        """Copy the contents, then the folder's attributes; its times come last."""
        for name in os.listdir(b"/proc/self/fd/%d" % source_fd):
            self._member(source_fd, target_fd, name, path + b"/" + name if path else name)
        found = os.fstat(source_fd)
        os.fchown(target_fd, found.st_uid, found.st_gid)
        for attribute in os.listxattr(source_fd):
            os.setxattr(target_fd, attribute, os.getxattr(source_fd, attribute))
        os.fchmod(target_fd, stat.S_IMODE(found.st_mode))
        os.utime(target_fd, ns=(found.st_atime_ns, found.st_mtime_ns))

    def _member(self, source_fd: int, target_fd: int, name: bytes, path: bytes) -> None:
        found = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            if found.st_dev != self._device:
                return
            os.mkdir(name, 0o700, dir_fd=target_fd)
            inner_source = os.open(name, _OPEN_DIR, dir_fd=source_fd)
            try:
                inner_target = os.open(name, _OPEN_DIR, dir_fd=target_fd)
                try:
                    self.folder(inner_source, inner_target, path)
                finally:
                    os.close(inner_target)
            finally:
                os.close(inner_source)
            return
        if found.st_nlink > 1:
            first = self._links.setdefault(found.st_ino, path)
            if first is not path:
                os.link(first, name, src_dir_fd=self._target_root, dst_dir_fd=target_fd, follow_symlinks=False)
                return
        if stat.S_ISREG(found.st_mode):
            self._file(source_fd, target_fd, name, found)
            return
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
        elif stat.S_ISSOCK(found.st_mode):
            return
        else:
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target_fd)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=target_fd, follow_symlinks=False)
        source, target = (b"/proc/self/fd/%d/%b" % (fd, name) for fd in (source_fd, target_fd))
        with contextlib.suppress(OSError):
            for attribute in os.listxattr(source, follow_symlinks=False):
                value = os.getxattr(source, attribute, follow_symlinks=False)
                os.setxattr(target, attribute, value, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode):
            os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=target_fd)
        os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=target_fd, follow_symlinks=False)

    def _file(self, source_fd: int, target_fd: int, name: bytes, found: os.stat_result) -> None:
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source_fd)
        try:
            target = os.open(
                name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target_fd
            )
            try:
                self._data(source, target, found.st_size)
                os.fchown(target, found.st_uid, found.st_gid)
                for attribute in os.listxattr(source):
                    os.setxattr(target, attribute, os.getxattr(source, attribute))
                os.fchmod(target, stat.S_IMODE(found.st_mode))
                os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _data(self, source: int, target: int, size: int) -> None:
        if size and self._clone:
            try:
                fcntl.ioctl(target, _FICLONE, source)
                return
            except OSError:
                self._clone = False
        os.ftruncate(target, size)
        position = 0
        while position < size:
            try:
                start = os.lseek(source, position, os.SEEK_DATA)
            except OSError:
                return
            position = start
            end = os.lseek(source, start, os.SEEK_HOLE)
            while position < end:
                moved = _move(source, target, min(end - position, _STEP), position)
                if not moved:
                    return
                position += moved


def _move(source: int, target: int, size: int, position: int) -> int:
    """Copy up to ``size`` bytes in the kernel, or by hand where that cannot cross from one file system to another."""
    try:
        return os.copy_file_range(source, target, size, position, position)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
    return os.pwrite(target, os.pread(source, min(size, _BLOCK), position), position)
