"""``pyker start``: start containers that exist, with or without joining their streams."""

from __future__ import annotations

from pyker.client.command import Command
from pyker.client.commands.lifecycle import SEVERAL, container_path
from pyker.client.failure import Failure, Unreachable
from pyker.client.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings


def _start(around: Surroundings, options: Options) -> int:
    if options.text("checkpoint") or options.text("checkpoint-dir"):
        raise Failure("checkpoints are not there yet")
    if options.on("attach") or options.on("interactive"):
        if len(options.arguments) > 1:
            raise Failure("you cannot start and attach multiple containers at once")
        return _start_attached(around, options)
    failed: list[str] = []
    for name in options.arguments:
        try:
            around.client.call("POST", container_path(name, "start"))
        except Unreachable:
            raise
        except Failure as failure:
            around.err(failure.message)
            failed.append(name)
        else:
            around.out(name)
    if failed:
        raise Failure(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _start_attached(around: Surroundings, options: Options) -> int:
    from pyker.client.conversation import check_terminal, converse, exit_status
    from pyker.client.signals import Signals

    client = around.client
    view = client.json("GET", container_path(options.arguments[0], "json"))
    config, identifier = view.get("Config") or {}, str(view.get("Id"))
    tty = bool(config.get("Tty"))
    wants_input = options.on("interactive") and bool(config.get("OpenStdin"))
    check_terminal(wants_input, tty)
    keys = options.text("detach-keys") or around.config.text("detachKeys")
    attached = ["stdin"] if wants_input else []
    if options.on("attach") or options.on("interactive"):
        attached += ["stdout", "stderr"]
    path = f"/containers/{identifier}"
    query = {"stream": "1", **dict.fromkeys(attached, "1")}
    if keys:
        query["detachKeys"] = keys
    removed = bool((view.get("HostConfig") or {}).get("AutoRemove"))
    proxy = options.on("sig-proxy") and not tty
    with Signals() as signals:
        stream = client.open("POST", f"{path}/attach", query, upgrade=True)
        waiting = client.open("POST", f"{path}/wait", {"condition": "removed" if removed else "next-exit"})
        client.call("POST", f"{path}/start")
        if converse(around, identifier, stream, signals, attached, tty=tty, proxy=proxy, detach_keys=keys):
            return 0
        return exit_status(waiting, around, identifier, signals, proxy=proxy)


COMMANDS = {
    "start": Command(
        _start,
        SEVERAL,
        flags=(
            Flag("attach", "bool", "Join stdout and stderr, and hand signals on", short="a"),
            Flag("checkpoint", "string", "Not there yet", hidden=True),
            Flag("checkpoint-dir", "string", "Not there yet", hidden=True),
            Flag("detach-keys", "string", "Keys that leave the container running"),
            Flag("interactive", "bool", "Give it our stdin", short="i"),
            Flag("sig-proxy", "bool", "Hand signals on to the container", default=True, hidden=True),
        ),
        least=1,
        aliases=("container start", "start"),
    )
}
