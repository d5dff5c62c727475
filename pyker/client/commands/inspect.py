"""``pyker inspect`` and its kin: all that the daemon knows of an object, as JSON or through a template."""

from __future__ import annotations

from pyker.client.command import Command
from pyker.client.failure import DaemonFailure, Failure, Unreachable
from pyker.client.flags import Flag
from pyker.client.transport import quote_path
from pyker.client.wirejson import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

PATHS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}
TYPES = ("config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume")


def indent_json(text: str, step: str = "    ") -> str:
    """JSON spread over lines; strings and numbers stay as the daemon wrote them.

    Empty lists and objects stay closed, as Go's json.Indent leaves them.
    """
    out: list[str] = []
    depth = 0
    position = 0
    while position < len(text):
        character = text[position]
        if character == '"':
            end = position + 1
            while text[end : end + 1] not in ('"', ""):
                end += 2 if text[end] == "\\" else 1
            out.append(text[position : end + 1])
            position = end
        elif character in "{[":
            close = position + 1
            while text[close : close + 1] in (" ", "\n", "\t", "\r"):
                close += 1
            if text[close : close + 1] in ("}", "]"):
                out.append(character + text[close])
                position = close
            else:
                depth += 1
                out.append(f"{character}\n{step * depth}")
        elif character in "}]":
            depth -= 1
            out.append(f"\n{step * depth}{character}")
        elif character == ",":
            out.append(f",\n{step * depth}")
        elif character == ":":
            out.append(": ")
        elif character not in " \t\r\n":
            out.append(character)
        position += 1
    return "".join(out)


def _any_kind(around: Surroundings, options: Options) -> int:
    wanted = options.text("type")
    if options.given("type") and wanted not in TYPES:
        raise Failure(f'unknown type: "{wanted}": must be one of "' + '", "'.join(TYPES) + '"')
    if wanted and wanted not in PATHS:
        raise Failure(f"inspecting a {wanted} is not there yet")
    sized = {"size": "1"} if options.on("size") else {}

    def fetch(name: str) -> str:
        for kind in [wanted] if wanted else PATHS:
            try:
                return around.client.text(
                    "GET", PATHS[kind].format(quote_path(name)), sized if kind == "container" else {}
                )
            except DaemonFailure as failure:
                if wanted or failure.status != 404:
                    raise
        raise Failure(f"Error: No such object: {name}")

    return print_objects(around, options.arguments, options.text("format"), fetch)


def print_objects(around: Surroundings, names: list[str], template: str, fetch: Callable[[str], str]) -> int:
    """Print what ``fetch`` finds for every name; what it does not find is told on stderr. Returns 0 or 1."""
    texts: list[str] = []
    failures: list[str] = []
    for name in names:
        try:
            text = fetch(name)
            if not isinstance(loads(text), dict):
                raise Failure(f"the daemon's answer about {name} is no object")
            texts.append(text)
        except Unreachable:
            raise
        except Failure as failure:
            failures.append(failure.message)
    if template in ("", "json"):
        if template == "json":
            around.out("[" + ",".join(text.strip() for text in texts) + "]")
        else:
            around.out(indent_json("[" + ",".join(texts) + "]"))
    else:
        from pyker.client.template import Template

        compiled = Template(template)
        for text in texts:
            around.out(compiled.render(loads(text)))
        if not texts:
            around.out("")
    if failures:
        around.err("\n".join(failures))
        return 1
    return 0


def _of_kind(kind: str) -> Callable[[Surroundings, Options], int]:
    def run(around: Surroundings, options: Options) -> int:
        query = {"size": "1"} if options.on("size") else {"verbose": "true"} if options.on("verbose") else {}

        def fetch(name: str) -> str:
            return around.client.text("GET", PATHS[kind].format(quote_path(name)), query)

        return print_objects(around, options.arguments, options.text("format"), fetch)

    return run


FORMAT = Flag("format", "string", "How to print: json, or a Go template", short="f")
SIZE = Flag("size", "bool", "Sizes of containers too", short="s")

COMMANDS = {
    "inspect": Command(
        _any_kind,
        "NAME|ID [NAME|ID...]",
        flags=(FORMAT, SIZE, Flag("type", "string", "Only objects of that type: container, image, network")),
        least=1,
    ),
    "container inspect": Command(_of_kind("container"), "CONTAINER [CONTAINER...]", flags=(FORMAT, SIZE), least=1),
    "image inspect": Command(
        _of_kind("image"),
        "IMAGE [IMAGE...]",
        flags=(FORMAT, Flag("platform", "string", "Not there yet", hidden=True)),
        least=1,
    ),
    "volume inspect": Command(_of_kind("volume"), "VOLUME [VOLUME...]", flags=(FORMAT,), least=1),
    "network inspect": Command(
        _of_kind("network"),
        "NETWORK [NETWORK...]",
        flags=(FORMAT, Flag("verbose", "bool", "All that can help with a fault", short="v")),
        least=1,
    ),
}
