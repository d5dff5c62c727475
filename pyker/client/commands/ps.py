"""``pyker ps``: the list of containers. Source: Docker API GET /containers/json."""

from __future__ import annotations

from pyker.client import units
from pyker.client.command import Command
from pyker.client.filters import encode_filters
from pyker.client.flags import Flag
from pyker.client.table import render, truncate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

HEADERS: dict[str, Any] = {
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Label": lambda name: name.rpartition(".")[2].replace("-", " ").replace("_", " "),
    "Labels": "LABELS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Mounts": "MOUNTS",
    "Names": "NAMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
    "Ports": "PORTS",
    "RunningFor": "CREATED",
    "Size": "SIZE",
    "State": "STATE",
    "Status": "STATUS",
}
COLUMNS: Sequence[str] = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def _ps(around: Surroundings, options: Options) -> int:
    template = options.text("format") or ("" if options.on("quiet") else around.config.text("psFormat"))
    query: dict[str, str] = {}
    if options.on("all"):
        query["all"] = "1"
    limit = options.number("last")
    if options.on("latest") and limit == -1:
        limit = 1
    if limit > 0:
        query["limit"] = str(limit)
    wants_size = options.on("size") or ".Size" in template or "json ." in template
    if wants_size:
        query["size"] = "1"
    if filters := encode_filters(options.items("filter")):
        query["filters"] = filters
    whole = options.on("no-trunc")
    rows = [container_row(item, whole=whole) for item in around.client.json("GET", "/containers/json", query) or []]
    columns = (*COLUMNS, "Size") if options.on("size") else COLUMNS
    around.write(
        render(rows, headers=HEADERS, columns=columns, template=template, quiet_field="ID", quiet=options.on("quiet"))
    )
    return 0


def container_row(item: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """The fields of one container, as text; ``whole`` leaves nothing out."""
    command = item.get("Command") or ""
    created = item.get("Created") or 0
    mounts = [point.get("Name") or point.get("Source") or "" for point in item.get("Mounts") or []]
    networks = (item.get("NetworkSettings") or {}).get("Networks") or {}
    labels = item.get("Labels") or {}
    identifier = item.get("Id") or ""
    return {
        "Command": quote(command if whole else truncate(command, 20)),
        "CreatedAt": units.go_time(created),
        "ID": identifier if whole else identifier[:12],
        "Image": _image_name(item, whole=whole),
        "Label": lambda name: str(labels.get(name, "")),
        "Labels": ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
        "LocalVolumes": str(sum(1 for point in item.get("Mounts") or [] if point.get("Driver") == "local")),
        "Mounts": ",".join(mounts if whole else [truncate(name, 15) for name in mounts]),
        "Names": ",".join(_names(item.get("Names") or [], whole=whole)),
        "Networks": ",".join(sorted(networks)),
        "Platform": None,
        "Ports": describe_ports(item.get("Ports") or []),
        "RunningFor": units.ago(created),
        "Size": _sizes(item),
        "State": item.get("State") or "",
        "Status": item.get("Status") or "",
    }


def quote(text: str) -> str:
    """In double quotes, control characters escaped, as Go does."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b", "\f": "\\f"}
    escapes["\v"] = "\\v"
    out = []
    for character in text:
        if character in escapes:
            out.append(escapes[character])
        elif character.isprintable():
            out.append(character)
        else:
            code = ord(character)
            out.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(out) + '"'


def _names(names: list[str], *, whole: bool) -> list[str]:
    plain = [name.removeprefix("/") for name in names]
    return plain if whole else [name for name in plain if "/" not in name]


def _image_name(item: dict[str, Any], *, whole: bool) -> str:
    image: str = item.get("Image") or ""
    if not image:
        return "<no image>"
    if whole:
        return image
    short = (item.get("ImageID") or "").rpartition(":")[2][:12]
    if short and short == image.rpartition(":")[2][:12]:
        return short
    name = image.partition("@")[0]
    return name.removeprefix("docker.io/").removeprefix("library/") if name.startswith("docker.io/") else name


def _sizes(item: dict[str, Any]) -> str:
    writable = units.short_size(item.get("SizeRw") or 0)
    virtual = item.get("SizeRootFs") or 0
    return f"{writable} (virtual {units.short_size(virtual)})" if virtual > 0 else writable


def _join(ip: str, port: str) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def describe_ports(ports: list[dict[str, Any]]) -> str:
    """``0.0.0.0:8080->80/tcp, 90-92/udp``: neighbours are drawn together unless the host's port differs."""
    items = [
        (port.get("PrivatePort") or 0, port.get("IP") or "", port.get("PublicPort") or 0, port.get("Type") or "tcp")
        for port in ports
    ]
    spans: dict[tuple[str, str], tuple[int, int]] = {}
    done: list[str] = []
    mapped: list[str] = []
    for private, ip, public, kind in sorted(items):
        if ip and public != private:
            mapped.append(f"{_join(ip, str(public))}->{private}/{kind}")
            continue
        first, last = spans.get((ip, kind), (0, 0))
        if first and private == last + 1:
            spans[ip, kind] = (first, private)
            continue
        if first:
            done.append(_span(ip, kind, first, last))
        spans[ip, kind] = (private, private)
    done += [_span(ip, kind, first, last) for (ip, kind), (first, last) in spans.items()]
    return ", ".join(done + mapped)


def _span(ip: str, kind: str, first: int, last: int) -> str:
    text = str(first) if first == last else f"{first}-{last}"
    return f"{_join(ip, text)}->{text}/{kind}" if ip else f"{text}/{kind}"


FLAGS = (
    Flag("all", "bool", "Stopped containers too", short="a"),
    Flag("filter", "filter", "Only what matches, such as status=exited or label=a=b", short="f"),
    Flag("format", "string", "How to print: table, 'table TEMPLATE', json, or a Go template"),
    Flag("last", "int", "Only the N made last, in any state", short="n", default=-1, shown_default="-1"),
    Flag("latest", "bool", "Only the one made last, in any state", short="l"),
    Flag("no-trunc", "bool", "Print everything in full"),
    Flag("quiet", "bool", "Print IDs alone", short="q"),
    Flag("size", "bool", "Print sizes too", short="s"),
)

COMMANDS = {
    "ps": Command(_ps, "", flags=FLAGS, most=0, aliases=("container ls", "container list", "container ps", "ps"))
}
