"""``-v`` and ``--mount``. Source: Docker API HostConfig.Binds and HostConfig.Mounts."""

from __future__ import annotations

import os

from pyker.client.flags import BadValue, convert, parse_integer, quote_go

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_BOOLEANS = ("readonly", "bind-nonrecursive", "volume-nocopy")


def split_csv(text: str) -> list[str]:
    """One line of comma-separated fields; a field in double quotes may hold commas."""
    fields: list[str] = []
    position = 0
    while True:
        if text[position : position + 1] == '"':
            field, position = _quoted(text, position + 1)
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            field, position = text[position:end], end
            if '"' in field:
                raise BadValue(f'parse error on line 1, column {position - len(field) + 1}: bare " in non-quoted-field')
        fields.append(field)
        if position >= len(text):
            return fields
        position += 1


def _quoted(text: str, position: int) -> tuple[str, int]:
    out = ""
    while position < len(text):
        if text[position] == '"':
            if text[position + 1 : position + 2] != '"':
                return out, position + 1
            position += 1
        out += text[position]
        position += 1
    raise BadValue('parse error on line 1: extraneous or missing " in quoted-field')


def parse_mount(text: str) -> dict[str, Any]:
    """One ``--mount`` as the API wants it. Raises BadValue."""
    mount: dict[str, Any] = {"Type": "volume"}
    options: dict[str, dict[str, Any]] = {"bind": {}, "volume": {}, "tmpfs": {}, "image": {}}
    for field in split_csv(text):
        name, equals, value = field.partition("=")
        name = _NAMES.get(name.strip().lower(), name.strip().lower())
        if not equals:
            if name not in _BOOLEANS:
                raise BadValue(f"invalid field '{field}' must be a key=value pair")
            value = "true"
        _set_field(mount, options, name, value, field)
    kind = mount["Type"]
    if not mount.get("Target"):
        raise BadValue("target is required")
    for other, given in options.items():
        if given and other != kind:
            raise BadValue(f"cannot mix '{other}-*' options with mount type '{kind}'")
    if kind == "volume" and options["volume"]:
        options["volume"].setdefault("DriverConfig", {})
    if options.get(kind):
        mount[f"{kind.capitalize()}Options"] = options[kind]
    order = ("Type", "Source", "Target", "ReadOnly", "Consistency")
    return {name: mount[name] for name in (*order, *(key for key in mount if key not in order)) if name in mount}


def _set_field(mount: dict[str, Any], options: dict[str, dict[str, Any]], name: str, value: str, field: str) -> None:
    match name:
        case "type":
            mount["Type"] = value.lower()
        case "source":
            # A path that begins with a dot means the client's own folder.
            mount["Source"] = os.path.abspath(value) if value == "." or value.startswith(("./", "../")) else value
        case "target":
            mount["Target"] = value
        case "readonly":
            if _boolean(name, value):
                mount["ReadOnly"] = True
        case "consistency":
            mount["Consistency"] = value.lower()
        case "bind-propagation":
            options["bind"]["Propagation"] = value.lower()
        case "bind-nonrecursive":
            options["bind"]["NonRecursive"] = _boolean(name, value)
        case "bind-recursive":
            _set_recursive(options["bind"], value)
        case "volume-nocopy":
            options["volume"]["NoCopy"] = _boolean(name, value)
        case "volume-subpath":
            options["volume"]["Subpath"] = value
        case "volume-label":
            key, _, content = value.partition("=")
            options["volume"].setdefault("Labels", {})[key] = content
        case "volume-driver":
            options["volume"].setdefault("DriverConfig", {})["Name"] = value
        case "volume-opt":
            key, _, content = value.partition("=")
            options["volume"].setdefault("DriverConfig", {}).setdefault("Options", {})[key] = content
        case "image-subpath":
            options["image"]["Subpath"] = value
        case "tmpfs-size":
            try:
                options["tmpfs"]["SizeBytes"] = convert("bytes", value)
            except BadValue:
                raise BadValue(f"invalid value for {name}: {value}") from None
        case "tmpfs-mode":
            try:
                options["tmpfs"]["Mode"] = int(value, 8)
            except ValueError:
                raise BadValue(f"invalid value for {name}: {value}") from None
        case _:
            raise BadValue(f"unexpected key '{name}' in '{field}'")


def _boolean(name: str, value: str) -> bool:
    try:
        return bool(convert("bool", value))
    except BadValue:
        raise BadValue(f"invalid value for {name}: {value}") from None


def _set_recursive(options: dict[str, Any], value: str) -> None:
    match value:
        case "enabled":
            return
        case "disabled":
            options["NonRecursive"] = True
        case "writable":
            options["ReadOnlyNonRecursive"] = True
        case "readonly":
            options["ReadOnlyForceRecursive"] = True
        case _:
            raise BadValue(f"invalid value for bind-recursive: {value}")


def sort_volumes(specs: list[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """``-v`` values as (binds, anonymous volumes). Raises BadValue."""
    binds: list[str] = []
    volumes: dict[str, dict[str, str]] = {}
    for spec in specs:
        source, colon, rest = spec.partition(":")
        if not spec or spec == ":" or (colon and not rest) or (colon and not source):
            raise BadValue(
                f"invalid spec: {spec}: empty section between colons" if spec else "invalid empty volume spec"
            )
        # One letter before a colon is read as a Windows drive, by docker too.
        drive = len(source) == 1 and source.isalpha() and rest[:1] in ("/", "\\")
        if not colon or (drive and ":" not in rest):
            volumes[spec] = {}
            continue
        if spec.count(":") > 2 and not drive:
            raise BadValue(f"invalid spec: {spec}: too many colons")
        if source.startswith("."):
            spec = f"{os.path.abspath(source)}:{rest}"
        if spec not in binds:
            binds.append(spec)
    return binds, volumes


def parse_gpus(text: str) -> dict[str, Any]:
    """One ``--gpus``: all, a number, or ``count=2,driver=nvidia,device=0,capabilities=gpu``. Raises BadValue."""
    request: dict[str, Any] = {
        "Driver": "",
        "Count": 0,
        "DeviceIDs": None,
        "Capabilities": [["gpu"]],
        "Options": {},
    }
    seen: set[str] = set()
    for index, field in enumerate(split_csv(text)):
        name, equals, value = field.partition("=")
        if not equals and index == 0:
            name, value = "count", field
        if name in seen:
            raise BadValue(f"gpu request key '{name}' can be specified only once")
        seen.add(name)
        match name:
            case "count":
                request["Count"] = -1 if value == "all" else parse_integer(value, signed=True, bits=64)
            case "driver":
                request["Driver"] = value
            case "device":
                request["DeviceIDs"] = value.split(",")
            case "capabilities":
                request["Capabilities"] = [[*value.split(","), "gpu"]]
            case "options":
                request["Options"] = dict(item.partition("=")[::2] for item in value.split(","))
            case _:
                raise BadValue(f"unexpected key '{name}' in {quote_go(field)}")
    if not seen & {"count", "device"}:
        request["Count"] = 1
    return request
