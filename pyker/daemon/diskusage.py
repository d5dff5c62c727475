"""The job ``system_df``: what takes how much of the disk."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pyker.container.store import ContainerStore
from pyker.container.volumes import VolumeStore
from pyker.daemon.removal import users_of
from pyker.engine.job import JobContext
from pyker.graph.graph import Graph
from pyker.graph.layers import chain_ids
from pyker.graphdriver.archive.contents import content_size
from pyker.jobs.containers import ListContainers
from pyker.jobs.images import ImageView, ListImages
from pyker.jobs.system import DiskUsage, MeasureDisk, VolumeUsage
from pyker.types.ids import ChainId, DiffId


class DiskUsageHandlers:
    """Adds up what the lists tell."""

    def __init__(self, graph: Graph, containers: ContainerStore, volumes: VolumeStore) -> None:
        self._graph = graph
        self._containers = containers
        self._volumes = volumes

    def measure(self, job: MeasureDisk, ctx: JobContext) -> DiskUsage:
        """Sizes are of files, each inode once."""
        usage = DiskUsage()
        if "image" in job.kinds:
            layers = {layer.chain_id: layer.size for layer in self._graph.layers.all()}
            images = self._with_shares(ctx.run(ListImages()), layers)
            usage = replace(usage, layers_size=sum(layers.values()), images=images)
        if "container" in job.kinds:
            usage = replace(usage, containers=ctx.run(ListContainers(all=True, size=True)))
        if "volume" in job.kinds:
            usage = replace(usage, volumes=self._volume_usage())
        return usage

    def _with_shares(self, images: tuple[ImageView, ...], sizes: dict[ChainId, int]) -> tuple[ImageView, ...]:
        chains = {image.id: chain_ids(map(DiffId, image.diff_ids)) for image in images}
        shared = Counter(chain_id for chain in chains.values() for chain_id in chain)
        users = Counter(container.image for container in self._containers.all())
        return tuple(
            replace(
                image,
                containers=users[image.id],
                shared_size=sum(sizes.get(chain_id, 0) for chain_id in chains[image.id] if shared[chain_id] > 1),
            )
            for image in images
        )

    def _volume_usage(self) -> tuple[VolumeUsage, ...]:
        found = []
        for volume in self._volumes.all():
            try:
                size = content_size(volume.mountpoint)
            except FileNotFoundError:
                # Removed meanwhile.
                continue
            users = users_of(self._containers, volume.name)
            found.append(VolumeUsage(volume=volume, containers=len(users), size=size))
        return tuple(found)
