"""``/containers/{id}/exec`` and ``/exec/...``."""

from __future__ import annotations

import msgspec

from pyker.api.codec import Decoder
from pyker.errors import InvalidParameter
from pyker.jobs.containers import CreateExec, InspectExec, ResizeExec, StartExec
from pyker.server.call import Call
from pyker.server.render.containers import exec_inspect
from pyker.server.reply import STREAMED, Reply, json_reply
from pyker.server.router import Route
from pyker.types.config import Wire


class ExecConfig(Wire, frozen=True):
    """The body of ``POST /containers/{id}/exec``."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None
    attach_stdin: bool = False
    attach_stderr: bool = False
    attach_stdout: bool = False
    detach: bool = False
    detach_keys: str = ""
    env: tuple[str, ...] | None = None
    working_dir: str = ""
    cmd: tuple[str, ...] | None = None


class ExecStart(msgspec.Struct, frozen=True, rename="pascal"):
    """The body of ``POST /exec/{id}/start``."""

    detach: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None


_config = Decoder(ExecConfig, name="ExecConfig")
_start = Decoder(ExecStart, name="ExecStartCheck")
_CONSOLE_SIZE_SINCE = (1, 42)


def create(call: Call) -> Reply:
    given = call.json(_config)
    if not given.cmd:
        raise InvalidParameter("No exec command specified")
    size = given.console_size if call.version >= _CONSOLE_SIZE_SINCE else None
    exec_id = call.run(
        CreateExec(
            container=call["name"],
            command=given.cmd,
            attach_stdin=given.attach_stdin,
            attach_stdout=given.attach_stdout,
            attach_stderr=given.attach_stderr,
            tty=given.tty,
            console_size=size or (0, 0),
            detach_keys=given.detach_keys,
            env=given.env or (),
            user=given.user,
            working_dir=given.working_dir,
            privileged=given.privileged,
        )
    )
    return json_reply({"Id": exec_id}, 201)


def start(call: Call) -> Reply:
    """Detached: an empty 200 at once. Else the connection becomes the process's streams."""
    given = call.json(_start, empty=ExecStart())
    size = given.console_size if call.version >= _CONSOLE_SIZE_SINCE else None
    call.run(StartExec(exec_id=call["name"], detach=given.detach, tty=given.tty, console_size=size or (0, 0)))
    return Reply(200) if given.detach else STREAMED


def resize(call: Call) -> Reply:
    height, width = call.number("h", required=True), call.number("w", required=True)
    call.run(ResizeExec(exec_id=call["name"], height=height, width=width))
    return Reply(200)


def inspect(call: Call) -> Reply:
    return json_reply(exec_inspect(call.run(InspectExec(exec_id=call["name"]))))


ROUTES = [
    Route("POST", "/containers/{name:.*}/exec", create),
    Route("POST", "/exec/{name:.*}/start", start),
    Route("POST", "/exec/{name:.*}/resize", resize),
    Route("GET", "/exec/{name:.*}/json", inspect),
]
