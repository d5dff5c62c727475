"""``pyker save`` and ``pyker load``. Source: Docker API GET /images/get, POST /images/load."""

from __future__ import annotations

import os
import sys

from pyker.client.command import Command
from pyker.client.failure import Failure
from pyker.client.flags import Flag
from pyker.client.saving import deliver
from pyker.client.transport import quote_query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings


def _save(around: Surroundings, options: Options) -> int:
    query = "&".join(f"names={quote_query(name)}" for name in options.arguments)
    deliver(around, options.text("output"), f"/images/get?{query}", "failed to save image")
    return 0


def _load(around: Surroundings, options: Options) -> int:
    from pyker.client.progress import show_progress

    quiet = options.on("quiet") or not os.isatty(1)
    query = {"quiet": "1" if quiet else "0"}
    path = options.text("input")
    if path:
        try:
            source: BinaryIO = open(path, "rb")  # noqa: SIM115
        except OSError as error:
            raise Failure(f"open {path}: {(error.strerror or '').lower()}") from error
    elif os.isatty(0):
        raise Failure("requested load from stdin, but stdin is empty")
    else:
        source = sys.stdin.buffer
    with source:
        response = around.client.upload("/images/load", query, source, changes=[])
    show_progress(response, quiet=False, descriptor=1)
    return 0


COMMANDS = {
    "save": Command(
        _save,
        "IMAGE [IMAGE...]",
        flags=(Flag("output", "string", "File to write, in place of stdout", short="o"),),
        least=1,
        aliases=("image save", "save"),
    ),
    "load": Command(
        _load,
        "",
        flags=(
            Flag("input", "string", "File to read, in place of stdin", short="i"),
            Flag("quiet", "bool", "Tell nothing of layers", short="q"),
        ),
        most=0,
        aliases=("image load", "load"),
    ),
}
