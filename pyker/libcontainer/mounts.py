"""Performs mounts that others describe, below the root of a container and never outside it.

Targets are found by openat2 RESOLVE_IN_ROOT and are used as descriptors from then on, so that a symlink in an image
leads to a place inside the container, and one that is swapped meanwhile leads nowhere else. Everything here runs in
the mount namespace of the container-to-be, before pivot_root, in a process of one thread.
"""

from __future__ import annotations

import _socket
import errno
import os
import stat
import struct
from dataclasses import dataclass

from pyker.errors import InvalidParameter
from pyker.libcontainer import syscalls as sc
from pyker.types.mount import Mount

_FLAGS: dict[str, tuple[int, int]] = {
    "ro": (sc.MS_RDONLY, 0),
    "rw": (0, sc.MS_RDONLY),
    "nosuid": (sc.MS_NOSUID, 0),
    "suid": (0, sc.MS_NOSUID),
    "nodev": (sc.MS_NODEV, 0),
    "dev": (0, sc.MS_NODEV),
    "noexec": (sc.MS_NOEXEC, 0),
    "exec": (0, sc.MS_NOEXEC),
    "sync": (sc.MS_SYNCHRONOUS, 0),
    "async": (0, sc.MS_SYNCHRONOUS),
    "dirsync": (sc.MS_DIRSYNC, 0),
    "mand": (sc.MS_MANDLOCK, 0),
    "nomand": (0, sc.MS_MANDLOCK),
    "noatime": (sc.MS_NOATIME, sc.MS_RELATIME | sc.MS_STRICTATIME),
    "atime": (0, sc.MS_NOATIME),
    "nodiratime": (sc.MS_NODIRATIME, 0),
    "diratime": (0, sc.MS_NODIRATIME),
    "relatime": (sc.MS_RELATIME, sc.MS_NOATIME | sc.MS_STRICTATIME),
    "norelatime": (0, sc.MS_RELATIME),
    "strictatime": (sc.MS_STRICTATIME, sc.MS_NOATIME | sc.MS_RELATIME),
    "nostrictatime": (0, sc.MS_STRICTATIME),
    "lazytime": (sc.MS_LAZYTIME, 0),
    "nosymfollow": (sc.MS_NOSYMFOLLOW, 0),
    "symfollow": (0, sc.MS_NOSYMFOLLOW),
    "defaults": (0, 0),
    "remount": (sc.MS_REMOUNT, 0),
}
_RECURSIVE_ATTRS = {"rro": sc.MS_RDONLY}
_PROPAGATION = {
    "private": sc.MS_PRIVATE,
    "slave": sc.MS_SLAVE,
    "shared": sc.MS_SHARED,
    "unbindable": sc.MS_UNBINDABLE,
}
PROPAGATION: dict[str, int] = {
    **_PROPAGATION,
    **{f"r{word}": flag | sc.MS_REC for word, flag in _PROPAGATION.items()},
}
"""mount(8)'s words for propagation, those with a leading r for the whole tree."""

_ATTR = (
    (sc.MS_RDONLY, sc.MOUNT_ATTR_RDONLY),
    (sc.MS_NOSUID, sc.MOUNT_ATTR_NOSUID),
    (sc.MS_NODEV, sc.MOUNT_ATTR_NODEV),
    (sc.MS_NOEXEC, sc.MOUNT_ATTR_NOEXEC),
    (sc.MS_NODIRATIME, sc.MOUNT_ATTR_NODIRATIME),
    (sc.MS_NOSYMFOLLOW, sc.MOUNT_ATTR_NOSYMFOLLOW),
)
_BIND_FLAGS = sum(flag for flag, _ in _ATTR) | sc.MS_NOATIME | sc.MS_RELATIME | sc.MS_STRICTATIME
_STATVFS_FLAGS = sc.MS_RDONLY | sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC | sc.MS_NOATIME | sc.MS_NODIRATIME
BINDS = ("bind", "rbind")
_PAGE_BYTES = 4095
"""mount(2) takes one page of data, with its NUL."""


@dataclass(slots=True)
class Options:
    """mount(8) words, sorted out. ``set`` and ``clear`` are MS_ flags; ``data`` is the file system's own."""

    set: int = 0
    clear: int = 0
    propagation: int = 0
    recursive: bool = False
    recursive_readonly: bool = False
    data: str = ""


def parse(words: tuple[str, ...]) -> Options:
    """Sort mount(8) words into flags, propagation and data. Words that are no flag are data."""
    options = Options()
    data: list[str] = []
    for word in words:
        if (pair := _FLAGS.get(word)) is not None:
            options.set = (options.set & ~pair[1]) | pair[0]
            options.clear = (options.clear & ~pair[0]) | pair[1]
        elif word in ("bind", "rbind"):
            options.recursive = word == "rbind"
        elif (flag := PROPAGATION.get(word)) is not None:
            options.propagation = flag
        elif word in _RECURSIVE_ATTRS:
            options.set |= _RECURSIVE_ATTRS[word]
            options.recursive_readonly = True
        elif word:
            data.append(word)
    options.data = ",".join(data)
    return options


def proc_fd(fd: int) -> str:
    """A path that leads to ``fd`` whatever lies on the way to it; needs /proc of the host."""
    return f"/proc/self/fd/{fd}"


def open_in_root(root: int, path: str, flags: int = os.O_PATH, *, symlinks: bool = True) -> int:
    """Open ``path`` as a process with ``root`` for its root would. Source: openat2(2)."""
    resolve = sc.RESOLVE_IN_ROOT | sc.RESOLVE_NO_MAGICLINKS
    if not symlinks:
        resolve |= sc.RESOLVE_NO_SYMLINKS
    return sc.openat2(root, path, flags, resolve)


def make_target(root: int, path: str, create: str, *, symlinks: bool = True, _depth: int = 0) -> int:
    """Open ``path`` in ``root``; make it, and the folders on its way, if it is missing. Returns an O_PATH descriptor.

    ``create`` is "dir", "file" or "" (must exist). A symlink without an end is followed inside the root, and its
    end is made, as the reference engine does.
    """
    try:
        return open_in_root(root, path, symlinks=symlinks)
    except FileNotFoundError:
        if not create:
            raise
    if _depth > 40:
        raise OSError(errno.ELOOP, f"openat2: {os.strerror(errno.ELOOP)}", path)
    parent_path, _, name = path.rstrip("/").rpartition("/")
    parent = make_target(root, parent_path or "/", "dir", symlinks=symlinks, _depth=_depth + 1)
    try:
        if name in (".", ".."):
            return open_in_root(root, path, symlinks=symlinks)
        try:
            if create == "dir":
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o755, dir_fd=parent))
        except FileExistsError:
            link = os.readlink(name, dir_fd=parent)
            if not link.startswith("/"):
                link = f"{parent_path}/{link}"
            return make_target(root, link, create, symlinks=symlinks, _depth=_depth + 1)
        return sc.openat2(parent, name, os.O_PATH | os.O_NOFOLLOW, sc.RESOLVE_BENEATH | sc.RESOLVE_NO_SYMLINKS)
    finally:
        os.close(parent)


def perform(root: int, mount: Mount, tree: int = -1) -> None:
    """Do one mount below ``root``; ``tree`` is a bind's, if somebody else has made and dressed it.

    Raises OSError naming the call, InvalidParameter for what cannot be right.
    """
    options = parse(mount.options)
    if tree >= 0:
        _attach_below(root, mount, tree, None)
        return
    if mount.fstype in BINDS:
        options.recursive = options.recursive or mount.fstype == "rbind"
        bind(root, mount, options)
        return
    # Where proc and sysfs go must be no symlink: what is configured through them would go elsewhere (CVE-2019-19921).
    strict = mount.fstype in ("proc", "sysfs")
    target = make_target(root, mount.target, mount.create, symlinks=not strict)
    try:
        path = proc_fd(target)
        sc.mount(mount.source or mount.fstype, path, mount.fstype, options.set & ~sc.MS_REMOUNT, options.data)
    except OSError as error:
        error.filename = mount.target
        raise
    finally:
        os.close(target)
    if options.propagation:
        again = open_in_root(root, mount.target)
        try:
            sc.mount("", proc_fd(again), "", options.propagation)
        finally:
            os.close(again)


def bind(root: int, mount: Mount, options: Options) -> None:
    """Bind ``mount.source`` of the host below ``root``, complete with its flags before anyone can see it."""
    tree = open_source(mount.source, recursive=options.recursive)
    try:
        _attach_below(root, mount, tree, options)
    finally:
        os.close(tree)


def open_source(source: str, *, recursive: bool) -> int:
    """A detached copy of what is at ``source``. Raises OSError, InvalidParameter if there is nothing."""
    flags = sc.OPEN_TREE_CLONE | (sc.AT_RECURSIVE if recursive else 0)
    try:
        if (pid := _process_in(source)) is not None:
            return open_foreign_tree(pid, source.removeprefix(f"/proc/{pid}/root") or "/", flags)
        return sc.open_tree(sc.AT_FDCWD, source, flags)
    except FileNotFoundError as error:
        raise InvalidParameter(
            f'invalid mount config for type "bind": bind source path does not exist: {source}'
        ) from error


def _attach_below(root: int, mount: Mount, tree: int, options: Options | None) -> None:
    """Attach ``tree`` at ``mount.target``; no ``options`` if it is dressed already."""
    create = mount.create
    if create:
        create = "dir" if stat.S_ISDIR(os.fstat(tree).st_mode) else "file"
    target = make_target(root, mount.target, create)
    try:
        if options is None:
            attach_bare(tree, target)
        else:
            attach(tree, target, options)
    except OSError as error:
        error.filename = mount.target
        raise
    finally:
        os.close(target)


def _process_in(source: str) -> int | None:
    """The process whose root ``source`` begins with, as in /proc/123/root/dev/shm."""
    parts = source.split("/", 4)
    if len(parts) > 3 and parts[1] == "proc" and parts[2].isdigit() and parts[3] == "root":
        return int(parts[2])
    return None


def open_foreign_tree(pid: int, path: str, flags: int) -> int:
    """A detached copy of a tree that another process sees at ``path``.

    A mount can be cloned only from within its own namespace, but can be attached in any: a child goes there and
    sends the copy back. Raises OSError.
    """
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    child, pidfd = sc.clone3(0)
    if child == 0:
        try:
            sc.setns(namespace, sc.CLONE_NEWNS)
            tree = sc.open_tree(sc.AT_FDCWD, path, flags)
            theirs.sendmsg([b"0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", tree))])
        except OSError as error:
            theirs.send(str(error.errno or errno.EINVAL).encode())
        finally:
            os._exit(0)
    os.close(pidfd)
    os.close(namespace)
    theirs.close()
    try:
        data, ancillary, _, _ = ours.recvmsg(64, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    finally:
        ours.close()
        os.waitpid(child, 0)
    if not ancillary:
        number = int(data or b"22")
        raise OSError(number, f"open_tree: {os.strerror(number)}", path)
    return int(struct.unpack("i", ancillary[0][2])[0])


def dress(tree: int, options: Options) -> None:
    """Give a detached tree its flags and propagation. Raises OSError, ENOSYS before Linux 5.12."""
    propagation = options.propagation or sc.MS_PRIVATE | sc.MS_REC
    recursive = sc.AT_RECURSIVE if options.recursive else 0
    attr_set, attr_clr = attributes(options) if (options.set | options.clear) & _BIND_FLAGS else (0, 0)
    kind, reach = propagation & ~sc.MS_REC, sc.AT_RECURSIVE if propagation & sc.MS_REC else 0
    if reach == recursive or not recursive:
        # Both are for the same mounts; a tree that is not recursive has only one.
        flags = sc.AT_EMPTY_PATH | recursive
        sc.mount_setattr(tree, "", flags, attr_set=attr_set, attr_clr=attr_clr, propagation=kind)
    else:
        sc.mount_setattr(tree, "", sc.AT_EMPTY_PATH | reach, propagation=kind)
        sc.mount_setattr(tree, "", sc.AT_EMPTY_PATH | recursive, attr_set=attr_set, attr_clr=attr_clr)


def attach(tree: int, target: int, options: Options, name: str = "") -> None:
    """Give a detached tree its flags and propagation (private unless said otherwise), and attach it at ``target``, or
    at ``name`` in that folder.
    """
    propagation = options.propagation or sc.MS_PRIVATE | sc.MS_REC
    try:
        dress(tree, options)
        attach_bare(tree, target, name)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        # Before Linux 5.12 there is no mount_setattr: attach first, then change; the flags of the top mount only.
        attach_bare(tree, target, name)
        path = proc_fd(tree)
        sc.mount("", path, "", propagation)
        if (options.set | options.clear) & _BIND_FLAGS:
            # A remount sets all flags anew. The bits of statvfs(3) are those of mount(2) for these.
            kept = os.fstatvfs(tree).f_flag & _STATVFS_FLAGS & ~options.clear
            sc.mount("", path, "", sc.MS_REMOUNT | sc.MS_BIND | kept | (options.set & _BIND_FLAGS))


def attach_bare(tree: int, target: int, name: str = "") -> None:
    """Attach a detached tree at ``target``, or at ``name`` in that folder. Both stay open."""
    flags = sc.MOVE_MOUNT_F_EMPTY_PATH | (0 if name else sc.MOVE_MOUNT_T_EMPTY_PATH)
    sc.move_mount(tree, "", target, name, flags)


def attributes(options: Options) -> tuple[int, int]:
    """``options`` as attr_set and attr_clr of mount_setattr(2)."""
    attr_set = sum(attr for flag, attr in _ATTR if options.set & flag)
    attr_clr = sum(attr for flag, attr in _ATTR if options.clear & flag)
    if options.set & (sc.MS_NOATIME | sc.MS_RELATIME | sc.MS_STRICTATIME):
        attr_clr |= sc.MOUNT_ATTR__ATIME
        if options.set & sc.MS_NOATIME:
            attr_set |= sc.MOUNT_ATTR_NOATIME
        elif options.set & sc.MS_STRICTATIME:
            attr_set |= sc.MOUNT_ATTR_STRICTATIME
    return attr_set, attr_clr


def mount_root(mount: Mount, at: str) -> None:
    """Mount a container's root file system at ``at``, a folder of the host; seen in this mount namespace only."""
    options = parse(mount.options)
    if mount.fstype in BINDS:
        recursive = mount.fstype == "rbind" or options.recursive
        tree = sc.open_tree(sc.AT_FDCWD, mount.source, sc.OPEN_TREE_CLONE | (sc.AT_RECURSIVE if recursive else 0))
        try:
            target = os.open(at, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                options.recursive = recursive
                attach(tree, target, options)
            finally:
                os.close(target)
        finally:
            os.close(tree)
        return
    if mount.workdir:
        os.chdir(mount.workdir)
    if len(options.data) <= _PAGE_BYTES:
        sc.mount(mount.source or mount.fstype, at, mount.fstype, options.set, options.data)
        return
    target = os.open(at, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        words = _shorten(options.data)
        data = ",".join(f"{key}={value}" if value else key for key, value in words.items())
        if len(data) <= _PAGE_BYTES:
            sc.mount(mount.source or mount.fstype, proc_fd(target), mount.fstype, options.set, data)
        else:
            _mount_layer_by_layer(mount.fstype, words, target, attributes(options)[0])
    finally:
        os.close(target)


def _shorten(data: str) -> dict[str, str]:
    """Overlay options with many layers: enter the folder that all paths share, and name them relative to it.

    Changes the working directory; init is a process of its own and enters its new root soon.
    """
    words = dict(word.partition("=")[::2] for word in data.split(","))
    layers = words.get("lowerdir", "").split(":")
    others = [words[key] for key in ("upperdir", "workdir") if key in words]
    if not all(path.startswith("/") for path in (*layers, *others)):
        return words
    shared = os.path.commonpath([*layers, *others])
    os.chdir(shared)
    words["lowerdir"] = ":".join(os.path.relpath(layer, shared) for layer in layers)
    for key in ("upperdir", "workdir"):
        if key in words:
            words[key] = os.path.relpath(words[key], shared)
    return words


def _mount_layer_by_layer(fstype: str, words: dict[str, str], target: int, attr_set: int) -> None:
    """More layers than a page holds: one parameter each. Source: overlayfs "lowerdir+", Linux 6.8."""
    context = sc.fsopen(fstype)
    try:
        for key, value in words.items():
            if key == "lowerdir":
                for layer in value.split(":"):
                    sc.fsconfig(context, sc.FSCONFIG_SET_STRING, "lowerdir+", layer)
            elif value:
                sc.fsconfig(context, sc.FSCONFIG_SET_STRING, key, value)
            else:
                sc.fsconfig(context, sc.FSCONFIG_SET_FLAG, key)
        sc.fsconfig(context, sc.FSCONFIG_CMD_CREATE)
        tree = sc.fsmount(context, attr_set)
    finally:
        os.close(context)
    try:
        attach_bare(tree, target)
    finally:
        os.close(tree)
