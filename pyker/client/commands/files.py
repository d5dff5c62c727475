"""``pyker diff`` and ``pyker export``. Source: Docker API GET /containers/{id}/changes, /export."""

from __future__ import annotations

from pyker.client.command import Command
from pyker.client.commands.lifecycle import container_path
from pyker.client.flags import Flag
from pyker.client.saving import deliver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

_KINDS = {0: "C", 1: "A", 2: "D"}


def _diff(around: Surroundings, options: Options) -> int:
    for change in around.client.json("GET", container_path(options.arguments[0], "changes")) or []:
        around.out(f"{_KINDS.get(change.get('Kind'), '')} {change.get('Path')}")
    return 0


def _export(around: Surroundings, options: Options) -> int:
    target = container_path(options.arguments[0], "export")
    deliver(around, options.text("output"), target, "failed to export container")
    return 0


COMMANDS = {
    "diff": Command(_diff, "CONTAINER", least=1, most=1, aliases=("container diff", "diff")),
    "export": Command(
        _export,
        "CONTAINER",
        flags=(Flag("output", "string", "Write to this file, not to stdout", short="o"),),
        least=1,
        most=1,
        aliases=("container export", "export"),
    ),
}
