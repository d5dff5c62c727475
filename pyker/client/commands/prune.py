"""``pyker container prune`` and ``pyker image prune``. Source: Docker API POST /containers/prune, /images/prune."""

from __future__ import annotations

from pyker.client.command import Command
from pyker.client.flags import Flag
from pyker.client.pruning import prune, tell_with_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings


def _containers(around: Surroundings, options: Options) -> int:
    answer = prune(around, options, "containers", "all stopped containers")
    if answer is not None:
        tell_with_size(around, "Deleted Containers:", answer.get("ContainersDeleted") or [], answer)
    return 0


def _images(around: Surroundings, options: Options) -> int:
    every = options.on("all")
    which = "images without at least one container associated to them" if every else "dangling images"
    filters = [*options.items("filter"), f"dangling={'false' if every else 'true'}"]
    answer = prune(around, options, "images", f"all {which}", filters)
    if answer is None:
        return 0
    tell_with_size(around, "Deleted Images:", image_lines(answer), answer)
    return 0


def image_lines(answer: dict[str, Any]) -> list[str]:
    """What an images' prune did, step by step."""
    lines: list[str] = []
    for step in answer.get("ImagesDeleted") or []:
        lines += [f"untagged: {step['Untagged']}"] if step.get("Untagged") else []
        lines += [f"deleted: {step['Deleted']}"] if step.get("Deleted") else []
    return lines


_FORCE = Flag("force", "bool", "Do not ask", short="f")
_FILTER = Flag("filter", "filter", 'Only what matches, such as "until=24h"')

COMMANDS = {
    "container prune": Command(_containers, "", flags=(_FILTER, _FORCE), most=0),
    "image prune": Command(
        _images,
        "",
        flags=(Flag("all", "bool", "Every image that no container has", short="a"), _FILTER, _FORCE),
        most=0,
    ),
}
