"""What ``GET /system/df`` answers. Source: Docker API v1.45."""

from __future__ import annotations

from collections.abc import Collection
from time import time_ns
from typing import Any

from pyker.api.versions import Version
from pyker.jobs.system import DiskUsage
from pyker.server.render.containers import container_row
from pyker.server.render.images import image_row
from pyker.server.render.volumes import volume


def disk_usage(usage: DiskUsage, kinds: Collection[str], version: Version) -> dict[str, Any]:
    """What was not asked for is null. There is no build cache."""
    now_ns = time_ns()
    shown: dict[str, Any] = {
        "LayersSize": usage.layers_size,
        "Images": [image_row(view, version) for view in usage.images] if "image" in kinds else None,
        "Containers": None,
        "Volumes": None,
        "BuildCache": [] if "build-cache" in kinds and version >= (1, 42) else None,
    }
    if "container" in kinds:
        shown["Containers"] = [container_row(row, version, now_ns) for row in usage.containers]
    if "volume" in kinds:
        shown["Volumes"] = [
            {**volume(entry.volume), "UsageData": {"RefCount": entry.containers, "Size": entry.size}}
            for entry in usage.volumes
        ]
    if version < (1, 42):
        shown["BuilderSize"] = 0
    return shown
