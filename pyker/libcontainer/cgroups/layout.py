"""Where the cgroup hierarchies of this machine are mounted, read once a process.

Three shapes exist: v1 (each controller a mount, or several in one), v2 (one mount holds all), and hybrid (v1
controllers plus a v2 mount that has few or none). In the hybrid shape the v1 controllers do the work, and the v2 mount
only keeps the processes together, as systemd wants it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from pyker.errors import NotSupported

CONTROLLERS = frozenset(
    {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb"}
    | {"net_cls", "net_prio", "perf_event", "rdma", "misc"}
)
"""Version 1 controllers. Other words among a mount's options are flags, such as rw and xattr."""


@dataclass(frozen=True, slots=True)
class Layout:
    """``controllers`` maps each v1 controller to its mount point; ``named`` maps hierarchies without a
    controller, such as ``name=systemd``, likewise; ``unified`` is the v2 mount point, or "" for none.
    """

    controllers: dict[str, str] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    unified: str = ""

    @property
    def version(self) -> int:
        """2 only if no v1 controller is mounted."""
        return 1 if self.controllers else 2

    def mountpoints(self) -> tuple[str, ...]:
        """Every v1 mount point once (cpu and cpuacct often share one), controllers' first."""
        return tuple(dict.fromkeys([*self.controllers.values(), *self.named.values()]))


def _unescape(path: str) -> str:
    """mountinfo writes space, tab, newline and backslash as three octal digits."""
    if "\\" not in path:
        return path
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path


def parse(mountinfo: str) -> Layout:
    """Find the hierarchies in the text of /proc/<pid>/mountinfo. The first mount of a hierarchy wins.

    Raises: NotSupported if there is none. Source: proc_pid_mountinfo(5).
    """
    controllers: dict[str, str] = {}
    named: dict[str, str] = {}
    unified = ""
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        if not separator or not after.startswith("cgroup"):
            continue
        mountpoint = _unescape(before.split(" ")[4])
        fstype, _, rest = after.partition(" ")
        options = rest.split(" ")[-1].split(",")
        if fstype == "cgroup2":
            unified = unified or mountpoint
            continue
        mine = [word for word in options if word in CONTROLLERS]
        for controller in mine:
            controllers.setdefault(controller, mountpoint)
        if not mine:
            for word in options:
                if word.startswith("name="):
                    named.setdefault(word, mountpoint)
    if not controllers and not unified:
        raise NotSupported("no cgroup hierarchy is mounted", hint="mount one: mount -t cgroup2 none /sys/fs/cgroup")
    return Layout(controllers, named, unified)


@functools.cache
def layout() -> Layout:
    """The layout that this process sees. Kept for its life: hierarchies are mounted at boot."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse(file.read())
