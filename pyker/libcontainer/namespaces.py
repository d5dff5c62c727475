"""Namespaces by name: their clone flags, how to join one, and the ID mappings of a new user namespace."""

from __future__ import annotations

import os

from pyker.errors import InvalidParameter, KernelError
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.spec import IdMapping

FLAGS: dict[str, int] = {
    "user": sc.CLONE_NEWUSER,
    "mnt": sc.CLONE_NEWNS,
    "uts": sc.CLONE_NEWUTS,
    "ipc": sc.CLONE_NEWIPC,
    "pid": sc.CLONE_NEWPID,
    "net": sc.CLONE_NEWNET,
    "cgroup": sc.CLONE_NEWCGROUP,
}
"""In the order in which they are joined: the user namespace first, for it gives the right to join the others."""


def check(namespaces: dict[str, str]) -> None:
    """Raises: InvalidParameter for a name that is none of the kernel's."""
    unknown = set(namespaces) - FLAGS.keys()
    if unknown:
        raise InvalidParameter(f"unknown namespace {min(unknown)!r}", hint=f"one of {', '.join(FLAGS)}")


def new_flags(namespaces: dict[str, str]) -> int:
    """The clone flags of the namespaces to make; not the cgroup's, which is left for when init is in its cgroup."""
    return sum(FLAGS[name] for name, path in namespaces.items() if not path and name != "cgroup")


def join(name: str, path: str) -> None:
    """Join the namespace that ``path`` leads to. Raises KernelError, also if it is one of another kind. setns(2)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            sc.setns(fd, FLAGS[name])
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(
            f"namespaces: cannot join the {name} namespace {path!r}: {os.strerror(error.errno or 0)}",
            syscall="setns",
            errno=error.errno or 0,
            stage="namespaces",
        ) from error


def read_mappings(pid: int, name: str) -> tuple[IdMapping, ...]:
    """The lines of ``uid_map`` or ``gid_map``, as this process sees them."""
    with open(f"/proc/{pid}/{name}", encoding="ascii") as file:
        return tuple(IdMapping(*map(int, line.split())) for line in file)


def write_mappings(pid: int, uid_mappings: tuple[IdMapping, ...], gid_mappings: tuple[IdMapping, ...]) -> None:
    """Map the IDs of the user namespace that ``pid`` was born in; the caller is outside. Source: user_namespaces(7)."""
    for name, mappings in (("uid_map", uid_mappings), ("gid_map", gid_mappings)):
        text = "".join(f"{m.inside} {m.outside} {m.size}\n" for m in mappings)
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            # The kernel takes the whole map in one write, once.
            os.write(fd, text.encode())
        finally:
            os.close(fd)
