"""The cgroup file systems as a container sees them: its own part of each hierarchy, and nothing above.

Made after init has entered its cgroup, because a cgroup namespace has for its root the cgroup that its maker is in.
"""

from __future__ import annotations

import errno
import os

from pyker.libcontainer import mounts
from pyker.libcontainer import syscalls as sc
from pyker.types.mount import Mount

CGROUP_TYPES = ("cgroup", "cgroup2")


def split(wanted: tuple[Mount, ...]) -> tuple[tuple[Mount, ...], tuple[Mount, ...]]:
    """The mounts that need no cgroup, and those that must wait for it: cgroup mounts and whatever goes below them."""
    tops = tuple(mount.target.rstrip("/") + "/" for mount in wanted if mount.fstype in CGROUP_TYPES)
    before = tuple(mount for mount in wanted if not _below(mount, tops))
    after = tuple(mount for mount in wanted if _below(mount, tops))
    return before, after


def _below(mount: Mount, tops: tuple[str, ...]) -> bool:
    return (mount.target.rstrip("/") + "/").startswith(tops) if tops else False


def perform(root: int, mount: Mount, paths: dict[str, str], cgroup_path: str, *, own_namespace: bool) -> None:
    """Mount the container's cgroups at ``mount.target``; read-only if its options say ``ro``.

    ``paths`` has the host's directory of the container's cgroup for each version 1 controller, and that of version 2
    under "". With version 2 alone its file system is mounted there; otherwise a tmpfs holds one folder a hierarchy.
    """
    options = mounts.parse(mount.options)
    options.set |= sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC
    options.data = ""
    if set(paths) <= {""}:
        _version_2(root, mount.target, paths.get("", ""), options, own_namespace=own_namespace)
    else:
        _version_1(root, mount.target, paths, cgroup_path, options)


def _version_2(root: int, target_path: str, directory: str, options: mounts.Options, *, own_namespace: bool) -> None:
    target = mounts.make_target(root, target_path, "dir")
    try:
        if own_namespace:
            _mount_version_2(target, options)
        elif directory:
            _bind(directory, target, options)
    finally:
        os.close(target)


def _mount_version_2(target: int, options: mounts.Options) -> None:
    try:
        sc.mount("cgroup", mounts.proc_fd(target), "cgroup2", options.set)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # In a user namespace /sys is the host's, with its cgroup2: mount(2) puts no file system on top of itself.
        context = sc.fsopen("cgroup2")
        try:
            sc.fsconfig(context, sc.FSCONFIG_CMD_CREATE)
            tree = sc.fsmount(context, mounts.attributes(options)[0])
        finally:
            os.close(context)
        try:
            mounts.attach_bare(tree, target)
        finally:
            os.close(tree)


def _version_1(root: int, target_path: str, paths: dict[str, str], cgroup_path: str, options: mounts.Options) -> None:
    below = mounts.make_target(root, target_path, "dir")
    try:
        flags = sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC
        sc.mount("tmpfs", mounts.proc_fd(below), "tmpfs", flags, "mode=755")
    finally:
        os.close(below)
    target = mounts.open_in_root(root, target_path)
    try:
        shown: dict[str, bool] = {}
        for controller, directory in paths.items():
            # Controllers mounted together share a folder, named after all of them, with a link for each.
            hierarchy = os.path.basename(directory.removesuffix(cgroup_path))
            if not controller:
                continue
            if hierarchy not in shown:
                shown[hierarchy] = _show(directory, target, hierarchy, options)
            if shown[hierarchy] and controller != hierarchy and controller in hierarchy.split(","):
                os.symlink(hierarchy, controller, dir_fd=target)
        if options.set & sc.MS_RDONLY:
            sc.mount("", mounts.proc_fd(target), "", sc.MS_REMOUNT | sc.MS_BIND | flags | sc.MS_RDONLY)
    finally:
        os.close(target)


def _show(directory: str, target: int, name: str, options: mounts.Options) -> bool:
    """Bind a hierarchy's directory at ``name`` in ``target``, a tmpfs of ours; False if it has none."""
    try:
        tree = sc.open_tree(sc.AT_FDCWD, directory, sc.OPEN_TREE_CLONE)
    except FileNotFoundError:
        return False
    try:
        os.mkdir(name, 0o755, dir_fd=target)
        mounts.attach(tree, target, options, name)
    finally:
        os.close(tree)
    return True


def _bind(directory: str, target: int, options: mounts.Options) -> None:
    tree = sc.open_tree(sc.AT_FDCWD, directory, sc.OPEN_TREE_CLONE)
    try:
        mounts.attach(tree, target, options)
    finally:
        os.close(tree)
