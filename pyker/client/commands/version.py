"""``pyker version``: both ends and their parts. Source: Docker API GET /version."""

from __future__ import annotations

import os
import sys
import time

from pyker import __version__
from pyker.client import units
from pyker.client.command import Command
from pyker.client.failure import Failure
from pyker.client.flags import Flag
from pyker.client.session import NEWEST_API

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
ENGINE_ROWS = (
    ("Version", "Version"),
    ("ApiVersion", "API version"),
    ("GoVersion", ""),
    ("GitCommit", "Git commit"),
    ("BuildTime", "Built"),
    ("Arch", "OS/Arch"),
    ("Experimental", "Experimental"),
)


def _version(around: Surroundings, options: Options) -> int:
    failure: Failure | None = None
    server: dict[str, Any] | None = None
    try:
        server = around.client.json("GET", "/version")
    except Failure as found:
        failure = found
    machine = os.uname().machine
    python = ".".join(str(part) for part in sys.version_info[:3])
    spoken = around.client.version or NEWEST_API
    client = {
        "Platform": {"Name": ""},
        "Version": __version__,
        "ApiVersion": spoken,
        "DefaultAPIVersion": NEWEST_API,
        "GitCommit": "",
        "GoVersion": f"cpython{python}",
        "Os": "linux",
        "Arch": MACHINES.get(machine, machine),
        "BuildTime": "",
        "Context": "default",
    }
    if template := options.text("format"):
        _print_template(around, template, client, server)
    else:
        _print_plain(around, client, server)
    if failure is not None:
        raise failure
    return 0


def _print_template(around: Surroundings, template: str, client: dict[str, Any], server: dict[str, Any] | None) -> None:
    data = {"Client": client, "Server": server}
    if template == "json":
        from pyker.client.wirejson import dumps

        around.out(dumps(data))
        return
    from pyker.client.template import Template

    around.out(Template(template).render(data))


def _print_plain(around: Surroundings, client: dict[str, Any], server: dict[str, Any] | None) -> None:
    spoken = client["ApiVersion"]
    downgraded = f" (downgraded from {NEWEST_API})" if spoken != NEWEST_API else ""
    around.out("Client: Pyker")
    for label, value in (
        ("Version", client["Version"]),
        ("API version", spoken + downgraded),
        ("Runtime", client["GoVersion"]),
        ("OS/Arch", f"{client['Os']}/{client['Arch']}"),
    ):
        around.out(f" {label + ':':<18} {value}")
    if server is None:
        return
    name = (server.get("Platform") or {}).get("Name") or ""
    around.out(f"\nServer:{' ' + name if name else ''}")
    for component in server.get("Components") or [_as_component(server)]:
        around.out(f" {component.get('Name')}:")
        details = dict(component.get("Details") or {})
        rows = _engine_rows(component, details) if component.get("Name") == "Engine" else _part_rows(component, details)
        for label, value in rows:
            around.out(f"  {label + ':':<17} {value}".rstrip())


def _as_component(server: dict[str, Any]) -> dict[str, Any]:
    """Daemons older than API 1.35 name no components: the engine is all there is."""
    return {"Name": "Engine", "Version": server.get("Version"), "Details": server}


def _engine_rows(component: dict[str, Any], details: dict[str, Any]) -> list[tuple[str, str]]:
    details["Version"] = component.get("Version") or ""
    rows: list[tuple[str, str]] = []
    for key, label in ENGINE_ROWS:
        value = str(details.get(key, ""))
        if key == "ApiVersion":
            value += f" (minimum version {details.get('MinAPIVersion', '')})"
        elif key == "GoVersion":
            label = "Go version" if value.startswith("go") else "Runtime"
        elif key == "BuildTime":
            value = ansi_date(value)
        elif key == "Arch":
            value = f"{details.get('Os', '')}/{value}"
        rows.append((label, value))
    return rows


def _part_rows(component: dict[str, Any], details: dict[str, Any]) -> list[tuple[str, str]]:
    return [("Version", str(component.get("Version") or "")), *((key, str(details[key])) for key in sorted(details))]


def ansi_date(text: str) -> str:
    """An RFC 3339 date as ``Thu May  7 21:09:36 2026``; what is no date stays."""
    try:
        moment = units.parse_time(text)
    except ValueError:
        return text
    parts = time.gmtime(moment)
    return time.strftime("%a %b ", parts) + f"{parts.tm_mday:2d}" + time.strftime(" %H:%M:%S %Y", parts)


COMMANDS = {
    "version": Command(
        _version, "", flags=(Flag("format", "string", "How to print: json, or a Go template", short="f"),), most=0
    )
}
