"""Who does the jobs about images that are here: list, inspect, history, tag, remove, import."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from pyker.api import filters as api_filters
from pyker.api import gotime
from pyker.container.record import Container
from pyker.daemon.imageimport import Importer
from pyker.engine.job import JobContext
from pyker.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure
from pyker.graph.graph import Graph
from pyker.graph.images import Image
from pyker.jobs.images import (
    HistoryEntry,
    ImageHistory,
    ImageView,
    ImportImage,
    InspectImage,
    ListImages,
    PrunedImages,
    PruneImages,
    RemovedImage,
    RemoveImage,
    TagImage,
)
from pyker.types import reference as references
from pyker.types.events import Event
from pyker.types.ids import ImageId, short
from pyker.types.reference import Reference

_DIGEST_ALGORITHMS = ("sha256", "sha384", "sha512")
Publish = Callable[[Event], None]
Removed = list[RemovedImage]


class ImageHandlers:
    """``containers`` lists every container; ``publish`` takes the events. Thread-safe as the graph is."""

    def __init__(self, graph: Graph, containers: Callable[[], Iterable[Container]], publish: Publish) -> None:
        self._graph = graph
        self._containers = containers
        self._publish = publish
        self._importer = Importer(graph)

    def list(self, job: ListImages, ctx: JobContext) -> tuple[ImageView, ...]:
        """``docker images``."""
        chosen = job.filters
        dangling = api_filters.truth(chosen, "dangling")
        before = [self._created(name) for name in chosen.get("before", ())]
        since = [self._created(name) for name in chosen.get("since", ())]
        before += [gotime.moment_before(text) for text in chosen.get("until", ())]
        parents = {image.parent for image in self._graph.images.all()}
        rows: list[tuple[int, ImageView]] = []
        for image in self._graph.images.all():
            if dangling and image.id in parents:
                continue
            created = _created_ns(image)
            if any(created >= limit for limit in before) or any(created <= limit for limit in since):
                continue
            if not api_filters.matches_labels(chosen.get("label"), _labels(image)):
                continue
            names = self._graph.repositories.references(image.id)
            if "reference" in chosen:
                names = [name for name in names if any(_matches(text, name) for text in chosen["reference"])]
            tagged = any(name.tag and not name.digest for name in names)
            if names:
                if dangling and tagged:
                    continue
            elif dangling is False or "reference" in chosen or (image.id in parents and not job.all):
                continue
            rows.append((created, self._view(image, names)))
        rows.sort(key=lambda row: row[0], reverse=True)
        return tuple(view for _, view in rows)

    def inspect(self, job: InspectImage, ctx: JobContext) -> ImageView:
        """``docker image inspect``."""
        image = self._graph.images.get(self._graph.lookup(job.image))
        return self._view(image, self._graph.repositories.references(image.id), whole=True)

    def history(self, job: ImageHistory, ctx: JobContext) -> tuple[HistoryEntry, ...]:
        """``docker history``: IDs are known only of the image itself and of parents that were made here."""
        image: Image | None = self._graph.images.get(self._graph.lookup(job.image))
        assert image is not None
        entries: list[dict[str, Any]] = []
        layers = iter(image.chain_ids)
        for step in image.config.get("history") or ():
            size = 0
            if not step.get("empty_layer"):
                chain_id = next(layers, None)
                if chain_id is None:
                    raise SystemFailure("too many non-empty layers in History section")
                layer = self._graph.layers.get(chain_id)
                size = layer.size if layer is not None else 0
            entries.append(
                {
                    "created": _seconds(step.get("created")),
                    "created_by": step.get("created_by") or "",
                    "comment": step.get("comment") or "",
                    "size": size,
                }
            )
        rows: list[HistoryEntry] = []
        for entry in reversed(entries):
            if image is None:
                rows.append(HistoryEntry(id="<missing>", **entry))
                continue
            names = self._graph.repositories.references(image.id)
            tags = tuple(name.familiar for name in names if not name.digest)
            rows.append(HistoryEntry(id=image.id, tags=tags, **entry))
            image = self._parent(image)
        return tuple(rows)

    def tag(self, job: TagImage, ctx: JobContext) -> None:
        """``docker tag``."""
        image_id = self._graph.lookup(job.image)
        target = new_name(job.repo, job.tag)
        if image_id not in self._graph.images:
            raise Forbidden(f"{job.image!r} is not an image that can be named")
        self.give_name(target, image_id)

    def remove(self, job: RemoveImage, ctx: JobContext) -> tuple[RemovedImage, ...]:
        """``docker rmi``: the lines come in the order in which things went."""
        image_id = self._graph.lookup(job.image)
        if image_id not in self._graph.images:
            raise Conflict(f"conflict: unable to delete {job.image} (cannot be forced) - it is the machine itself")
        removed: Removed = []
        names = self._graph.repositories.references(image_id)
        by_id = image_id.startswith(job.image) or image_id.removeprefix("sha256:").startswith(job.image)
        if by_id:
            if _one_repository(names):
                self._check(image_id, force=job.force, names_count=False)
                for name in names:
                    self._untag(image_id, name, removed)
        else:
            if not job.force and _one_repository(names):
                self._refuse_last_name(image_id, job.image)
            name = references.parse(job.image)
            self._untag(image_id, Reference(name.domain, name.path, "", name.digest) if name.digest else name, removed)
            if not name.digest:
                self._untag_digests(image_id, name, removed)
            if self._graph.repositories.references(image_id):
                return tuple(removed)
        self._delete(image_id, removed, force=job.force, prune=not job.noprune, quiet=not by_id)
        return tuple(removed)

    def import_image(self, job: ImportImage, ctx: JobContext) -> ImageId:
        """``docker import -``."""
        with self._importer.received(ctx) as blob:
            target = new_name(job.repo, job.tag) if job.repo else None
            image_id = self._importer.make(job, ctx, blob)
        if target is not None:
            self.give_name(target, image_id)
        self._event("import", image_id, image_id)
        return image_id

    def give_name(self, target: Reference, image_id: ImageId) -> None:
        """Tag an image, and say so."""
        self._graph.tag(target, image_id)
        self._graph.images.touch(image_id)
        self._event("tag", image_id, target.familiar)

    def prune(self, job: PruneImages, ctx: JobContext) -> PrunedImages:
        """What a container has, or somebody removes meanwhile, stays theirs."""
        dangling = api_filters.truth(job.filters, "dangling") is not False
        before = [gotime.moment_before(text) for text in job.filters.get("until", ())]
        sizes = {str(layer.chain_id): layer.size for layer in self._graph.layers.all()}
        removed: Removed = []
        for image in self._graph.images.all():
            names = self._graph.repositories.references(image.id)
            if self._graph.images.children(image.id) and (dangling or not names):
                continue
            if any(_created_ns(image) >= limit for limit in before):
                continue
            if not api_filters.passes_prune(job.filters, _labels(image)):
                continue
            if dangling and any(not name.digest for name in names):
                continue
            for typed in [name.familiar for name in names] or [image.id]:
                try:
                    removed += self.remove(RemoveImage(image=typed), ctx)
                except (Conflict, NotFound):
                    continue
        reclaimed = sum(sizes.get(entry.deleted, 0) for entry in removed)
        self._publish(Event(kind="image", action="prune", actor_id="", attributes={"reclaimed": str(reclaimed)}))
        return PrunedImages(removed=tuple(removed), reclaimed=reclaimed)

    # What a view shows

    def _view(self, image: Image, names: Iterable[Reference], *, whole: bool = False) -> ImageView:
        names = [*names]
        layers = self._graph.layers
        known = image.id in self._graph.images
        return ImageView(
            id=image.id,
            parent=image.parent or "",
            repo_tags=tuple(name.familiar for name in names if not name.digest),
            repo_digests=tuple(name.familiar for name in names if name.digest),
            created=str(image.config.get("created") or gotime.ZERO_TIME),
            size=layers.size(image.top) if known else 0,
            config=image.config,
            diff_ids=image.diff_ids,
            last_tag_time=self._graph.images.last_tag_time(image.id) if whole and known else "",
            graphdriver_name=self._graph.driver.name,
            graphdriver_data=layers.data(image.top) if whole and known else {},
        )

    def _created(self, name: str) -> int:
        return _created_ns(self._graph.images.get(self._graph.lookup(name)))

    def _parent(self, image: Image) -> Image | None:
        try:
            return self._graph.images.get(image.parent) if image.parent else None
        except NotFound:
            return None

    # Removal

    def _using(self, image_id: ImageId, *, running: bool) -> Container | None:
        mine = (c for c in self._containers() if c.image == image_id and c.state.running == running)
        return next(mine, None)

    def _refuse_last_name(self, image_id: ImageId, typed: str) -> None:
        user = self._using(image_id, running=True) or self._using(image_id, running=False)
        if user is not None:
            raise Conflict(
                f'conflict: unable to remove repository reference "{typed}" (must force) - '
                f"container {short(user.id)} is using its referenced image {short(image_id)}",
                hint="remove the container first, or use --force",
            )

    def _check(self, image_id: ImageId, *, force: bool, names_count: bool) -> None:
        """Raise Conflict for what stands against deleting the image; ``force`` goes over what it may."""

        def conflict(how: str, why: str) -> Conflict:
            return Conflict(f"conflict: unable to delete {short(image_id)} ({how}) - {why}")

        if self._graph.images.children(image_id):
            raise conflict("cannot be forced", "image has dependent child images")
        user = self._using(image_id, running=True)
        if user is not None:
            raise conflict("cannot be forced", f"image is being used by running container {short(user.id)}")
        if force:
            return
        if names_count and self._graph.repositories.references(image_id):
            raise conflict("must be forced", "image is referenced in multiple repositories")
        user = self._using(image_id, running=False)
        if user is not None:
            raise conflict("must be forced", f"image is being used by stopped container {short(user.id)}")

    def _untag(self, image_id: ImageId, name: Reference, removed: Removed, *, tell: bool = True) -> None:
        name = name.default_tag()
        if not self._graph.untag(name):
            raise NotFound(f"No such image: {name.familiar}")
        removed.append(RemovedImage(untagged=name.familiar))
        if tell:
            self._event("untag", image_id, image_id)

    def _untag_digests(self, image_id: ImageId, name: Reference, removed: Removed) -> None:
        """The digests of a repository go with its last tag."""
        mine = [n for n in self._graph.repositories.references(image_id) if n.name == name.name]
        if all(n.digest for n in mine):
            for digest in mine:
                self._untag(image_id, digest, removed, tell=False)

    def _delete(self, image_id: ImageId, removed: Removed, *, force: bool, prune: bool, quiet: bool) -> None:
        try:
            self._check(image_id, force=force, names_count=True)
        except Conflict:
            used = self._using(image_id, running=True) or self._using(image_id, running=False)
            dangling = not self._graph.repositories.references(image_id) and not self._graph.images.children(image_id)
            if quiet and (not dangling or used is not None):
                return
            raise
        parent = self._graph.images.get(image_id).parent
        for name in self._graph.repositories.references(image_id):
            self._untag(image_id, name, removed)
        gone = self._graph.delete_image(image_id)
        self._publish(Event(kind="image", action="delete", actor_id=image_id, attributes={"name": image_id}))
        removed.append(RemovedImage(deleted=image_id))
        removed.extend(RemovedImage(deleted=chain_id) for chain_id in gone)
        named = parent is not None and self._graph.repositories.references(parent)
        if prune and parent is not None and parent in self._graph.images and not named:
            self._delete(parent, removed, force=False, prune=True, quiet=True)

    def _event(self, action: str, image_id: ImageId, name: str) -> None:
        labels = _labels(self._graph.images.get(image_id))
        self._publish(Event(kind="image", action=action, actor_id=image_id, attributes={**labels, "name": name}))


def new_name(repo: str, tag: str) -> Reference:
    """The name that tag, import and commit give. Raises InvalidParameter or Forbidden for what can be none."""
    name = references.parse(repo)
    if tag:
        name = name.trimmed().with_tag(tag)
    if name.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    name = name.default_tag()
    if name.familiar_name in _DIGEST_ALGORITHMS:
        raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")
    if name.familiar_name == "scratch":
        raise Forbidden("'scratch' is a reserved name")
    if name.familiar_name == "host" and name.tag == "latest":
        raise Forbidden("'host' is a reserved name: it stands for the machine's own root file system")
    return name


def _one_repository(names: Iterable[Reference]) -> bool:
    """At most one tag, and all digests in its repository."""
    names = [*names]
    if len(names) <= 1:
        return True
    tags = [name for name in names if not name.digest]
    digests = {name.name for name in names if name.digest}
    if len(tags) > 1:
        return False
    return digests == {(tags or names)[0].name}


def _labels(image: Image) -> dict[str, str]:
    config = image.config.get("config")
    labels = config.get("Labels") if isinstance(config, dict) else None
    return {str(key): str(value) for key, value in labels.items()} if isinstance(labels, dict) else {}


def _created_ns(image: Image) -> int:
    try:
        return gotime.parse_time(str(image.config.get("created") or gotime.ZERO_TIME))
    except InvalidParameter:
        return gotime.ZERO_NS


def _seconds(text: object) -> int:
    try:
        return gotime.parse_time(str(text)) // 1_000_000_000 if text else gotime.ZERO_NS // 1_000_000_000
    except InvalidParameter:
        return 0


def _matches(pattern: str, name: Reference) -> bool:
    """A shell pattern against ``bb:1`` or ``bb``; ``*`` stops at a slash. Source: Go path.Match."""
    compiled = _glob(pattern)
    return bool(compiled.fullmatch(name.familiar) or compiled.fullmatch(name.familiar_name))


def _glob(pattern: str) -> re.Pattern[str]:
    parts = []
    for piece in re.findall(r"\\.|\[[^\]]*\]|.", pattern, re.S):
        if piece == "*":
            parts.append("[^/]*")
        elif piece == "?":
            parts.append("[^/]")
        elif len(piece) > 2 and piece[0] == "[":
            parts.append("[" + piece[1:-1].replace("\\", "\\\\") + "]")
        else:
            parts.append(re.escape(piece[-1] if piece[0] == "\\" else piece))
    try:
        return re.compile("".join(parts))
    except re.error as error:
        raise InvalidParameter(f"invalid reference filter {pattern!r}: {error}") from error
