"""Layers as btrfs subvolumes: each is a snapshot of the one below, with its own changes made.

A snapshot costs nothing until it is written to, so layers are whole trees as with vfs, and a root file system is a bind
mount. ``<root>/subvolumes/<cache-id>`` as in the reference engine.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Container, Sequence

from pyker.errors import KernelError, NotSupported, SystemFailure
from pyker.graphdriver import backing
from pyker.graphdriver.base import RootfsSpec
from pyker.libcontainer import btrfs, syscalls
from pyker.types.ids import CacheId
from pyker.types.mount import Mount
from pyker.types.probe import Probe

log = logging.getLogger(__name__)

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class BtrfsDriver:
    """See ``base.GraphDriver``. ``root`` is the driver's own folder, ``<data-root>/btrfs``."""

    name = "btrfs"

    def __init__(self, root: str) -> None:
        self.root = root
        self._home = os.path.join(root, "subvolumes")
        os.makedirs(self._home, 0o710, exist_ok=True)
        os.chmod(root, 0o710)

    @classmethod
    def probe(cls, root: str) -> Probe:
        """Make a subvolume, a snapshot of it, and delete both, where ``root`` is or will be."""
        where = root
        while not os.path.isdir(where):
            where = os.path.dirname(where)
        if not btrfs.is_btrfs(where):
            return Probe(False, f"{where} is on {backing.name(where)}, not on btrfs")
        names = [f".pyker-probe-{os.getpid()}-{number}" for number in (1, 2)]
        try:
            btrfs.create(where, names[0])
            btrfs.snapshot(os.path.join(where, names[0]), where, names[1])
        except KernelError as error:
            return Probe(False, error.message)
        finally:
            for name in names:
                if btrfs.is_subvolume(os.path.join(where, name)):
                    btrfs.destroy(where, name)
        return Probe(True)

    def create(self, cache_id: CacheId, parents: Sequence[CacheId]) -> str:
        """Make a subvolume, a snapshot of the topmost parent if there is one; returns it."""
        folder = self.diff_path(cache_id)
        if os.path.lexists(folder):
            self.remove(cache_id)
        if parents:
            self._snapshot(parents[0], cache_id)
            return folder
        btrfs.create(self._home, cache_id)
        fd = os.open(folder, _OPEN_DIR)
        try:
            # The umask counted, and the process's umask is nobody's to change.
            os.fchmod(fd, 0o755)
        finally:
            os.close(fd)
        return folder

    def commit(self, cache_id: CacheId) -> None:
        """Nothing marks a whole layer here: layerdb names it or not."""

    def create_rw(self, cache_id: CacheId, parents: Sequence[CacheId], *, storage_opt: dict[str, str]) -> None:
        """The same as ``create``: the container writes to its own snapshot."""
        if storage_opt:
            raise SystemFailure(
                "--storage-opt is not supported for btrfs: quota groups are not switched on",
                hint="leave --storage-opt out",
            )
        self.create(cache_id, parents)

    def rootfs(self, cache_id: CacheId, parents: Sequence[CacheId], *, readonly: bool = False) -> RootfsSpec:
        """A bind mount of the subvolume."""
        folder = self.diff_path(cache_id)
        options = ("rbind", "ro") if readonly else ("rbind",)
        mount = Mount(target="/", fstype="bind", source=folder, options=options)
        return RootfsSpec(mount=mount, upperdir="" if readonly else folder, data={})

    def create_host_rw(self, cache_id: CacheId) -> str:
        """Not with this driver: the machine's root need not be a subvolume, or on the same btrfs."""
        raise NotSupported(
            'the image "host" needs the overlay2 driver', hint="start the daemon with --storage-driver overlay2"
        )

    def host_rootfs(self, cache_id: CacheId) -> RootfsSpec:
        """See ``create_host_rw``."""
        raise NotSupported('the image "host" needs the overlay2 driver')

    def data(self, cache_id: CacheId, parents: Sequence[CacheId]) -> dict[str, str]:
        """Inspect shows nothing for btrfs."""
        return {}

    def diff_path(self, cache_id: CacheId) -> str:
        """The whole tree."""
        return os.path.join(self._home, cache_id)

    def remove(self, cache_id: CacheId) -> None:
        """Delete the subvolume."""
        try:
            self._delete(cache_id)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise

    def exists(self, cache_id: CacheId) -> bool:
        return os.path.isdir(self.diff_path(cache_id))

    def prune(self, keep: Container[str]) -> list[str]:
        """Delete every subvolume that is not in ``keep``."""
        removed = []
        for name in os.listdir(self._home):
            if name in keep:
                continue
            try:
                self._delete(name)
            except KernelError as error:
                # Something is mounted there: no reason not to start.
                log.warning("the leftover %s stays: %s", os.path.join(self._home, name), error)
                continue
            removed.append(name)
        return removed

    def status(self) -> list[tuple[str, str]]:
        """Pairs for ``docker info``."""
        return [("Btrfs", "")]

    def whiteout_style(self) -> str:
        return "none"

    def _snapshot(self, parent: CacheId, cache_id: CacheId) -> None:
        source = self.diff_path(parent)
        if not os.path.isdir(source):
            raise SystemFailure(f"the layer {parent!r} is missing from {self._home!r}")
        btrfs.snapshot(source, self._home, cache_id)

    def _delete(self, name: str) -> None:
        path = os.path.join(self._home, name)
        if os.path.lexists(path) and not btrfs.is_subvolume(path):
            # Left by something else, such as a restored backup.
            try:
                syscalls.remove_tree(path)
            except OSError as error:
                raise KernelError.from_oserror(error, syscall="unlinkat", stage="remove layer") from error
            return
        btrfs.destroy(self._home, name)
