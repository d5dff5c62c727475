"""``pyker attach``: join the streams of a container that runs. Source: Docker API POST /containers/{id}/attach."""

from __future__ import annotations

from pyker.client.command import Command
from pyker.client.commands.lifecycle import container_path
from pyker.client.failure import Failure
from pyker.client.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings


def _attach(around: Surroundings, options: Options) -> int:
    from pyker.client.conversation import check_terminal, converse, exit_status
    from pyker.client.signals import Signals

    client = around.client
    name = options.arguments[0]
    view = client.json("GET", container_path(name, "json"))
    state, config = view.get("State") or {}, view.get("Config") or {}
    if not state.get("Running"):
        raise Failure("cannot attach to a stopped container, start it first")
    if state.get("Paused"):
        raise Failure("cannot attach to a paused container, unpause it first")
    if state.get("Restarting"):
        raise Failure("cannot attach to a restarting container, wait until it is running")
    tty = bool(config.get("Tty"))
    wants_input = not options.on("no-stdin") and bool(config.get("OpenStdin"))
    check_terminal(wants_input, tty)
    keys = options.text("detach-keys") or around.config.text("detachKeys")
    attached = [*(["stdin"] if wants_input else []), "stdout", "stderr"]
    query = {"stream": "1", **dict.fromkeys(attached, "1")}
    if keys:
        query["detachKeys"] = keys
    proxy = options.on("sig-proxy") and not tty
    with Signals() as signals:
        waiting = client.open("POST", container_path(name, "wait"), {"condition": ""})
        stream = client.open("POST", container_path(name, "attach"), query, upgrade=True)
        if converse(around, name, stream, signals, attached, tty=tty, proxy=proxy, detach_keys=keys):
            raise Failure("read escape sequence")
        return exit_status(waiting, around, name, signals, proxy=proxy)


COMMANDS = {
    "attach": Command(
        _attach,
        "CONTAINER",
        flags=(
            Flag("detach-keys", "string", "Keys that leave the container running"),
            Flag("no-stdin", "bool", "Don't give it our stdin"),
            Flag("sig-proxy", "bool", "Hand signals on to the container", default=True, shown_default="true"),
        ),
        least=1,
        most=1,
        aliases=("container attach", "attach"),
    )
}
