"""``pyker network ls``. Source: Docker API GET /networks."""

from __future__ import annotations

from pyker.client import units
from pyker.client.command import Command
from pyker.client.filters import encode_filters
from pyker.client.flags import Flag
from pyker.client.table import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

HEADERS = {
    "CreatedAt": "CREATED AT",
    "Driver": "DRIVER",
    "ID": "NETWORK ID",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "Name": "NAME",
    "Scope": "SCOPE",
}


def _created(text: str) -> str:
    """A network's date as Go prints a time, in UTC."""
    try:
        whole = text.removesuffix("Z")
        units.parse_time(f"{whole}Z")
    except ValueError:
        return text
    return f"{whole.replace('T', ' ')} +0000 UTC"


def _list(around: Surroundings, options: Options) -> int:
    query = {"filters": encoded} if (encoded := encode_filters(options.items("filter"))) else {}
    template = options.text("format") or ("" if options.on("quiet") else around.config.text("networksFormat"))
    rows = []
    for item in around.client.json("GET", "/networks", query) or []:
        labels = item.get("Labels") or {}
        identifier = item.get("Id") or ""
        rows.append(
            {
                "CreatedAt": _created(item.get("Created") or ""),
                "Driver": item.get("Driver") or "",
                "ID": identifier if options.on("no-trunc") else identifier[:12],
                "IPv4": "true" if item.get("EnableIPv4", False) else "false",
                "IPv6": "true" if item.get("EnableIPv6") else "false",
                "Internal": "true" if item.get("Internal") else "false",
                "Labels": ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
                "Name": item.get("Name") or "",
                "Scope": item.get("Scope") or "",
            }
        )
    rows.sort(key=lambda row: _natural(row["Name"]))
    columns = ("ID", "Name", "Driver", "Scope")
    around.write(
        render(rows, headers=HEADERS, columns=columns, template=template, quiet_field="ID", quiet=options.on("quiet"))
    )
    return 0


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that puts n2 before n10."""
    parts: list[tuple[int, int, str]] = []
    digits = letters = ""
    for character in name + "\0":
        if character.isascii() and character.isdigit():
            digits += character
            if letters:
                parts.append((1, 0, letters))
                letters = ""
            continue
        if digits:
            parts.append((0, int(digits), digits))
            digits = ""
        letters += character
    parts.append((1, 0, letters.rstrip("\0")))
    return parts


COMMANDS = {
    "network ls": Command(
        _list,
        "",
        flags=(
            Flag("filter", "filter", 'Only what matches, such as "driver=bridge"', short="f"),
            Flag("format", "string", "How to print: table, 'table TEMPLATE', json, or a Go template"),
            Flag("no-trunc", "bool", "Print everything in full"),
            Flag("quiet", "bool", "Print IDs alone", short="q"),
        ),
        most=0,
        aliases=("network ls", "network list"),
    )
}
