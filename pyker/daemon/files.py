"""The jobs ``changes``, ``export``, ``stat_path``, ``archive_path`` and ``extract_to_dir``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from pyker.container.record import Container
from pyker.container.store import ContainerStore
from pyker.daemon.events import EventBus
from pyker.daemon.view import Views
from pyker.engine.job import JobContext
from pyker.errors import InvalidParameter
from pyker.jobs.files import (
    Change,
    ContainerChanges,
    ExportContainer,
    GetArchive,
    PathStat,
    PutArchive,
    StatPath,
)
from pyker.types.ids import ContainerId

_OCTETS = "application/octet-stream"
_TAR = "application/x-tar"


class Changes(Protocol):
    """What the graph knows of a container's own layer."""

    def changes_rw(self, container_id: ContainerId) -> list[tuple[int, str]]: ...


class FileHandlers:
    """Lets users see and change the files of containers, whether they run or not."""

    def __init__(self, store: ContainerStore, layers: Changes, views: Views, bus: EventBus) -> None:
        self._store = store
        self._layers = layers
        self._views = views
        self._bus = bus

    def changes(self, job: ContainerChanges, ctx: JobContext) -> tuple[Change, ...]:
        """Ordered by path."""
        container = self._get(job.container, ctx)
        return tuple(Change(path=path, kind=kind) for kind, path in self._layers.changes_rw(container.id))

    def export(self, job: ExportContainer, ctx: JobContext) -> None:
        """The caller hears of an error in place of the first byte, or by a stream that is cut."""
        container = self._get(job.container, ctx)
        self._views.read(container, "export", lambda data: ctx.stdio.stdout(_OCTETS)(data), ctx.cancel)
        self._bus.container("export", container)

    def stat(self, job: StatPath, ctx: JobContext) -> PathStat:
        """Raises NotFound, InvalidParameter for no path at all."""
        path = _absolute(job.path)
        with self._settled(job.container, ctx) as container:
            return PathStat(**self._views.ask(container, "stat", path=path, shown=job.container))

    def get(self, job: GetArchive, ctx: JobContext) -> None:
        """Raises NotFound. What is mounted below the path is part of it."""
        path = _absolute(job.path)
        with self._settled(job.container, ctx) as container:
            self._views.read(
                container, "get", lambda data: ctx.stdio.stdout(_TAR)(data), ctx.cancel, path=path, shown=job.container
            )
        self._bus.container("archive-path", container)

    def put(self, job: PutArchive, ctx: JobContext) -> None:
        """Raises NotFound, InvalidParameter for what is no folder or no tar, Forbidden for what is read-only.

        A container that does not run cannot start meanwhile: its root is mounted once at a time.
        """
        path = _absolute(job.path)
        source = ctx.stdio.stdin()
        with self._settled(job.container, ctx, writing=True) as container:
            self._views.write(
                container,
                source,
                ctx.cancel,
                path=path,
                shown=job.container,
                keep_kinds=job.keep_kinds,
                readonly=container.host_config.readonly_rootfs,
            )
        self._bus.container("extract-to-dir", container)

    @contextmanager
    def _settled(self, name: str, ctx: JobContext, *, writing: bool = False) -> Iterator[Container]:
        """The container; one that does not run does not start meanwhile, if its root is written to."""
        container = self._get(name, ctx)
        if container.state.running or not (writing or self._views.lacks_places(container)):
            yield container
            return
        with self._store.lock(container.id):
            yield self._store.get(container.id)

    def _get(self, name: str, ctx: JobContext) -> Container:
        container = self._store.get(name)
        ctx.subject = container.id
        return container


def _absolute(path: str) -> str:
    if not path:
        raise InvalidParameter("bad parameter: pathcannot be empty")
    return path if path.startswith("/") else f"/{path}"
