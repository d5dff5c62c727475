"""The client's way in: global flags, the command, and how its end becomes an exit status."""

from __future__ import annotations

import os
import sys

from pyker.client import catalogue
from pyker.client.command import PROGRAM
from pyker.client.failure import Exit, Failure, UsageFailure
from pyker.client.flags import Flag, HelpAsked, parse
from pyker.client.hosts import resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyker.client.command import Command
    from pyker.client.flags import Options

FLAG_ERROR = 125
INTERRUPTED = 130

GLOBAL_FLAGS = (
    Flag("config", "string", "Folder of the client's config.json", shown_default='"~/.docker"'),
    Flag("context", "string", "Contexts are not there yet: use --host", short="c"),
    Flag("debug", "bool", "Show where an error came from", short="D"),
    Flag("host", "list", "Address of the daemon: unix://, tcp:// or fd://", short="H"),
    Flag("log-level", "string", "Accepted, and has no effect on the client", short="l", shown_default='"info"'),
    Flag("tls", "bool", "Speak TLS over tcp://, without checking whom to"),
    Flag("tlscacert", "string", "Certificate of the authority to trust", shown_default='"~/.docker/ca.pem"'),
    Flag("tlscert", "string", "Our certificate", shown_default='"~/.docker/cert.pem"'),
    Flag("tlskey", "string", "Our certificate's key", shown_default='"~/.docker/key.pem"'),
    Flag("tlsverify", "bool", "Speak TLS and check the daemon's certificate"),
    Flag("version", "bool", "Print the client's version", short="v"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status. Nothing escapes as a traceback, except with ``--debug``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_streams()
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except Exit as stop:
        return _flushed(stop.code)
    except UsageFailure as failure:
        return _tell(f"{failure}\n\nUsage:  {failure.usage}\n\n{failure.hint}", failure.exit_code)
    except Failure as failure:
        return _tell(failure.message, failure.exit_code)
    except KeyboardInterrupt:
        return _flushed(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone. Point stdout elsewhere, or the interpreter complains at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        # Every field that a daemon sends may be missing or of another type; here is where that ends.
        if "-D" in words or "--debug" in words:
            raise
        return _tell(f"{PROGRAM}: the daemon's answer cannot be understood: {error!r:.200}", 1)
    except OSError as error:
        if "-D" in words or "--debug" in words:
            raise
        return _tell(f"{PROGRAM}: {error.strerror or error}", 1)


def _prepare_streams() -> None:
    """Write UTF-8 whatever the locale says, as docker does; and put /dev/null where a standard stream is closed.

    Otherwise the next socket would take its number, and its bytes.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
        elif mode == "w" and hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(encoding="utf-8", errors="backslashreplace")


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        # Nobody reads any more, or the disk is full: what is left goes nowhere, else each flush would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


def _tell(text: str, code: int) -> int:
    _flushed(0)
    sys.stderr.write(text + "\n")
    return code


def _dispatch(words: list[str]) -> int:
    try:
        options = parse(GLOBAL_FLAGS, words, interspersed=False)
    except HelpAsked:
        return _program_help()
    except Failure as failure:
        raise UsageFailure(
            failure.message,
            FLAG_ERROR,
            usage=f"{PROGRAM} [OPTIONS] COMMAND [ARG...]",
            hint=f"Run '{PROGRAM} --help' for more information",
        ) from None
    if options.on("version"):
        from pyker import __version__

        sys.stdout.write(f"Pyker version {__version__}\n")
        return 0
    rest = options.arguments
    if not rest:
        return _program_help()
    if rest[0] == "help":
        return _help(rest[1:])
    if rest[0] in catalogue.GROUPS and (len(rest) == 1 or rest[1] in ("--help", "-h", "help")):
        return _help(rest[:1])
    found = catalogue.find(rest)
    if found is None:
        raise catalogue.refuse(rest)
    command, rest = found
    try:
        parsed = parse(command.flags, rest, interspersed=command.interspersed)
    except HelpAsked:
        return _command_help(command)
    except Failure as failure:
        raise UsageFailure(
            failure.message,
            failure.exit_code,
            usage=command.usage,
            hint=f"Run '{command.full_name} --help' for more information",
        ) from None
    command.check_arguments(len(parsed.arguments))
    return _run(command, parsed, options)


def _run(command: Command, parsed: Options, options: Options) -> int:
    from pyker.client.configfile import config_dir
    from pyker.client.surroundings import Surroundings

    if options.given("context") or os.environ.get("DOCKER_CONTEXT", "default") not in ("", "default"):
        raise Failure(f"{PROGRAM}: contexts are not there yet: name the daemon with --host or PYKER_HOST")
    folder = options.text("config") or config_dir(os.environ)
    tls: dict[str, str | bool | None] = {name: options.text(name) for name in ("tlscacert", "tlscert", "tlskey")}
    tls["tls"] = options.on("tls")
    tls["tlsverify"] = options.on("tlsverify") if options.given("tlsverify") else None
    endpoint = resolve(options.items("host"), tls, dict(os.environ), folder)
    surroundings = Surroundings(endpoint, folder, debug=options.on("debug"))
    try:
        return command.run(surroundings, parsed)
    except Failure as failure:
        if failure.command:
            hint = f"Run '{PROGRAM} {failure.command} --help' for more information"
            raise Failure(f"{PROGRAM}: {failure.message}\n\n{hint}", failure.exit_code) from failure
        raise


def _help(words: list[str]) -> int:
    from pyker.client import usage

    if not words:
        return _program_help()
    if len(words) == 1 and words[0] in catalogue.GROUPS:
        sys.stdout.write(usage.group_help(words[0], catalogue.GROUPS[words[0]], catalogue.entries(words[0])))
        return 0
    found = catalogue.find(words)
    if found is None:
        raise Failure(f"unknown help topic: {' '.join(words)}")
    return _command_help(found[0])


def _command_help(command: Command) -> int:
    from pyker.client.usage import command_help

    sys.stdout.write(command_help(command))
    return 0


def _program_help() -> int:
    from pyker.client import usage

    plain = catalogue.entries("")
    common = [(name, catalogue.PATHS[name][2]) for name in catalogue.COMMON]
    sections = (
        ("Common Commands", common),
        ("Management Commands", [*catalogue.GROUPS.items()]),
        (
            "Commands",
            [("daemon", "Be the engine: see pyker daemon --help"), *[entry for entry in plain if entry not in common]],
        ),
    )
    sys.stdout.write(usage.program_help(GLOBAL_FLAGS, sections, sorted(catalogue.NOT_THERE_YET)))
    return 0
