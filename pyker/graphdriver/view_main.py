"""A process that reads and writes the files of one container: ``python -m pyker.graphdriver.view_main``.

It sees the container's root file system, and what is bound into it, in a mount namespace of its own, so that nothing of
it shows on the host, whether the container runs or not; and it resolves every path inside that root, whatever links the
container has made (CVE-2018-15664, CVE-2019-14271: nothing of the container is executed or loaded here either).

stdin begins with the length of a request (four bytes, big-endian) and the request, as JSON; for ``put`` a tar follows.
stdout is what was asked for. Exit status 0, or 1 with the reason on stderr, as JSON.

    export   the root alone, as a tar
    stat     what is at a path, as JSON
    get      what is at a path, as a tar
    put      extract into the folder at a path

Source: Docker API v1.45 /containers/{id}/archive; openat2(2) RESOLVE_IN_ROOT; open_tree(2).
"""

from __future__ import annotations

import json
import os
import stat
import sys
from typing import Any

from pyker.errors import Corrupt, Forbidden, InvalidParameter, NotFound, PykerError
from pyker.graphdriver.archive import extract, pack
from pyker.graphdriver.archive.compression import decompressed
from pyker.libcontainer import mounts
from pyker.libcontainer import syscalls as sc
from pyker.types.mount import Mount

_CLASSES = {NotFound: "not-found", InvalidParameter: "invalid", Corrupt: "invalid", Forbidden: "forbidden"}
_RECURSION = 20_000


def main() -> int:
    """Do what stdin asks."""
    sys.setrecursionlimit(_RECURSION)
    request = json.loads(_exactly(int.from_bytes(_exactly(4), "big")))
    try:
        View(request).answer()
    except (PykerError, OSError) as error:
        kind = next((word for each, word in _CLASSES.items() if isinstance(error, each)), "system")
        words = error.message if isinstance(error, PykerError) else _words(error)
        sys.stderr.write(json.dumps({"class": kind, "message": words}))
        return 1
    return 0


def _exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            raise EOFError("the request is cut")
        data += piece
    return data


def _words(error: OSError) -> str:
    where = f" {os.fsdecode(error.filename)!r}" if isinstance(error.filename, str | bytes) else ""
    return f"{error.strerror or error}{where}"


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


class View:
    """One container's root, mounted where nobody else sees it."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self._path = str(request.get("path", "/"))
        self._at = str(request["at"])
        sc.unshare(sc.CLONE_NEWNS)
        sc.mount("", "/", "", sc.MS_REC | sc.MS_PRIVATE)
        pid = int(request.get("pid", 0))
        if pid:
            # The very mount that the container has: a second one of the same upper folder would not be in step with it.
            self._attach(mounts.open_foreign_tree(pid, "/", sc.OPEN_TREE_CLONE))
        else:
            mounts.mount_root(_mount(request["rootfs"]), self._at)
        self.root = os.open(self._at, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._root_mount = _mount_of(self.root)
        for each in request.get("mounts", ()):
            try:
                mounts.perform(self.root, _mount(each))
            except (FileNotFoundError, NotADirectoryError, InvalidParameter):
                # The container has never run, and has no place for it yet; or its source has gone.
                continue

    def _attach(self, tree: int) -> None:
        target = os.open(self._at, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mounts.attach_bare(tree, target)
        finally:
            os.close(target)
            os.close(tree)

    def answer(self) -> None:
        """Carry out the request's operation."""
        match self._request["operation"]:
            case "export":
                pack.pack(os.open(self._at, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), _write)
            case "stat":
                _write(json.dumps(self._stat()).encode())
            case "get":
                self._get()
            case "put":
                self._put()
            case other:
                raise InvalidParameter(f"unknown operation {other!r}")

    @property
    def _follows(self) -> bool:
        """Whether the path names what a link leads to, or what is in a folder."""
        return self._path.endswith(("/", "/.", "/..")) or self._path in (".", "..")

    def _open(self, path: str, flags: int = os.O_PATH) -> int:
        try:
            return sc.openat2(self.root, path, flags | os.O_CLOEXEC, sc.RESOLVE_IN_ROOT)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"Could not find the file {self._path} in container {self._request['shown']}") from error

    def _real(self, fd: int) -> str:
        """Where a descriptor is, as the container sees it."""
        return os.readlink(f"/proc/self/fd/{fd}").removeprefix(self._at) or "/"

    def _place(self) -> tuple[int, str]:
        """The folder that the path's last part is in, and that part."""
        folder, _, name = self._path.rpartition("/")
        return self._open(folder or "/", os.O_RDONLY | os.O_DIRECTORY), name

    def _stat(self) -> dict[str, Any]:
        if self._follows:
            found = os.fstat(self._open(self._path))
            if not stat.S_ISDIR(found.st_mode):
                raise NotFound(f"Could not find the file {self._path} in container {self._request['shown']}")
            name = self._path.rstrip("/").rpartition("/")[2] or "/"
            return _described(name, found, "")
        folder, name = self._place()
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError as error:
            raise NotFound(f"Could not find the file {self._path} in container {self._request['shown']}") from error
        target = self._target(folder, name) if stat.S_ISLNK(found.st_mode) else ""
        return _described(name, found, target)

    def _target(self, folder: int, name: str) -> str:
        """Where a link ends; where it would, if nothing is there."""
        try:
            return self._real(self._open(self._path))
        except NotFound:
            return os.path.normpath(os.path.join(self._real(folder), os.readlink(name, dir_fd=folder)))

    def _get(self) -> None:
        self._stat()
        if self._follows:
            fd = self._open(self._path, os.O_RDONLY | os.O_DIRECTORY)
            name = self._path.rstrip("/").rpartition("/")[2]
            if name in ("", ".", ".."):
                pack.pack_inside(fd, b"/" if self._real(fd) == "/" else b".", _write)
                return
            parent = self._open(self._path.rstrip("/") + "/..", os.O_RDONLY | os.O_DIRECTORY)
            pack.pack_one(parent, os.fsencode(self._real(fd).rpartition("/")[2]), _write)
            return
        folder, name = self._place()
        pack.pack_one(folder, os.fsencode(name), _write)

    def _put(self) -> None:
        fd = self._open(self._path)
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise InvalidParameter("extraction point is not a directory")
        in_root = _mount_of(fd) == self._root_mount
        if self._request["readonly"]:
            raise Forbidden("container rootfs is marked read-only")
        if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
            raise Forbidden("container rootfs is marked read-only" if in_root else "mounted volume is marked read-only")
        root = os.open(self._at, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        chunks = decompressed(0, lambda _: None)
        extract.put(chunks, root, os.fsencode(self._real(fd)), keep_kinds=bool(self._request["keep_kinds"]))


def _described(name: str, found: os.stat_result, target: str) -> dict[str, Any]:
    return {
        "name": name,
        "size": found.st_size,
        "mode": found.st_mode,
        "mtime_ns": found.st_mtime_ns,
        "link_target": target,
    }


def _mount(fields: dict[str, Any]) -> Mount:
    return Mount(**{**fields, "options": tuple(fields["options"])})


def _mount_of(fd: int) -> str:
    """The number of the mount that a descriptor is on. Source: proc(5) fdinfo."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:
        return next(line.split()[1] for line in lines if line.startswith("mnt_id:"))


if __name__ == "__main__":
    sys.exit(main())
