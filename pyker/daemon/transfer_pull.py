"""Pull: from a reference to an image in the graph, one child job a layer.

All missing layers download at once, as far as the daemon's three places allow; each is applied as soon as it is here
and the one below it is done, so that downloads and extraction overlap.

Source: Docker API v1.45 POST /images/create; seed: docker pull.
"""

from __future__ import annotations

import errno
import threading
from dataclasses import dataclass, field

from pyker.daemon.transfer_store import Origin, TransferStore, chain_ids
from pyker.engine.job import CancelToken, JobContext
from pyker.errors import Cancelled, Corrupt, InvalidParameter, KernelError, NotFound, PykerError, SystemFailure
from pyker.jobs.images import PullLayer
from pyker.registry.answers import BadAnswer, Refused
from pyker.registry.client import Repository
from pyker.registry.downloads import Downloads, NoSpace
from pyker.registry.manifests import (
    CONFIG_MAX_BYTES,
    Descriptor,
    Index,
    Manifest,
    Platform,
    parse,
    parse_config,
)
from pyker.registry.platforms import choose
from pyker.registry.slots import Place, Slots
from pyker.types.events import Progress
from pyker.types.ids import ChainId, DiffId, Digest, ImageId, JobId, short
from pyker.types.reference import Reference

_NESTED_MAX = 3
_LAYERS_MAX = 512


@dataclass(slots=True)
class _LayerWork:
    """One layer that has to come."""

    descriptor: Descriptor
    diff_id: DiffId
    chain_id: ChainId
    parent: ChainId | None
    place: Place
    applied: threading.Event = field(default_factory=threading.Event)


class _LayersWork:
    """The missing layers of one pull. If one fails, the others stop."""

    def __init__(self, repository: Repository, name: str, held: list[ChainId], cancel: CancelToken) -> None:
        self.repository = repository
        self.name = name
        self.held = held
        self.layers: dict[int, _LayerWork] = {}
        self.cancel = CancelToken()
        self.failure: BaseException | None = None
        self._lock = threading.Lock()
        self.forget = cancel.on_cancel(self.cancel.cancel)

    def fail(self, error: BaseException) -> None:
        """Remember the first failure and stop the rest."""
        with self._lock:
            if self.failure is None:
                self.failure = error
        self.cancel.cancel()
        for work in self.layers.values():
            work.applied.set()

    def keeps(self) -> bool:
        """Whether what came of the other layers is worth keeping: not on a full disk, nor of a bad image."""
        error = self.failure
        full = isinstance(error, NoSpace) or (isinstance(error, KernelError) and error.errno == errno.ENOSPC)
        return not full and not isinstance(error, Corrupt)


class Puller:
    """Fetches images into the store. Thread-safe."""

    def __init__(self, store: TransferStore, downloads: Downloads, slots: Slots) -> None:
        self._store = store
        self._downloads = downloads
        self._slots = slots
        self._lock = threading.Lock()
        self._under_way: dict[JobId, _LayersWork] = {}

    def pull(
        self, repository: Repository, reference: Reference, platform: Platform, ctx: JobContext
    ) -> tuple[Digest, ImageId, bool]:
        """Fetch what ``reference`` (with a tag or a digest) names.

        Returns the digest of the manifest or index, the image's ID, and whether that is news under this name. What the
        registry warned of is told at the end, however it ends, if anything was told before.
        """
        digest = reference.digest or repository.resolve(reference.tag)
        raw = repository.manifest(digest or reference.tag)
        parsed = parse(raw)
        what = reference.canonical if reference.digest else reference.tag
        ctx.emit(Progress(status=f"Pulling from {reference.path}", id=what))
        try:
            image_id = self._image(repository, reference, parsed, platform, ctx)
        finally:
            repository.warned.tell(ctx.emit)
        newer = self._name(reference, raw.digest, image_id)
        ctx.emit(Progress(status=f"Digest: {raw.digest}"))
        return raw.digest, image_id, newer

    def _image(
        self,
        repository: Repository,
        reference: Reference,
        parsed: Manifest | Index,
        platform: Platform,
        ctx: JobContext,
    ) -> ImageId:
        """Bring what the image that suits ``platform`` still lacks here; returns its ID."""
        manifest = self._image_manifest(repository, parsed, platform)
        image_id = ImageId(manifest.config.digest)
        if self._store.image_config(image_id) is None:
            config = self._config(repository, manifest)
            rootfs = parse_config(config, len(manifest.layers))
            diff_ids = tuple(DiffId(item) for item in (rootfs.get("rootfs") or {}).get("diff_ids") or ())
            held: list[ChainId] = []
            try:
                self._fetch_layers(repository, reference, manifest, diff_ids, held, ctx)
                self._store.create_image(config)
            finally:
                for chain_id in held:
                    self._store.release(chain_id)
        return image_id

    @staticmethod
    def _config(repository: Repository, manifest: Manifest) -> bytes:
        try:
            return repository.blob(manifest.config, CONFIG_MAX_BYTES, "image config")
        except Cancelled:
            raise
        except PykerError as error:
            raise SystemFailure(f"error pulling image configuration: {error.message}") from error

    @staticmethod
    def _image_manifest(repository: Repository, parsed: Manifest | Index, platform: Platform) -> Manifest:
        """The manifest itself, or the one of an index that suits ``platform``."""
        for _depth in range(_NESTED_MAX):
            if isinstance(parsed, Manifest):
                break
            parsed = parse(repository.manifest(choose(parsed, platform).digest))
        if not isinstance(parsed, Manifest):
            raise BadAnswer(f"the index is nested more than {_NESTED_MAX} deep")
        if not parsed.config.digest.startswith("sha256:"):
            raise BadAnswer(f"the image's configuration is {parsed.config.digest}, which is no sha256 digest")
        if len(parsed.layers) > _LAYERS_MAX:
            raise BadAnswer(f"the image has {len(parsed.layers)} layers; at most {_LAYERS_MAX} are pulled")
        return parsed

    def _name(self, reference: Reference, digest: Digest, image_id: ImageId) -> bool:
        """Tag the image and give it its digest. True if the name meant something else before."""
        newer = self._store.named(reference) != image_id
        by_digest = reference.trimmed().with_digest(digest)
        if self._store.named(by_digest) != image_id:
            self._store.name(by_digest, image_id)
        if not reference.digest and newer:
            self._store.name(reference, image_id)
        return newer

    def _fetch_layers(
        self,
        repository: Repository,
        reference: Reference,
        manifest: Manifest,
        diff_ids: tuple[DiffId, ...],
        held: list[ChainId],
        ctx: JobContext,
    ) -> None:
        """Bring every layer here. ``held`` gets those that were here and were retained, for the caller to release."""
        chain = chain_ids(diff_ids)
        work = _LayersWork(repository, reference.name, held, ctx.cancel)
        missing = False
        try:
            for index, descriptor in enumerate(manifest.layers):
                if not missing and self._store.retain(chain[index]):
                    held.append(chain[index])
                    ctx.emit(Progress(status="Already exists", id=short(descriptor.digest)))
                    self._store.add_origin(diff_ids[index], Origin(descriptor.digest, reference.name))
                    continue
                missing = True
                ctx.emit(Progress(status="Pulling fs layer", id=short(descriptor.digest)))
                parent = chain[index - 1] if index else None
                place = self._slots.queue()
                work.layers[index] = _LayerWork(descriptor, diff_ids[index], chain[index], parent, place)
            with self._lock:
                self._under_way[ctx.job_id] = work
            futures = [
                ctx.spawn(
                    PullLayer(
                        repository=reference.name,
                        digest=layer.descriptor.digest,
                        size=layer.descriptor.size,
                        index=index,
                    )
                )
                for index, layer in work.layers.items()
            ]
            for future in futures:
                try:
                    future.result()
                except BaseException as error:  # noqa: BLE001  the other layers end first; it is raised below
                    work.fail(error)
            if work.failure is not None:
                raise work.failure
        finally:
            work.forget()
            with self._lock:
                self._under_way.pop(ctx.job_id, None)
            for layer in work.layers.values():
                layer.place.leave()

    def pull_layer(self, job: PullLayer, ctx: JobContext) -> str:
        """The job ``pull_layer``: only a pull that is under way can start it."""
        with self._lock:
            work = self._under_way.get(ctx.parent_id) if ctx.parent_id is not None else None
        layer = work.layers.get(job.index) if work is not None else None
        if work is None or layer is None:
            raise InvalidParameter("pull_layer is a part of pull, and runs as its child only")
        try:
            self._do_layer(work, layer, job.index, ctx)
        except BaseException as error:
            work.fail(error)
            raise
        finally:
            layer.place.leave()
            layer.applied.set()
        return layer.chain_id

    def _do_layer(self, work: _LayersWork, layer: _LayerWork, index: int, ctx: JobContext) -> None:
        cancel = work.cancel
        identifier = short(layer.descriptor.digest)

        def report(status: str, current: int, total: int) -> None:
            ctx.emit(Progress(status=status, id=identifier, current=current, total=total))

        if not layer.place.admitted:
            report("Waiting", 0, 0)
        layer.place.enter(cancel)
        if self._store.retain(layer.chain_id):
            # Another pull brought it while this one waited for its turn.
            work.held.append(layer.chain_id)
            report("Already exists", 0, 0)
            return
        with self._downloads.fetched(
            work.repository, layer.descriptor, cancel=cancel, report=report, keep=work.keeps
        ) as path:
            layer.place.leave()
            below = work.layers.get(index - 1)
            if below is not None:
                below.applied.wait()
            cancel.raise_if_cancelled()
            total = layer.descriptor.size
            self._store.register(
                path,
                layer.descriptor.media_type,
                layer.diff_id,
                layer.parent,
                cancel=lambda: cancel.cancelled,
                progress=lambda done: report("Extracting", min(done, total), total),
            )
        self._store.add_origin(layer.diff_id, Origin(layer.descriptor.digest, work.name))
        report("Pull complete", 0, 0)


def told(error: PykerError, reference: Reference) -> PykerError:
    """The error as the reference engine words it, in the class that gives its HTTP status."""
    if not isinstance(error, Refused):
        return error
    match error.code:
        case "DENIED":
            reason = f"pull access denied for {reference.familiar_name}, repository does not exist or may require"
            return NotFound(f"{reason} 'docker login': {error.message}", hint="check the name, or log in")
        case "NAME_UNKNOWN":
            return NotFound(f"repository {reference.familiar_name} not found: {error.message}")
        case "MANIFEST_UNKNOWN":
            return NotFound(f"manifest for {reference.familiar} not found: {error.message}")
        case "BLOB_UNKNOWN":
            return SystemFailure("unknown blob", hint="the registry lacks a part of this image: push it again")
        case _:
            return error
