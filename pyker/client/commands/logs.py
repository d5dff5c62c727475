"""``pyker logs``: what a container has said. Source: Docker API GET /containers/{id}/logs."""

from __future__ import annotations

from pyker.client.command import Command
from pyker.client.commands.lifecycle import container_path
from pyker.client.failure import Failure
from pyker.client.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings


def moment(text: str, flag: str = "since") -> str:
    """A time as the API wants it: seconds since 1970, with a fraction if there is one.

    ``10m`` means that long ago; dates may leave out seconds, time and zone. Raises Failure.
    """
    from pyker.client import units

    try:
        return str(int(units.now() - units.parse_duration(text) / 1e9))
    except ValueError:
        pass
    if text.replace(".", "", 1).isdigit():
        return text
    date, mark, clock = text.partition("T")
    try:
        year, month, day = (int(part) for part in date.split("-"))
        zone = clock[clock.find("+") :] if "+" in clock else clock[clock.find("-") :] if "-" in clock else ""
        zone = "Z" if clock.endswith("Z") else zone
        plain = clock.removesuffix(zone) if zone else clock
        parts = [*plain.split(":"), "00", "00", "00"][:3] if mark and plain else ["00", "00", "00"]
        parts = [part or "00" for part in parts]
        if zone:
            seconds = units.parse_time(f"{date}T{':'.join(parts)}{zone}")
        else:
            import time

            second = float(parts[2])
            local = (year, month, day, int(parts[0]), int(parts[1]), int(second), 0, 0, -1)
            seconds = time.mktime(local) + second % 1
    except ValueError:
        raise Failure(f'invalid value for "{flag}": failed to parse value as time or duration: "{text}"') from None
    fraction = parts[2].partition(".")[2]
    return f"{int(seconds)}.{fraction.ljust(9, '0')[:9]}"


def _logs(around: Surroundings, options: Options) -> int:
    from pyker.client.streams import Demultiplexer, stderr_bytes, stdout_bytes

    name = options.arguments[0]
    query = {"stdout": "1", "stderr": "1", "tail": options.text("tail")}
    for flag in ("since", "until"):
        if options.text(flag):
            query[flag] = moment(options.text(flag), flag)
    for flag in ("follow", "timestamps", "details"):
        if options.on(flag):
            query[flag] = "1"
    view = around.client.json("GET", container_path(name, "json"))
    identifier = str(view.get("Id") or name)
    response = around.client.open("GET", f"/containers/{identifier}/logs", query)
    raw = bool((view.get("Config") or {}).get("Tty"))
    consume = stdout_bytes if raw else Demultiplexer(stdout_bytes, stderr_bytes).feed
    while data := response.read_some():
        consume(data)
    return 0


COMMANDS = {
    "logs": Command(
        _logs,
        "CONTAINER",
        flags=(
            Flag("details", "bool", "Show what the log driver adds"),
            Flag("follow", "bool", "Go on until the container stops", short="f"),
            Flag("since", "string", 'From that time on ("2013-01-02T13:23:37Z"), or for that long ("42m")'),
            Flag("tail", "string", "Only that many lines", short="n", default="all", shown_default='"all"'),
            Flag("timestamps", "bool", "Show the time before each line", short="t"),
            Flag("until", "string", 'Up to that time ("2013-01-02T13:23:37Z"), or until that long ago ("42m")'),
        ),
        least=1,
        most=1,
        aliases=("container logs", "logs"),
    )
}
