"""Help texts: a command's, a group's, the program's. Laid out as docker's, so that readers find their way."""

from __future__ import annotations

import os

from pyker.client.command import PROGRAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyker.client.command import Command
    from pyker.client.flags import Flag

WIDTH = 80
SLACK = 5


def _width() -> int:
    try:
        return min(WIDTH, os.get_terminal_size(1).columns or WIDTH)
    except OSError:
        return WIDTH


def _wrap(text: str, room: int) -> list[str]:
    """Break at spaces; the last line may be a little longer, so that no word stands alone."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        rest = paragraph
        while len(rest) > room:
            cut = rest.rfind(" ", 0, room - SLACK)
            if cut <= 0:
                cut = rest.find(" ")
                if cut <= 0:
                    break
            lines.append(rest[:cut])
            rest = rest[cut + 1 :]
        lines.append(rest)
    return lines


def flag_lines(flags: Sequence[Flag], width: int) -> list[str]:
    """One entry a flag: its forms at the left, what it does at the right."""
    left: list[tuple[str, str]] = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        if flag.hidden:
            continue
        start = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        kind = {"bool": "", "swap-bytes": "bytes"}.get(flag.kind, flag.kind)
        text = flag.text + (f" (default {flag.shown_default})" if flag.shown_default else "")
        left.append((f"{start} {kind}".rstrip(), text))
    column = max((len(start) for start, _ in left), default=0) + 3
    lines: list[str] = []
    for start, text in left:
        wrapped = _wrap(text, max(24, width - column))
        lines.append(start.ljust(column) + wrapped[0])
        lines += [" " * column + line for line in wrapped[1:]]
    return lines


def command_help(command: Command) -> str:
    """The text of ``pyker COMMAND --help``."""
    parts = [f"Usage:  {command.usage}", "", command.detail or command.summary]
    if len(command.aliases) > 1:
        parts += ["", "Aliases:", "  " + ", ".join(f"{PROGRAM} {alias}" for alias in command.aliases)]
    if any(not flag.hidden for flag in command.flags):
        parts += ["", "Options:", *flag_lines(command.flags, _width())]
    return "\n".join(parts) + "\n"


def _listing(entries: Sequence[tuple[str, str]]) -> list[str]:
    return [f"  {name.ljust(11)} {summary}".rstrip() for name, summary in entries]


def group_help(group: str, summary: str, entries: Sequence[tuple[str, str]]) -> str:
    """The text of ``pyker GROUP``."""
    name = f"{PROGRAM} {group}"
    lines = [f"Usage:  {name} COMMAND", "", summary, "", "Commands:", *_listing(entries), ""]
    return "\n".join([*lines, f"Run '{name} COMMAND --help' for more information on a command."]) + "\n"


def program_help(
    flags: Sequence[Flag], sections: Sequence[tuple[str, Sequence[tuple[str, str]]]], missing: Sequence[str]
) -> str:
    """The text of ``pyker --help``."""
    lines = [f"Usage:  {PROGRAM} [OPTIONS] COMMAND", "", "A container engine that can be read, changed and trusted"]
    for title, entries in sections:
        lines += ["", f"{title}:", *_listing(entries)]
    if missing:
        lines += ["", "Not there yet:", *("  " + line for line in _wrap(" ".join(missing), 76))]
    lines += ["", "Global Options:", *flag_lines(flags, _width()), ""]
    lines.append(f"Run '{PROGRAM} COMMAND --help' for more information on a command.")
    return "\n".join(lines) + "\n"
