"""Jobs about the files of containers. ``container`` is what the user typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pyker.engine.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """``kind`` is 0 for modified, 1 for added, 2 for deleted."""

    path: str
    kind: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerChanges(Job[tuple[Change, ...]]):
    """What a container made of its image. Source: Docker API v1.45 GET /containers/{id}/changes."""

    name: ClassVar[str] = "changes"
    container: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportContainer(Job[None]):
    """Write the root file system, without what is mounted in it, as a tar to the caller's stdout."""

    name: ClassVar[str] = "export"
    container: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStat:
    """``mode`` is the kernel's st_mode; ``link_target`` is where a symlink ends, as the container sees it."""

    name: str
    size: int
    mode: int
    mtime_ns: int
    link_target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatPath(Job[PathStat]):
    """What is at a path of a container. Raises NotFound. Source: Docker API v1.45 HEAD /containers/{id}/archive."""

    name: ClassVar[str] = "stat_path"
    container: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GetArchive(Job[None]):
    """Write what is at a path of a container, with all below it, as a tar to the caller's stdout."""

    name: ClassVar[str] = "archive_path"
    container: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutArchive(Job[None]):
    """Extract the caller's stdin, a tar that may be compressed, into a folder of a container.

    ``keep_kinds``: a folder does not give way to anything else, nor anything else to a folder.
    """

    name: ClassVar[str] = "extract_to_dir"
    container: str
    path: str
    keep_kinds: bool = False
