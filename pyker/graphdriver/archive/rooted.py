"""Names below a folder, as if that folder were "/": nothing resolves to a place outside it.

A symlink on the way counts from the folder, however it is written, as it would after chroot(2). Each step is one
openat(2) with O_NOFOLLOW from a descriptor of the step before, so that no string is ever joined.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from pyker.errors import Corrupt
from pyker.libcontainer import syscalls

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH_MAX = 4096
_LINKS_MAX = 40
_CACHE_MAX = 200


def clean(name: bytes) -> bytes:
    """``name`` without ``.``, doubled slashes and ``..``, relative; b"" is the root itself.

    Raises:
        Corrupt: it begins outside the root, holds a zero byte, or is too long for any file system.
    """
    if len(name) > _PATH_MAX:
        raise Corrupt(f"the name {_shown(name[:64])}... is too long")
    if b"\0" in name:
        raise Corrupt(f"the name {_shown(name)} holds a zero byte")
    if b"//" not in name and b"./" not in name and name[:1] != b"/" and name[-1:] != b".":
        return name.rstrip(b"/")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if parts:
                parts.pop()
            elif not name.startswith(b"/"):
                raise Corrupt(f"the name {_shown(name)} leads out of the root")
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def _shown(name: bytes) -> str:
    return repr(name.decode("utf-8", "backslashreplace"))


class RootedTree:
    """Opens folders below ``root_fd``, which stays the caller's, and keeps some of them open.

    A descriptor from ``directory`` is good until the next ``trim`` or ``forget``. Not thread-safe.
    """

    def __init__(self, root_fd: int, *, created: Callable[[int, bytes], None] | None = None) -> None:
        self._root_fd = root_fd
        self._created = created
        self._open: dict[bytes, int] = {b"": root_fd}
        self._aliases: dict[bytes, bytes] = {}
        self._loose: list[int] = []

    def close(self) -> None:
        """Close every descriptor but the root's."""
        self.forget()

    def forget(self) -> None:
        """Folders or symlinks have gone: trust nothing that was seen before."""
        for path, fd in self._open.items():
            if path:
                os.close(fd)
        self._open = {b"": self._root_fd}
        self.trim()

    def forget_links(self) -> None:
        """A symlink has gone."""
        self._aliases.clear()

    def trim(self) -> None:
        """Give back descriptors beyond a fixed number."""
        for fd in self._loose:
            os.close(fd)
        self._loose.clear()
        if len(self._open) > _CACHE_MAX or len(self._aliases) > 50 * _CACHE_MAX:
            self._aliases.clear()
            self.forget()

    def directory(self, path: bytes, *, create: bool = False) -> tuple[int, bytes]:
        """The folder that the cleaned ``path`` leads to: a descriptor, and its real path without symlinks.

        Missing ones are made with mode 0755 if ``create``. Raises FileNotFoundError, or Corrupt for a way through
        something that is not a folder.
        """
        real = self._aliases.get(path, path)
        fd = self._open.get(real)
        if fd is not None:
            return fd, real
        todo = path.split(b"/")
        todo.reverse()
        real, links = b"", 0
        fd = self._root_fd
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                fd, real = self.directory(real.rpartition(b"/")[0])
                continue
            child = real + b"/" + part if real else part
            known = self._open.get(child)
            if known is not None:
                fd, real = known, child
                continue
            try:
                fd = self._keep(child, os.open(part, _OPEN_DIR, dir_fd=fd))
                real = child
            except FileNotFoundError:
                if not create:
                    raise
                os.mkdir(part, 0o755, dir_fd=fd)
                fd = self._keep(child, os.open(part, _OPEN_DIR, dir_fd=fd))
                real = child
                if self._created is not None:
                    self._created(fd, child)
            except OSError as error:
                if not stat.S_ISLNK(os.stat(part, dir_fd=fd, follow_symlinks=False).st_mode):
                    raise Corrupt(f"{_shown(child)} is not a folder") from error
                links += 1
                if links > _LINKS_MAX:
                    raise Corrupt(f"too many levels of symbolic links in {_shown(path)}") from error
                target = os.readlink(part, dir_fd=fd)
                if target.startswith(b"/"):
                    fd, real = self._root_fd, b""
                todo.extend(reversed(target.split(b"/")))
        if real != path:
            self._aliases[path] = real
        return fd, real

    def _keep(self, path: bytes, fd: int) -> int:
        if len(self._open) > 2 * _CACHE_MAX:
            self._loose.append(fd)
        else:
            self._open[path] = fd
        return fd

    def remove(self, dir_fd: int, name: bytes) -> None:
        """Delete ``name``, a folder with all below it. Forgets all folders if it was one."""
        mode = os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            syscalls.remove_tree(name, dir_fd=dir_fd)
            self._aliases.clear()
            self.forget()
            return
        os.unlink(name, dir_fd=dir_fd)
        if stat.S_ISLNK(mode):
            self.forget_links()

    def open_file(self, name: bytes) -> int:
        """A descriptor, the caller's, of the regular file that the cleaned ``name`` leads to.

        A symlink as its last part is not followed. Raises OSError, or Corrupt if it is something else.
        """
        self.trim()
        parent, _, base = name.rpartition(b"/")
        fd = os.open(base, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.directory(parent)[0])
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Corrupt(f"{_shown(name)} is not a regular file")
        return fd
