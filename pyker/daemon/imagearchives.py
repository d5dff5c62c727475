"""The jobs ``save`` and ``load``. What they need of the standard library comes with the first of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from pyker.engine.job import JobContext
from pyker.graph.graph import Graph
from pyker.jobs.images import LoadImages, SaveImages
from pyker.types.events import Event
from pyker.types.ids import ImageId


class ArchiveHandlers:
    """One method a job. ``folder`` is for files that are gone when a job ends; ``publish`` takes the events."""

    def __init__(self, graph: Graph, folder: str, publish: Callable[[Event], None]) -> None:
        self._graph = graph
        self._folder = folder
        self._publish = publish

    def save(self, job: SaveImages, ctx: JobContext) -> None:
        """See ``imagesave.Saver``."""
        from pyker.daemon.imagesave import Saver

        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        self._tell("save", Saver(self._graph, self._folder).save(job, ctx))

    def load(self, job: LoadImages, ctx: JobContext) -> None:
        """See ``imageload.Loader``."""
        from pyker.daemon.imageload import Loader

        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        self._tell("load", Loader(self._graph, self._folder).load(job, ctx))

    def _tell(self, action: str, images: Iterable[ImageId]) -> None:
        for image_id in images:
            self._publish(Event(kind="image", action=action, actor_id=image_id, attributes={"name": image_id}))
