"""The graph as transfers see it, in memory: it verifies what it is given, and extracts nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyker.daemon.transfer_store import Origin, chain_ids
from pyker.errors import Cancelled, Corrupt
from pyker.types.ids import ChainId, DiffId, Digest, ImageId
from pyker.types.reference import Reference


@dataclass(frozen=True)
class FakeLayer:
    chain_id: ChainId
    diff_id: DiffId
    size: int
    tar: bytes


class PackedBytes(io.BytesIO):
    """What ``open_gzip`` gives."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.result: dict[str, Any] = {"digest": "sha256:" + hashlib.sha256(data).hexdigest(), "size": len(data)}


class FakeGraph:
    """A TransferStore. ``registered`` lists the chain IDs in the order in which they came to be."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.images: dict[ImageId, bytes] = {}
        self.layers: dict[ChainId, FakeLayer] = {}
        self.names: dict[str, ImageId] = {}
        self.known: dict[DiffId, list[Origin]] = {}
        self.registered: list[ChainId] = []
        self.retained: Counter[ChainId] = Counter()
        self.before_register: Callable[[DiffId], None] = lambda _diff_id: None

    def image_config(self, image_id: ImageId) -> bytes | None:
        return self.images.get(image_id)

    def create_image(self, config: bytes) -> ImageId:
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
        missing = [chain for chain in chain_ids(map(DiffId, diff_ids)) if chain not in self.layers]
        assert not missing, f"an image was made before its layers {missing}"
        image_id = ImageId("sha256:" + hashlib.sha256(config).hexdigest())
        self.images[image_id] = config
        return image_id

    def layer(self, chain_id: ChainId) -> FakeLayer | None:
        return self.layers.get(chain_id)

    def register(
        self,
        blob: str,
        media_type: str,
        diff_id: DiffId,
        parent: ChainId | None,
        *,
        cancel: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> FakeLayer:
        self.before_register(diff_id)
        if cancel():
            raise Cancelled("the job was cancelled")
        assert parent is None or parent in self.layers, "a layer came before the one below it"
        with open(blob, "rb") as file:
            packed = file.read()
        progress(len(packed))
        tar = _unpack(packed)
        own = "sha256:" + hashlib.sha256(tar).hexdigest()
        if own != diff_id:
            raise Corrupt(f"layers from manifest don't match image configuration: the layer is {own}, not {diff_id}")
        chain_id = diff_id if parent is None else hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest()
        if parent is not None:
            chain_id = f"sha256:{chain_id}"
        layer = FakeLayer(ChainId(chain_id), diff_id, len(tar), tar)
        with self.lock:
            self.layers[layer.chain_id] = layer
            self.registered.append(layer.chain_id)
        return layer

    def retain(self, chain_id: ChainId) -> bool:
        if chain_id not in self.layers:
            return False
        self.retained[chain_id] += 1
        return True

    def release(self, chain_id: ChainId) -> None:
        self.retained[chain_id] -= 1

    def open_gzip(self, chain_id: ChainId) -> PackedBytes:
        return PackedBytes(gzip.compress(self.layers[chain_id].tar, mtime=0))

    def named(self, reference: Reference) -> ImageId | None:
        return self.names.get(reference.canonical)

    def name(self, reference: Reference, image_id: ImageId) -> None:
        self.names[reference.canonical] = image_id

    def names_in(self, repository: Reference) -> list[tuple[Reference, ImageId]]:
        from pyker.types.reference import parse

        found = [(parse(name), image_id) for name, image_id in self.names.items()]
        return [(name, image_id) for name, image_id in found if name.name == repository.name and name.tag]

    def diff_id_of(self, digest: Digest) -> DiffId | None:
        for diff_id, origins in self.known.items():
            if any(origin.digest == digest for origin in origins):
                return diff_id
        return None

    def origins(self, diff_id: DiffId) -> list[Origin]:
        return list(self.known.get(diff_id, ()))

    def add_origin(self, diff_id: DiffId, origin: Origin) -> None:
        self.forget_origin(diff_id, origin)
        self.known.setdefault(diff_id, []).insert(0, origin)

    def forget_origin(self, diff_id: DiffId, origin: Origin) -> None:
        self.known[diff_id] = [item for item in self.known.get(diff_id, ()) if item != origin]


def _unpack(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        from backports import zstd

        return bytes(zstd.decompress(data))
    return data
