"""The Graph: images, the layers they stand on, their names, and the record of what refers to what.

``root`` is ``<data-root>/image/<driver>``. Files hold the content; ``graph.db`` is made again from them at start-up
whenever the two differ.
"""

from __future__ import annotations

import logging
import os
import re

from pyker.errors import InvalidParameter, NotFound
from pyker.graph import host
from pyker.graph.distribution import DistributionMetadata
from pyker.graph.graphdb import GraphDB
from pyker.graph.images import Image, ImageStore
from pyker.graph.layers import LayerStore
from pyker.graph.repositories import Repositories
from pyker.graphdriver.base import GraphDriver
from pyker.types.ids import ChainId, ContainerId, ImageId
from pyker.types.reference import Reference, parse

log = logging.getLogger(__name__)

_HEX64 = re.compile("(sha256:)?[0-9a-f]{64}")
_KINDS = ("image", "layer", "container")


class Graph:
    """Opens what is kept under ``root``, after removing what a crash left half done. Thread-safe; close it at the end.

    ``root`` is the engine's data root; the graph keeps its files in ``image/<driver>`` below it.
    """

    def __init__(self, root: str, driver: GraphDriver) -> None:
        self.driver = driver
        self.root = os.path.join(root, "image", driver.name)
        os.makedirs(self.root, 0o700, exist_ok=True)
        self.layers = LayerStore(os.path.join(self.root, "layerdb"), driver, data_root=root)
        self.images = ImageStore(os.path.join(self.root, "imagedb"), self.layers)
        self.repositories = Repositories(os.path.join(self.root, "repositories.json"))
        self.repositories.drop_missing(set(self.images.ids()))
        self.distribution = DistributionMetadata(os.path.join(self.root, "distribution"))
        self.layers.prune()
        self.db = GraphDB(os.path.join(self.root, "graph.db"))
        self._held: dict[ContainerId, ImageId] = {}
        self.rebuild()

    def close(self) -> None:
        """End worker processes and write what is pending."""
        self.layers.close()
        self.db.close()

    def lookup(self, name: str) -> ImageId:
        """The image that ``name`` means: a reference, an ID, or the beginning of an ID.

        Raises:
            NotFound: ``No such image: bb:1``.
            InvalidParameter: ``name`` can be no image's name.
        """
        if name in (host.HOST_IMAGE, f"{host.HOST_IMAGE}:latest"):
            return host.HOST_IMAGE
        if _HEX64.fullmatch(name):
            whole = ImageId("sha256:" + name.removeprefix("sha256:"))
            if whole not in self.images:
                raise NotFound(f"No such image: {whole}")
            return whole
        reference = parse(name)
        found = self.repositories.get(reference)
        if found is None:
            found = self.images.search(name)
        if found is None:
            raise NotFound(f"No such image: {reference.default_tag().familiar}")
        return found

    def find(self, name: str) -> ImageId | None:
        """The same, None for what is not there or can be no image's name."""
        try:
            return self.lookup(name)
        except (NotFound, InvalidParameter):
            return None

    def create_image(self, config: bytes, parent: ImageId | str = "") -> ImageId:
        """Keep an image (see ``ImageStore.create``) and record what it stands on."""
        image_id = self.images.create(config, parent)
        self._record(self.images.get(image_id))
        return image_id

    def delete_image(self, image_id: ImageId) -> list[ChainId]:
        """Remove an image that no name leads to; returns the layers that went with it, topmost first."""
        gone = self.images.delete(image_id)
        self.db.remove(image_id)
        for chain_id in gone:
            self.db.remove(chain_id)
        return gone

    def tag(self, reference: Reference, image_id: ImageId) -> None:
        """Give the image a name."""
        self.repositories.set(reference, image_id)
        self.db.set_name("image", reference.default_tag().canonical, image_id)

    def untag(self, reference: Reference) -> bool:
        """Take a name away; False if no image had it."""
        removed = self.repositories.remove(reference)
        self.db.remove_name("image", reference.default_tag().canonical)
        return removed

    def hold(self, container_id: ContainerId, image_id: ImageId) -> None:
        """The container is made from that image. Costs a few microseconds: the database learns it later."""
        self._held[container_id] = image_id
        self.db.add(container_id, "container", [("image", image_id)])

    def release(self, container_id: ContainerId) -> None:
        """The container is gone."""
        self._held.pop(container_id, None)
        self.db.remove(container_id)

    def holders(self, image_id: ImageId) -> list[ContainerId]:
        """The containers made from that image."""
        return [container for container, image in list(self._held.items()) if image == image_id]

    def rebuild(self) -> None:
        """Make the database's record of images, layers and names again from the files."""
        self.db.clear(_KINDS)
        for layer in self.layers.all():
            below = [("parent", layer.parent)] if layer.parent is not None else []
            self.db.add(layer.chain_id, "layer", [(label, str(target)) for label, target in below])
        for image in self.images.all():
            self._record(image)
        for reference, image_id in self.repositories.all():
            self.db.set_name("image", reference.canonical, image_id)
        for container_id, image_id in list(self._held.items()):
            self.db.add(container_id, "container", [("image", image_id)])

    def _record(self, image: Image) -> None:
        edges = [("layer", str(image.top))] if image.top is not None else []
        if image.parent is not None:
            edges.append(("parent", image.parent))
        self.db.add(image.id, "image", edges)
        for layer in self.layers.chain(image.top):
            self.db.add(layer.chain_id, "layer", [("parent", layer.parent)] if layer.parent is not None else [])
