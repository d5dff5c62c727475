"""Removing what nobody needs: asking first, and telling what went. Source: Docker API POST /{kind}/prune."""

from __future__ import annotations

from pyker.client import units
from pyker.client.confirm import confirmed
from pyker.client.filters import encode_filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings


def prune(
    around: Surroundings, options: Options, kind: str, what: str, filters: list[str] | None = None
) -> dict[str, Any] | None:
    """The daemon's answer; None if the user would not have it. ``filters`` None: those of ``--filter``."""
    warning = f"WARNING! This will remove {what}.\nAre you sure you want to continue?"
    if not options.on("force") and not confirmed(around, warning):
        return None
    return request_prune(around, kind, options.items("filter") if filters is None else filters)


def request_prune(
    around: Surroundings, kind: str, filters: list[str], more: dict[str, str] | None = None
) -> dict[str, Any]:
    """The daemon's answer. ``more`` is for the query."""
    query = {**(more or {}), **({"filters": encoded} if (encoded := encode_filters(filters)) else {})}
    answer: dict[str, Any] = around.client.json("POST", f"/{kind}/prune", query)
    return answer


def tell(around: Surroundings, title: str, names: list[str]) -> None:
    """What went, if anything did."""
    if names:
        around.out("\n".join([title, *names, ""]))


def tell_with_size(around: Surroundings, title: str, names: list[str], answer: dict[str, Any]) -> None:
    """That, and how much room it made."""
    tell(around, title, names)
    around.out(f"Total reclaimed space: {units.human_size(answer.get('SpaceReclaimed') or 0)}")
