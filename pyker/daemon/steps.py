"""For images that ask for it: a file in the container that says which steps brought it about, and how long each took.

An image asks by the label ``org.pyker.steps=<path>``. The steps are the journal's records of this story, in the words
of the document's two walkthroughs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from pyker.container.record import Container
from pyker.engine.job import JobRecord
from pyker.types.mount import Mount

LABEL = "org.pyker.steps"
_BOXES = {
    "pull": "Docker Server -> Engine -> Registry",
    "pull_layer": "Registry -> graphdriver -> Graph",
    "create": "Docker Server -> Engine -> Graph",
    "start": "Docker Server -> Engine",
    "mount_rootfs": "graphdriver",
    "allocate_interface": "networkdriver -> libcontainer",
}
_CHILDREN = frozenset({"pull_layer", "mount_rootfs", "allocate_interface"})
_UNDER_WAY = ("execdriver_run", "execdriver -> libcontainer", "this is it")


class StepsFile:
    """Writes the file. ``story`` gives the journal's records of all that led to a container, oldest first."""

    def __init__(self, story: Callable[[str], Iterable[JobRecord]]) -> None:
        self._story = story

    def write(self, container: Container, folder: str) -> Mount | None:
        """The mount that shows the file in the container; None if its image does not ask for it."""
        target = (container.config.labels or {}).get(LABEL, "")
        if not target.startswith("/"):
            return None
        path = os.path.join(folder, "steps")
        with open(path, "w", encoding="utf-8") as file:
            file.write(render(self._story(container.id)))
        return Mount(target=target, fstype="bind", source=path, options=("rbind", "ro"), create="file")


def render(records: Iterable[JobRecord]) -> str:
    """One line a step: what, by which part, how long."""
    rows = []
    for record in records:
        box = _BOXES.get(record.name)
        if box is None:
            continue
        indent = "  " if record.name in _CHILDREN else ""
        took = f"{(record.ended_ns - record.started_ns) / 1e6:.1f} ms" if record.ended_ns else "under way"
        rows.append((indent + record.name + _detail(record), box, took))
    rows.append(("  " + _UNDER_WAY[0], _UNDER_WAY[1], _UNDER_WAY[2]))
    first = max(len(row[0]) for row in rows)
    second = max(len(row[1]) for row in rows)
    return "".join(f"{what:<{first}}  {box:<{second}}  {took:>10}\n" for what, box, took in rows)


def _detail(record: JobRecord) -> str:
    arguments = record.arguments
    match record.name:
        case "pull":
            tag = arguments.get("tag") or "latest"
            return f" {arguments.get('image', '')}{'@' if ':' in str(tag) else ':'}{tag}"
        case "pull_layer":
            return f" {str(arguments.get('digest', '')).rpartition(':')[2][:12]}"
        case "create" if record.status == "failed":
            return " (the image is not here yet)"
        case "allocate_interface":
            return f" {arguments.get('mode', '')}"
        case _:
            return ""
