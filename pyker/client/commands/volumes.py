"""``pyker volume``: create, inspect, ls, rm, prune. Source: Docker API /volumes/..."""

from __future__ import annotations

from pyker.client.command import Command
from pyker.client.failure import Failure
from pyker.client.filters import encode_filters
from pyker.client.flags import Flag
from pyker.client.pruning import prune, tell_with_size
from pyker.client.table import render
from pyker.client.transport import quote_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options
    from pyker.client.session import Client
    from pyker.client.surroundings import Surroundings

HEADERS = {
    "Availability": "AVAILABILITY",
    "Driver": "DRIVER",
    "Group": "GROUP",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Mountpoint": "MOUNTPOINT",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Size": "SIZE",
    "Status": "STATUS",
}
# What only a swarm's volumes have, and what only df measures.
_UNKNOWN = dict.fromkeys(("Availability", "Group", "Links", "Size", "Status"), "N/A")
# Since this version of the API a prune leaves named volumes alone unless told.
_ANONYMOUS_ALONE = "1.42"


def _create(around: Surroundings, options: Options) -> int:
    from pyker.client.container.environment import as_map

    name = options.arguments[0] if options.arguments else ""
    if options.text("name"):
        if name:
            raise Failure("conflicting options: either specify --name or provide positional arg, not both")
        name = options.text("name")
    asked = {
        "Driver": options.text("driver"),
        "DriverOpts": as_map(options.items("opt")),
        "Labels": as_map(options.items("label")),
        "Name": name,
    }
    body = {field: value for field, value in asked.items() if value}
    around.out(str(around.client.json("POST", "/volumes/create", body=body)["Name"]))
    return 0


def _list(around: Surroundings, options: Options) -> int:
    query = {"filters": encoded} if (encoded := encode_filters(options.items("filter"))) else {}
    template = options.text("format") or ("" if options.on("quiet") else around.config.text("volumesFormat"))
    answer = around.client.json("GET", "/volumes", query)
    rows = [volume_row(item) for item in answer.get("Volumes") or []]
    rows.sort(key=lambda row: row["Name"])
    columns = ("Driver", "Name")
    around.write(
        render(rows, headers=HEADERS, columns=columns, template=template, quiet_field="Name", quiet=options.on("quiet"))
    )
    return 0


def volume_row(item: dict[str, Any]) -> dict[str, str]:
    """The fields of one volume, as text."""
    labels = item.get("Labels") or {}
    return _UNKNOWN | {
        "Driver": item.get("Driver") or "",
        "Labels": ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
        "Mountpoint": item.get("Mountpoint") or "",
        "Name": item.get("Name") or "",
        "Scope": item.get("Scope") or "",
    }


def _remove(around: Surroundings, options: Options) -> int:
    query = {"force": "1"} if options.on("force") else {}

    def remove(client: Client, name: str) -> None:
        if not name.strip():
            raise Failure("invalid volume name: value is empty")
        client.call("DELETE", f"/volumes/{quote_path(name)}", query)

    return around.for_each(options.arguments, remove)


def _prune(around: Surroundings, options: Options) -> int:
    filters = options.items("filter")
    choosing = around.client.at_least(_ANONYMOUS_ALONE)
    if options.on("all") and choosing:
        if any(item.startswith("all=") for item in filters):
            raise Failure("conflicting options: cannot specify both --all and --filter all=1")
        filters = [*filters, "all=true"]
    which = "all local volumes" if options.on("all") or not choosing else "anonymous local volumes"
    answer = prune(around, options, "volumes", f"{which} not used by at least one container", filters)
    if answer is not None:
        tell_with_size(around, "Deleted Volumes:", answer.get("VolumesDeleted") or [], answer)
    return 0


COMMANDS = {
    "volume create": Command(
        _create,
        "[VOLUME]",
        flags=(
            Flag("driver", "string", "Who keeps the data", short="d", default="local"),
            Flag("label", "list", "Name and value to set on the volume"),
            Flag("opt", "map", "What the driver mounts: type=..., device=..., o=...", short="o"),
            Flag("name", "string", "The volume's name", hidden=True),
        ),
        most=1,
    ),
    "volume ls": Command(
        _list,
        "",
        flags=(
            Flag("filter", "filter", 'Only what matches, such as "dangling=true"', short="f"),
            Flag("format", "string", "How to print: table, 'table TEMPLATE', json, or a Go template"),
            Flag("quiet", "bool", "Print names alone", short="q"),
        ),
        most=0,
        aliases=("volume ls", "volume list"),
    ),
    "volume rm": Command(
        _remove,
        "VOLUME [VOLUME...]",
        flags=(Flag("force", "bool", "A volume that is not there is no error", short="f"),),
        least=1,
        aliases=("volume rm", "volume remove"),
    ),
    "volume prune": Command(
        _prune,
        "",
        flags=(
            Flag("all", "bool", "Named volumes too", short="a"),
            Flag("filter", "filter", 'Only what matches, such as "label=a=b"'),
            Flag("force", "bool", "Do not ask", short="f"),
        ),
        most=0,
    ),
}
