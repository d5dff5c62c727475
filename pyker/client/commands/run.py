"""``pyker run`` and ``pyker create``: create, attach, wait, start, in the order that clients of the API rely on.

Source: seed, "docker run"; Docker API POST /containers/create and what follows it.
"""

from __future__ import annotations

import os

from pyker.client.command import Command
from pyker.client.container.flags import RUN_ONLY, SHARED
from pyker.client.failure import DaemonFailure, Failure, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings
    from pyker.client.transport import Response

REFUSED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
NEWER_FLAGS = (("annotation", (1, 43)), ("health-start-interval", (1, 44)))
PULL_POLICIES = ("always", "missing", "never", "")


def _run(around: Surroundings, options: Options) -> int:
    streams = options.items("attach")
    if options.on("detach") and streams:
        raise Failure("conflicting options: cannot specify both --attach and --detach", 1)
    from pyker.client.conversation import check_terminal

    with_daemon(around)
    body = _body(around, options, "run")
    if options.on("detach"):
        body["AttachStdin"] = body["AttachStdout"] = body["AttachStderr"] = body["StdinOnce"] = False
    else:
        check_terminal(body["AttachStdin"], body["Tty"])
    identifier = create_container(around, options, body, "run")
    return _start(around, options, body, identifier)


def _create(around: Surroundings, options: Options) -> int:
    body = _body(around, options, "create")
    around.out(create_container(around, options, body, "create"))
    return 0


def with_daemon(around: Surroundings) -> None:
    """Learn the daemon's version; if none listens at the default socket and we are root, start one first."""
    try:
        around.client.negotiate()
    except Unreachable as unreachable:
        from pyker.client.autostart import start_daemon

        if not start_daemon(around):
            raise Failure(unreachable.message, REFUSED, command="run") from None
        around.client.negotiate()


def _body(around: Surroundings, options: Options, command: str) -> dict[str, Any]:
    from pyker.client.container.body import build_body
    from pyker.client.session import version_key
    from pyker.client.terminal import terminal_size

    if options.text("pull") not in PULL_POLICIES:
        raise Failure(
            f'invalid pull option: \'{options.text("pull")}\': must be one of "always", "missing" or "never"',
            REFUSED,
            command=command,
        )
    if options.on("use-api-socket"):
        raise Failure("--use-api-socket is not there yet: mount the socket with -v", REFUSED, command=command)
    version = _negotiated(around, command)
    for name, least in NEWER_FLAGS:
        if options.given(name) and version_key(version) < least:
            raise _too_old(f"--{name}", least, version)
    try:
        body = build_body(
            options, proxies=around.config.proxies(around.endpoint.text), api_at_least=version_key(version)
        )
    except Failure as failure:
        raise Failure(failure.message, failure.exit_code, command=command) from None
    _check_version(options, version_key(version), version)
    if command == "run" and version_key(version) >= (1, 42):
        body["HostConfig"]["ConsoleSize"] = list(terminal_size())
    return body


def _check_version(options: Options, spoken: tuple[int, ...], version: str) -> None:
    """Raises Failure for what an old daemon would silently drop."""
    from pyker.client.container.networks import parse_network

    per_network = any(parse_network(text).mac for text in options.items("network") + options.items("net"))
    if spoken < (1, 44) and (options.text("mac-address") or per_network):
        raise _too_old("specify mac-address per network", (1, 44), version)
    for text in options.items("mount"):
        for way in ("writable", "readonly"):
            if spoken < (1, 44) and f"bind-recursive={way}" in text:
                raise Failure(f"bind-recursive={way} requires API v1.44 or later")


def _too_old(what: str, least: tuple[int, ...], version: str) -> Failure:
    needed = ".".join(str(part) for part in least)
    return Failure(f'"{what}" requires API version {needed}, but the Pyker daemon API version is {version}')


def _negotiated(around: Surroundings, command: str) -> str:
    try:
        return around.client.negotiate()
    except Unreachable as unreachable:
        raise refused(unreachable.message, command) from None


def create_container(around: Surroundings, options: Options, body: dict[str, Any], command: str) -> str:
    """POST /containers/create, pulling the image when the daemon does not have it. Returns the container's ID."""
    image = body["Image"]
    cidfile = _claim_cidfile(options.text("cidfile"), command)
    query = {name: options.text(name) for name in ("name", "platform") if options.text(name)}
    if not query.get("platform") and around.environ.get("DOCKER_DEFAULT_PLATFORM"):
        query["platform"] = around.environ["DOCKER_DEFAULT_PLATFORM"]
    policy = options.text("pull")
    quiet = options.on("quiet")
    try:
        if policy == "always":
            _pull(around, image, query.get("platform", ""), quiet=quiet)
        try:
            created = around.client.json("POST", "/containers/create", query, body)
        except DaemonFailure as failure:
            if failure.status != 404 or policy not in ("missing", "") or "No such image" not in failure.text:
                raise
            if not quiet:
                around.err(f"Unable to find image '{_tagged(image)}' locally")
            _pull(around, image, query.get("platform", ""), quiet=quiet)
            created = around.client.json("POST", "/containers/create", query, body)
    except Failure as failure:
        _drop_cidfile(cidfile)
        raise refused(failure.message, command) from failure
    identifier = created.get("Id") if isinstance(created, dict) else None
    if not isinstance(identifier, str) or not identifier:
        _drop_cidfile(cidfile)
        raise refused("the daemon made a container without an ID", command)
    for warning in created.get("Warnings") or []:
        around.err(f"WARNING: {warning}")
    _fill_cidfile(cidfile, identifier)
    return identifier


def refused(text: str, command: str) -> Failure:
    """Why a container was not made: ``run`` has a status for scripts and a hint, ``create`` neither."""
    if command == "create":
        return Failure(text)
    return Failure(text, start_exit_code(text), command=command)


def _tagged(image: str) -> str:
    from pyker.client.names import parse_name

    return parse_name(image).default_tag().familiar


def _pull(around: Surroundings, image: str, platform: str, *, quiet: bool) -> None:
    from pyker.client.commands.transfer import pull_image

    pull_image(around, image, platform=platform, quiet=quiet, to_stderr=True)


def _claim_cidfile(path: str, command: str) -> tuple[str, int]:
    if not path:
        return "", -1
    try:
        return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise refused(
            f"container ID file found, make sure the other container isn't running or delete {path}", command
        ) from None
    except OSError as error:
        raise refused(
            f"failed to create the container ID file: open {path}: {(error.strerror or '').lower()}", command
        ) from error


def _drop_cidfile(claimed: tuple[str, int]) -> None:
    path, descriptor = claimed
    if descriptor >= 0:
        os.close(descriptor)
        os.unlink(path)


def _fill_cidfile(claimed: tuple[str, int], identifier: str) -> None:
    _path, descriptor = claimed
    if descriptor >= 0:
        os.write(descriptor, identifier.encode())
        os.close(descriptor)


def _start(around: Surroundings, options: Options, body: dict[str, Any], identifier: str) -> int:
    from pyker.client.conversation import converse, exit_status
    from pyker.client.signals import Signals

    path = f"/containers/{identifier}"
    attached = [name for name in ("stdin", "stdout", "stderr") if body[f"Attach{name.capitalize()}"]]
    removed = bool(body["HostConfig"]["AutoRemove"])
    # In a terminal of its own the container gets keys, not signals.
    proxy = options.on("sig-proxy") and not body["Tty"]
    with Signals(active=bool(attached)) as signals:
        stream: Response | None = None
        keys = options.text("detach-keys") or around.config.text("detachKeys")
        if attached:
            query = {"stream": "1", **dict.fromkeys(attached, "1")}
            if keys:
                query["detachKeys"] = keys
            stream = around.client.open("POST", f"{path}/attach", query, upgrade=True)
        condition = "removed" if removed else "next-exit"
        waiting = around.client.open("POST", f"{path}/wait", {"condition": condition})
        try:
            around.client.call("POST", f"{path}/start")
        except Failure as failure:
            if removed:
                _await_removal(waiting)
            if stream is None:
                # The container may be there still: whoever asked for it must be able to find it.
                around.out(identifier)
            raise Failure(failure.message, start_exit_code(failure.message), command="run") from None
        if stream is None:
            around.out(identifier)
            return 0
        detached = converse(
            around, identifier, stream, signals, attached, tty=body["Tty"], proxy=proxy, detach_keys=keys
        )
        if detached:
            return 0
        return exit_status(waiting, around, identifier, signals, proxy=proxy)


def _await_removal(waiting: Response) -> None:
    """Give the daemon a moment to remove what could not be started; its word ends the wait."""
    import select

    if select.select([waiting.fileno()], [], [], 10)[0]:
        waiting.read()


def start_exit_code(text: str) -> int:
    """127 for a command that is not there, 126 for one that cannot run, 125 else.

    Source: docker run, "Exit status".
    """
    if "executable file not found" in text or "no such file or directory" in text or "system cannot find" in text:
        return NOT_FOUND
    if "permission denied" in text or "is a directory" in text:
        return NOT_EXECUTABLE
    return REFUSED


COMMANDS = {
    "run": Command(
        _run,
        "IMAGE [COMMAND] [ARG...]",
        flags=(*SHARED, *RUN_ONLY),
        least=1,
        interspersed=False,
        aliases=("container run", "run"),
    ),
    "create": Command(
        _create,
        "IMAGE [COMMAND] [ARG...]",
        flags=SHARED,
        least=1,
        interspersed=False,
        aliases=("container create", "create"),
    ),
}
