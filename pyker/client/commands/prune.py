"""``pyker container prune`` and ``pyker image prune``. Source: Docker API POST /containers/prune, /images/prune."""

from __future__ import annotations

from pyker.client import units
from pyker.client.command import Command
from pyker.client.confirm import confirmed
from pyker.client.filters import encode_filters
from pyker.client.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

_SURE = "\nAre you sure you want to continue?"


def _containers(around: Surroundings, options: Options) -> int:
    if not options.on("force") and not confirmed(around, f"WARNING! This will remove all stopped containers.{_SURE}"):
        return 0
    query = {"filters": encoded} if (encoded := encode_filters(options.items("filter"))) else {}
    answer = around.client.json("POST", "/containers/prune", query)
    _tell(around, "Deleted Containers:", answer.get("ContainersDeleted") or [], answer)
    return 0


def _images(around: Surroundings, options: Options) -> int:
    which = "images without at least one container associated to them" if options.on("all") else "dangling images"
    if not options.on("force") and not confirmed(around, f"WARNING! This will remove all {which}.{_SURE}"):
        return 0
    filters = [*options.items("filter"), f"dangling={'false' if options.on('all') else 'true'}"]
    answer = around.client.json("POST", "/images/prune", {"filters": encode_filters(filters)})
    lines = []
    for step in answer.get("ImagesDeleted") or []:
        lines += [f"untagged: {step['Untagged']}"] if step.get("Untagged") else []
        lines += [f"deleted: {step['Deleted']}"] if step.get("Deleted") else []
    _tell(around, "Deleted Images:", lines, answer)
    return 0


def _tell(around: Surroundings, title: str, lines: list[str], answer: dict[str, int]) -> None:
    if lines:
        around.out("\n".join([title, *lines, ""]))
    around.out(f"Total reclaimed space: {units.human_size(answer.get('SpaceReclaimed') or 0)}")


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
