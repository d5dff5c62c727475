"""The graph as pull and push see it: see ``pyker.daemon.transfer_store.TransferStore``."""

from __future__ import annotations

from collections.abc import Callable

from pyker.daemon.transfer_store import Origin
from pyker.errors import NotFound
from pyker.graph.graph import Graph
from pyker.graph.layers import Layer
from pyker.graph.tarstream import TarStream
from pyker.types.ids import ChainId, DiffId, Digest, ImageId
from pyker.types.reference import Reference


class GraphStore:
    """Thread-safe, as the graph is."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def image_config(self, image_id: ImageId) -> bytes | None:
        try:
            return self._graph.images.get(image_id).raw
        except NotFound:
            return None

    def create_image(self, config: bytes) -> ImageId:
        return self._graph.create_image(config)

    def layer(self, chain_id: ChainId) -> Layer | None:
        return self._graph.layers.get(chain_id)

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
        return self._graph.layers.register(blob, media_type, diff_id, parent, cancel=cancel, progress=progress)

    def retain(self, chain_id: ChainId) -> bool:
        return self._graph.layers.retain(chain_id) is not None

    def release(self, chain_id: ChainId) -> None:
        self._graph.layers.release(chain_id)

    def open_gzip(self, chain_id: ChainId) -> TarStream:
        return self._graph.layers.open_tar(chain_id, compression="gzip")

    def named(self, reference: Reference) -> ImageId | None:
        return self._graph.repositories.get(reference)

    def name(self, reference: Reference, image_id: ImageId) -> None:
        self._graph.tag(reference, image_id)

    def names_in(self, repository: Reference) -> list[tuple[Reference, ImageId]]:
        return [pair for pair in self._graph.repositories.in_repository(repository) if not pair[0].digest]

    def diff_id_of(self, digest: Digest) -> DiffId | None:
        return self._graph.distribution.diff_id(digest)

    def origins(self, diff_id: DiffId) -> list[Origin]:
        return [Origin(digest, repository) for digest, repository in self._graph.distribution.origins(diff_id)]

    def add_origin(self, diff_id: DiffId, origin: Origin) -> None:
        self._graph.distribution.add(diff_id, origin.digest, origin.repository)

    def forget_origin(self, diff_id: DiffId, origin: Origin) -> None:
        self._graph.distribution.remove(diff_id, origin.digest, origin.repository)
