"""Jobs about volumes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pyker.container.volumes import Volume
from pyker.engine.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class ListVolumes(Job[tuple[Volume, ...]]):
    """All volumes that pass ``filters``."""

    name: ClassVar[str] = "volumes"
    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectVolume(Job[Volume]):
    """By its whole name."""

    name: ClassVar[str] = "volume_inspect"
    volume: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateVolume(Job[Volume]):
    """Make a volume; one that is there stays as it is. Source: Docker API v1.45 POST /volumes/create."""

    name: ClassVar[str] = "volume_create"
    volume: str = ""
    driver: str = "local"
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveVolume(Job[None]):
    """Delete a volume that no container has; with ``force`` one that is not there is no error."""

    name: ClassVar[str] = "volume_rm"
    volume: str
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedVolumes:
    """The names of what was removed, and how many bytes that freed."""

    names: tuple[str, ...] = ()
    reclaimed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneVolumes(Job[PrunedVolumes]):
    """Remove the volumes that no container has; without ``named`` only those that were made without a name."""

    name: ClassVar[str] = "volume_prune"
    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    named: bool = False
