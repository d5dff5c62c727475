"""What pull and push need of the graph, and nothing more."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from pyker.types.ids import ChainId, DiffId, Digest, ImageId
from pyker.types.reference import Reference


class StoredLayer(Protocol):
    """A layer that is there."""

    @property
    def chain_id(self) -> ChainId: ...
    @property
    def diff_id(self) -> DiffId: ...
    @property
    def size(self) -> int: ...


class PackedLayer(Protocol):
    """A layer's tar as a gzip stream. After the end ``result`` has its ``digest`` and ``size``."""

    result: dict[str, Any]

    def read(self, size: int = -1, /) -> bytes | None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """A blob that has a layer's bytes: its digest, and the repository (``domain/path``) where it was seen."""

    digest: Digest
    repository: str


class TransferStore(Protocol):
    """The graph, as transfers see it. Thread-safe."""

    def image_config(self, image_id: ImageId) -> bytes | None:
        """The configuration as it was received, or None if there is no such image."""
        ...

    def create_image(self, config: bytes) -> ImageId:
        """Keep an image whose layers are all there."""
        ...

    def layer(self, chain_id: ChainId) -> StoredLayer | None:
        """The layer, or None."""
        ...

    def register(
        self,
        blob: str,
        media_type: str,
        diff_id: DiffId,
        parent: ChainId | None,
        *,
        cancel: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> StoredLayer:
        """Apply a verified blob on top of ``parent``. Raises Corrupt if its tar is not what ``diff_id`` says."""
        ...

    def retain(self, chain_id: ChainId) -> bool:
        """Keep the layer until ``release``, whatever else is removed meanwhile. False if it is not there."""
        ...

    def release(self, chain_id: ChainId) -> None:
        """Take back one ``retain``."""
        ...

    def open_gzip(self, chain_id: ChainId) -> PackedLayer:
        """The layer's tar, byte for byte as it was applied, packed anew. The caller closes it."""
        ...

    def named(self, reference: Reference) -> ImageId | None:
        """The image that has this tag or digest."""
        ...

    def name(self, reference: Reference, image_id: ImageId) -> None:
        """Give the image this tag or digest."""
        ...

    def names_in(self, repository: Reference) -> list[tuple[Reference, ImageId]]:
        """The tags of one repository."""
        ...

    def diff_id_of(self, digest: Digest) -> DiffId | None:
        """What a blob unpacks to, if one like it was seen before."""
        ...

    def origins(self, diff_id: DiffId) -> list[Origin]:
        """Where blobs of this layer were seen, newest first."""
        ...

    def add_origin(self, diff_id: DiffId, origin: Origin) -> None:
        """Remember that ``origin`` has this layer."""
        ...

    def forget_origin(self, diff_id: DiffId, origin: Origin) -> None:
        """``origin`` has the blob no more."""
        ...


def chain_ids(diff_ids: Iterable[DiffId]) -> tuple[ChainId, ...]:
    """The names of the stacks that the layers make, base first. Source: OCI image-spec config.md#layer-chainid."""
    chain: list[ChainId] = []
    for diff_id in diff_ids:
        if chain:
            joined = f"{chain[-1]} {diff_id}".encode()
            chain.append(ChainId("sha256:" + hashlib.sha256(joined).hexdigest()))
        else:
            chain.append(ChainId(diff_id))
    return tuple(chain)
