"""``load``: images out of an archive that ``save`` made, here or elsewhere, or out of an OCI image layout.

An archive is read where it lies and never unpacked: only the files that its manifests name are looked at, by size and
digest, and layers go to the worker processes as a pull's do.

Source: Docker API v1.45 POST /images/load; OCI image-spec image-layout.md.
"""

from __future__ import annotations

import json
import os
import posixpath
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from pyker.daemon.imagesave import FULL_NAME, REF_NAME
from pyker.engine.job import JobContext
from pyker.errors import Corrupt, InvalidParameter, KernelError, NotFound, PykerError
from pyker.graph.graph import Graph
from pyker.graph.images import parse as parse_image
from pyker.graph.layers import chain_ids
from pyker.graphdriver.archive.compression import decompressed
from pyker.jobs.images import LoadImages
from pyker.registry.manifests import CONFIG_MAX_BYTES, MANIFEST_MAX_BYTES, Index, Manifest, Raw, parse, verify
from pyker.registry.platforms import choose, host_platform, parse_platform
from pyker.types.events import Progress
from pyker.types.ids import Digest, ImageId, short
from pyker.types.reference import parse as parse_name

_CHUNK = 1 << 18
_LINKS_MAX = 16
_NESTED_MAX = 3
_IMAGES_MAX = 1024


@dataclass(frozen=True, slots=True)
class _Listed:
    """One image of an archive: its configuration, where its layers are, base first, and its names."""

    config: bytes
    layers: tuple[str, ...]
    names: tuple[str, ...]


class Loader:
    """Reads archives. ``folder`` holds the archive, and one layer of it at a time."""

    def __init__(self, graph: Graph, folder: str) -> None:
        self._graph = graph
        self._folder = folder

    def load(self, job: LoadImages, ctx: JobContext) -> list[ImageId]:
        """Returns the IDs of the images that are here now. Layers that belong to none of them do not stay.

        Raises Corrupt for an archive that is not what it says, InvalidParameter for one that is none.
        """
        loaded: list[ImageId] = []
        with self._received(ctx) as archive, self._graph.layers.hold():
            for image in _images(archive, job.platform):
                image_id = self._image(image, archive, job, ctx)
                loaded.append(image_id)
                for text in image.names:
                    name = parse_name(text)
                    if not name.tag:
                        raise InvalidParameter(f'invalid tag "{text}"')
                    before = self._graph.repositories.get(name)
                    if before is not None and before != image_id:
                        ctx.emit(
                            Progress(
                                stream=f"The image {name.familiar} already exists, renaming the old one with ID "
                                f"{before} to empty string\n"
                            )
                        )
                    self._graph.tag(name, image_id)
                    self._graph.images.touch(image_id)
                    ctx.emit(Progress(stream=f"Loaded image: {name.familiar}\n"))
                if not image.names:
                    ctx.emit(Progress(stream=f"Loaded image ID: {image_id}\n"))
        return loaded

    def _image(self, listed: _Listed, archive: _Files, job: LoadImages, ctx: JobContext) -> ImageId:
        image = parse_image(listed.config)
        if len(image.diff_ids) != len(listed.layers):
            raise Corrupt(
                f"invalid manifest, layers length mismatch: expected {len(image.diff_ids)}, got {len(listed.layers)}"
            )
        chain = chain_ids(image.diff_ids)
        for number, (path, diff_id) in enumerate(zip(listed.layers, image.diff_ids, strict=True)):
            if self._graph.layers.get(chain[number]) is not None:
                continue

            def tell(done: int, total: int, layer: str = short(diff_id)) -> None:
                if not job.quiet:
                    ctx.emit(Progress(status="Loading layer", id=layer, current=min(done, total), total=total))

            with archive.spooled(path, self._folder) as (blob, size):
                tell(0, size)
                try:
                    self._graph.layers.register(
                        blob,
                        "",
                        diff_id,
                        chain[number - 1] if number else None,
                        cancel=lambda: ctx.cancel.cancelled,
                        progress=lambda done, size=size, tell=tell: tell(done, size),  # type: ignore[misc]
                    )
                except Corrupt as error:
                    raise Corrupt(f"invalid diffID for layer {number}: {error.message}", hint=error.hint) from error
                tell(size, size)
        return self._graph.create_image(listed.config)

    @contextmanager
    def _received(self, ctx: JobContext) -> Iterator[_Files]:
        """The body, unpacked if it was compressed, as files by name; gone afterwards."""
        with tempfile.TemporaryFile(dir=self._folder, prefix=".load-", suffix=".tmp") as raw:
            body = ctx.stdio.stdin()
            try:
                while data := body.read(_CHUNK):
                    ctx.cancel.raise_if_cancelled()
                    raw.write(data)
                raw.flush()
                os.lseek(raw.fileno(), 0, os.SEEK_SET)
                with tempfile.TemporaryFile(dir=self._folder, prefix=".load-", suffix=".tmp") as plain:
                    for data in decompressed(raw.fileno(), lambda _: ctx.cancel.raise_if_cancelled()):
                        plain.write(data)
                    raw.truncate(0)
                    plain.seek(0)
                    yield _Files(plain)
            except OSError as error:
                raise KernelError.from_oserror(error, syscall="write", stage="load") from error


class _Files:
    """The files of a tar, by name. What is a link leads to another file of the same tar, never out of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                self._entries = {posixpath.normpath(entry.name): entry for entry in tar}
        except tarfile.TarError as error:
            raise Corrupt(f"Error processing tar file: {error}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def _find(self, name: str) -> tarfile.TarInfo:
        path = posixpath.normpath(name)
        for _ in range(_LINKS_MAX):
            entry = self._entries.get(path)
            if entry is None or path.startswith(("/", "..")):
                raise NotFound(f"open {name}: no such file in the archive")
            if entry.isreg() and not entry.issparse():
                return entry
            if entry.issym():
                path = posixpath.normpath(posixpath.join(posixpath.dirname(path), entry.linkname))
            elif entry.islnk():
                path = posixpath.normpath(entry.linkname)
            else:
                break
        raise Corrupt(f"{name} is no file in the archive")

    def read(self, name: str, limit: int) -> bytes:
        """A whole file. Raises Corrupt if it is longer than ``limit``."""
        entry = self._find(name)
        if entry.size > limit:
            raise Corrupt(f"{name} of {entry.size} bytes is longer than the {limit} that are allowed")
        self._file.seek(entry.offset_data)
        data = self._file.read(entry.size)
        if len(data) != entry.size:
            raise Corrupt(f"{name} ends early: unexpected EOF")
        return data

    @contextmanager
    def spooled(self, name: str, folder: str) -> Iterator[tuple[str, int]]:
        """One file by itself, and its size, for a worker to read."""
        entry = self._find(name)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".load-", suffix=".tmp") as copy:
            self._file.seek(entry.offset_data)
            left = entry.size
            while left:
                data = self._file.read(min(left, _CHUNK))
                if not data:
                    raise Corrupt(f"{name} ends early: unexpected EOF")
                copy.write(data)
                left -= len(data)
            copy.flush()
            yield copy.name, entry.size


def _images(archive: _Files, platform: str) -> list[_Listed]:
    """What an archive lists: in docker's manner, or else as an OCI image layout."""
    if "manifest.json" in archive:
        listed = _json(archive.read("manifest.json", MANIFEST_MAX_BYTES), "manifest.json")
        found = [_docker_image(archive, entry) for entry in _list(listed, "manifest.json")[:_IMAGES_MAX]]
    elif "index.json" in archive:
        found = _layout_images(archive, platform)
    else:
        raise InvalidParameter(
            "there is no manifest.json in the archive, and no index.json of an OCI image layout",
            hint="`save` makes such archives; a plain file system is for `import`",
        )
    return found


def _docker_image(archive: _Files, entry: Any) -> _Listed:
    if not isinstance(entry, dict):
        raise Corrupt("manifest.json: an image is no object")
    layers = [str(path) for path in _list(entry.get("Layers"), "manifest.json: Layers")]
    names = [str(name) for name in _list(entry.get("RepoTags"), "manifest.json: RepoTags")]
    config = archive.read(str(entry.get("Config") or ""), CONFIG_MAX_BYTES)
    return _Listed(config, tuple(layers), tuple(names))


def _layout_images(archive: _Files, platform: str) -> list[_Listed]:
    wanted = parse_platform(platform) if platform else host_platform()
    index = _json(archive.read("index.json", MANIFEST_MAX_BYTES), "index.json")
    entries = _list(index.get("manifests") if isinstance(index, dict) else None, "index.json: manifests")
    found: dict[Digest, list[str]] = {}
    for entry in entries[:_IMAGES_MAX]:
        if not isinstance(entry, dict):
            raise Corrupt("index.json: a manifest is no object")
        digest = Digest(str(entry.get("digest")))
        annotations = entry.get("annotations")
        names = found.setdefault(digest, [])
        if isinstance(annotations, dict) and (name := _annotated(annotations)):
            names.append(name)
    images = []
    for digest, names in found.items():
        parsed = _manifest(archive, digest)
        for _ in range(_NESTED_MAX):
            if isinstance(parsed, Manifest):
                break
            parsed = _manifest(archive, choose(parsed, wanted).digest)
        if not isinstance(parsed, Manifest):
            raise Corrupt(f"the index is nested more than {_NESTED_MAX} deep")
        config = archive.read(_blob(parsed.config.digest), CONFIG_MAX_BYTES)
        verify(config, parsed.config.digest, "image config")
        layers = tuple(_blob(layer.digest) for layer in parsed.layers)
        images.append(_Listed(config, layers, tuple(names)))
    return images


def _annotated(annotations: dict[str, Any]) -> str:
    """The whole name of an image in a layout; a tag alone, which most write, names no image."""
    whole = annotations.get(FULL_NAME) or annotations.get(REF_NAME)
    if not isinstance(whole, str) or not any(mark in whole for mark in "/:"):
        return ""
    try:
        return parse_name(whole).default_tag().canonical
    except PykerError:
        return ""


def _manifest(archive: _Files, digest: Digest) -> Manifest | Index:
    body = archive.read(_blob(digest), MANIFEST_MAX_BYTES)
    verify(body, digest, "manifest")
    return parse(Raw(media_type="", digest=digest, body=body))


def _blob(digest: str) -> str:
    algorithm, _, encoded = digest.partition(":")
    if algorithm not in ("sha256", "sha512") or not encoded.isalnum():
        raise Corrupt(f"{digest} is no digest")
    return f"blobs/{algorithm}/{encoded}"


def _json(data: bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{what} cannot be read: {error}") from error


def _list(value: Any, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Corrupt(f"{what} is no list")
    return value
