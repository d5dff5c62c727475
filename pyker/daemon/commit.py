"""The job ``commit``: an image of a container as it is now. Source: Docker API v1.45 POST /commit."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from pyker.api import gotime
from pyker.container.record import Container
from pyker.container.store import ContainerStore
from pyker.daemon import imagechanges, imageconfig
from pyker.daemon.events import EventBus
from pyker.daemon.images import new_name
from pyker.engine.job import JobContext
from pyker.errors import Conflict, NotFound, SystemFailure
from pyker.graph.graph import Graph
from pyker.jobs.containers import PauseContainer, UnpauseContainer
from pyker.jobs.images import CommitContainer
from pyker.types.config import ContainerConfig
from pyker.types.ids import DiffId, ImageId
from pyker.types.reference import Reference

_EMPTY_LAYER = DiffId("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")
"""The diff-id of a tar of nothing."""


class CommitHandlers:
    """Makes images of containers. ``give_name`` is how every image gets a name."""

    def __init__(
        self, store: ContainerStore, graph: Graph, bus: EventBus, give_name: Callable[[Reference, ImageId], None]
    ) -> None:
        self._store = store
        self._graph = graph
        self._bus = bus
        self._give_name = give_name

    def commit(self, job: CommitContainer, ctx: JobContext) -> ImageId:
        """Raises NotFound, InvalidParameter for a bad name or change, NotSupported for a view of the machine's root."""
        container = self._store.get(job.container)
        ctx.subject = container.id
        target = new_name(job.repo, job.tag) if job.repo else None
        with self._still(container, ctx, pause=job.pause) as container, self._graph.layers.hold():
            image_id = self._make(container, job, ctx)
        if target is not None:
            self._give_name(target, image_id)
        named = "" if target is None else target.familiar
        self._bus.container("commit", container, comment=job.comment, imageID=image_id, imageRef=named)
        return image_id

    @contextlib.contextmanager
    def _still(self, container: Container, ctx: JobContext, *, pause: bool) -> Iterator[Container]:
        """The container, while nothing in it changes: frozen if it runs, and it cannot start if it does not."""
        with self._store.lock(container.id):
            container = self._store.get(container.id)
            if container.state.removal_in_progress or container.state.dead:
                raise Conflict(f"You cannot commit container {container.id} which is being removed")
            if not container.state.running:
                yield container
                return
        if not pause or container.state.paused or container.state.restarting:
            yield container
            return
        ctx.run(PauseContainer(container=container.id))
        try:
            yield container
        finally:
            # One that was killed meanwhile needs no thaw.
            with contextlib.suppress(Conflict, NotFound, SystemFailure):
                ctx.run(UnpauseContainer(container=container.id))

    def _make(self, container: Container, job: CommitContainer, ctx: JobContext) -> ImageId:
        config = _config(container, job)
        base = self._graph.images.get(container.image)
        layer = self._graph.layers.add_rw(container.id, cancel=lambda: ctx.cancel.cancelled)
        empty = layer.diff_id == _EMPTY_LAYER
        now = gotime.now()
        entry: dict[str, Any] = {"created": now}
        entry |= {"author": job.author} if job.author else {}
        entry |= {"created_by": " ".join(container.config.cmd or ())}
        entry |= {"comment": job.comment} if job.comment else {}
        entry |= {"empty_layer": True} if empty else {}
        below = base.config
        made: dict[str, Any] = {
            "architecture": below.get("architecture", ""),
            **({"variant": below["variant"]} if below.get("variant") else {}),
            **({"author": job.author} if job.author else {}),
            **({"comment": job.comment} if job.comment else {}),
            "config": config,
            "container": container.id,
            "container_config": msgspec.to_builtins(container.config),
            "created": now,
            "history": [*(below.get("history") or ()), entry],
            "os": below.get("os", "linux"),
            "rootfs": {"type": "layers", "diff_ids": [*base.diff_ids, *(() if empty else (layer.diff_id,))]},
        }
        raw = json.dumps(made, separators=(",", ":"), ensure_ascii=False).encode()
        return self._graph.create_image(raw, parent=base.id)


def _config(container: Container, job: CommitContainer) -> dict[str, Any]:
    """What containers of the image inherit: the container's own, under what was asked for, with the changes made."""
    asked: dict[str, Any] = msgspec.to_builtins(job.config if job.config is not None else container.config)
    imagechanges.apply(asked, job.changes)
    if job.config is None and not job.changes:
        return asked
    mine = msgspec.convert(asked, ContainerConfig)
    beneath = imageconfig.read_image_config({"config": msgspec.to_builtins(container.config)})
    merged: dict[str, Any] = msgspec.to_builtins(imageconfig.merge(mine, beneath))
    return {**asked, **merged}
