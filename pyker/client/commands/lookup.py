"""``pyker top`` and ``pyker port``: short questions about one container."""

from __future__ import annotations

from pyker.client.command import Command
from pyker.client.commands.lifecycle import container_path
from pyker.client.failure import Failure
from pyker.client.table import lay_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

TOP_WIDTH = 20


def _top(around: Surroundings, options: Options) -> int:
    name, *arguments = options.arguments
    query = {"ps_args": " ".join(arguments)} if arguments else {}
    table = around.client.json("GET", container_path(name, "top"), query)
    rows = [table.get("Titles") or [], *(table.get("Processes") or [])]
    around.write(lay_out([row for row in rows if row], narrowest=TOP_WIDTH))
    return 0


def _port(around: Surroundings, options: Options) -> int:
    name, *wanted = options.arguments
    view = around.client.json("GET", container_path(name, "json"))
    ports = (view.get("NetworkSettings") or {}).get("Ports") or {}
    if wanted:
        port = wanted[0]
        key = port if "/" in port else f"{port}/tcp"
        number = key.partition("/")[0]
        if not number.isdigit() or int(number) > 65535:
            raise Failure(f"invalid port '{number}': invalid syntax")
        found = ports.get(key)
        if not found:
            raise Failure(f"Error: No public port '{port}' published for {name}")
        lines = [_address(binding) for binding in found]
    else:
        lines = [
            f"{key} -> {_address(binding)}"
            for key in sorted(ports, key=lambda key: (int(key.partition("/")[0]), key))
            for binding in ports[key] or []
        ]
    for line in lines:
        around.out(line)
    return 0


def _address(binding: dict[str, str]) -> str:
    ip = binding.get("HostIp") or ""
    return f"[{ip}]:{binding.get('HostPort')}" if ":" in ip else f"{ip}:{binding.get('HostPort')}"


COMMANDS = {
    "top": Command(_top, "CONTAINER [ps OPTIONS]", least=1, interspersed=False, aliases=("container top", "top")),
    "port": Command(_port, "CONTAINER [PRIVATE_PORT[/PROTO]]", least=1, most=2, aliases=("container port", "port")),
}
