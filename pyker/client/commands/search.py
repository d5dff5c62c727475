"""``pyker search``. Source: Docker API GET /images/search."""

from __future__ import annotations

from pyker.client.command import Command
from pyker.client.filters import encode_filters
from pyker.client.flags import Flag
from pyker.client.names import HUB_KEY, auth_header
from pyker.client.table import render, truncate
from pyker.types.reference import is_domain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

HEADERS = {
    "Description": "DESCRIPTION",
    "IsOfficial": "OFFICIAL",
    "Name": "NAME",
    "StarCount": "STARS",
}
_DESCRIPTION_WIDTH = 45


def _credentials_key(term: str) -> str:
    """A term is no reference: any words, after a registry's name if it is not the Hub's."""
    domain, slash, _ = term.partition("/")
    return domain if slash and is_domain(domain) else HUB_KEY


def _yes(value: bool, template: str) -> str:
    """A mark for people, a word for programs."""
    if template == "json":
        return "true" if value else "false"
    return "[OK]" if value else ""


def _search(around: Surroundings, options: Options) -> int:
    term = options.arguments[0]
    query = {"term": term}
    if options.number("limit") > 0:
        query["limit"] = str(options.number("limit"))
    if encoded := encode_filters(options.items("filter")):
        query["filters"] = encoded
    headers = {"X-Registry-Auth": auth_header(around.config.credentials(_credentials_key(term)))}
    found = around.client.json("GET", "/images/search", query, headers=headers) or []
    template = options.text("format")
    rows = []
    for item in sorted(found, key=lambda each: each.get("star_count") or 0, reverse=True):
        description = (item.get("description") or "").replace("\n", " ").replace("\r", " ")
        rows.append(
            {
                "Description": description if options.on("no-trunc") else truncate(description, _DESCRIPTION_WIDTH),
                "IsOfficial": _yes(bool(item.get("is_official")), template),
                "Name": item.get("name") or "",
                "StarCount": str(item.get("star_count") or 0),
            }
        )
    columns = ("Name", "Description", "StarCount", "IsOfficial")
    around.write(render(rows, headers=HEADERS, columns=columns, template=template))
    return 0


COMMANDS = {
    "search": Command(
        _search,
        "TERM",
        flags=(
            Flag("filter", "filter", "Only what matches, such as stars=3 or is-official=true", short="f"),
            Flag("format", "string", "How to print: table, 'table TEMPLATE', json, or a Go template"),
            Flag("limit", "int", "Print at most that many"),
            Flag("no-trunc", "bool", "Print everything in full"),
        ),
        least=1,
        most=1,
    )
}
