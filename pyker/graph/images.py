"""Image configurations: ``imagedb/content/sha256/<id>`` is one, byte for byte as it was received.

``imagedb/metadata/sha256/<id>/{parent,lastUpdated}`` holds what the engine knows besides. An image's ID is the digest
of those bytes, so they are never written anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyker.errors import Corrupt, InvalidParameter, NotFound
from pyker.graph import durable, host
from pyker.graph.layers import LayerStore, chain_ids
from pyker.types.ids import ChainId, DiffId, ImageId

log = logging.getLogger(__name__)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Image:
    """One image. ``raw`` are the configuration's bytes, ``config`` the same parsed; layers are bottom first."""

    id: ImageId
    raw: bytes
    config: dict[str, Any]
    diff_ids: tuple[DiffId, ...]
    chain_ids: tuple[ChainId, ...]
    parent: ImageId | None = None

    @property
    def top(self) -> ChainId | None:
        """The topmost layer; None for an image without layers."""
        return self.chain_ids[-1] if self.chain_ids else None


def digest(raw: bytes) -> ImageId:
    """The ID of an image with this configuration."""
    return ImageId("sha256:" + hashlib.sha256(raw).hexdigest())


def parse(raw: bytes, parent: ImageId | None = None) -> Image:
    """Read a configuration. Raises InvalidParameter if it is not one."""
    try:
        config = json.loads(raw)
        rootfs = config["rootfs"]
        diff_ids = tuple(DiffId(diff_id) for diff_id in rootfs.get("diff_ids") or ())
        valid = rootfs.get("type", "layers") == "layers" and all(_DIGEST.fullmatch(d) for d in diff_ids)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidParameter("the image configuration is not valid JSON with a rootfs") from error
    if not valid:
        raise InvalidParameter("the image configuration names its layers in a way that is not known")
    return Image(digest(raw), raw, config, diff_ids, chain_ids(diff_ids), parent)


class ImageStore:
    """Keeps images under ``root`` (``image/<driver>/imagedb``). Thread-safe."""

    def __init__(self, root: str, layers: LayerStore) -> None:
        self._content = os.path.join(root, "content", "sha256")
        self._metadata = os.path.join(root, "metadata", "sha256")
        self._layers = layers
        self._lock = threading.RLock()
        self._images: dict[ImageId, Image] = {}
        for folder in (self._content, self._metadata):
            os.makedirs(folder, 0o700, exist_ok=True)
        self._load()

    def get(self, image_id: ImageId) -> Image:
        """The image. Raises NotFound."""
        if image_id == host.HOST_IMAGE:
            found = parse(host.config())
            return Image(host.HOST_IMAGE, found.raw, found.config, found.diff_ids, found.chain_ids)
        image = self._images.get(image_id)
        if image is None:
            raise NotFound(f"No such image: {image_id}")
        return image

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._images

    def ids(self) -> list[ImageId]:
        """Every image's ID, in no order. The reserved image ``host`` is not among them."""
        with self._lock:
            return list(self._images)

    def all(self) -> list[Image]:
        """Every image, in no order."""
        with self._lock:
            return list(self._images.values())

    def create(self, config: bytes, parent: ImageId | str = "") -> ImageId:
        """Keep an image whose layers are all there; they stay as long as it does.

        Raises:
            InvalidParameter: ``config`` is not an image's configuration.
            Corrupt: one of its layers is not here.
        """
        image = parse(config, ImageId(parent) if parent else None)
        self._layers.sync()
        with self._lock:
            if image.id in self._images:
                return image.id
            if image.top is not None and self._layers.retain(image.top) is None:
                raise Corrupt(f"the layer {image.top} of the image is not here")
            try:
                durable.replace(self._path(image.id), config)
                if image.parent is not None:
                    self._note(image.id, "parent", image.parent)
            except BaseException:
                if image.top is not None:
                    self._layers.release(image.top)
                raise
            self._images[image.id] = image
        return image.id

    def delete(self, image_id: ImageId) -> list[ChainId]:
        """Remove the image. Returns the layers that went with it, topmost first. Raises NotFound."""
        with self._lock:
            image = self.get(image_id)
            self._images.pop(image_id, None)
            self._remove_files(image_id)
            return [] if image.top is None else self._layers.release(image.top)

    def search(self, prefix: str) -> ImageId | None:
        """The one image whose ID begins with ``prefix``, with or without ``sha256:``; None for none or several."""
        digits = prefix.removeprefix("sha256:")
        if not digits or not re.fullmatch("[0-9a-f]+", digits):
            return None
        whole = ImageId("sha256:" + digits)
        with self._lock:
            if whole in self._images:
                return whole
            found = [image_id for image_id in self._images if image_id.startswith(whole)]
        return found[0] if len(found) == 1 else None

    def children(self, image_id: ImageId) -> list[ImageId]:
        """Images that were made from this one here."""
        with self._lock:
            return [image.id for image in self._images.values() if image.parent == image_id]

    def touch(self, image_id: ImageId) -> None:
        """Note that the image was given a tag just now."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if image_id in self._images:
            self._note(image_id, "lastUpdated", stamp)

    def last_tag_time(self, image_id: ImageId) -> str:
        """When it was last given a tag, RFC 3339; "" if never."""
        return durable.read(os.path.join(self._metadata, _hex(image_id), "lastUpdated"))

    def _path(self, image_id: ImageId) -> str:
        return os.path.join(self._content, _hex(image_id))

    def _note(self, image_id: ImageId, name: str, text: str) -> None:
        folder = os.path.join(self._metadata, _hex(image_id))
        os.makedirs(folder, 0o700, exist_ok=True)
        durable.replace(os.path.join(folder, name), text.encode(), mode=0o644)

    def _remove_files(self, image_id: ImageId) -> None:
        try:
            os.unlink(self._path(image_id))
        except FileNotFoundError:
            pass
        durable.sync_folder(self._content)
        durable.remove_record(os.path.join(self._metadata, _hex(image_id)))

    def _load(self) -> None:
        """Read every configuration whose digest is right and whose layers are here; drop the others, and say so."""
        for path in durable.leftovers(self._content):
            os.unlink(path)
        for name in os.listdir(self._content):
            image_id = ImageId(f"sha256:{name}")
            with open(self._path(image_id), "rb") as file:
                raw = file.read()
            reason = "its configuration is empty" if not raw else ""
            if not reason and digest(raw) != image_id:
                reason = "its configuration is not what its digest says"
            if not reason:
                try:
                    parent = durable.read(os.path.join(self._metadata, name, "parent"))
                    image = parse(raw, ImageId(parent) if parent else None)
                except InvalidParameter as error:
                    reason = error.message
                else:
                    if image.top is None or self._layers.retain(image.top) is not None:
                        self._images[image_id] = image
                        continue
                    reason = "a layer of it is missing"
            log.warning("dropping the broken image %s: %s (%s)", image_id, reason, self._path(image_id))
            self._remove_files(image_id)


def _hex(image_id: ImageId) -> str:
    return image_id.removeprefix("sha256:")
