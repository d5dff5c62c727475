"""``pyker system df`` and ``pyker system prune``. Source: Docker API GET /system/df, POST /{kind}/prune."""

from __future__ import annotations

from pyker.client import units
from pyker.client.command import Command
from pyker.client.commands import images, ps, volumes
from pyker.client.commands.prune import image_lines
from pyker.client.confirm import confirmed
from pyker.client.failure import Failure
from pyker.client.flags import Flag
from pyker.client.pruning import request_prune, tell
from pyker.client.table import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

HEADERS = {
    "Active": "ACTIVE",
    "Reclaimable": "RECLAIMABLE",
    "Size": "SIZE",
    "TotalCount": "TOTAL",
    "Type": "TYPE",
}
COLUMNS = ("Type", "TotalCount", "Active", "Size", "Reclaimable")
BUILD_CACHE_HEADERS = {
    "CacheType": "CACHE TYPE",
    "CreatedSince": "CREATED",
    "ID": "CACHE ID",
    "LastUsedSince": "LAST USED",
    "Shared": "SHARED",
    "Size": "SIZE",
    "UsageCount": "USAGE",
}
_BUILD_CACHE_COLUMNS = ("ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared")
_IMAGE_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
_CONTAINER_COLUMNS = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
_VOLUME_COLUMNS = ("Name", "Links", "Size")
_IN_USE = frozenset(["running", "paused", "restarting"])


def _df(around: Surroundings, options: Options) -> int:
    template = options.text("format")
    found = around.client.json("GET", "/system/df")
    if not options.on("verbose"):
        around.write(render(_summary(found), headers=HEADERS, columns=COLUMNS, template=template))
        return 0
    if template in ("", "table"):
        around.write(_details(found))
        return 0
    everything = {
        "Images": list(map(_plain, _images(found, whole=True))),
        "Containers": list(map(_plain, _containers(found, whole=True))),
        "Volumes": list(map(_plain, _volumes(found))),
        "BuildCache": list(map(_plain, _build_cache(found, whole=True))),
    }
    if template == "json":
        from pyker.client.wirejson import dumps_go

        around.write(dumps_go(everything))
        return 0
    from pyker.client.template import Template

    around.write(Template(template.replace("\\t", "\t").replace("\\n", "\n")).render(everything))
    return 0


def _summary(found: dict[str, Any]) -> list[dict[str, str]]:
    """A row a kind: how many there are, how many are in use, how much room they take, and how much a prune frees."""
    kept = [item for item in found.get("Images") or [] if (item.get("Containers") or 0) != 0]
    layers = found.get("LayersSize") or 0
    in_use = sum(item["Size"] - item["SharedSize"] for item in kept if item["Size"] >= 0 and item["SharedSize"] >= 0)
    containers = [(item.get("State") in _IN_USE, item.get("SizeRw") or 0) for item in found.get("Containers") or []]
    usages = [item.get("UsageData") or {} for item in found.get("Volumes") or []]
    mounted = [(usage.get("RefCount", -1) > 0, max(0, usage.get("Size", -1))) for usage in usages]
    cached = [
        (bool(item.get("InUse")), bool(item.get("Shared")), item.get("Size") or 0)
        for item in found.get("BuildCache") or []
    ]
    active_images = sum((item.get("Containers") or 0) > 0 for item in kept)
    return [
        _row("Images", len(found.get("Images") or []), active_images, layers, layers - in_use),
        _row("Containers", len(containers), *_totals(containers)),
        _row("Local Volumes", len(mounted), *_totals(mounted)),
        {
            "Type": "Build Cache",
            "TotalCount": str(len(cached)),
            "Active": str(sum(used for used, _, _ in cached)),
            "Size": units.human_size(_own_cache(found)),
            "Reclaimable": units.human_size(sum(size for used, shared, size in cached if not (used or shared))),
        },
    ]


def _totals(items: list[tuple[bool, int]]) -> tuple[int, int, int]:
    """(how many are in use, size of all, size of those that are not) of (in use, size)."""
    return (
        sum(used for used, _ in items),
        sum(size for _, size in items),
        sum(size for used, size in items if not used),
    )


def _own_cache(found: dict[str, Any]) -> int:
    """What of the build cache nothing else shares."""
    return sum(item.get("Size") or 0 for item in found.get("BuildCache") or [] if not item.get("Shared"))


def _row(kind: str, count: int, active: int, size: int, freed: int) -> dict[str, str]:
    share = f" ({freed * 100 // size}%)" if size > 0 else ""
    return {
        "Type": kind,
        "TotalCount": str(count),
        "Active": str(active),
        "Size": units.human_size(size),
        "Reclaimable": f"{units.human_size(freed)}{share}",
    }


def _details(found: dict[str, Any]) -> str:
    cache = units.human_size(_own_cache(found))
    parts = [
        ("Images space usage:", _images(found, whole=False), images.HEADERS, _IMAGE_COLUMNS),
        ("Containers space usage:", _containers(found, whole=False), ps.HEADERS, _CONTAINER_COLUMNS),
        ("Local Volumes space usage:", _volumes(found), volumes.HEADERS, _VOLUME_COLUMNS),
        (f"Build cache usage: {cache}", _build_cache(found, whole=False), BUILD_CACHE_HEADERS, _BUILD_CACHE_COLUMNS),
    ]
    return "\n".join(
        f"{title}\n\n{render(rows, headers=headers, columns=columns)}" for title, rows, headers, columns in parts
    )


def _images(found: dict[str, Any], *, whole: bool) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for item in found.get("Images") or []:
        rows += [row | {"Digest": ""} for row in images.image_rows(item, whole=whole, digests=False, by_tag=False)[:1]]
    return rows


def _containers(found: dict[str, Any], *, whole: bool) -> list[dict[str, Any]]:
    # What a container takes of its own; its image is listed for itself.
    own = [{**item, "SizeRootFs": 0} for item in found.get("Containers") or []]
    return [ps.container_row(item, whole=whole) for item in own]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sorted(row.items()) if not callable(value)}


def _volumes(found: dict[str, Any]) -> list[dict[str, str]]:
    rows = []
    for item in found.get("Volumes") or []:
        usage = item.get("UsageData") or {}
        links, size = usage.get("RefCount", -1), usage.get("Size", -1)
        known = {"Links": str(links), "Size": units.human_size(size)} if usage else {}
        rows.append(volumes.volume_row(item) | known)
    return rows


def _build_cache(found: dict[str, Any], *, whole: bool) -> list[dict[str, str]]:
    rows = []
    items = found.get("BuildCache") or []
    for item in sorted(items, key=lambda item: (item.get("LastUsedAt") or "", item.get("UsageCount") or 0)):
        created, used = (_moment(item.get(name)) for name in ("CreatedAt", "LastUsedAt"))
        identifier = str(item.get("ID") or "")
        row = {
            "CacheType": item.get("Type") or "",
            "CreatedAt": units.utc_time(item.get("CreatedAt") or ""),
            "CreatedSince": units.ago(created) if created else "",
            "Description": item.get("Description") or "",
            "ID": (identifier if whole else identifier[:12]) + ("*" if item.get("InUse") else ""),
            "InUse": "true" if item.get("InUse") else "false",
            "LastUsedAt": units.utc_time(item.get("LastUsedAt") or ""),
            "LastUsedSince": units.ago(used) if used else "",
            "Parent": item.get("Parent") or "",
            "Shared": "true" if item.get("Shared") else "false",
            "Size": units.human_size(item.get("Size") or 0),
            "UsageCount": str(item.get("UsageCount") or 0),
        }
        rows.append(row)
    return rows


def _moment(text: str | None) -> float:
    return units.parse_time(text) if text else 0.0


def _prune(around: Surroundings, options: Options) -> int:
    every, with_volumes, filters = options.on("all"), options.on("volumes"), options.items("filter")
    if with_volumes and any(item.startswith("until=") for item in filters):
        raise Failure('ERROR: The "until" filter is not supported with "--volumes"')
    if not options.on("force") and not confirmed(around, _warning(every, with_volumes, filters)):
        return 0
    freed = 0
    kinds = ["containers", "networks", *(["volumes"] if with_volumes else []), "images", "build"]
    for kind in kinds:
        chosen = filters
        if kind == "images":
            chosen = [*filters, f"dangling={'false' if every else 'true'}"]
        more = {"filters": "", **({"all": "1"} if every else {})} if kind == "build" else {}
        answer = request_prune(around, kind, chosen, more)
        freed += answer.get("SpaceReclaimed") or 0
        match kind:
            case "containers":
                tell(around, "Deleted Containers:", answer.get("ContainersDeleted") or [])
            case "networks":
                tell(around, "Deleted Networks:", answer.get("NetworksDeleted") or [])
            case "volumes":
                tell(around, "Deleted Volumes:", answer.get("VolumesDeleted") or [])
            case "images":
                tell(around, "Deleted Images:", image_lines(answer))
            case _:
                tell(around, "Deleted build cache objects:", answer.get("CachesDeleted") or [])
    around.out(f"Total reclaimed space: {units.human_size(freed)}")
    return 0


def _warning(every: bool, with_volumes: bool, filters: list[str]) -> str:
    lines = ["all stopped containers", "all networks not used by at least one container"]
    if with_volumes:
        lines.append("all anonymous volumes not used by at least one container")
    lines.append("all images without at least one container associated to them" if every else "all dangling images")
    lines.append("all build cache" if every else "unused build cache")
    text = "WARNING! This will remove:\n" + "".join(f"  - {line}\n" for line in lines)
    if filters:
        text += "\n  Items to be pruned will be filtered with:\n" + "".join(f"  - {item}\n" for item in filters)
    return text + "\nAre you sure you want to continue?"


COMMANDS = {
    "system df": Command(
        _df,
        "",
        flags=(
            Flag("format", "string", "How to print: table, 'table TEMPLATE', json, or a Go template"),
            Flag("verbose", "bool", "Print each image, container and volume", short="v"),
        ),
        most=0,
    ),
    "system prune": Command(
        _prune,
        "",
        flags=(
            Flag("all", "bool", "Every image that no container has, not just those without a name", short="a"),
            Flag("filter", "filter", 'Only what matches, such as "label=a=b"'),
            Flag("force", "bool", "Do not ask", short="f"),
            Flag("volumes", "bool", "Anonymous volumes, too"),
        ),
        most=0,
    ),
}
