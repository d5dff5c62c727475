"""Layers as whole trees: every layer is a full copy of what lies below it, with its own changes made.

Works everywhere and needs no kernel feature; slow and large, unless the file system can share blocks (XFS, btrfs).
``<root>/dir/<cache-id>`` as in the reference engine.
"""

from __future__ import annotations

import os
from collections.abc import Container, Sequence

from pyker.errors import KernelError, NotSupported, SystemFailure
from pyker.graphdriver.archive.pool import WorkerPool
from pyker.graphdriver.base import RootfsSpec
from pyker.libcontainer import syscalls
from pyker.types.ids import CacheId
from pyker.types.mount import Mount
from pyker.types.probe import Probe

_REMOVING = ".removing"
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class VfsDriver:
    """See ``base.GraphDriver``. ``root`` is the driver's own folder, ``<data-root>/vfs``."""

    name = "vfs"

    def __init__(self, root: str) -> None:
        self.root = root
        self._home = os.path.join(root, "dir")
        os.makedirs(self._home, 0o710, exist_ok=True)
        os.chmod(root, 0o710)
        self._workers = WorkerPool()

    @classmethod
    def probe(cls, root: str) -> Probe:
        """Plain folders are all it takes."""
        return Probe(True)

    def create(self, cache_id: CacheId, parents: Sequence[CacheId]) -> str:
        """Copy the topmost parent in a worker process; returns the copy."""
        folder = self.diff_path(cache_id)
        if os.path.lexists(folder):
            self.remove(cache_id)
        os.mkdir(folder, 0o755)
        target = os.open(folder, _OPEN_DIR)
        try:
            os.fchmod(target, 0o755)
            if parents:
                self._copy(parents[0], target)
        finally:
            os.close(target)
        return folder

    def commit(self, cache_id: CacheId) -> None:
        """Nothing marks a whole layer here: layerdb names it or not."""

    def create_rw(self, cache_id: CacheId, parents: Sequence[CacheId], *, storage_opt: dict[str, str]) -> None:
        """The same as ``create``: the container writes to its own copy."""
        if storage_opt:
            raise SystemFailure(
                "--storage-opt is not supported for vfs: it has no quota", hint="leave --storage-opt out"
            )
        self.create(cache_id, parents)

    def rootfs(self, cache_id: CacheId, parents: Sequence[CacheId], *, readonly: bool = False) -> RootfsSpec:
        """A bind mount of the tree."""
        folder = self.diff_path(cache_id)
        options = ("rbind", "ro") if readonly else ("rbind",)
        mount = Mount(target="/", fstype="bind", source=folder, options=options)
        return RootfsSpec(mount=mount, upperdir="" if readonly else folder, data={})

    def create_host_rw(self, cache_id: CacheId) -> str:
        """Not with this driver: it would copy the whole machine."""
        raise NotSupported(
            'the image "host" needs the overlay2 driver', hint="start the daemon with --storage-driver overlay2"
        )

    def host_rootfs(self, cache_id: CacheId) -> RootfsSpec:
        """See ``create_host_rw``."""
        raise NotSupported('the image "host" needs the overlay2 driver')

    def data(self, cache_id: CacheId, parents: Sequence[CacheId]) -> dict[str, str]:
        """Inspect shows nothing for vfs."""
        return {}

    def diff_path(self, cache_id: CacheId) -> str:
        """The whole tree."""
        return os.path.join(self._home, cache_id)

    def remove(self, cache_id: CacheId) -> None:
        """Delete the tree."""
        folder = self.diff_path(cache_id)
        try:
            os.rename(folder, folder + _REMOVING)
        except FileNotFoundError:
            return
        self._delete(folder + _REMOVING)

    def exists(self, cache_id: CacheId) -> bool:
        return os.path.isdir(self.diff_path(cache_id))

    def prune(self, keep: Container[str]) -> list[str]:
        """Delete every tree that is not in ``keep``."""
        removed = [name for name in os.listdir(self._home) if name not in keep]
        for name in removed:
            self._delete(os.path.join(self._home, name))
        return removed

    def status(self) -> list[tuple[str, str]]:
        """Nothing to tell."""
        return []

    def whiteout_style(self) -> str:
        return "none"

    def _copy(self, parent: CacheId, target: int) -> None:
        try:
            source = os.open(self.diff_path(parent), _OPEN_DIR)
        except FileNotFoundError as error:
            raise SystemFailure(f"the layer {parent!r} is missing from {self._home!r}") from error
        try:
            self._workers.run({"operation": "copy"}, [source, target])
        finally:
            os.close(source)

    def _delete(self, path: str) -> None:
        try:
            syscalls.remove_tree(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise KernelError.from_oserror(error, syscall="unlinkat", stage="remove layer") from error
