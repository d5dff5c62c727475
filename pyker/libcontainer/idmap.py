"""Mounts as a user namespace should see them: what 0 owns on disk, its root owns inside, and nothing on disk changes.

An ID mapping belongs to a mount that nobody sees yet: it is made by someone with the rights of the host, dressed, and
given to init, which attaches it. The layers of an overlay are mapped before they are joined, and the overlay is then
mounted in the name of the container's root: what overlayfs itself writes (its work folder, copied-up files) is written
by that user, through the mapping, so it is 0's on disk as well; and having the host's capabilities it keeps to the
trusted.overlay attributes, so that a layer is the same whether a mapped container wrote it or another.

Source: mount_setattr(2) MOUNT_ATTR_IDMAP, Linux 5.12; overlay over mapped layers, Linux 5.19.
"""

from __future__ import annotations

import _socket
import dataclasses
import errno
import os
import signal
import struct

from pyker.errors import KernelError, NotSupported
from pyker.libcontainer import mounts, namespaces
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.spec import ContainerSpec, IdMapping
from pyker.types.mount import Mount
from pyker.types.probe import Probe


def wanted(spec: ContainerSpec) -> bool:
    """Whether a mount of ``spec`` is to be mapped."""
    return spec.rootfs.idmap or any(mount.idmap for mount in spec.mounts)


def trees(spec: ContainerSpec, pid: int) -> list[int]:
    """Detached mounts, dressed: the root's, and one for each bind of ``spec.mounts``, in order. The caller closes them.

    ``pid`` lives in the user namespace, whose mappings are written. Binds that are not to be mapped are there too:
    init may not be able to reach their sources. Raises: KernelError, NotSupported, InvalidParameter.
    """
    found: list[int] = []
    userns = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if spec.rootfs.idmap and spec.rootfs.fstype not in mounts.BINDS:
            uid, gid = outside(spec.uid_mappings), outside(spec.gid_mappings)
            found.append(_overlay(spec.rootfs, spec.state_dir, userns, uid, gid))
        else:
            found.append(_bind(spec.rootfs, userns))
        found += [_bind(mount, userns) for mount in spec.mounts if mount.fstype in mounts.BINDS]
    except BaseException:
        for fd in found:
            os.close(fd)
        raise
    finally:
        os.close(userns)
    return found


def outside(mappings: tuple[IdMapping, ...]) -> int:
    """Who root inside is outside."""
    for mapping in mappings:
        if mapping.inside <= 0 < mapping.inside + mapping.size:
            return mapping.outside - mapping.inside
    raise NotSupported("a user namespace whose root is mapped to nobody cannot have mapped mounts")


def _bind(mount: Mount, userns: int) -> int:
    options = mounts.parse(mount.options)
    options.recursive = options.recursive or mount.fstype == "rbind"
    tree = mounts.open_source(mount.source, recursive=options.recursive)
    try:
        if mount.idmap:
            _map(tree, userns, mount.source, recursive=options.recursive)
        mounts.dress(tree, options)
    except BaseException:
        os.close(tree)
        raise
    return tree


def _map(tree: int, userns: int, path: str, *, recursive: bool = False) -> None:
    """Map a detached tree. Raises: NotSupported where the kernel or the file system cannot."""
    flags = sc.AT_EMPTY_PATH | (sc.AT_RECURSIVE if recursive else 0)
    try:
        sc.mount_setattr(tree, "", flags, attr_set=sc.MOUNT_ATTR_IDMAP, userns_fd=userns)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise NotSupported(
                "this kernel has no idmapped mounts: they came with Linux 5.12", hint="run it with --userns host"
            ) from error
        if error.errno == errno.EINVAL:
            raise NotSupported(
                f"the file system of {path!r} does not support idmapped mounts on this kernel",
                hint="ext4 does from Linux 5.12, btrfs 5.15, tmpfs 6.3; or run it with --userns host",
            ) from error
        raise KernelError.from_oserror(error, syscall="mount_setattr", stage="rootfs") from error


def _overlay(mount: Mount, scratch: str, userns: int, uid: int, gid: int) -> int:
    """A detached overlay over mapped layers. ``scratch`` is a folder to mount over, in a namespace of a child's own.

    A layer must be attached where the overlay is mounted, so a child does both and sends the result back.
    """
    shared, relative = _relative(mount)
    layers = sc.open_tree(sc.AT_FDCWD, shared, sc.OPEN_TREE_CLONE)
    try:
        _map(layers, userns, shared)
        return _in_child(layers, scratch, relative, uid, gid)
    finally:
        os.close(layers)


def _relative(mount: Mount) -> tuple[str, Mount]:
    """A folder that holds all layers, and ``mount`` with its options relative to that."""
    words = dict(word.partition("=")[::2] for word in mount.options)
    keys = [key for key in ("lowerdir", "upperdir", "workdir") if key in words]
    paths = {key: words[key].split(":") if key == "lowerdir" else [words[key]] for key in keys}
    every = [path for each in paths.values() for path in each]
    if mount.workdir and not any(path.startswith("/") for path in every):
        return mount.workdir, dataclasses.replace(mount, workdir="")
    shared = os.path.commonpath([os.path.join(mount.workdir or "/", path) for path in every])
    if shared == "/" or not all(path.startswith("/") for path in every):
        raise NotSupported(
            "a view of the machine's own root cannot be shown in a user namespace", hint="run it with --userns host"
        )
    for key in keys:
        words[key] = ":".join(os.path.relpath(path, shared) for path in paths[key])
    options = tuple(f"{key}={value}" if value else key for key, value in words.items())
    return shared, dataclasses.replace(mount, options=options, workdir="")


def _in_child(layers: int, scratch: str, mount: Mount, uid: int, gid: int) -> int:
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    child, pidfd = sc.clone3(0)
    if child == 0:
        try:
            tree = _mount_overlay(layers, scratch, mount, uid, gid)
            theirs.sendmsg([b"0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", tree))])
        except OSError as error:
            theirs.send(f"{error.errno or errno.EIO} {sc.call_of(error) or 'mount'}".encode())
        finally:
            os._exit(0)
    os.close(pidfd)
    theirs.close()
    try:
        data, ancillary, _, _ = ours.recvmsg(64, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    finally:
        ours.close()
        os.waitpid(child, 0)
    if ancillary:
        return int(struct.unpack("i", ancillary[0][2])[0])
    number, _, call = data.decode().partition(" ")
    failure = int(number or errno.EIO)
    if failure == errno.EINVAL and call == "mount":
        raise NotSupported(
            "overlay over idmapped layers is refused by this kernel: it came with Linux 5.19",
            hint="run it with --userns host, or the daemon with another storage driver",
        )
    raise KernelError(
        f"rootfs: {call or 'mount'} of an overlay over idmapped layers: {os.strerror(failure)}",
        syscall=call or "mount",
        errno=failure,
        stage="rootfs",
    )


def _mount_overlay(layers: int, scratch: str, mount: Mount, uid: int, gid: int) -> int:
    sc.unshare(sc.CLONE_NEWNS)
    sc.mount("", "/", "", sc.MS_SLAVE | sc.MS_REC)
    sc.mount("tmpfs", scratch, "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, "mode=700,size=64k")
    for name in ("layers", "root"):
        os.mkdir(f"{scratch}/{name}", 0o755)
    place = os.open(f"{scratch}/layers", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts.attach_bare(layers, place)
    os.chdir(f"{scratch}/layers")
    # Another user, but with all capabilities of the host: overlayfs remembers both as its own.
    sc.prctl(sc.PR_SET_SECUREBITS, sc.SECBIT_NO_SETUID_FIXUP)
    os.setgroups(())
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    mounts.mount_root(mount, f"{scratch}/root")
    tree = sc.open_tree(sc.AT_FDCWD, f"{scratch}/root", sc.OPEN_TREE_CLONE)
    mounts.dress(tree, mounts.Options())
    return tree


def probe(folder: str, uid: int, gid: int, *, overlay: bool) -> Probe:
    """Whether the file system of ``folder`` can be mapped, and an overlay be mounted over it. Leaves nothing.

    Forks, so it is for a process of one thread: ``python -m pyker.libcontainer.idmap``.
    """
    base = f"{folder}/.idmap-probe-{os.getpid()}"
    names = ("lower", "upper", "work", "scratch") if overlay else ("lower",)
    child, pidfd = sc.clone3(sc.CLONE_NEWUSER)
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        os.mkdir(base, 0o700)
        for name in names:
            os.mkdir(f"{base}/{name}", 0o755)
        namespaces.write_mappings(child, (IdMapping(0, uid, 1),), (IdMapping(0, gid, 1),))
        userns = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        if overlay:
            words = tuple(f"{key}dir={base}/{key}" for key in ("lower", "upper", "work"))
            tree = _overlay(Mount(target="/", fstype="overlay", options=words), f"{base}/scratch", userns, uid, gid)
        else:
            tree = _bind(Mount(target="/", fstype="bind", source=base, idmap=True), userns)
        os.close(tree)
    except NotSupported as error:
        return Probe(False, error.message)
    except (KernelError, OSError) as error:
        return Probe(False, str(error))
    finally:
        sc.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(child, 0)
        if os.path.exists(base):
            sc.remove_tree(base)
    return Probe(True)


if __name__ == "__main__":
    import sys

    answer = probe(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), overlay=sys.argv[4] == "overlay")
    sys.stdout.write(answer.reason)
    sys.exit(0 if answer.usable else 1)
