"""Dockerfile lines that change an image's configuration, as ``import --change`` and ``commit --change`` take them.

Source: Docker API v1.45 POST /images/create ``changes``; Dockerfile reference.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from typing import Any

from pyker.api import gotime
from pyker.errors import InvalidParameter

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.I)


def apply(config: dict[str, Any], changes: Iterable[str]) -> None:
    """Change ``config`` (the part ``config`` of an image's file) by each line. Raises InvalidParameter."""
    for text in changes:
        for line in _lines(text):
            word, _, rest = line.partition(" ")
            _change(config, word.upper(), rest.strip(), line)


def _lines(text: str) -> Iterable[str]:
    joined = re.sub(r"\\[ \t]*\r?\n", "", text)
    return (line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#"))


def _change(config: dict[str, Any], word: str, rest: str, line: str) -> None:
    if not rest and word not in ("CMD", "ENTRYPOINT"):
        raise InvalidParameter(f"{word} requires at least one argument")
    match word:
        case "CMD":
            config["Cmd"] = _command(rest)
        case "ENTRYPOINT":
            config["Entrypoint"] = _command(rest)
        case "ENV":
            _env(config, rest)
        case "LABEL":
            config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(rest, "LABEL"))}
        case "EXPOSE":
            ports = dict(config.get("ExposedPorts") or {})
            for port in rest.split():
                ports.update(_ports(port))
            config["ExposedPorts"] = ports
        case "VOLUME":
            volumes = json.loads(rest) if _is_list(rest) else rest.split()
            config["Volumes"] = {**(config.get("Volumes") or {}), **{volume: {} for volume in volumes}}
        case "WORKDIR":
            base = config.get("WorkingDir") or "/"
            config["WorkingDir"] = rest if rest.startswith("/") else f"{base.rstrip('/')}/{rest}"
        case "USER":
            config["User"] = rest
        case "STOPSIGNAL":
            config["StopSignal"] = rest
        case "ONBUILD":
            config["OnBuild"] = [*(config.get("OnBuild") or ()), rest]
        case "HEALTHCHECK":
            config["Healthcheck"] = _health(rest)
        case _:
            raise InvalidParameter(f"{line.split()[0].lower()} is not a valid change command")


def _is_list(text: str) -> bool:
    if not text.startswith("["):
        return False
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _command(text: str) -> list[str]:
    if _is_list(text):
        words: list[str] = json.loads(text)
        return words
    return ["/bin/sh", "-c", text] if text else []


def _env(config: dict[str, Any], text: str) -> None:
    env = {entry.partition("=")[0]: entry for entry in config.get("Env") or ()}
    for key, value in _pairs(text, "ENV"):
        env[key] = f"{key}={value}"
    config["Env"] = list(env.values())


def _pairs(text: str, word: str) -> list[tuple[str, str]]:
    """``a=b c="d e"``, or the old form ``name all the rest``."""
    first = text.split(None, 1)[0]
    if "=" not in first:
        name, _, value = text.partition(" ")
        if not value.strip():
            raise InvalidParameter(f"{word} must have two arguments")
        return [(name, value.strip())]
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidParameter(f"{word}: {error}") from error
    pairs = []
    for item in words:
        key, equals, value = item.partition("=")
        if not equals:
            raise InvalidParameter(f"Syntax error - can't find = in {item!r}. Must be of the form: name=value")
        if not key:
            raise InvalidParameter(f"{word} names can not be blank")
        pairs.append((key, value))
    return pairs


def _ports(text: str) -> dict[str, dict[str, str]]:
    match = _PORT.fullmatch(text)
    if match is None or not 0 < int(match[1]) <= int(match[2] or match[1]) <= 65535:
        raise InvalidParameter(f"Invalid containerPort: {text}")
    kind = (match[3] or "tcp").lower()
    return {f"{port}/{kind}": {} for port in range(int(match[1]), int(match[2] or match[1]) + 1)}


def _health(text: str) -> dict[str, Any]:
    if text.upper() == "NONE":
        return {"Test": ["NONE"]}
    health: dict[str, Any] = {}
    names = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod"}
    while text.startswith("--"):
        flag, _, text = text.partition(" ")
        key, _, value = flag[2:].partition("=")
        if key == "retries":
            if not value.isdigit():
                raise InvalidParameter(f"HEALTHCHECK: --retries must be a number, not {value!r}")
            health["Retries"] = int(value)
        elif key in names:
            health[names[key]] = gotime.parse_duration(value)
        else:
            raise InvalidParameter(f"Unknown flag: {key}")
        text = text.strip()
    kind, _, command = text.partition(" ")
    if kind.upper() != "CMD" or not command.strip():
        raise InvalidParameter(f"Unknown type {kind!r} in HEALTHCHECK (try CMD)")
    command = command.strip()
    health["Test"] = ["CMD", *json.loads(command)] if _is_list(command) else ["CMD-SHELL", command]
    return health
