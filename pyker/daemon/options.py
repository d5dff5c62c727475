"""The daemon's options: flags with dockerd's names, ``daemon.json``, and the environment.

Source: dockerd(8); seed: "DOCKER_DRIVER" chooses the graphdriver.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from pyker.errors import InvalidParameter

DEFAULT_HOST = "unix:///run/pyker.sock"
DEFAULT_CONFIG_FILE = "/etc/pyker/daemon.json"
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Each field has the name of its flag, with underscores; lists are given by repeating the flag."""

    host: tuple[str, ...] = ()
    data_root: str = "/var/lib/pyker"
    exec_root: str = "/run/pyker"
    pidfile: str = "/run/pyker.pid"
    storage_driver: str = ""
    exec_driver: str = "native"
    bridge: str = ""
    bip: str = ""
    mtu: int = 0
    tls: bool = False
    tlsverify: bool = False
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""
    insecure_registry: tuple[str, ...] = ()
    registry_mirror: tuple[str, ...] = ()
    debug: bool = False
    log_level: str = "info"
    label: tuple[str, ...] = ()
    group: str = "docker"
    config_file: str = DEFAULT_CONFIG_FILE
    default_ulimit: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    icc: bool = True
    ip: str = "0.0.0.0"
    ip_masq: bool = True
    ip_forward: bool = True
    iptables: bool = True
    userland_proxy: bool = True
    userns_remap: str = ""
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    live_restore: bool = True
    log_driver: str = "json-file"
    log_opt: dict[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""
    shutdown_timeout: int = 15
    embedded_registry: bool = True
    default_shm_size: str = ""
    experimental: bool = False
    validate: bool = False
    help: bool = False


SHORT = {
    "H": "host",
    "p": "pidfile",
    "s": "storage-driver",
    "b": "bridge",
    "D": "debug",
    "l": "log-level",
    "G": "group",
    "h": "help",
}
_JSON_NAMES = {
    "hosts": "host",
    "insecure-registries": "insecure-registry",
    "registry-mirrors": "registry-mirror",
    "labels": "label",
    "default-ulimits": "default-ulimit",
    "dns-opts": "dns-opt",
    "log-opts": "log-opt",
}
"""Keys of daemon.json that differ from the flag."""


def parse_options(argv: list[str], environ: Mapping[str, str]) -> Options:
    """Flags, then the file, then the environment. Raises InvalidParameter for what cannot be read or contradicts."""
    flags = _parse_flags(argv)
    path = str(flags.get("config_file", DEFAULT_CONFIG_FILE))
    from_file = _read_file(path, required="config_file" in flags)
    both = sorted(set(flags) & set(from_file))
    if both:
        names = ", ".join(
            f"{name.replace('_', '-')}: (from flag: {flags[name]}, from file: {from_file[name]})" for name in both
        )
        raise InvalidParameter(
            "unable to configure the daemon with file "
            f"{path}: the following directives are specified both as a flag and in the configuration file: {names}"
        )
    values = {**from_file, **flags}
    if not values.get("storage_driver"):
        values["storage_driver"] = environ.get("PYKER_DRIVER") or environ.get("DOCKER_DRIVER") or ""
    options = replace(Options(), **values)
    if options.log_level not in LOG_LEVELS:
        raise InvalidParameter(f"invalid logging level: {options.log_level}", hint="one of " + ", ".join(LOG_LEVELS))
    if options.tlsverify and not options.tls:
        options = replace(options, tls=True)
    return options if options.host else replace(options, host=(DEFAULT_HOST,))


def _kinds() -> dict[str, str]:
    return {each.name: str(each.type) for each in fields(Options)}


def _parse_flags(argv: list[str]) -> dict[str, Any]:
    kinds = _kinds()
    values: dict[str, Any] = {}
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        name, equals, value = _split(argument)
        if name == "no_embedded_registry":
            values["embedded_registry"] = not _boolean(name, value if equals else "true")
            continue
        kind = kinds.get(name)
        if kind is None:
            raise InvalidParameter(f"unknown flag: {argument.partition('=')[0]}", hint="see 'pyker daemon --help'")
        if kind == "bool":
            values[name] = _boolean(name, value if equals else "true")
            continue
        if not equals:
            if not rest:
                raise InvalidParameter(f"flag needs an argument: {argument}")
            value = rest.pop(0)
        _add(values, name, kind, value)
    return values


def _split(argument: str) -> tuple[str, bool, str]:
    """(field name, whether a value is joined, that value)."""
    if argument.startswith("--"):
        name, equals, value = argument[2:].partition("=")
        return name.replace("-", "_"), bool(equals), value
    if argument.startswith("-") and len(argument) > 1:
        name = SHORT.get(argument[1], "")
        joined = argument[2:].removeprefix("=")
        return (name or argument).replace("-", "_"), bool(argument[2:]), joined
    raise InvalidParameter(f'"pyker daemon" accepts no arguments: {argument!r}', hint="see 'pyker daemon --help'")


def _add(values: dict[str, Any], name: str, kind: str, value: str) -> None:
    match kind:
        case "int":
            try:
                values[name] = int(value)
            except ValueError:
                raise InvalidParameter(f'invalid argument "{value}" for "--{name.replace("_", "-")}" flag') from None
        case "tuple[str, ...]":
            before = values.get(name, ())
            values[name] = (*(before if isinstance(before, tuple) else ()), value)
        case "dict[str, str]":
            key, equals, text = value.partition("=")
            if not equals:
                raise InvalidParameter(f"invalid option {value!r} of --{name.replace('_', '-')}: it is key=value")
            before_map = values.get(name, {})
            values[name] = {**(before_map if isinstance(before_map, dict) else {}), key: text}
        case _:
            values[name] = value


def _boolean(name: str, value: str) -> bool:
    if value.lower() in ("1", "t", "true"):
        return True
    if value.lower() in ("0", "f", "false"):
        return False
    raise InvalidParameter(f'invalid argument "{value}" for "--{name.replace("_", "-")}" flag')


def _read_file(path: str, *, required: bool) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            raw = json.load(file)
    except FileNotFoundError:
        if required:
            raise InvalidParameter(
                f"unable to configure the daemon with file {path}: open {path}: no such file or directory"
            ) from None
        return {}
    except (OSError, ValueError) as error:
        raise InvalidParameter(f"unable to configure the daemon with file {path}: {error}") from error
    if not isinstance(raw, dict):
        raise InvalidParameter(f"unable to configure the daemon with file {path}: it is not a JSON object")
    kinds = _kinds()
    values: dict[str, Any] = {}
    unknown = []
    for key, value in raw.items():
        name = str(_JSON_NAMES.get(key, key)).replace("-", "_")
        kind = kinds.get(name)
        if kind is None:
            unknown.append(key)
            continue
        values[name] = _CONVERT[kind](path, key, value)
    if unknown:
        raise InvalidParameter(
            f"unable to configure the daemon with file {path}: the following directives don't match any "
            f"configuration option: {', '.join(sorted(unknown))}"
        )
    return values


def _wrong(path: str, key: str, kind: str) -> InvalidParameter:
    return InvalidParameter(f"unable to configure the daemon with file {path}: {key!r} must be {kind}")


def _as_str(path: str, key: str, value: object) -> object:
    if not isinstance(value, str):
        raise _wrong(path, key, "a string")
    return value


def _as_int(path: str, key: str, value: object) -> object:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(path, key, "a number")
    return value


def _as_bool(path: str, key: str, value: object) -> object:
    if not isinstance(value, bool):
        raise _wrong(path, key, "true or false")
    return value


def _as_list(path: str, key: str, value: object) -> object:
    if key == "default-ulimits" and isinstance(value, dict):
        return tuple(_ulimit(name, limit) for name, limit in value.items())
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong(path, key, "a list of strings")
    return tuple(value)


def _ulimit(name: str, limit: object) -> str:
    match limit:
        case {"Soft": int(soft), "Hard": int(hard)}:
            return f"{name}={soft}:{hard}"
        case _:
            raise InvalidParameter(f"the default ulimit {name!r} needs Soft and Hard")


def _as_map(path: str, key: str, value: object) -> object:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise _wrong(path, key, "an object of strings")
    return value


_CONVERT: dict[str, Callable[[str, str, object], object]] = {
    "str": _as_str,
    "int": _as_int,
    "bool": _as_bool,
    "tuple[str, ...]": _as_list,
    "dict[str, str]": _as_map,
}

_ULIMIT = re.compile(r"([a-z]+)=(-?\d+)(?::(-?\d+))?")


def parse_ulimit(text: str) -> tuple[str, int, int]:
    """``nofile=1024:2048`` as (name, soft, hard). Raises InvalidParameter."""
    match = _ULIMIT.fullmatch(text)
    if match is None:
        raise InvalidParameter(f"invalid ulimit argument: {text}")
    soft = int(match[2])
    return match[1], soft, int(match[3]) if match[3] else soft
