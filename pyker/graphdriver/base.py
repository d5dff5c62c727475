"""What a graphdriver is. It stores layers by cache ID, and describes the mounts of a root file system."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Protocol

from pyker.types.ids import CacheId
from pyker.types.mount import Mount
from pyker.types.probe import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class RootfsSpec:
    """A root file system, not yet mounted.

    ``mount`` has target "/". ``upperdir`` is the folder that takes the writes. ``data`` is what ``GraphDriver.Data``
    of inspect shows (LowerDir, MergedDir, UpperDir, WorkDir for overlay2; empty for vfs).
    """

    mount: Mount
    upperdir: str
    data: dict[str, str]


class GraphDriver(Protocol):
    """One way of keeping layers. Every method is safe to repeat after a crash at any instant."""

    name: str
    root: str

    def __init__(self, root: str) -> None: ...

    @classmethod
    def probe(cls, root: str) -> Probe:
        """Ask the kernel, with a trial under ``root``, whether this driver works there. Leaves nothing behind."""
        ...

    def create(self, cache_id: CacheId, parents: Sequence[CacheId]) -> str:
        """Make an empty read-only-to-be layer above ``parents`` (topmost first); returns the folder to extract into.

        For a driver without a union (vfs) the folder already holds a copy of the parent.
        """
        ...

    def commit(self, cache_id: CacheId) -> None:
        """What ``create`` made is whole now, and never changes again."""
        ...

    def create_rw(self, cache_id: CacheId, parents: Sequence[CacheId], *, storage_opt: dict[str, str]) -> None:
        """Make a container's writable layer above ``parents`` (topmost first)."""
        ...

    def rootfs(self, cache_id: CacheId, parents: Sequence[CacheId], *, readonly: bool = False) -> RootfsSpec:
        """Describe how to mount the layer on top of its parents."""
        ...

    def create_host_rw(self, cache_id: CacheId) -> str:
        """Make a writable layer over the machine's own root file system; returns the folder that takes the writes.

        Raises NotSupported where the driver has no such view.
        """
        ...

    def host_rootfs(self, cache_id: CacheId) -> RootfsSpec:
        """Describe how to mount such a layer."""
        ...

    def data(self, cache_id: CacheId, parents: Sequence[CacheId]) -> dict[str, str]:
        """What inspect shows as ``GraphDriver.Data`` of the layer."""
        ...

    def diff_path(self, cache_id: CacheId) -> str:
        """The folder that holds what this layer itself changes (for vfs: the whole tree)."""
        ...

    def remove(self, cache_id: CacheId) -> None:
        """Free the layer. Removing what is not there is not an error."""
        ...

    def exists(self, cache_id: CacheId) -> bool: ...

    def prune(self, keep: Container[str]) -> list[str]:
        """At start-up: delete every layer whose cache ID is not in ``keep``; returns the names that went."""
        ...

    def status(self) -> list[tuple[str, str]]:
        """Pairs for ``docker info``, such as ("Backing Filesystem", "extfs")."""
        ...

    def whiteout_style(self) -> str:
        """How deletions are kept: "overlay" (character device 0:0, opaque xattr) or "none" (really deleted)."""
        ...
