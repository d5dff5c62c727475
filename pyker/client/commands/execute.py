"""``pyker exec``: one more process in a running container. Source: Docker API POST /containers/{id}/exec."""

from __future__ import annotations

from pyker.client.command import Command
from pyker.client.commands.lifecycle import container_path
from pyker.client.container.environment import read_pairs
from pyker.client.container.flags import check_env
from pyker.client.failure import Failure
from pyker.client.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings


def _exec(around: Surroundings, options: Options) -> int:
    from pyker.client.conversation import check_terminal, converse
    from pyker.client.signals import Signals
    from pyker.client.terminal import terminal_size

    name, command = options.arguments[0], options.arguments[1:]
    tty, detach = options.on("tty"), options.on("detach")
    keys = options.text("detach-keys") or around.config.text("detachKeys")
    env = read_pairs(options.items("env-file"), options.items("env"), inherit=True)
    request: dict[str, Any] = {
        "User": options.text("user"),
        "Privileged": options.on("privileged"),
        "Tty": tty,
        "AttachStdin": options.on("interactive") and not detach,
        "AttachStderr": not detach,
        "AttachStdout": not detach,
        "Detach": detach,
        "DetachKeys": keys,
        "Env": env or None,
        "WorkingDir": options.text("workdir"),
        "Cmd": command,
    }
    client = around.client
    # Asked first, so that a container that is not there is told before anything about terminals.
    client.json("GET", container_path(name, "json"))
    if not detach:
        check_terminal(request["AttachStdin"], tty)
    size = list(terminal_size()) if tty and client.at_least("1.42") else []
    if any(size):
        request["ConsoleSize"] = size
    created = client.json("POST", container_path(name, "exec"), None, request)
    identifier = created.get("Id") if isinstance(created, dict) else ""
    if not identifier:
        raise Failure("exec ID empty")
    start: dict[str, Any] = {"Detach": detach, "Tty": tty}
    if any(size):
        start["ConsoleSize"] = size
    if detach:
        client.call("POST", f"/exec/{identifier}/start", None, start)
        return 0
    attached = ["stdin"] if request["AttachStdin"] else []
    with Signals(active=tty) as signals:
        stream = client.open("POST", f"/exec/{identifier}/start", None, start, upgrade=True)
        detached = converse(
            around,
            identifier,
            stream,
            signals,
            [*attached, "stdout", "stderr"],
            tty=tty,
            proxy=False,
            detach_keys=keys,
            resize_path=f"/exec/{identifier}/resize",
        )
    if detached:
        return 0
    status = client.json("GET", f"/exec/{identifier}/json")
    return int((status.get("ExitCode") if isinstance(status, dict) else 1) or 0)


COMMANDS = {
    "exec": Command(
        _exec,
        "CONTAINER COMMAND [ARG...]",
        flags=(
            Flag("detach", "bool", "Don't wait for the command", short="d"),
            Flag("detach-keys", "string", "Keys that leave the command running"),
            Flag("env", "list", "Set a variable (A=1), or pass ours on (A)", short="e", check=check_env),
            Flag("env-file", "list", "Read variables from a file, one a line"),
            Flag("interactive", "bool", "Give it our stdin", short="i"),
            Flag("privileged", "bool", "Give all that root on the host has"),
            Flag("tty", "bool", "Give it a terminal", short="t"),
            Flag("user", "string", 'Who to be ("name|uid[:group|gid]")', short="u"),
            Flag("workdir", "string", "Folder to start in", short="w"),
        ),
        least=2,
        interspersed=False,
        aliases=("container exec", "exec"),
    )
}
