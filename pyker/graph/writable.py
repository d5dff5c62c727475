"""Containers' own layers: ``layerdb/mounts/<container>/{mount-id,init-id,parent}``.

Between an image and its containers lies one more layer, with the mount points that the engine needs (``initlayer``).
The reference engine makes one for each container; here all containers of an image share one: a create is cheap.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyker.errors import NotFound, NotSupported
from pyker.graph import durable
from pyker.graph.host import HOST_CHAIN
from pyker.graphdriver import initlayer
from pyker.graphdriver.archive.contents import content_size
from pyker.graphdriver.base import GraphDriver, RootfsSpec
from pyker.libcontainer import syscalls
from pyker.types.ids import CacheId, ChainId, ContainerId

log = logging.getLogger(__name__)

_ASIDE = "."
"""Begins the name of a record that is being made or deleted."""
_AT_FDCWD = -100
_OPEN_TREE_CLONE = 1


@dataclass(frozen=True, slots=True)
class Writable:
    """One container's layer. ``init_id`` is "" for a view of the machine's root; ``top`` None for no image layers."""

    mount_id: CacheId
    init_id: CacheId
    top: ChainId | None


class WritableLayers:
    """Keeps the records under ``root``; a view of the machine does not show the folder ``hidden``. Thread-safe."""

    def __init__(self, root: str, driver: GraphDriver, *, hidden: str) -> None:
        self._root = root
        self._driver = driver
        self._hidden = hidden
        self._lock = threading.Lock()
        self._layers: dict[ContainerId, Writable] = {}
        self._ready: set[CacheId] = set()
        os.makedirs(root, 0o755, exist_ok=True)

    def get(self, container_id: ContainerId) -> Writable:
        """The record. Raises NotFound."""
        layer = self._layers.get(container_id)
        if layer is None:
            raise NotFound(f"the container {container_id} has no layer")
        return layer

    def create(
        self, container_id: ContainerId, top: ChainId | None, below: Sequence[CacheId], storage_opt: dict[str, str]
    ) -> None:
        """Make a layer above ``below``, the layers from ``top`` down."""
        mount_id = CacheId(secrets.token_hex(32))
        init_id = self._init_layer(top, below)
        self._driver.create_rw(mount_id, [init_id, *below], storage_opt=storage_opt)
        self._record(container_id, Writable(mount_id, init_id, top))

    def create_host(self, container_id: ContainerId, storage_opt: dict[str, str]) -> None:
        """Make a layer over "/". Raises NotSupported with a driver that has no such view."""
        if storage_opt:
            raise NotSupported('the image "host" takes no --storage-opt', hint="leave it out")
        mount_id = CacheId(secrets.token_hex(32))
        folder = self._driver.create_host_rw(mount_id)
        # A clone of the mount alone: what is mounted below "/" is not part of the view.
        root = syscalls.open_tree(_AT_FDCWD, "/", _OPEN_TREE_CLONE | os.O_CLOEXEC)
        try:
            view = [f"/proc/self/fd/{root}"]
            initlayer.populate(folder, view)
            initlayer.hide(folder, os.path.realpath(self._hidden), view)
        except BaseException:
            self._driver.remove(mount_id)
            raise
        finally:
            os.close(root)
        self._record(container_id, Writable(mount_id, CacheId(""), HOST_CHAIN))

    def rootfs(self, container_id: ContainerId, below: Sequence[CacheId], *, readonly: bool) -> RootfsSpec:
        """Describe the root file system; ``below`` as for ``create``."""
        layer = self.get(container_id)
        if layer.top == HOST_CHAIN:
            return self._driver.host_rootfs(layer.mount_id)
        return self._driver.rootfs(layer.mount_id, [layer.init_id, *below], readonly=readonly)

    def remove(self, container_id: ContainerId) -> ChainId | None:
        """Free the layer; returns the top that it stood on, None also if it was not there."""
        layer = self._layers.get(container_id)
        if layer is None:
            return None
        doomed = self._set_aside(container_id)
        self._driver.remove(layer.mount_id)
        if layer.init_id == f"{layer.mount_id}-init":
            # Made by the reference engine, for this container alone.
            self._driver.remove(layer.init_id)
        durable.remove_record(doomed)
        # Whoever takes it out of the table gives back its reference: two removals at once give back one.
        gone = self._layers.pop(container_id, None)
        return gone.top if gone is not None else None

    def size(self, container_id: ContainerId) -> int:
        """Bytes that the container has written."""
        layer = self.get(container_id)
        size = content_size(self._driver.diff_path(layer.mount_id))
        if self._driver.whiteout_style() == "none" and layer.init_id:
            size = max(0, size - content_size(self._driver.diff_path(layer.init_id)))
        return size

    def tops(self) -> Iterator[tuple[ContainerId, ChainId]]:
        """What each container stands on."""
        for container_id, layer in list(self._layers.items()):
            if layer.top is not None:
                yield container_id, layer.top

    def folders(self) -> set[str]:
        """The cache IDs that containers need."""
        return {cache_id for layer in list(self._layers.values()) for cache_id in (layer.mount_id, layer.init_id)}

    def forget_image(self, top: ChainId) -> None:
        """The layer ``top`` is going, and no container stands on it."""
        init_id = _init_id(top)
        self._ready.discard(init_id)
        self._driver.remove(init_id)

    def load(self) -> bool:
        """Read the records; False if one cannot be told, so that nothing unknown may be deleted."""
        certain = True
        for name in os.listdir(self._root):
            folder = os.path.join(self._root, name)
            if name.startswith(_ASIDE):
                # Half made or half deleted when the daemon died; what it named, nobody needs.
                durable.remove_record(folder)
                continue
            mount_id, init_id, parent = durable.fields(folder, "mount-id", "init-id", "parent")
            if not mount_id:
                log.warning("the layer of container %s cannot be told: %s/mount-id is empty", name, folder)
                certain = False
                continue
            if not self._driver.exists(CacheId(mount_id)):
                log.warning("the layer of container %s is gone: dropping %s", name, folder)
                durable.remove_record(folder)
                continue
            top = ChainId(parent) if parent else None
            self._layers[ContainerId(name)] = Writable(CacheId(mount_id), CacheId(init_id), top)
            if init_id and self._driver.exists(CacheId(init_id)):
                # In use as a lower folder, perhaps by a running container: never made anew.
                self._ready.add(CacheId(init_id))
        return certain

    def _set_aside(self, container_id: ContainerId) -> str:
        """Rename the record, so that a crash never leaves half of one; returns where it is."""
        aside = os.path.join(self._root, _ASIDE + container_id)
        with contextlib.suppress(FileNotFoundError):
            os.rename(os.path.join(self._root, container_id), aside)
        return aside

    def _init_layer(self, top: ChainId | None, below: Sequence[CacheId]) -> CacheId:
        """The shared layer of mount points above ``top``; made when the first container asks for it."""
        init_id = _init_id(top)
        if init_id in self._ready:
            return init_id
        with self._lock:
            if init_id not in self._ready:
                folder = self._driver.create(init_id, below)
                union = self._driver.whiteout_style() == "overlay"
                initlayer.populate(folder, [self._driver.diff_path(c) for c in below] if union else [folder])
                self._driver.commit(init_id)
                self._ready.add(init_id)
        return init_id

    def _record(self, container_id: ContainerId, layer: Writable) -> None:
        folder = os.path.join(self._root, _ASIDE + container_id)
        try:
            os.mkdir(folder, 0o755)
            durable.write(os.path.join(folder, "mount-id"), layer.mount_id)
            if layer.init_id:
                durable.write(os.path.join(folder, "init-id"), layer.init_id)
            if layer.top is not None:
                durable.write(os.path.join(folder, "parent"), layer.top)
            os.rename(folder, os.path.join(self._root, container_id))
        except BaseException:
            self._driver.remove(layer.mount_id)
            durable.remove_record(folder)
            raise
        self._layers[container_id] = layer


def _init_id(top: ChainId | None) -> CacheId:
    return CacheId(hashlib.sha256(f"init {top or 'scratch'}".encode()).hexdigest() + "-init")
