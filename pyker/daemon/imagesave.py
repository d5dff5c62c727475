"""``save``: images as one tar that two kinds of readers understand.

``manifest.json`` is what docker's own readers look for; ``index.json`` and ``oci-layout`` make the same files an OCI
image layout. Each layer is there once, as the tar that it came as, and each configuration as its own bytes, so that
the same images make the same archive.

Source: Docker API v1.45 GET /images/get; OCI image-spec image-layout.md.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any

from pyker.engine.job import JobContext
from pyker.errors import Cancelled, Forbidden, KernelError, NotFound
from pyker.graph.graph import Graph
from pyker.graph.images import Image
from pyker.jobs.images import SaveImages
from pyker.registry.manifests import DOCKER_CONFIG, OCI_INDEX, OCI_MANIFEST, digest_of
from pyker.types import reference as references
from pyker.types.ids import ChainId, DiffId, ImageId
from pyker.types.reference import Reference

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
OCI_TAR = "application/vnd.oci.image.layer.v1.tar"
FULL_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
_CHUNK = 1 << 18


@dataclass(slots=True)
class _Saved:
    """An image that was asked for, and the names that it was asked for by."""

    image: Image
    names: list[Reference] = field(default_factory=list)


class Saver:
    """Writes archives. ``folder`` holds one layer at a time: a tar says how long a file is before it begins."""

    def __init__(self, graph: Graph, folder: str) -> None:
        self._graph = graph
        self._folder = folder

    def save(self, job: SaveImages, ctx: JobContext) -> list[ImageId]:
        """Write the archive to ``ctx.stdio.stdout``; returns the IDs of what is in it.

        Raises NotFound for a name that no image has, before anything is written.
        """
        with self._graph.layers.hold():
            saved = self._wanted(job.images)
            writer = _Writer(ctx.stdio.stdout("application/x-tar"), ctx)
            with tarfile.open(fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                archive = _Archive(tar)
                archive.folder("blobs")
                archive.folder("blobs/sha256")
                manifests = [(each, self._blobs(archive, each.image, ctx)) for each in saved]
                archive.file("index.json", _encode(_index(manifests)))
                archive.file("manifest.json", _encode([_entry(each) for each in saved]) + b"\n")
                archive.file("oci-layout", LAYOUT)
                repositories = _repositories(saved)
                if repositories:
                    archive.file("repositories", _encode(repositories) + b"\n")
        return [each.image.id for each in saved]

    def _wanted(self, names: Iterable[str]) -> list[_Saved]:
        found: dict[ImageId, _Saved] = {}
        for name in names:
            for image_id, tagged in self._named(name):
                if image_id not in self._graph.images:
                    raise Forbidden(f"{name!r} is the machine itself, which is in no archive")
                saved = found.setdefault(image_id, _Saved(self._graph.images.get(image_id)))
                if tagged is not None and tagged not in saved.names:
                    saved.names.append(tagged)
        return list(found.values())

    def _named(self, name: str) -> list[tuple[ImageId, Reference | None]]:
        """A repository without a tag means all of its tags; an ID or a digest brings no name along."""
        image_id = self._graph.find(name)
        if image_id is not None and (image_id.startswith(name) or image_id.removeprefix("sha256:").startswith(name)):
            return [(image_id, None)]
        asked = references.parse(name)
        if asked.name_only:
            tags = [pair for pair in self._graph.repositories.in_repository(asked) if not pair[0].digest]
            if tags:
                return [(found, tagged) for tagged, found in sorted(tags, key=lambda pair: pair[0].tag)]
        if image_id is None:
            raise NotFound(f"No such image: {name}")
        return [(image_id, None if asked.digest else asked.default_tag())]

    def _blobs(self, archive: _Archive, image: Image, ctx: JobContext) -> bytes:
        """Put the image's parts into the archive; returns its OCI manifest."""
        layers = []
        for chain_id, diff_id in zip(image.chain_ids, image.diff_ids, strict=True):
            size = archive.sizes.get(diff_id)
            if size is None:
                size = self._layer(archive, chain_id, diff_id, ctx)
            layers.append({"mediaType": OCI_TAR, "digest": diff_id, "size": size})
        archive.blob(image.id, image.raw)
        manifest = _encode(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {"mediaType": DOCKER_CONFIG, "digest": image.id, "size": len(image.raw)},
                "layers": layers,
            }
        )
        archive.blob(digest_of(manifest), manifest)
        return manifest

    def _layer(self, archive: _Archive, chain_id: ChainId, diff_id: DiffId, ctx: JobContext) -> int:
        with (
            tempfile.TemporaryFile(dir=self._folder, prefix=".save-", suffix=".tmp") as spool,
            self._graph.layers.open_tar(chain_id) as stream,
        ):
            try:
                while data := stream.read(_CHUNK):
                    ctx.cancel.raise_if_cancelled()
                    spool.write(data)
                size = spool.tell()
                spool.seek(0)
            except OSError as error:
                raise KernelError.from_oserror(error, syscall="write", stage="save") from error
            archive.stream(diff_id, spool, size)
        return size


class _Archive:
    """The tar under construction. Every file is root's, and as old as the epoch."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.sizes: dict[str, int] = {}

    def folder(self, name: str) -> None:
        info = tarfile.TarInfo(name)
        info.type = tarfile.DIRTYPE
        info.mode = 0o755
        self._tar.addfile(info)

    def file(self, name: str, data: bytes) -> None:
        self._add(name, io.BytesIO(data), len(data))

    def blob(self, digest: str, data: bytes) -> None:
        """A blob that may be there already."""
        if digest not in self.sizes:
            self.stream(digest, io.BytesIO(data), len(data))

    def stream(self, digest: str, source: IO[bytes], size: int) -> None:
        self._add(_path(digest), source, size)
        self.sizes[digest] = size

    def _add(self, name: str, source: IO[bytes], size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size = size
        info.mode = 0o644
        self._tar.addfile(info, source)


class _Writer(io.RawIOBase):
    """The answer's body as a file that tarfile writes to."""

    def __init__(self, write: Callable[[bytes], None], ctx: JobContext) -> None:
        super().__init__()
        self._write = write
        self._cancel = ctx.cancel

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self._cancel.cancelled:
            raise Cancelled("the client went away")
        self._write(bytes(data))
        return len(data)


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _entry(saved: _Saved) -> dict[str, Any]:
    return {
        "Config": _path(saved.image.id),
        "RepoTags": [name.familiar for name in saved.names] or None,
        "Layers": [_path(diff_id) for diff_id in saved.image.diff_ids],
    }


def _repositories(saved: list[_Saved]) -> dict[str, dict[str, str]]:
    """The names as the oldest readers want them: each leads to its topmost layer."""
    found: dict[str, dict[str, str]] = {}
    for each in saved:
        top = each.image.diff_ids[-1].removeprefix("sha256:") if each.image.diff_ids else ""
        for name in each.names:
            found.setdefault(name.familiar_name, {})[name.tag] = top
    return found


def _index(manifests: list[tuple[_Saved, bytes]]) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    for saved, manifest in manifests:
        descriptor = {"mediaType": OCI_MANIFEST, "digest": digest_of(manifest), "size": len(manifest)}
        names = [{"annotations": {FULL_NAME: name.canonical, REF_NAME: name.tag}} for name in saved.names]
        entries += [{**descriptor, **name} for name in names] or [descriptor]
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
