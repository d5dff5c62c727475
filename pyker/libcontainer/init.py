"""Init: from a fresh clone to the execve of the container's command. It never returns to its caller.

It runs in the child that a cradle cloned into new namespaces, as PID 1 of the container (unless it shares a PID
namespace). The steps and their order; each is a stage of its own in the times that the daemon shows:

namespaces  join those given by path; take on root of a new user namespace; session, keyring
rootfs      cut mounts off from the host; mount the root
mounts      everything below it
devices     /dev, the terminal
cgroup      wait until the starter has made the cgroup; enter it; cgroup namespace and mounts
masks       sysctls, read-only and masked paths, pivot_root, host name
security    user, working directory, limits, capabilities, seccomp
exec        find the command, execve
"""

from __future__ import annotations

import os
import time
from typing import NoReturn

from pyker.errors import PykerError
from pyker.libcontainer import cgroupmounts, credentials, handshake, mounts, namespaces, rootfs, usernamespace
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import Cgroup
from pyker.libcontainer.handshake import Failure, Socket
from pyker.libcontainer.spec import ContainerSpec


class Stages:
    """A stopwatch: nanoseconds of CLOCK_MONOTONIC by stage, in order. ``current`` is the one being timed."""

    def __init__(self, first: str, since_ns: int) -> None:
        self.spent: dict[str, int] = {}
        self.current = first
        self._since_ns = since_ns

    def enter(self, stage: str) -> None:
        """End the current stage and begin ``stage``."""
        now = time.monotonic_ns()
        self.spent[self.current] = self.spent.get(self.current, 0) + now - self._since_ns
        self.current = stage
        self._since_ns = now


def main(spec: ContainerSpec, channel: Socket, cgroup: Cgroup | None, sent_ns: int) -> NoReturn:
    """Become the container's first process.

    ``channel`` leads to the starter; errors go there, and its end of file means that execve succeeded.
    """
    stages = Stages("fork", sent_ns)
    try:
        _set_up(spec, channel, cgroup, stages)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the starter must hear of it before we vanish
        report(channel, Failure.of(error, stages.current))
    os._exit(1)


def report(channel: Socket, failure: Failure) -> None:
    """Tell the starter, if it is still there."""
    try:
        handshake.send(channel, failure)
    except (PykerError, OSError):
        return


def _set_up(spec: ContainerSpec, channel: Socket, cgroup: Cgroup | None, stages: Stages) -> NoReturn:
    stages.enter("namespaces")
    own_user_namespace = "user" in spec.namespaces
    trees: list[int] = []
    if usernamespace.own(spec):
        trees = usernamespace.receive_trees(channel)
    else:
        for name in namespaces.FLAGS:
            path = spec.namespaces.get(name)
            if path and name != "pid":
                namespaces.join(name, path)
    if own_user_namespace:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    credentials.detach(spec.id)

    stages.enter("rootfs")
    rootfs.isolate(spec.rootfs_propagation, spec.state_dir)
    root = rootfs.open_root(spec, trees.pop(0) if trees else -1)
    made = dict(zip((mount for mount in spec.mounts if mount.fstype in mounts.BINDS), trees, strict=False))

    stages.enter("mounts")
    before, after = cgroupmounts.split(spec.mounts)
    rootfs.perform_mounts(root, before, in_user_namespace=own_user_namespace, trees=made)

    stages.enter("devices")
    if rootfs.has_own_dev(spec.mounts):
        rootfs.fill_dev(root, spec.devices, in_user_namespace=own_user_namespace)
    slave = -1
    if spec.process.tty:
        slave = credentials.make_terminal(root, channel, spec.process)
        rootfs.bind_console(root, slave)

    stages.enter("cgroup")
    _, stdio = handshake.receive_from_parent(channel)
    if cgroup is not None and not own_user_namespace:
        cgroup.join()
    if spec.namespaces.get("cgroup") == "":
        sc.unshare(sc.CLONE_NEWCGROUP)
    for mount in after:
        if mount.fstype in cgroupmounts.CGROUP_TYPES:
            paths = cgroup.paths() if cgroup is not None else {}
            cgroupmounts.perform(root, mount, paths, spec.cgroup_path, own_namespace="cgroup" in spec.namespaces)
        else:
            rootfs.perform_mounts(root, (mount,), in_user_namespace=own_user_namespace, trees=made)

    stages.enter("masks")
    rootfs.write_sysctls(usernamespace.left_sysctls(spec))
    rootfs.make_readonly(root, spec.readonly_paths)
    rootfs.mask(root, spec.masked_paths)
    if spec.readonly_rootfs:
        rootfs.make_working_directory(root, spec.process.cwd)
        rootfs.set_readonly(root)
    rootfs.pivot(root, spec.rootfs_propagation)
    os.close(root)
    if spec.namespaces.get("uts") == "":
        if spec.hostname:
            sc.sethostname(spec.hostname)
        if spec.domainname:
            sc.setdomainname(spec.domainname)

    stages.enter("security")
    credentials.assume_and_execute(spec.process, stdio or [slave] * 3, channel, stages, make_cwd=True)
