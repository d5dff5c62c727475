"""What is mounted below a container's root, in order: the system's own file systems, then the user's by destination."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from msgspec import UNSET

from pyker.container.record import Container, MountPoint
from pyker.errors import InvalidParameter
from pyker.types.config import HostConfig, MountRequest
from pyker.types.mount import Mount

SHM_BYTES = 64 << 20
TMPFS_DEFAULTS = ("rw", "nosuid", "nodev", "noexec")

_TMPFS_FLAGS = frozenset(
    [
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "sync",
        "async",
        "dirsync",
        "remount",
        "mand",
        "nomand",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "bind",
        "rbind",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "private",
        "rprivate",
        "shared",
        "rshared",
        "slave",
        "rslave",
        "unbindable",
        "runbindable",
    ]
)
_TMPFS_DATA = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge", "inode64", "inode32"})

_QUIET = ("nosuid", "noexec", "nodev")


@dataclass(frozen=True, slots=True)
class Mounts:
    """``rootfs_propagation`` is what the widest of the user's binds needs of the root."""

    mounts: tuple[Mount, ...]
    rootfs_propagation: str


def _own(host: HostConfig, ipc_donor: Container | None) -> list[Mount]:
    """What every container has. Source: OCI runtime-spec config-linux.md#default-filesystems."""
    access = () if host.privileged else ("ro",)
    found = [
        Mount(target="/proc", fstype="proc", source="proc", options=_QUIET),
        Mount(
            target="/dev", fstype="tmpfs", source="tmpfs", options=("nosuid", "strictatime", "mode=755", "size=65536k")
        ),
        Mount(
            target="/dev/pts",
            fstype="devpts",
            source="devpts",
            options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        ),
        Mount(target="/sys", fstype="sysfs", source="sysfs", options=(*_QUIET, *access)),
        Mount(target="/sys/fs/cgroup", fstype="cgroup", source="cgroup", options=(*_QUIET, *access)),
        Mount(target="/dev/mqueue", fstype="mqueue", source="mqueue", options=_QUIET),
    ]
    if host.ipc_mode == "host":
        found.append(Mount(target="/dev/shm", fstype="bind", source="/dev/shm", options=("rbind", "rprivate")))
    elif ipc_donor is not None:
        source = f"/proc/{ipc_donor.state.pid}/root/dev/shm"
        found.append(Mount(target="/dev/shm", fstype="bind", source=source, options=("bind", "rprivate")))
    elif host.ipc_mode != "none":
        size = host.shm_size or SHM_BYTES
        found.append(
            Mount(target="/dev/shm", fstype="tmpfs", source="shm", options=(*_QUIET, "mode=1777", f"size={size}"))
        )
    return found


def _depth(mount: Mount) -> int:
    return len(posixpath.normpath(mount.target).strip("/").split("/"))


def build(container: Container, *, ipc_donor: Container | None = None) -> Mounts:
    """All mounts of ``container``. What the user mounts at a place of the engine's own takes its place.

    Raises: InvalidParameter.
    """
    host = container.host_config
    requests = {
        posixpath.normpath(request.target): request for request in (() if host.mounts is UNSET else host.mounts or ())
    }
    users = [_user(point, requests.get(posixpath.normpath(point.destination))) for point in container.mount_points]
    tmpfs = {} if host.tmpfs is UNSET else host.tmpfs or {}
    users += [_tmpfs(target, text) for target, text in tmpfs.items()]
    taken = {posixpath.normpath(mount.target) for mount in users}
    users += [mount for mount in _files(container) if mount.target not in taken]
    users.sort(key=_depth)
    own = [mount for mount in _own(host, ipc_donor) if mount.target not in taken]
    if "/dev" in taken:
        own = [mount for mount in own if not mount.target.startswith("/dev/")]
    return Mounts((*own, *users), _root_propagation(container.mount_points))


def _files(container: Container) -> list[Mount]:
    """The files that the engine keeps for the container, writable as with the reference engine."""
    paths = (
        ("/etc/resolv.conf", container.resolv_conf_path),
        ("/etc/hostname", container.hostname_path),
        ("/etc/hosts", container.hosts_path),
    )
    return [
        Mount(target=target, fstype="bind", source=source, options=("bind", "rprivate"), create="file", idmap=True)
        for target, source in paths
        if source
    ]


def _user(point: MountPoint, request: MountRequest | None) -> Mount:
    if point.type == "tmpfs":
        return _tmpfs_request(point, request)
    bind = request.bind_options if request is not None else None
    recursive = not (bind and bind.non_recursive)
    options = ["rbind" if recursive else "bind"]
    if not point.rw:
        options.append("ro" if bind and bind.read_only_non_recursive else "rro")
    options.append(point.propagation or "rprivate")
    source = point.bound or point.source
    if request is not None and request.volume_options is not None and request.volume_options.subpath:
        source = _subpath(source, request.volume_options.subpath)
    # A volume is the engine's, and in a user namespace its root owns it; what else is bound belongs to whom it says.
    mine = point.type == "volume" and not point.bound
    return Mount(target=point.destination, fstype="bind", source=source, options=tuple(options), idmap=mine)


def _subpath(source: str, subpath: str) -> str:
    parts = subpath.split("/")
    if subpath.startswith("/") or ".." in parts:
        raise InvalidParameter(
            'invalid mount config for type "volume": subpath must be a relative path within the volume'
        )
    return posixpath.join(source, posixpath.normpath(subpath))


def _tmpfs_request(point: MountPoint, request: MountRequest | None) -> Mount:
    options = list(TMPFS_DEFAULTS)
    if not point.rw:
        options.append("ro")
    chosen = request.tmpfs_options if request is not None else None
    if chosen is not None and chosen.size_bytes:
        options.append(f"size={chosen.size_bytes}")
    if chosen is not None and chosen.mode:
        options.append(f"mode={chosen.mode:o}")
    return Mount(target=point.destination, fstype="tmpfs", source="tmpfs", options=tuple(options))


def check_tmpfs(text: str) -> tuple[str, ...]:
    """The words of a ``--tmpfs`` option string. Raises: InvalidParameter for one that tmpfs does not take."""
    words = tuple(filter(None, text.split(",")))
    for word in words:
        key, equals, value = word.partition("=")
        if word not in _TMPFS_FLAGS and not (key in _TMPFS_DATA and (not equals or value)):
            raise InvalidParameter(f'invalid tmpfs option ["{word}"]')
    return words


def _tmpfs(target: str, text: str) -> Mount:
    words = check_tmpfs(text)
    return Mount(target=posixpath.normpath(target), fstype="tmpfs", source="tmpfs", options=(*TMPFS_DEFAULTS, *words))


def _root_propagation(points: tuple[MountPoint, ...]) -> str:
    """Shared binds need a shared root, slaves a slave; each also needs the like of where its source lies.

    Shared is the root alone: what else is mounted below it stays as private as it was asked to be.
    """
    wanted = "rprivate"
    for point in points:
        if point.propagation in ("shared", "rshared"):
            _require_peers(point.source, ("shared:",), "a shared mount")
            return "shared"
        if point.propagation in ("slave", "rslave"):
            _require_peers(point.source, ("shared:", "master:"), "a shared or slave mount")
            wanted = "rslave"
    return wanted


def _require_peers(source: str, tags: tuple[str, ...], what: str) -> None:
    """Raises: InvalidParameter if the mount that holds ``source`` has none of the ``tags`` in mountinfo."""
    best, fields = "", ""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, _ = line.partition(" - ")
            words = before.split(" ")
            point = words[4]
            below = source == point or source.startswith(point.rstrip("/") + "/")
            if below and len(point) >= len(best):
                best, fields = point, " ".join(words[6:])
    if not any(tag in fields for tag in tags):
        raise InvalidParameter(f"path {source} is mounted on {best} but it is not {what}")
