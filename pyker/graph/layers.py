"""Layers: what an image is stacked from, and the writable one on top for each container.

``layerdb/sha256/<chain-id>/{diff,cache-id,parent,size,tar-split.json.gz}`` records a layer that the graphdriver keeps
as ``cache-id``. A layer lives while a layer above it, an image, a container or a running pull refers to it.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import secrets
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyker.errors import Corrupt, KernelError, NotFound, NotSupported
from pyker.graph import durable
from pyker.graph.host import HOST_CHAIN
from pyker.graph.tarstream import TarStream
from pyker.graph.writable import Writable, WritableLayers
from pyker.graphdriver.archive.pool import WorkerPool
from pyker.graphdriver.base import GraphDriver, RootfsSpec
from pyker.types.ids import CacheId, ChainId, ContainerId, DiffId

log = logging.getLogger(__name__)

_SPLIT = "tar-split.json.gz"
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def chain_id(parent: ChainId | None, diff_id: DiffId) -> ChainId:
    """The chain ID of the layer ``diff_id`` on top of ``parent``. Source: OCI image-spec config.md#layer-chainid."""
    if parent is None:
        return ChainId(diff_id)
    return ChainId("sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest())


def chain_ids(diff_ids: Iterable[DiffId]) -> tuple[ChainId, ...]:
    """The chain ID of each layer of an image, bottom first."""
    chain: list[ChainId] = []
    for diff_id in diff_ids:
        chain.append(chain_id(chain[-1] if chain else None, diff_id))
    return tuple(chain)


@dataclass(frozen=True, slots=True)
class Layer:
    """A read-only layer. ``size`` is the sum of its own files' sizes in bytes."""

    chain_id: ChainId
    diff_id: DiffId
    parent: ChainId | None
    cache_id: CacheId
    size: int


class LayerStore:
    """Keeps layers under ``root`` (``<data_root>/image/<driver>/layerdb``), with ``driver``. Thread-safe."""

    def __init__(self, root: str, driver: GraphDriver, *, data_root: str) -> None:
        self._data_root = data_root
        self._sha256 = os.path.join(root, "sha256")
        self._tmp = os.path.join(root, "tmp")
        self._driver = driver
        self._workers = WorkerPool()
        self._lock = threading.RLock()
        self._layers: dict[ChainId, Layer] = {}
        self._writable = WritableLayers(os.path.join(root, "mounts"), driver, hidden=data_root)
        self._references: Counter[ChainId] = Counter()
        self._holds = 0
        self._under_way: dict[ChainId, threading.Lock] = {}
        self._unsynced = False
        for folder in (self._sha256, self._tmp):
            os.makedirs(folder, 0o755, exist_ok=True)
        self._load()

    def close(self) -> None:
        """End the workers."""
        self._workers.close()

    # Read-only layers

    def get(self, chain_id: ChainId) -> Layer | None:
        """The layer, if it is here. Does not keep it here: see ``retain``."""
        return self._layers.get(chain_id)

    def all(self) -> list[Layer]:
        """Every layer, in no order."""
        with self._lock:
            return list(self._layers.values())

    def chain(self, top: ChainId | None) -> list[Layer]:
        """The layer ``top`` and those below it, topmost first. Raises NotFound."""
        found = []
        while top is not None:
            layer = self._layers.get(top)
            if layer is None:
                raise NotFound(f"layer {top} does not exist")
            found.append(layer)
            top = layer.parent
        return found

    def register(
        self,
        blob: str,
        media_type: str,
        diff_id: DiffId,
        parent: ChainId | None,
        *,
        cancel: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> Layer:
        """Extract the file ``blob`` as a layer on top of ``parent``, in a worker process; blocks until it is there.

        The compression is told by the data, not by ``media_type``. ``progress`` gets the bytes of the blob read so far.
        Call it within ``hold``, and make the image there too: what nothing refers to goes when the last hold ends.
        Registering the same layer twice at once does the work once.

        Raises:
            Corrupt: the tar is damaged, or its digest is not ``diff_id``. Nothing of it stays.
            Cancelled: ``cancel()`` became true.
        """
        return self._register(blob, parent, cancel=cancel, progress=progress, expected=diff_id)

    def add(self, blob: str, parent: ChainId | None, *, cancel: Callable[[], bool]) -> Layer:
        """The same for a tar whose diff-id nobody knows yet, as import and load bring it."""
        return self._register(blob, parent, cancel=cancel, progress=lambda _: None, expected=None)

    def retain(self, chain_id: ChainId) -> Layer | None:
        """One more reference to the layer, which ``release`` takes back; None if it is not here."""
        with self._lock:
            layer = self._layers.get(chain_id)
            if layer is not None:
                self._references[chain_id] += 1
            return layer

    def release(self, chain_id: ChainId) -> list[ChainId]:
        """Take back one reference. Returns the layers that went away with it, topmost first."""
        with self._lock:
            self._references[chain_id] -= 1
            return self._collect(chain_id)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """While this is held no layer goes away; with the last hold all go that nothing refers to."""
        with self._lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1
            if not self._holds:
                self.prune()

    def sync(self) -> None:
        """Return when every layer that was registered so far would survive a power cut."""
        with self._lock:
            pending, self._unsynced = self._unsynced, False
        if pending:
            durable.sync_filesystem(self._driver.root)

    def prune(self) -> list[ChainId]:
        """Remove every layer that nothing refers to."""
        with self._lock:
            return [gone for layer in list(self._layers) for gone in self._collect(layer)]

    def open_tar(self, chain_id: ChainId, *, compression: str = "") -> TarStream:
        """The layer's tar, byte-identical, as a stream to close; packed anew by a worker if ``compression`` is gzip.

        A read raises Corrupt if the layer's files are not what they were.
        """
        layer = self._layers.get(chain_id)
        if layer is None:
            raise NotFound(f"layer {chain_id} does not exist")
        split = os.path.join(self._folder(chain_id), _SPLIT)
        fds = [
            os.open(split, os.O_RDONLY | os.O_CLOEXEC),
            os.open(self._driver.diff_path(layer.cache_id), _OPEN_DIR),
        ]
        return TarStream(self._workers, {"operation": "assemble", "compression": compression}, fds)

    def size(self, top: ChainId | None) -> int:
        """Bytes in the files of all layers from ``top`` down."""
        return sum(layer.size for layer in self.chain(top))

    def data(self, top: ChainId | None) -> dict[str, str]:
        """``GraphDriver.Data`` of an image."""
        if top is None:
            return {}
        first, *below = (layer.cache_id for layer in self.chain(top))
        return self._driver.data(first, below)

    # Containers' layers

    def create_rw(self, container_id: ContainerId, top: ChainId | None, storage_opt: dict[str, str]) -> None:
        """Make a container's layer on top of ``top``. Raises NotFound if the layer is not here."""
        if top == HOST_CHAIN:
            self._writable.create_host(container_id, storage_opt)
            return
        if top is not None and self.retain(top) is None:
            raise NotFound(f"layer {top} does not exist")
        try:
            self._writable.create(container_id, top, [layer.cache_id for layer in self.chain(top)], storage_opt)
        except BaseException:
            if top is not None:
                self.release(top)
            raise

    def create_host_rw(self, container_id: ContainerId) -> None:
        """Make a container's layer over the machine's own root file system."""
        self._writable.create_host(container_id, {})

    def rootfs(self, container_id: ContainerId, *, readonly: bool = False) -> RootfsSpec:
        """Describe the container's root file system. Raises NotFound."""
        top = self._writable.get(container_id).top
        below = [] if top == HOST_CHAIN else [layer.cache_id for layer in self.chain(top)]
        return self._writable.rootfs(container_id, below, readonly=readonly)

    def remove_rw(self, container_id: ContainerId) -> None:
        """Free the container's layer. Removing what is not there is not an error."""
        top = self._writable.remove(container_id)
        if top is not None and top != HOST_CHAIN:
            self.release(top)

    def containers(self) -> list[ContainerId]:
        """The containers that have a layer here."""
        return [container_id for container_id, _ in self._writable.tops()]

    def changes_rw(self, container_id: ContainerId) -> list[tuple[int, str]]:
        """What the container changed of its image, by path: 0 modified, 1 added, 2 deleted. Raises NotFound."""
        layer = self._writable.get(container_id)
        union = self._driver.whiteout_style() == "overlay"
        request = {"operation": "changes", "lowers": self._lowers(layer), "union": union}
        folder = os.open(self._driver.diff_path(layer.mount_id), _OPEN_DIR)
        with TarStream(self._workers, request, [folder]) as stream:
            return [(kind, path) for kind, path in map(json.loads, io.BufferedReader(stream))]

    def add_rw(self, container_id: ContainerId, *, cancel: Callable[[], bool]) -> Layer:
        """Keep what the container changed as a layer above its image. Raises NotFound, or NotSupported for a view."""
        layer = self._writable.get(container_id)
        if layer.top == HOST_CHAIN:
            raise NotSupported('a container of the image "host" has no image to build on: export it, and import that')
        if self._driver.whiteout_style() == "overlay":
            request: dict[str, Any] = {"operation": "pack", "whiteouts": "overlay"}
        else:
            request = {"operation": "diff", "lowers": self._lowers(layer)}
        folder = os.open(self._driver.diff_path(layer.mount_id), _OPEN_DIR)
        with tempfile.NamedTemporaryFile(dir=self._tmp, prefix=".commit-", suffix=".tmp") as blob:
            with TarStream(self._workers, request, [folder]) as stream:
                shutil.copyfileobj(stream, blob, 1 << 18)
            blob.flush()
            return self.add(blob.name, layer.top, cancel=cancel)

    def size_rw(self, container_id: ContainerId) -> int:
        """Bytes in what the container has written; for a driver without a union, what it has beyond its image."""
        return self._writable.size(container_id)

    # Below this line: how it is done

    def _lowers(self, layer: Writable) -> list[str]:
        """The folders that a container's layer is to be compared with: of a driver without a union, one whole tree."""
        if layer.top == HOST_CHAIN:
            return ["/"]
        below = [layer.init_id, *(each.cache_id for each in self.chain(layer.top))]
        found = [self._driver.diff_path(cache_id) for cache_id in below if cache_id]
        return found if self._driver.whiteout_style() == "overlay" else found[:1]

    def _folder(self, chain_id: ChainId) -> str:
        return os.path.join(self._sha256, chain_id.removeprefix("sha256:"))

    def _chain_lock(self, chain_id: ChainId) -> threading.Lock:
        with self._lock:
            return self._under_way.setdefault(chain_id, threading.Lock())

    def _register(
        self,
        blob: str,
        parent: ChainId | None,
        *,
        cancel: Callable[[], bool],
        progress: Callable[[int], None],
        expected: DiffId | None,
    ) -> Layer:
        known = chain_id(parent, expected) if expected is not None else ChainId(secrets.token_hex(16))
        with self._chain_lock(known):
            try:
                with self._lock:
                    layer = self._layers.get(known)
                    if layer is not None:
                        return layer
                    if parent is not None and self.retain(parent) is None:
                        raise NotFound(f"layer {parent} does not exist")
                try:
                    return self._extract(blob, parent, cancel, progress, expected)
                finally:
                    if parent is not None:
                        with self._lock:
                            self._references[parent] -= 1
            finally:
                with self._lock:
                    self._under_way.pop(known, None)

    def _extract(
        self,
        blob: str,
        parent: ChainId | None,
        cancel: Callable[[], bool],
        progress: Callable[[int], None],
        expected: DiffId | None,
    ) -> Layer:
        cache_id = CacheId(secrets.token_hex(32))
        work = os.path.join(self._tmp, f"write-set-{cache_id[:16]}")
        os.mkdir(work, 0o700)
        fds: list[int] = []
        try:
            folder = self._driver.create(cache_id, [layer.cache_id for layer in self.chain(parent)])
            split = os.path.join(work, _SPLIT)
            fds.append(os.open(blob, os.O_RDONLY | os.O_CLOEXEC))
            fds.append(os.open(folder, _OPEN_DIR))
            fds.append(os.open(split, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            request = {"operation": "apply", "whiteouts": self._driver.whiteout_style()}
            try:
                done = self._workers.run(request, fds, cancel=cancel, progress=progress)
            except Corrupt as error:
                raise Corrupt(f"failed to register layer: {error}", hint=error.hint) from error
            if expected is not None and done["diff_id"] != expected:
                raise Corrupt(
                    "layers from manifest don't match image configuration: "
                    f"the layer is {done['diff_id']}, not {expected}"
                )
            layer = Layer(chain_id(parent, done["diff_id"]), done["diff_id"], parent, cache_id, done["size"])
            self._driver.commit(cache_id)
            return self._admit(layer, work)
        except OSError as error:
            self._abandon(cache_id, work)
            raise KernelError.from_oserror(error, syscall="write", stage="register layer") from error
        except BaseException:
            self._abandon(cache_id, work)
            raise
        finally:
            for fd in fds:
                os.close(fd)

    def _admit(self, layer: Layer, work: str) -> Layer:
        """Rename the finished record into place; another one that was first wins."""
        durable.write(os.path.join(work, "diff"), layer.diff_id)
        durable.write(os.path.join(work, "size"), str(layer.size))
        durable.write(os.path.join(work, "cache-id"), layer.cache_id)
        if layer.parent is not None:
            durable.write(os.path.join(work, "parent"), layer.parent)
        with self._lock:
            other = self._layers.get(layer.chain_id)
            if other is not None:
                self._abandon(layer.cache_id, work)
                return other
            os.rename(work, self._folder(layer.chain_id))
            self._layers[layer.chain_id] = layer
            self._unsynced = True
            if layer.parent is not None:
                self._references[layer.parent] += 1
        return layer

    def _abandon(self, cache_id: CacheId, work: str) -> None:
        self._driver.remove(cache_id)
        durable.remove_record(work)

    def _collect(self, chain_id: ChainId) -> list[ChainId]:
        """Remove the layer if nothing refers to it, then the one below, and so on. The lock is held."""
        gone: list[ChainId] = []
        current: ChainId | None = chain_id
        while current is not None and self._references[current] <= 0 and not self._holds:
            layer = self._layers.pop(current, None)
            if layer is None:
                break
            del self._references[current]
            # The record first: a folder without one is a leftover that start-up removes.
            durable.remove_record(self._folder(current))
            self._writable.forget_image(current)
            self._driver.remove(layer.cache_id)
            gone.append(current)
            current = layer.parent
            if current is not None:
                self._references[current] -= 1
        return gone

    def _load(self) -> None:
        """Read what is recorded; drop what is half there."""
        for name in os.listdir(self._tmp):
            durable.remove_record(os.path.join(self._tmp, name))
        found: dict[ChainId, Layer] = {}
        for name in os.listdir(self._sha256):
            layer = self._read(ChainId(f"sha256:{name}"))
            if layer is not None:
                found[layer.chain_id] = layer
        whole = {chain: layer for chain, layer in found.items() if self._rests_on(found, layer)}
        for name in os.listdir(self._sha256):
            if f"sha256:{name}" not in whole:
                log.warning("dropping the incomplete layer sha256:%s", name)
                durable.remove_record(os.path.join(self._sha256, name))
        self._layers = whole
        for layer in whole.values():
            if layer.parent is not None:
                self._references[layer.parent] += 1
        certain = self._writable.load()
        for container_id, top in self._writable.tops():
            if top in whole:
                self._references[top] += 1
            elif top != HOST_CHAIN:
                log.warning("the image of container %s has lost its layer %s", container_id, top)
        # The reference engine's builder keeps layers that no record here names.
        foreign = os.path.isdir(os.path.join(self._data_root, "buildkit"))
        if certain and not foreign:
            for name in self._driver.prune({layer.cache_id for layer in whole.values()} | self._writable.folders()):
                log.info("removed the leftover %s of graphdriver %s", name, self._driver.name)

    def _read(self, chain: ChainId) -> Layer | None:
        folder = self._folder(chain)
        diff, cache, size, parent = durable.fields(folder, "diff", "cache-id", "size", "parent")
        below = ChainId(parent) if parent else None
        if not (diff and cache and size.isdigit()) or chain_id(below, DiffId(diff)) != chain:
            return None
        if not self._driver.exists(CacheId(cache)):
            return None
        return Layer(chain, DiffId(diff), below, CacheId(cache), int(size))

    @staticmethod
    def _rests_on(found: dict[ChainId, Layer], layer: Layer) -> bool:
        while layer.parent is not None:
            if layer.parent not in found:
                return False
            layer = found[layer.parent]
        return True
