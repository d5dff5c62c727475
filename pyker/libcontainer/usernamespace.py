"""What must be done for a container in a user namespace of its own by somebody who is still outside.

Born inside, init has no rights over what is the host's: namespaces that others made, their sysctls, pipes, files of
mounts that are not mapped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from pyker.libcontainer import handshake, namespaces, rootfs
from pyker.libcontainer.handshake import Mapped, Socket
from pyker.libcontainer.spec import ContainerSpec, IdMapping, ProcessSpec

_AT_ONCE = 60
"""Descriptors that travel in one message."""


def own(spec: ContainerSpec) -> bool:
    """Whether the container gets a user namespace of its own."""
    return spec.namespaces.get("user") == ""


def enter_shared(spec: ContainerSpec) -> None:
    """Join the namespaces that the container shares with others; init is born in them. Sets their sysctls."""
    for name, path in spec.namespaces.items():
        if path and name not in ("user", "pid", "mnt"):
            namespaces.join(name, path)
    if spec.namespaces.get("net"):
        rootfs.write_sysctls(network_sysctls(spec))


def network_sysctls(spec: ContainerSpec) -> dict[str, str]:
    """Those of the network namespace."""
    return {key: value for key, value in spec.sysctls.items() if key.replace("/", ".").startswith("net.")}


def left_sysctls(spec: ContainerSpec) -> dict[str, str]:
    """Those that init sets itself."""
    done = network_sysctls(spec) if own(spec) and spec.namespaces.get("net") else {}
    return {key: value for key, value in spec.sysctls.items() if key not in done}


def give(fds: Iterable[int], uid_mappings: tuple[IdMapping, ...], gid_mappings: tuple[IdMapping, ...]) -> None:
    """Make pipes the container's, so that its processes can open /dev/stdout and change whose it is."""
    from pyker.libcontainer.idmap import outside

    uid, gid = outside(uid_mappings), outside(gid_mappings)
    for fd in fds:
        os.fchown(fd, uid, gid)


def give_like(fds: Iterable[int], pid: int) -> None:
    """``give`` to the root of the user namespace that ``pid`` is in."""
    give(fds, namespaces.read_mappings(pid, "uid_map"), namespaces.read_mappings(pid, "gid_map"))


def set_oom_score_adj(process: ProcessSpec) -> None:
    """Of this process; the one that it clones next inherits it."""
    if process.oom_score_adj is not None:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(process.oom_score_adj).encode())
        finally:
            os.close(fd)


def map_and_tell(spec: ContainerSpec, pid: int, channel: Socket) -> None:
    """Write the ID mappings of ``pid``'s namespace, and send init the mounts that it cannot make itself."""
    # Not at the top: most launchers never need it.
    from pyker.libcontainer import idmap

    namespaces.write_mappings(pid, spec.uid_mappings, spec.gid_mappings)
    trees = idmap.trees(spec, pid) if idmap.wanted(spec) else []
    try:
        for start in range(0, len(trees) or 1, _AT_ONCE):
            part = trees[start : start + _AT_ONCE]
            handshake.send(channel, Mapped(more=start + _AT_ONCE < len(trees)), part)
    finally:
        for tree in trees:
            os.close(tree)


def receive_trees(channel: Socket) -> list[int]:
    """In init: wait for ``map_and_tell``; returns the mounts."""
    trees: list[int] = []
    while True:
        message, fds = handshake.receive_from_parent(channel)
        trees += fds
        if not (isinstance(message, Mapped) and message.more):
            return trees
