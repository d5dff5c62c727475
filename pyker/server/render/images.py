"""Images as list, inspect and history show them. Source: Docker API v1.41 and v1.45, GET /images/..."""

from __future__ import annotations

from typing import Any

import msgspec

from pyker.api import gotime
from pyker.api.codec import Decoder
from pyker.api.versions import Version
from pyker.errors import InvalidParameter
from pyker.jobs.images import DistributionView, HistoryEntry, ImageView, RemovedImage, SearchResult
from pyker.types.config import ContainerConfig

JsonObject = dict[str, Any]

_config = Decoder(ContainerConfig, lists=("Cmd", "Entrypoint", "Shell"))


def image_inspect(view: ImageView, version: Version) -> JsonObject:
    """``GET /images/{name}/json``."""
    stored = view.config
    shown: JsonObject = {
        "Id": view.id,
        "RepoTags": list(view.repo_tags),
        "RepoDigests": list(view.repo_digests),
        "Parent": view.parent,
        "Comment": _comment(stored),
        "Created": view.created,
    }
    if version < (1, 45):
        shown["Container"] = _text(stored, "container")
        shown["ContainerConfig"] = config_of(stored.get("container_config") or {})
    shown["DockerVersion"] = _text(stored, "docker_version")
    shown["Author"] = _text(stored, "author")
    shown["Config"] = None if stored.get("config") is None else config_of(stored["config"])
    shown["Architecture"] = _text(stored, "architecture")
    if _text(stored, "variant"):
        shown["Variant"] = _text(stored, "variant")
    shown["Os"] = _text(stored, "os") or "linux"
    if _text(stored, "os.version"):
        shown["OsVersion"] = _text(stored, "os.version")
    shown["Size"] = view.size
    if version < (1, 44):
        shown["VirtualSize"] = view.size
    shown["GraphDriver"] = {"Data": view.graphdriver_data or None, "Name": view.graphdriver_name}
    shown["RootFS"] = {"Type": "layers", "Layers": list(view.diff_ids)} if view.diff_ids else {"Type": "layers"}
    shown["Metadata"] = {"LastTagTime": view.last_tag_time or gotime.ZERO_TIME}
    return shown


def config_of(raw: object) -> JsonObject:
    """An image's configuration with every field that the wire has, as Go's struct would give it."""
    try:
        config = _config.convert(raw)
    except InvalidParameter:
        config = ContainerConfig()
    shown: JsonObject = msgspec.to_builtins(config)
    return shown


def _text(stored: dict[str, object], key: str) -> str:
    value = stored.get(key)
    return value if isinstance(value, str) else ""


def _comment(stored: dict[str, object]) -> str:
    comment = _text(stored, "comment")
    history = stored.get("history")
    if not comment and isinstance(history, list) and history and isinstance(history[-1], dict):
        return str(history[-1].get("comment") or "")
    return comment


def image_row(view: ImageView, version: Version) -> JsonObject:
    """One element of ``GET /images/json``."""
    tags, digests = list(view.repo_tags), list(view.repo_digests)
    if version < (1, 43):
        if not tags and digests:
            tags = [f"{digest.partition('@')[0]}:<none>" for digest in digests]
        elif not tags:
            tags, digests = ["<none>:<none>"], ["<none>@<none>"]
    config = view.config.get("config")
    labels = config.get("Labels") if isinstance(config, dict) else None
    shown: JsonObject = {
        "Containers": view.containers,
        "Created": _unix(view.created),
        "Id": view.id,
        "Labels": labels or None,
        "ParentId": view.parent,
        "RepoDigests": digests or (None if version < (1, 43) else []),
        "RepoTags": tags,
        "SharedSize": view.shared_size,
        "Size": view.size,
    }
    if version < (1, 44):
        shown["VirtualSize"] = view.size
    return shown


def _unix(created: str) -> int:
    try:
        return gotime.parse_time(created) // gotime.SECOND
    except InvalidParameter:
        return 0


def history_entry(entry: HistoryEntry) -> JsonObject:
    """One element of ``GET /images/{name}/history``."""
    return {
        "Comment": entry.comment,
        "Created": entry.created,
        "CreatedBy": entry.created_by,
        "Id": entry.id,
        "Size": entry.size,
        "Tags": list(entry.tags) or None,
    }


def removed_image(entry: RemovedImage) -> JsonObject:
    """One element of what ``DELETE /images/{name}`` answers."""
    return {"Untagged": entry.untagged} if entry.untagged else {"Deleted": entry.deleted}


def search_result(found: SearchResult) -> JsonObject:
    """One element of ``GET /images/search``, in the names that registries use."""
    return {
        "star_count": found.star_count,
        "is_official": found.is_official,
        "name": found.name,
        "is_automated": found.is_automated,
        "description": found.description,
    }


def distribution(view: DistributionView) -> JsonObject:
    """``GET /distribution/{name}/json``. What is empty of a platform is left out."""
    platforms = []
    for platform in view.platforms:
        shown = {"architecture": platform.architecture, "os": platform.os}
        if platform.os_version:
            shown["os.version"] = platform.os_version
        if platform.variant:
            shown["variant"] = platform.variant
        platforms.append(shown)
    return {
        "Descriptor": {"mediaType": view.media_type, "digest": view.digest, "size": view.size},
        "Platforms": platforms or None,
    }
