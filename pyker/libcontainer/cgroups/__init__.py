"""Control groups, version 1, version 2, and both at once.

A cgroup's life: ``open_cgroup`` (no effect yet), ``create`` with limits, a process inside (``birth_fd`` for its clone
and ``join`` by itself, or ``add`` by another), ``oom_fd`` watched, ``set``, ``freeze``, ``thaw``, ``stats``, and
``remove`` when all processes are reaped. Nothing is kept open: any process can open the same path again.
"""

from __future__ import annotations

from typing import Protocol

from pyker.errors import InvalidParameter
from pyker.libcontainer.cgroups.layout import Layout
from pyker.libcontainer.cgroups.layout import layout as mounted
from pyker.libcontainer.spec import Resources


class Cgroup(Protocol):
    """One container's cgroup. ``version`` is 1 or 2, ``path`` is relative to the mount points."""

    version: int
    path: str

    def paths(self) -> dict[str, str]:
        """Absolute directories by controller; on version 2 the only key is ""."""
        ...

    def create(self, resources: Resources) -> None:
        """Make it and set its limits; being there already is fine. Raises: KernelError, NotSupported."""
        ...

    def add(self, pid: int) -> None:
        """Move a process with all its threads; costs an RCU grace period (milliseconds) on an idle machine."""
        ...

    def join(self) -> None:
        """Move the calling process, which must have one thread only. Microseconds on version 1; on version 2 only if
        it was born inside. Raises: KernelError.
        """
        ...

    def birth_fd(self) -> int:
        """For clone3(CLONE_INTO_CGROUP): a child born in it needs no move. Works before ``create`` too.

        The caller closes it. -1: nothing to be born in (version 1 without a v2 hierarchy). Raises: KernelError.
        """
        ...

    def set(self, resources: Resources) -> None:
        """Set the limits that are given, live. Raises: KernelError, NotSupported."""
        ...

    def freeze(self) -> None:
        """Stop every process, and wait until all have stopped. Raises: KernelError after ten seconds."""
        ...

    def thaw(self) -> None:
        """Let them go on."""
        ...

    def frozen(self) -> bool:
        """Whether all are stopped."""
        ...

    def pids(self) -> list[int]:
        """Every process inside and below, as this process numbers them."""
        ...

    def stats(self) -> dict[str, object]:
        """Readings; the keys are those of ``cgroups.readings``."""
        ...

    def oom_fd(self) -> int | None:
        """Readable after memory ran out, and perhaps at other times: drain it (read up to 4096 bytes), then compare
        ``oom_count`` with what it was. The caller closes it. None: no memory controller.
        """
        ...

    def oom_count(self) -> int:
        """Processes that the kernel killed here for want of memory."""
        ...

    def remove(self) -> None:
        """Delete it; already gone is fine. Retries for two seconds while processes die. Raises: KernelError."""
        ...

    def remove_parent(self) -> None:
        """Delete the directories above it that are empty."""
        ...


def open_cgroup(path: str, hierarchies: Layout | None = None) -> Cgroup:
    """The cgroup at ``path``, such as ``/pyker/<id>``, whether it exists yet or not.

    Version 2 is taken only if no v1 controller is mounted. Raises: NotSupported if no hierarchy is mounted,
    InvalidParameter for a path that is not absolute or climbs.
    """
    parts = path.strip("/").split("/")
    if not path.startswith("/") or parts == [""] or not {"", ".", ".."}.isdisjoint(parts):
        raise InvalidParameter(f"invalid cgroup path {path!r}: it must be absolute and without '..'")
    found = hierarchies or mounted()
    clean = "/" + "/".join(parts)
    if found.version == 1:
        from pyker.libcontainer.cgroups.v1 import CgroupV1

        return CgroupV1(clean, found)
    from pyker.libcontainer.cgroups.v2 import CgroupV2

    return CgroupV2(clean, found)
