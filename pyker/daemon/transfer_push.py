"""Push: an image's layers, its configuration and its manifest, one child job a layer.

A layer that the registry has already is not sent, one that a neighbouring repository has is mounted from there; the
rest is compressed from the tar that came with it, byte for byte, and uploaded.

Source: Docker API v1.45 POST /images/{name}/push.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from time import monotonic

from pyker.daemon.transfer_store import Origin, StoredLayer, TransferStore, chain_ids
from pyker.engine.job import CancelToken, JobContext
from pyker.errors import InvalidParameter, NotFound, SystemFailure
from pyker.jobs.images import PushLayer
from pyker.registry import uploads
from pyker.registry.answers import Refused
from pyker.registry.client import Repository
from pyker.registry.downloads import Wait, wait_for
from pyker.registry.manifests import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, digest_of
from pyker.registry.slots import Place, Slots
from pyker.types.events import Progress
from pyker.types.ids import DiffId, Digest, ImageId, JobId, short
from pyker.types.reference import Reference, parse

_ORIGINS_TRIED = 5
_PIECE = 1 << 20
_SAY_EVERY_S = 0.1


@dataclass(slots=True)
class _LayerWork:
    layer: StoredLayer
    place: Place
    size: int = 0


@dataclass(slots=True)
class _PushWork:
    repository: Repository
    name: Reference
    layers: dict[int, _LayerWork] = field(default_factory=dict)
    cancel: CancelToken = field(default_factory=CancelToken)
    failure: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Remember the first failure and stop the rest."""
        self.failure = self.failure or error
        self.cancel.cancel()


class Pusher:
    """Sends images from the store. Thread-safe. ``folder`` is for layers while they are compressed."""

    def __init__(
        self, store: TransferStore, folder: str, slots: Slots, *, max_attempts: int = 5, wait: Wait = wait_for
    ) -> None:
        self._store = store
        self._folder = folder
        self._slots = slots
        self._max_attempts = max_attempts
        self._wait = wait
        self._lock = threading.Lock()
        self._under_way: dict[JobId, _PushWork] = {}
        self._sending: dict[tuple[str, str], threading.Lock] = {}

    def push(self, repository: Repository, reference: Reference, image_id: ImageId, ctx: JobContext) -> Digest:
        """Send one image under the tag of ``reference``; returns its manifest's digest.

        What the registry warned of is told at the end, however it ends.
        """
        config = self._store.image_config(image_id)
        if config is None:
            raise NotFound(f"No such image: {reference.familiar}")
        layers = self._layers(config)
        try:
            digests = self._push_layers(repository, reference, layers, ctx)
            self._push_small(repository, config)
            body = _manifest(config, digests)
            digest = repository.put_manifest(reference.tag, DOCKER_MANIFEST, body)
        finally:
            repository.warned.tell(ctx.emit)
        by_digest = reference.trimmed().with_digest(digest)
        if self._store.named(by_digest) != image_id:
            self._store.name(by_digest, image_id)
        ctx.emit(Progress(status=f"{reference.tag}: digest: {digest} size: {len(body)}"))
        ctx.emit(Progress(aux={"Tag": reference.tag, "Digest": digest, "Size": len(body)}))
        return digest

    def _layers(self, config: bytes) -> list[StoredLayer]:
        rootfs = json.loads(config).get("rootfs") or {}
        found = []
        for chain_id in chain_ids(DiffId(item) for item in rootfs.get("diff_ids") or ()):
            layer = self._store.layer(chain_id)
            if layer is None:
                raise SystemFailure(f"layer {chain_id} of the image is not in the graph")
            found.append(layer)
        return found

    def _push_layers(
        self, repository: Repository, reference: Reference, layers: list[StoredLayer], ctx: JobContext
    ) -> list[tuple[Digest, int]]:
        work = _PushWork(repository, reference)
        forget = ctx.cancel.on_cancel(work.cancel.cancel)
        order = range(len(layers) - 1, -1, -1)
        try:
            for index in order:
                ctx.emit(Progress(status="Preparing", id=short(layers[index].diff_id)))
            for index in order:
                work.layers[index] = _LayerWork(layers[index], self._slots.queue())
            with self._lock:
                self._under_way[ctx.job_id] = work
            futures = {
                index: ctx.spawn(PushLayer(repository=reference.name, diff_id=layers[index].diff_id, index=index))
                for index in order
            }
            digests: dict[int, Digest] = {}
            for index, future in futures.items():
                try:
                    digests[index] = future.result()
                except BaseException as error:  # noqa: BLE001  the other layers end first; it is raised below
                    work.fail(error)
            if work.failure is not None:
                raise work.failure
            return [(digests[index], work.layers[index].size) for index in range(len(layers))]
        finally:
            forget()
            with self._lock:
                self._under_way.pop(ctx.job_id, None)
            for layer in work.layers.values():
                layer.place.leave()

    def push_layer(self, job: PushLayer, ctx: JobContext) -> Digest:
        """The job ``push_layer``: only a push that is under way can start it."""
        with self._lock:
            work = self._under_way.get(ctx.parent_id) if ctx.parent_id is not None else None
        layer = work.layers.get(job.index) if work is not None else None
        if work is None or layer is None:
            raise InvalidParameter("push_layer is a part of push, and runs as its child only")
        identifier = short(layer.layer.diff_id)

        def say(status: str, current: int = 0, total: int = 0) -> None:
            ctx.emit(Progress(status=status, id=identifier, current=current, total=total))

        try:
            if not layer.place.admitted:
                say("Waiting")
            layer.place.enter(work.cancel)
            # The same layer twice in an image, or in two pushes to one place, is sent once.
            with self._once(work.name.name, layer.layer.diff_id):
                digest, layer.size = self._offer(work, layer.layer, say)
        except BaseException as error:
            work.fail(error)
            raise
        finally:
            layer.place.leave()
        return digest

    @contextmanager
    def _once(self, name: str, diff_id: str) -> Iterator[None]:
        with self._lock:
            lock = self._sending.setdefault((name, diff_id), threading.Lock())
        try:
            with lock:
                yield
        finally:
            with self._lock:
                if not lock.locked():
                    self._sending.pop((name, diff_id), None)

    def _offer(self, work: _PushWork, layer: StoredLayer, say: Callable[..., None]) -> tuple[Digest, int]:
        repository, name = work.repository, work.name
        origins = self._store.origins(layer.diff_id)
        here = [origin for origin in origins if origin.repository == name.name]
        absent: set[Digest] = set()
        for origin in here[:_ORIGINS_TRIED]:
            size = repository.blob_size(origin.digest)
            if size >= 0:
                say("Layer already exists")
                self._store.add_origin(layer.diff_id, origin)
                return origin.digest, size
            self._store.forget_origin(layer.diff_id, origin)
            absent.add(origin.digest)
        location = ""
        for origin in self._neighbours(origins, name)[:_ORIGINS_TRIED]:
            path = parse(origin.repository).path
            try:
                location = uploads.mount(repository, origin.digest, path)
            except Refused as error:
                if error.passing:
                    raise
                continue
            if not location:
                size = repository.blob_size(origin.digest)
                say(f"Mounted from {path}")
                self._store.add_origin(layer.diff_id, Origin(origin.digest, name.name))
                return origin.digest, size
            uploads.abandon(repository, location)
            location = ""
        others = dict.fromkeys(origin.digest for origin in origins if origin.digest not in absent)
        for digest in list(others)[:_ORIGINS_TRIED]:
            size = repository.blob_size(digest)
            if size >= 0:
                say("Layer already exists")
                self._store.add_origin(layer.diff_id, Origin(digest, name.name))
                return digest, size
            absent.add(digest)
        return self._upload(work, layer, absent, say)

    @staticmethod
    def _neighbours(origins: list[Origin], name: Reference) -> list[Origin]:
        """Blobs in other repositories of the same registry."""
        return [
            origin
            for origin in origins
            if origin.repository != name.name and origin.repository.partition("/")[0] == name.domain
        ]

    def _upload(
        self, work: _PushWork, layer: StoredLayer, absent: set[Digest], say: Callable[..., None]
    ) -> tuple[Digest, int]:
        say("Pushing", 0, layer.size)
        with self._compressed(layer, work.cancel) as (path, digest, size):
            if digest not in absent and (there := work.repository.blob_size(digest)) >= 0:
                say("Layer already exists")
                self._store.add_origin(layer.diff_id, Origin(digest, work.name.name))
                return digest, there
            last = monotonic()

            def sent(count: int) -> None:
                nonlocal last
                now = monotonic()
                if now - last >= _SAY_EVERY_S or count == size:
                    last = now
                    say("Pushing", count, size)

            uploads.send(
                work.repository,
                path,
                digest,
                cancel=work.cancel,
                sent=sent,
                retrying=lambda left: say(f"Retrying in {left} second{'' if left == 1 else 's'}"),
                max_attempts=self._max_attempts,
                wait=self._wait,
            )
        say("Pushed")
        self._store.add_origin(layer.diff_id, Origin(digest, work.name.name))
        return digest, size

    @contextmanager
    def _compressed(self, layer: StoredLayer, cancel: CancelToken) -> Iterator[tuple[str, Digest, int]]:
        """The layer as a gzip file: its path, digest and size. The same tar gives the same digest."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        with (
            tempfile.NamedTemporaryFile(dir=self._folder, prefix="push-") as spool,
            closing(self._store.open_gzip(layer.chain_id)) as packed,
        ):
            while piece := packed.read(_PIECE):
                cancel.raise_if_cancelled()
                spool.write(piece)
            spool.flush()
            yield spool.name, Digest(packed.result["digest"]), int(packed.result["size"])

    @staticmethod
    def _push_small(repository: Repository, config: bytes) -> None:
        digest = digest_of(config)
        if repository.blob_size(digest) >= 0:
            return
        location = uploads.begin(repository)
        uploads.put_whole(repository, location, digest, config)


def _manifest(config: bytes, layers: list[tuple[Digest, int]]) -> bytes:
    """In the reference engine's spelling, so that the same image has the same manifest digest from either engine."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": DOCKER_CONFIG, "size": len(config), "digest": digest_of(config)},
        "layers": [{"mediaType": DOCKER_LAYER, "size": size, "digest": digest} for digest, size in layers],
    }
    return json.dumps(manifest, indent=3).encode()
