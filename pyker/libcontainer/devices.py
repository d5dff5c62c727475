"""Device nodes and device rules: a container's own, those of the host, and those a user asks for."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from pyker.errors import InvalidParameter, NotFound
from pyker.libcontainer.spec import DeviceNode, DeviceRule

DEFAULT_NODES: tuple[DeviceNode, ...] = tuple(
    DeviceNode(path=f"/dev/{name}", kind="c", major=major, minor=minor)
    for name, major, minor in (
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    )
)
"""What every container finds in /dev. Source: OCI runtime-spec config-linux.md#default-devices."""

DENY_ALL = DeviceRule(allow=False)
ALLOW_ALL = DeviceRule(allow=True)

DEFAULT_RULES: tuple[DeviceRule, ...] = (
    DENY_ALL,
    DeviceRule(allow=True, kind="c", access="m"),
    DeviceRule(allow=True, kind="b", access="m"),
    *(
        DeviceRule(allow=True, kind="c", major=major, minor=minor)
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, -1), (10, 200))
    ),
)
"""Any node may be made, but only these used: null, zero, full, random, urandom, tty, console, ptmx, pseudo terminals,
and tun, which VPN images make for themselves (runc took it away in 1.2.0, and gave it back in 1.2.4).
"""

_SKIPPED = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})
"""Folders of the host's /dev that hold nothing for a container, or have a file system of their own there."""


def from_path(path: str, *, as_path: str = "") -> DeviceNode:
    """The device node at ``path`` on the host, symlinks followed, to appear as ``as_path``.

    Raises: NotFound if nothing is there, InvalidParameter if it is not a device.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise NotFound(
            f'error gathering device information while adding custom device "{path}": no such file or directory'
        ) from error
    if not (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)):
        raise InvalidParameter(
            f'error gathering device information while adding custom device "{path}": not a device node'
        )
    return DeviceNode(
        path=as_path or path,
        kind="c" if stat.S_ISCHR(found.st_mode) else "b",
        major=os.major(found.st_rdev),
        minor=os.minor(found.st_rdev),
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
    )


def rule_for(node: DeviceNode, access: str) -> DeviceRule:
    """Allow ``access`` to this very node."""
    return DeviceRule(allow=True, kind=node.kind, major=node.major, minor=node.minor, access=access)


def below(directory: str) -> Iterator[DeviceNode]:
    """Every device node in and below ``directory``, in order; other files, links and what vanishes are passed over."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_symlink():
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _SKIPPED:
                yield from below(entry.path)
            continue
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
            if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and entry.name != "console":
                yield from_path(entry.path)
        except (OSError, NotFound):
            continue


def host_nodes() -> tuple[DeviceNode, ...]:
    """All devices of the host, for a privileged container."""
    return tuple(below("/dev"))


def requested(
    host_path: str, container_path: str, access: str
) -> tuple[tuple[DeviceNode, ...], tuple[DeviceRule, ...]]:
    """What one ``--device`` means: nodes to make and rules to add. A folder means all devices below it.

    Raises: NotFound, InvalidParameter. Source: Docker API v1.45 DeviceMapping.
    """
    inside = container_path or host_path
    letters = access or "rwm"
    if not set(letters) <= set("rwm"):
        raise InvalidParameter(f"invalid device mode: {access}", hint="it is made of the letters r, w and m")
    real = os.path.realpath(host_path)
    if os.path.isdir(real):
        found = tuple(below(real))
        if not found:
            raise InvalidParameter(
                f'error gathering device information while adding custom device "{host_path}": no devices found'
            )
        nodes = tuple(_moved(node, inside + node.path.removeprefix(real)) for node in found)
    else:
        nodes = (from_path(host_path, as_path=inside),)
    return nodes, tuple(rule_for(node, letters) for node in nodes)


def _moved(node: DeviceNode, path: str) -> DeviceNode:
    return DeviceNode(
        path=path, kind=node.kind, major=node.major, minor=node.minor, mode=node.mode, uid=node.uid, gid=node.gid
    )


def parse_rule(text: str) -> DeviceRule:
    """A ``--device-cgroup-rule`` such as ``c 42:* rmw``.

    Raises: InvalidParameter with the reference engine's words. Source: Docker API v1.45 HostConfig.DeviceCgroupRules.
    """
    words = text.split(" ")
    numbers = words[1].split(":") if len(words) == 3 else []
    right = (
        len(words) == 3
        and words[0] in ("a", "b", "c")
        and len(numbers) == 2
        and all(number == "*" or (number.isascii() and number.isdigit()) for number in numbers)
        and 0 < len(words[2]) <= 3
        and set(words[2]) <= set("rwm")
    )
    if not right:
        raise InvalidParameter(f"invalid device cgroup rule format: '{text}'", hint="for example: c 1:3 rwm")
    major, minor = (-1 if number == "*" else int(number) for number in numbers)
    return DeviceRule(allow=True, kind=words[0], major=major, minor=minor, access=words[2])


def number_of(path: str) -> tuple[int, int]:
    """(major, minor) of the block device at ``path``, for throttling. Raises: NotFound, InvalidParameter."""
    node = from_path(path)
    return node.major, node.minor
