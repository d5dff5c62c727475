"""Tables with docker's columns, and what ``--format`` makes of their rows.

A list is given as rows of named fields. Without ``--format`` the columns asked for are printed under their headers,
three spaces apart; ``table TEMPLATE`` prints the template's fields as columns; ``json`` one object a row; anything
else is a Go template, one line a row.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

GAP = 3
NARROWEST = 10


def lay_out(rows: Sequence[Sequence[str]], *, narrowest: int = NARROWEST, gap: int = GAP) -> str:
    """Columns as wide as their widest cell plus ``gap``, at least ``narrowest``; the last is left as it is."""
    if not rows:
        return ""
    columns = max(len(row) for row in rows)
    widths = [
        max(narrowest, max((len(row[index]) for row in rows if index < len(row)), default=0) + gap)
        for index in range(columns - 1)
    ]
    lines = []
    for row in rows:
        cells = [cell.ljust(widths[index]) for index, cell in enumerate(row[:-1])]
        lines.append("".join([*cells, row[-1]]) if row else "")
    return "\n".join(lines) + "\n"


def render(
    rows: Iterable[Mapping[str, Any]],
    *,
    headers: Mapping[str, Any],
    columns: Sequence[str],
    template: str = "",
    quiet_field: str = "",
    quiet: bool = False,
) -> str:
    """The text of a whole list. ``headers`` names every field that a template may ask for."""
    if quiet and template in ("", "table"):
        return "".join(row[quiet_field] + "\n" for row in rows)
    if template in ("", "table"):
        return lay_out([[headers[name] for name in columns], *[[str(row[name]) for name in columns] for row in rows]])
    if template == "json":
        from pyker.client.wirejson import dumps_go

        return "".join(
            dumps_go({name: row[name] for name in headers if name in row and not callable(row[name])}) + "\n"
            for row in rows
        )
    from pyker.client.template import Template

    rows = [dict(sorted(row.items())) for row in rows]
    if template.startswith("table"):
        body = template[len("table") :].strip().replace("\\t", "\t").replace("\\n", "\n")
        compiled = Template(body)
        lines = [compiled.render(headers).split("\t")]
        lines += [line.split("\t") for row in rows for line in compiled.render(row).split("\n")]
        return lay_out(lines)
    compiled = Template(template.replace("\\t", "\t").replace("\\n", "\n"))
    return "".join(compiled.render(row) + "\n" for row in rows)


def truncate(text: str, width: int) -> str:
    """At most ``width`` characters, the last one an ellipsis if something was cut."""
    if len(text) <= width:
        return text
    return text[: width - 1] + "…" if width > 1 else text[:width]
