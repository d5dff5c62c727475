"""Volumes as list and inspect show them. Source: Docker API v1.45, GET /volumes/..."""

from __future__ import annotations

from typing import Any

from pyker.container.volumes import Volume

JsonObject = dict[str, Any]


def volume(stored: Volume) -> JsonObject:
    """A volume; its time has whole seconds."""
    return {
        "CreatedAt": stored.created.partition(".")[0].removesuffix("Z") + "Z",
        "Driver": stored.driver,
        "Labels": stored.labels or None,
        "Mountpoint": stored.mountpoint,
        "Name": stored.name,
        "Options": stored.options or None,
        "Scope": "local",
    }
