"""Jobs about images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pyker.engine.job import Job
from pyker.types.config import ContainerConfig
from pyker.types.ids import Digest, ImageId


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAuth:
    """Credentials for one registry, as X-Registry-Auth carries them."""

    username: str = ""
    password: str = ""
    server_address: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"RegistryAuth(username={self.username!r}, server_address={self.server_address!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """``digest`` is that of the manifest or index asked for; ``newer`` is False when the image was here already."""

    reference: str
    digest: Digest
    image_id: ImageId
    newer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull(Job[Pulled]):
    """Fetch an image into the graph; progress by ``ctx.emit``. ``tag`` may be a digest; empty pulls every tag.

    ``platform`` is os/arch[/variant], empty for the host's. Source: Docker API v1.45 POST /images/create.
    """

    name: ClassVar[str] = "pull"
    secret: ClassVar[frozenset[str]] = frozenset({"auth"})
    image: str
    tag: str = ""
    platform: str = ""
    auth: RegistryAuth = RegistryAuth()
    meta_headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Push(Job[None]):
    """Send an image to its registry; progress by ``ctx.emit``. An empty ``tag`` sends every tag of the repository."""

    name: ClassVar[str] = "push"
    secret: ClassVar[frozenset[str]] = frozenset({"auth"})
    image: str
    tag: str = ""
    auth: RegistryAuth = RegistryAuth()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageView:
    """An image as list and inspect show it. ``created`` is RFC 3339; sizes are bytes.

    ``config`` is the image's configuration file, parsed. ``containers`` is -1 when not counted.
    """

    id: ImageId
    parent: str
    repo_tags: tuple[str, ...]
    repo_digests: tuple[str, ...]
    created: str
    size: int
    config: dict[str, object]
    diff_ids: tuple[str, ...]
    last_tag_time: str = ""
    graphdriver_name: str = ""
    graphdriver_data: dict[str, str] = field(default_factory=dict)
    containers: int = -1
    shared_size: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ListImages(Job[tuple[ImageView, ...]]):
    """Newest first. ``all`` includes the untagged ones that others stand on."""

    name: ClassVar[str] = "images"
    all: bool = False
    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectImage(Job[ImageView]):
    """By any name that an image has: reference, ID, prefix of an ID."""

    name: ClassVar[str] = "image_inspect"
    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One line of history; ``id`` is "<missing>" for layers that came by pull. ``created`` is seconds since 1970."""

    id: str
    created: int
    created_by: str
    tags: tuple[str, ...] = ()
    size: int = 0
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHistory(Job[tuple[HistoryEntry, ...]]):
    """How an image was made, newest step first."""

    name: ClassVar[str] = "history"
    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TagImage(Job[None]):
    """Give an image one more name. An empty ``tag`` means latest."""

    name: ClassVar[str] = "tag"
    image: str
    repo: str
    tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedImage:
    """One line of what rmi did: exactly one of the two is set."""

    untagged: str = ""
    deleted: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveImage(Job[tuple[RemovedImage, ...]]):
    """Untag, and free what nothing refers to any more."""

    name: ClassVar[str] = "image_delete"
    image: str
    force: bool = False
    noprune: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportImage(Job[ImageId]):
    """Make a one-layer image of the tar in ``ctx.stdio.stdin()``. ``changes`` are Dockerfile lines."""

    name: ClassVar[str] = "import"
    repo: str = ""
    tag: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitContainer(Job[ImageId]):
    """Make an image of a container's changes. ``changes`` are Dockerfile lines; ``config`` None: the container's own.

    Source: Docker API v1.45 POST /commit.
    """

    name: ClassVar[str] = "commit"
    container: str
    repo: str = ""
    tag: str = ""
    comment: str = ""
    author: str = ""
    pause: bool = True
    changes: tuple[str, ...] = ()
    config: ContainerConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PullLayer(Job[str]):
    """A child of pull: fetch, verify and apply one layer; returns its chain ID. Arguments are for the journal."""

    name: ClassVar[str] = "pull_layer"
    repository: str
    digest: Digest
    size: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PushLayer(Job[Digest]):
    """A child of push: offer one layer, mount it from another repository, or upload it; returns its digest."""

    name: ClassVar[str] = "push_layer"
    repository: str
    diff_id: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """One image that a registry names."""

    name: str
    description: str
    star_count: int
    is_official: bool
    is_automated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchImages(Job[tuple[SearchResult, ...]]):
    """Ask a registry for images by a word; ``limit`` 0 means 25. Source: Docker API v1.45 GET /images/search."""

    name: ClassVar[str] = "search"
    secret: ClassVar[frozenset[str]] = frozenset({"auth"})
    term: str
    limit: int = 0
    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    auth: RegistryAuth = RegistryAuth()


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedImages:
    """What rmi would have said, and how many bytes that freed."""

    removed: tuple[RemovedImage, ...] = ()
    reclaimed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneImages(Job[PrunedImages]):
    """Remove the images without a tag; with the filter ``dangling=false`` all that no container has."""

    name: ClassVar[str] = "image_prune"
    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlatform:
    """What an image runs on; ``os_version`` matters on Windows alone."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionView:
    """What is at a name in a registry: a manifest or an index, and the platforms of its images."""

    media_type: str
    digest: Digest
    size: int
    platforms: tuple[ImagePlatform, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectDistribution(Job[DistributionView]):
    """Ask a registry what an image is, without pulling it. Source: Docker API v1.45 GET /distribution/{name}/json."""

    name: ClassVar[str] = "distribution"
    secret: ClassVar[frozenset[str]] = frozenset({"auth"})
    image: str
    auth: RegistryAuth = RegistryAuth()


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveImages(Job[None]):
    """Write images as one tar to ``ctx.stdio.stdout``. ``images`` are references or IDs; see ``daemon.imagesave``."""

    name: ClassVar[str] = "image_export"
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadImages(Job[None]):
    """Make the images of the archive in ``ctx.stdio.stdin()``; what came is told by ``ctx.emit``.

    ``platform`` chooses from an index in it, the host's unless given; ``quiet`` tells nothing of layers.
    """

    name: ClassVar[str] = "load"
    quiet: bool = True
    platform: str = ""
