"""``pyker events``: what happens in the engine, as it happens. Source: Docker API GET /events."""

from __future__ import annotations

import time

from pyker.client.command import Command
from pyker.client.commands.logs import moment
from pyker.client.failure import Failure
from pyker.client.filters import encode_filters
from pyker.client.flags import Flag
from pyker.client.units import local_offset
from pyker.client.wirejson import dumps_go, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings


def _events(around: Surroundings, options: Options) -> int:
    query: dict[str, str] = {}
    for flag in ("since", "until"):
        if options.text(flag):
            query[flag] = moment(options.text(flag), flag)
    if filters := encode_filters(options.items("filter")):
        query["filters"] = filters
    template = options.text("format")
    compiled = None
    if template not in ("", "json"):
        from pyker.client.template import Template

        compiled = Template(template)
    for line in around.client.open("GET", "/events", query).lines():
        try:
            event = loads(line)
        except ValueError as error:
            raise Failure(f"the daemon's event cannot be read: {error}") from None
        if template == "json":
            around.out(dumps_go(event))
        else:
            around.out(compiled.render(event) if compiled is not None else plain_event(event))
        around.flush()
    return 0


def plain_event(event: dict[str, Any]) -> str:
    """``2026-11-23T17:08:01.123456789Z container start 0123… (image=bb:1, name=c1)``."""
    nanoseconds = int(event.get("timeNano") or int(event.get("time") or 0) * 10**9)
    seconds, fraction = divmod(nanoseconds, 10**9)
    offset, _ = local_offset(seconds)
    zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
    date = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds)) + f".{fraction:09d}{zone}"
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    text = f"{date} {event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    if attributes:
        text += " (" + ", ".join(f"{name}={attributes[name]}" for name in sorted(attributes)) + ")"
    return text


COMMANDS = {
    "events": Command(
        _events,
        "",
        flags=(
            Flag("filter", "filter", "Only what matches, such as type=container or event=start", short="f"),
            Flag("format", "string", "How to print: json, or a Go template"),
            Flag("since", "string", "From that time on, or for that long"),
            Flag("until", "string", "Up to that time"),
        ),
        most=0,
        aliases=("system events", "events"),
    )
}
