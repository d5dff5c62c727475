"""Man pages from the same tables that help is made of: ``python -m pyker.client.manual FOLDER`` writes them.

Source: man-pages(7), groff_man(7).
"""

from __future__ import annotations

import os
import sys

from pyker import __version__
from pyker.client import catalogue
from pyker.client.main import GLOBAL_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyker.client.command import Command
    from pyker.client.flags import Flag

ENVIRONMENT = (
    ("PYKER_HOST", "Address of the daemon, before DOCKER_HOST and the default unix:///run/pyker.sock."),
    ("DOCKER_HOST", "Address of the daemon, for scripts that know docker."),
    ("DOCKER_TLS_VERIFY", "Anything but empty means --tlsverify."),
    ("DOCKER_CERT_PATH", "Folder of ca.pem, cert.pem and key.pem; the configuration folder if not set."),
    ("DOCKER_API_VERSION", "Version of the API to speak, without asking the daemon."),
    ("DOCKER_CONFIG", "Folder of config.json; ~/.docker if not set."),
    ("DOCKER_DEFAULT_PLATFORM", "Platform for pull, run and create where --platform is not given."),
)
STATUSES = (
    ("0", "Done."),
    ("1", "Refused, by the daemon or by the client."),
    ("125", "A flag is wrong; or, from run, the container could not be made or started."),
    ("126", "From run: the command is there but cannot be executed."),
    ("127", "From run: the command was not found."),
    ("other", "From run, exec, start --attach and attach: what the container's process ended with."),
)


def _escape(text: str) -> str:
    """Text that roff prints as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped[:1] in (".", "'") else escaped


def _title(name: str) -> str:
    return f'.TH "{name.upper()}" "1" "" "Pyker {__version__}" "Pyker"'


def _flags(flags: Sequence[Flag]) -> list[str]:
    lines: list[str] = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        if flag.hidden:
            continue
        kind = {"bool": "", "swap-bytes": "bytes"}.get(flag.kind, flag.kind)
        value = f" \\fI{_escape(kind)}\\fR" if kind else ""
        forms = f"\\fB\\-{flag.short}\\fR, " if flag.short else ""
        lines += [".TP", f"{forms}\\fB\\-\\-{_escape(flag.name)}\\fR{value}"]
        text = flag.text + (f" (default {flag.shown_default})" if flag.shown_default else "")
        lines.append(_escape(text) + ".")
    return lines


def _listed(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [line for name, text in rows for line in (".TP", f"\\fB{_escape(name)}\\fR", _escape(text))]


def command_page(path: str, command: Command) -> str:
    """The page of one command."""
    name = f"pyker-{path.replace(' ', '-')}"
    lines = [_title(name), ".SH NAME", f"{_escape(name)} \\- {_escape(command.summary)}"]
    lines += [".SH SYNOPSIS", f"\\fBpyker {_escape(path)}\\fR"]
    rest = command.usage.removeprefix(f"pyker {path}").strip()
    if rest:
        lines.append(_escape(rest))
    lines += [".SH DESCRIPTION", _escape((command.detail or command.summary).replace("\n\n", " ").replace("\n", " "))]
    if len(command.aliases) > 1:
        also = ", ".join(f"pyker {alias}" for alias in command.aliases if alias != path)
        lines += [".PP", f"The same as {_escape(also)}."]
    if options := _flags(command.flags):
        lines += [".SH OPTIONS", *options]
    lines += [".SH SEE ALSO", "\\fBpyker\\fR(1)"]
    return "\n".join(lines) + "\n"


def program_page(paths: Sequence[str]) -> str:
    """The page of the program as a whole."""
    lines = [_title("pyker"), ".SH NAME", "pyker \\- a container engine, and its client"]
    lines += [".SH SYNOPSIS", "\\fBpyker\\fR [OPTIONS] COMMAND [ARG...]", ".br", "\\fBpyker daemon\\fR [OPTIONS]"]
    lines += [
        ".SH DESCRIPTION",
        "\\fBpyker daemon\\fR is the engine. Every other command is a client that asks an engine",
    ]
    lines += [
        "over HTTP on a Unix socket, a TCP port or a descriptor that it was handed. The commands, their flags and their"
    ]
    lines += ["output are docker's, and either end works with docker's other end."]
    lines += [
        ".PP",
        "When no engine answers at the default socket and the user is root, \\fBrun\\fR and \\fBpull\\fR start one.",
    ]
    lines += [".SH OPTIONS", *_flags(GLOBAL_FLAGS)]
    lines += [
        ".SH COMMANDS",
        *_listed([(f"pyker-{path.replace(' ', '-')}(1)", catalogue.load(path).summary) for path in paths]),
    ]
    lines += [".SH ENVIRONMENT", *_listed(ENVIRONMENT)]
    lines += [".SH EXIT STATUS", *_listed(STATUSES)]
    lines += [
        ".SH FILES",
        *_listed(
            [("/run/pyker.sock", "The default socket."), ("~/.docker/config.json", "Credentials, formats, headers.")]
        ),
    ]
    lines += [".SH SEE ALSO", "\\fBdocker\\fR(1), \\fBunshare\\fR(1), \\fBcgroups\\fR(7), \\fBnamespaces\\fR(7)"]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Every page by its file name. A command that a group repeats has one page, under its short name."""
    paths: list[str] = []
    seen: set[tuple[str, str]] = set()
    for path, (module, key, _summary) in catalogue.PATHS.items():
        if (module, key) not in seen:
            seen.add((module, key))
            paths.append(path)
    found = {"pyker.1": program_page(sorted(paths))}
    for path in paths:
        found[f"pyker-{path.replace(' ', '-')}.1"] = command_page(path, catalogue.load(path))
    return found


def write_pages(folder: str) -> int:
    """Write what is new or changed; returns how many."""
    os.makedirs(folder, exist_ok=True)
    count = 0
    for name, text in pages().items():
        path = os.path.join(folder, name)
        try:
            with open(path, encoding="utf-8") as stream:
                if stream.read() == text:
                    continue
        except FileNotFoundError:
            pass
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        count += 1
    return count


if __name__ == "__main__":
    print(f"{write_pages(sys.argv[1])} pages written")
