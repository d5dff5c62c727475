"""A container's root: mounted, filled with what every container has, narrowed, and made the root of the process.

All of it runs in init, in the new mount namespace, before pivot_root, on descriptors below ``root`` (an O_PATH
descriptor of the new root). Nothing is seen by the host.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from pyker.errors import InvalidParameter, KernelError
from pyker.libcontainer import mounts
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.spec import ContainerSpec, DeviceNode
from pyker.types.mount import Mount

DEV_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)


def isolate(propagation: str, state_dir: str) -> None:
    """Stop mounts made here from reaching the host; what the host mounts still arrives, for binds that are slaves.

    With a shared propagation (asked for by a bind that is) only the mount that will hold the root is cut off.
    """
    if propagation not in mounts.PROPAGATION:
        raise InvalidParameter(f"invalid propagation {propagation!r}")
    if propagation in ("shared", "rshared"):
        sc.mount("", _mount_point_of(state_dir), "", sc.MS_PRIVATE)
        return
    try:
        sc.mount("", "/", "", sc.MS_SLAVE | sc.MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        with _out_of_chroot() as back:
            sc.mount("", "/", "", sc.MS_SLAVE | sc.MS_REC)
            os.fchdir(back)
            os.chroot(".")


@contextlib.contextmanager
def _out_of_chroot() -> Iterator[int]:
    """Have the namespace's own root for root: in a chroot "/" may be no mount point, as mount(2) and pivot_root(2) want
    it. Gives the root that was left. Source: setns(2) CLONE_NEWNS.
    """
    left = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        sc.setns(namespace, sc.CLONE_NEWNS)
        yield left
    finally:
        os.close(namespace)
        os.close(left)


def _mount_point_of(path: str) -> str:
    path = os.path.realpath(path)
    points = []
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            point = os.fsdecode(line.split(b" ")[4].decode("unicode_escape").encode("latin-1"))
            if path == point or path.startswith(point.rstrip("/") + "/"):
                points.append(point)
    if not points:
        raise KernelError(
            f"propagation: the mount that {path} is on cannot be reached from this chroot",
            errno=errno.EINVAL,
            stage="rootfs",
            hint="make the chroot's root a mount point, for example by binding it onto itself: mount --rbind DIR DIR",
        )
    return max(points, key=len)


def open_root(spec: ContainerSpec, tree: int = -1) -> int:
    """Mount the root file system over the state folder (here only) and return an O_PATH descriptor of it.

    ``tree`` is the root file system, if somebody else has made it.
    """
    if tree >= 0:
        target = os.open(spec.state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mounts.attach_bare(tree, target)
        os.close(target)
        os.close(tree)
    else:
        mounts.mount_root(spec.rootfs, spec.state_dir)
    return os.open(spec.state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def perform_mounts(
    root: int, wanted: tuple[Mount, ...], *, in_user_namespace: bool, trees: dict[Mount, int] | None = None
) -> None:
    """Perform mounts in order; of some there are ``trees`` already."""
    for mount in wanted:
        try:
            mounts.perform(root, mount, trees.pop(mount, -1) if trees else -1)
        except PermissionError:
            # In a user namespace sysfs needs a network namespace that it owns: show the host's, read-only.
            if not (in_user_namespace and mount.fstype == "sysfs"):
                raise
            options = ("rbind", "rro", "nosuid", "noexec", "nodev", "rslave")
            mounts.perform(root, Mount(target=mount.target, fstype="rbind", source="/sys", options=options))


def has_own_dev(wanted: tuple[Mount, ...]) -> bool:
    """Whether /dev is the container's own file system, to be filled."""
    return any(mount.target.rstrip("/") == "/dev" and mount.fstype not in ("bind", "rbind") for mount in wanted)


def fill_dev(root: int, devices: tuple[DeviceNode, ...], *, in_user_namespace: bool) -> None:
    """Make the links and device nodes of /dev."""
    dev = mounts.open_in_root(root, "/dev", os.O_PATH | os.O_DIRECTORY)
    try:
        for device in devices:
            make_device(root, dev, device, in_user_namespace=in_user_namespace)
        for name, to in DEV_LINKS:
            if name == "core" and not os.path.exists(to):
                continue
            try:
                os.symlink(to, name, dir_fd=dev)
            except FileExistsError:
                if name == "ptmx":
                    os.unlink(name, dir_fd=dev)
                    os.symlink(to, name, dir_fd=dev)
    finally:
        os.close(dev)


def make_device(root: int, dev: int, device: DeviceNode, *, in_user_namespace: bool) -> None:
    """Make one node, or bind the host's in a user namespace, where mknod(2) is refused."""
    folder, _, name = device.path.rpartition("/")
    if in_user_namespace:
        tree = sc.open_tree(sc.AT_FDCWD, device.path, sc.OPEN_TREE_CLONE)
        try:
            target = mounts.make_target(root, device.path, "file")
            try:
                mounts.attach_bare(tree, target)
            finally:
                os.close(target)
        finally:
            os.close(tree)
        return
    parent = dev if folder == "/dev" else mounts.make_target(root, folder or "/", "dir")
    try:
        kind = stat.S_IFBLK if device.kind == "b" else stat.S_IFCHR
        number = os.makedev(device.major, device.minor)
        try:
            os.mknod(name, kind | device.mode, number, dir_fd=parent)
        except FileExistsError:
            old = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_IFMT(old.st_mode) == kind and old.st_rdev == number:
                return
            os.unlink(name, dir_fd=parent)
            os.mknod(name, kind | device.mode, number, dir_fd=parent)
        if device.uid or device.gid:
            os.chown(name, device.uid, device.gid, dir_fd=parent, follow_symlinks=False)
    finally:
        if parent != dev:
            os.close(parent)


def bind_console(root: int, slave: int) -> None:
    """Show the terminal ``slave`` as /dev/console."""
    target = mounts.make_target(root, "/dev/console", "file")
    try:
        tree = sc.open_tree(slave, "", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE)
        try:
            mounts.attach_bare(tree, target)
        finally:
            os.close(tree)
    finally:
        os.close(target)


def make_readonly(root: int, paths: tuple[str, ...]) -> None:
    """Bind each path onto itself, read-only with all below it. Missing ones are skipped."""
    options = mounts.Options(set=sc.MS_RDONLY, recursive=True, recursive_readonly=True)
    for path in paths:
        try:
            target = mounts.open_in_root(root, path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            tree = sc.open_tree(target, "", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE | sc.AT_RECURSIVE)
            try:
                mounts.attach(tree, target, options)
            finally:
                os.close(tree)
        finally:
            os.close(target)


def mask(root: int, paths: tuple[str, ...]) -> None:
    """Cover each path: files by the host's /dev/null, folders by an empty read-only tmpfs. Missing ones are skipped."""
    null = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
    empty = -1
    try:
        # An image that offers something else as /dev/null would see it spread (CVE-2025-31133); the host's is checked.
        if os.fstat(null).st_rdev != os.makedev(1, 3):
            raise KernelError("mask: /dev/null of the host is not the null device", stage="mask")
        for path in paths:
            try:
                target = mounts.open_in_root(root, path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                if not stat.S_ISDIR(os.fstat(target).st_mode):
                    tree = sc.open_tree(null, "", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE)
                elif empty < 0:
                    sc.mount("tmpfs", mounts.proc_fd(target), "tmpfs", sc.MS_RDONLY, "size=0,nr_inodes=1,mode=755")
                    empty = mounts.open_in_root(root, path)
                    continue
                else:
                    tree = sc.open_tree(empty, "", sc.AT_EMPTY_PATH | sc.OPEN_TREE_CLONE)
                try:
                    mounts.attach_bare(tree, target)
                finally:
                    os.close(tree)
            finally:
                os.close(target)
    finally:
        os.close(null)
        if empty >= 0:
            os.close(empty)


def write_sysctls(sysctls: dict[str, str]) -> None:
    """Write kernel parameters of the new namespaces, through the host's /proc, which no image can have replaced.

    /proc/sys shows the namespaces of the process that opens it. Source: sysctl(8), namespaces(7).
    """
    for key, value in sysctls.items():
        path = "/proc/sys/" + key.replace(".", "/")
        if "/../" in path + "/":
            raise InvalidParameter(f"invalid sysctl {key!r}")
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise KernelError(
                f"sysctl: cannot set {key}={value}: {os.strerror(error.errno or 0)}",
                syscall="write",
                errno=error.errno or 0,
                stage="sysctl",
            ) from error


def make_working_directory(root: int, cwd: str) -> None:
    """Make it while the root can be written. What stands in the way is told when the process cannot go there."""
    with contextlib.suppress(OSError):
        os.close(mounts.make_target(root, cwd, "dir"))


def set_readonly(root: int) -> None:
    """Make the root mount read-only; mounts below keep their own flags."""
    try:
        sc.mount_setattr(root, "", sc.AT_EMPTY_PATH, attr_set=sc.MOUNT_ATTR_RDONLY)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        sc.mount("", mounts.proc_fd(root), "", sc.MS_REMOUNT | sc.MS_BIND | sc.MS_RDONLY)


def pivot(root: int, propagation: str) -> None:
    """Make ``root`` the root of this mount namespace and let go of the old one.

    pivot_root(".", ".") stacks the old root on the new one, so that no folder is needed to hold it. The old one is
    then made a slave, lest its unmounting reach the host; for that the caller must stand in it, because "." in the
    new root means the new root to mount(2), although umount2(2) would find the stacked one. Source: pivot_root(2).
    """
    try:
        _stack(root)
    except OSError as error:
        if error.errno != errno.EINVAL or sc.call_of(error) != "pivot_root":
            raise
        with _out_of_chroot():
            _stack(root)
    os.chdir("/")
    if propagation in ("shared", "rshared", "slave", "rslave"):
        sc.mount("", "/", "", mounts.PROPAGATION[propagation])


def _stack(root: int) -> None:
    old_root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchdir(root)
        sc.pivot_root(".", ".")
        os.fchdir(old_root)
        sc.mount("", ".", "", sc.MS_SLAVE | sc.MS_REC)
        sc.umount2(".", sc.MNT_DETACH)
    finally:
        os.close(old_root)
