"""Names of images: ``repositories.json`` maps each repository's tags and digests to image IDs.

``{"Repositories":{"bb":{"bb:1":"sha256:...","bb@sha256:...":"sha256:..."}}}``, keyed by familiar names, as the
reference engine keeps it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Container

from pyker.errors import InvalidParameter, PykerError
from pyker.graph import durable
from pyker.types.ids import ImageId
from pyker.types.reference import Reference, parse

log = logging.getLogger(__name__)


def _key(reference: Reference) -> tuple[str, str]:
    """Repository and full name. A digest wins over a tag beside it; neither means the tag ``latest``."""
    if reference.digest:
        return reference.familiar_name, f"{reference.familiar_name}@{reference.digest}"
    return reference.familiar_name, f"{reference.familiar_name}:{reference.tag or 'latest'}"


class Repositories:
    """The names, in the file at ``path``. Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._names: dict[str, dict[str, ImageId]] = {}
        self._of: dict[ImageId, set[str]] = {}
        self._load()

    def get(self, reference: Reference) -> ImageId | None:
        """The image of that name."""
        repository, key = _key(reference)
        return self._names.get(repository, {}).get(key)

    def set(self, reference: Reference, image_id: ImageId) -> None:
        """Give the image this name, whatever had it before."""
        repository, key = _key(reference)
        with self._lock:
            before = self._names.get(repository, {}).get(key)
            if before == image_id:
                return
            names = {**self._names, repository: {**self._names.get(repository, {}), key: image_id}}
            self._save(names)

    def remove(self, reference: Reference) -> bool:
        """Take the name away; False if no image had it."""
        repository, key = _key(reference)
        with self._lock:
            if key not in self._names.get(repository, {}):
                return False
            rest = {name: image for name, image in self._names[repository].items() if name != key}
            names = {name: keys for name, keys in self._names.items() if name != repository}
            if rest:
                names[repository] = rest
            self._save(names)
            return True

    def references(self, image_id: ImageId) -> list[Reference]:
        """Every name of the image, sorted by its familiar form."""
        with self._lock:
            return [parse(name) for name in sorted(self._of.get(image_id, ()))]

    def in_repository(self, repository: Reference) -> list[tuple[Reference, ImageId]]:
        """The names in one repository, sorted."""
        with self._lock:
            found = sorted(self._names.get(repository.familiar_name, {}).items())
        return [(parse(name), image_id) for name, image_id in found]

    def all(self) -> list[tuple[Reference, ImageId]]:
        """Every name, sorted."""
        with self._lock:
            found = sorted(item for names in self._names.values() for item in names.items())
        return [(parse(name), image_id) for name, image_id in found]

    def drop_missing(self, present: Container[ImageId]) -> None:
        """Take away the names of images that are not there."""
        with self._lock:
            names = {
                repository: kept
                for repository, keys in self._names.items()
                if (kept := {name: image for name, image in keys.items() if image in present})
            }
            if names != self._names:
                self._save(names)

    def _save(self, names: dict[str, dict[str, ImageId]]) -> None:
        ordered = {name: dict(sorted(names[name].items())) for name in sorted(names)}
        durable.replace(self._path, json.dumps({"Repositories": ordered}, separators=(",", ":")).encode())
        self._adopt(names)

    def _adopt(self, names: dict[str, dict[str, ImageId]]) -> None:
        self._names = names
        self._of = {}
        for keys in names.values():
            for name, image_id in keys.items():
                self._of.setdefault(image_id, set()).add(name)

    def _load(self) -> None:
        folder = os.path.dirname(self._path)
        for path in durable.leftovers(folder):
            os.unlink(path)
        try:
            with open(self._path, "rb") as file:
                raw = file.read()
        except FileNotFoundError:
            return
        names: dict[str, dict[str, ImageId]] = {}
        try:
            for keys in json.loads(raw)["Repositories"].values():
                for name, image_id in keys.items():
                    try:
                        names.setdefault(parse(name).familiar_name, {})[name] = ImageId(image_id)
                    except InvalidParameter as error:
                        log.warning("%s holds the invalid name %r: %s", self._path, name, error)
        except (ValueError, KeyError, TypeError, AttributeError, PykerError) as error:
            broken = f"{self._path}.broken"
            os.replace(self._path, broken)
            log.warning("the names of images cannot be read (%s): kept as %s", error, broken)
        self._adopt(names)
