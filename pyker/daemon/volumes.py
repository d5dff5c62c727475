"""The jobs about volumes."""

from __future__ import annotations

from collections.abc import Callable

from pyker.api import filters as wanted
from pyker.container.store import ContainerStore
from pyker.container.volumes import Volume, VolumeStore
from pyker.daemon.removal import users_of
from pyker.engine.job import JobContext
from pyker.errors import Conflict, NotFound
from pyker.graphdriver.archive.contents import content_size
from pyker.jobs.volumes import CreateVolume, InspectVolume, ListVolumes, PrunedVolumes, PruneVolumes, RemoveVolume
from pyker.types.events import Event

_DRIVER = "local"


class VolumeHandlers:
    """One method a job. Who uses a volume is known by the containers' records."""

    def __init__(self, volumes: VolumeStore, containers: ContainerStore, publish: Callable[[Event], None]) -> None:
        self._volumes = volumes
        self._containers = containers
        self._publish = publish

    def list(self, job: ListVolumes, ctx: JobContext) -> tuple[Volume, ...]:
        """Raises InvalidParameter for a filter that volumes do not have."""
        filters = job.filters
        dangling = wanted.truth(filters, "dangling")
        return tuple(
            volume
            for volume in self._volumes.all()
            if wanted.matches_pattern(filters.get("name"), volume.name)
            and wanted.matches_exactly(filters.get("driver"), volume.driver)
            and wanted.matches_labels(filters.get("label"), volume.labels)
            and (dangling is None or dangling == (not users_of(self._containers, volume.name)))
        )

    def inspect(self, job: InspectVolume, ctx: JobContext) -> Volume:
        """Raises NotFound."""
        return self._volumes.get(job.volume)

    def create(self, job: CreateVolume, ctx: JobContext) -> Volume:
        """Raises InvalidParameter for a name or options that cannot be, NotFound for a driver that is not there."""
        if job.driver != _DRIVER:
            raise NotFound(
                f'create {job.volume}: error looking up volume plugin {job.driver}: plugin "{job.driver}" not found',
                hint="the driver here is called local",
            )
        volume, new = self._volumes.create(job.volume, labels=job.labels, options=job.options)
        if new:
            self._tell("create", volume)
        return volume

    def remove(self, job: RemoveVolume, ctx: JobContext) -> None:
        """Raises Conflict for one that a container has, NotFound."""
        try:
            volume = self._volumes.get(job.volume)
            self._volumes.remove(volume.name, users_of(self._containers, volume.name))
        except NotFound:
            if not job.force:
                raise
            return
        self._tell("destroy", volume)

    def prune(self, job: PruneVolumes, ctx: JobContext) -> PrunedVolumes:
        """What somebody takes meanwhile stays."""
        removed = []
        reclaimed = 0
        for volume in self._volumes.all():
            if not (job.named or volume.anonymous) or not wanted.passes_prune(job.filters, volume.labels):
                continue
            try:
                size = content_size(volume.mountpoint)
                self._volumes.remove(volume.name, users_of(self._containers, volume.name))
            except (Conflict, NotFound, FileNotFoundError):
                continue
            removed.append(volume.name)
            reclaimed += size
            self._tell("destroy", volume)
        event = Event(kind="volume", action="prune", actor_id="", attributes={"reclaimed": str(reclaimed)})
        self._publish(event)
        return PrunedVolumes(names=tuple(removed), reclaimed=reclaimed)

    def _tell(self, action: str, volume: Volume) -> None:
        self._publish(Event(kind="volume", action=action, actor_id=volume.name, attributes={"driver": volume.driver}))
