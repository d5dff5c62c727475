"""Commands that change the state of containers that exist: stop, kill, rm and their like.

Source: Docker API POST /containers/{id}/{stop,restart,kill,pause,unpause,rename,wait} and DELETE /containers/{id}.
"""

from __future__ import annotations

from pyker.client.command import Command
from pyker.client.failure import DaemonFailure, Failure
from pyker.client.flags import Flag
from pyker.client.transport import quote_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.flags import Options
    from pyker.client.session import Client
    from pyker.client.surroundings import Surroundings

SEVERAL = "CONTAINER [CONTAINER...]"


def container_path(name: str, verb: str = "") -> str:
    """The URL of container ``name``. Raises Failure for a name that cannot be in a path."""
    trimmed = name.strip()
    if not trimmed:
        raise Failure("invalid container name or ID: value is empty")
    path = f"/containers/{quote_path(trimmed)}"
    return f"{path}/{verb}" if verb else path


def _stop(around: Surroundings, options: Options) -> int:
    return _stop_or_restart(around, options, "stop")


def _restart(around: Surroundings, options: Options) -> int:
    return _stop_or_restart(around, options, "restart")


def _stop_or_restart(around: Surroundings, options: Options, verb: str) -> int:
    query: dict[str, str] = {}
    for name in ("timeout", "time"):
        if options.given(name):
            query["t"] = str(options.number(name))
    if options.text("signal"):
        query["signal"] = options.text("signal")
    return around.for_each(
        options.arguments, lambda client, name: client.call("POST", container_path(name, verb), query)
    )


def _kill(around: Surroundings, options: Options) -> int:
    query = {"signal": options.text("signal")} if options.text("signal") else {}
    return around.for_each(
        options.arguments, lambda client, name: client.call("POST", container_path(name, "kill"), query)
    )


def _pause(around: Surroundings, options: Options) -> int:
    return around.for_each(options.arguments, lambda client, name: client.call("POST", container_path(name, "pause")))


def _unpause(around: Surroundings, options: Options) -> int:
    return around.for_each(options.arguments, lambda client, name: client.call("POST", container_path(name, "unpause")))


def _rename(around: Surroundings, options: Options) -> int:
    old, new = (name.strip() for name in options.arguments)
    if not old or not new:
        raise Failure("neither old nor new names may be empty")
    around.client.call("POST", container_path(old, "rename"), {"name": new})
    return 0


def _rm(around: Surroundings, options: Options) -> int:
    query: dict[str, str] = {}
    for flag, name in (("volumes", "v"), ("link", "link"), ("force", "force")):
        if options.on(flag):
            query[name] = "1"

    def remove(client: Client, name: str) -> None:
        trimmed = name.strip("/")
        if not trimmed:
            raise Failure("Container name cannot be empty")
        client.call("DELETE", container_path(trimmed), query)

    def forgive(failure: Failure) -> bool:
        return options.on("force") and isinstance(failure, DaemonFailure) and failure.status == 404

    return around.for_each(options.arguments, remove, forgive=forgive)


def _wait(around: Surroundings, options: Options) -> int:
    failed = False
    for name in options.arguments:
        try:
            answer = around.client.json("POST", container_path(name, "wait"))
            error = (answer.get("Error") or {}).get("Message") if isinstance(answer, dict) else "no status"
            if error:
                raise Failure(str(error))
        except Failure as failure:
            around.err(failure.message)
            failed = True
        else:
            around.out(str(answer.get("StatusCode", 0)))
    return 1 if failed else 0


STOP_FLAGS = (
    Flag("signal", "string", "Signal to send first", short="s"),
    Flag("timeout", "int", "Seconds to wait before killing; -1 waits for ever", short="t"),
    Flag("time", "int", "Seconds to wait before killing", hidden=True),
)

COMMANDS = {
    "stop": Command(_stop, SEVERAL, flags=STOP_FLAGS, least=1, aliases=("container stop", "stop")),
    "restart": Command(_restart, SEVERAL, flags=STOP_FLAGS, least=1, aliases=("container restart", "restart")),
    "kill": Command(
        _kill,
        SEVERAL,
        flags=(Flag("signal", "string", "Signal to send instead of KILL", short="s"),),
        least=1,
        aliases=("container kill", "kill"),
    ),
    "pause": Command(_pause, SEVERAL, least=1, aliases=("container pause", "pause")),
    "unpause": Command(_unpause, SEVERAL, least=1, aliases=("container unpause", "unpause")),
    "rename": Command(_rename, "CONTAINER NEW_NAME", least=2, most=2, aliases=("container rename", "rename")),
    "rm": Command(
        _rm,
        SEVERAL,
        flags=(
            Flag("force", "bool", "Kill it first if it runs", short="f"),
            Flag("link", "bool", "Remove the link of that name", short="l"),
            Flag("volumes", "bool", "Remove its anonymous volumes too", short="v"),
        ),
        least=1,
        aliases=("container rm", "container remove", "rm"),
    ),
    "wait": Command(_wait, SEVERAL, least=1, aliases=("container wait", "wait")),
}
