"""Where a container's output goes: from LogConfig to the monitor's LogSpec."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pyker.container.record import Container
from pyker.errors import InvalidParameter
from pyker.libcontainer.spec import LogSpec

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(text: str) -> int:
    """``10m``, ``1.5GB`` or ``512`` in bytes; units are powers of 1024. Raises: InvalidParameter."""
    lowered = text.strip().lower().removesuffix("ib")
    if lowered[-1:] == "b" and lowered[-2:-1] in "kmgt":
        lowered = lowered[:-1]
    number = lowered.rstrip("bkmgt ")
    unit = lowered[len(number) :].strip()
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError) as error:
        raise InvalidParameter(f"invalid size: '{text}'") from error


_LOG_OPTIONS = frozenset(
    {"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size"}
)


def build(container: Container) -> LogSpec:
    """The monitor's orders for the container's output. Raises: InvalidParameter."""
    chosen = container.host_config.log_config
    settings: Mapping[str, str] = chosen.config or {}
    check(chosen.type, settings)
    if chosen.type == "none":
        return LogSpec(driver="none")
    return LogSpec(
        driver="json-file",
        path=container.log_path,
        max_size_bytes=_max_size(settings),
        max_files=int(settings.get("max-file", "1")),
        compress=_compressed(settings),
        attributes=_attributes(container, settings),
    )


def _max_size(settings: Mapping[str, str]) -> int:
    text = settings.get("max-size", "")
    return -1 if text in ("", "-1") else parse_size(text)


def _compressed(settings: Mapping[str, str]) -> bool:
    text = settings.get("compress", "false")
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise InvalidParameter(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def _attributes(container: Container, settings: Mapping[str, str]) -> dict[str, str]:
    """The labels and variables that the log options pick, for each line's ``attrs``."""
    labels = container.config.labels or {}
    env = dict(item.split("=", 1) for item in container.config.env or () if "=" in item)
    found: dict[str, str] = {}
    for source, key in ((labels, "labels"), (env, "env")):
        for name in filter(None, settings.get(key, "").split(",")):
            if name in source:
                found[name] = source[name]
        if pattern := settings.get(f"{key}-regex"):
            found |= {name: value for name, value in source.items() if re.search(pattern, name)}
    if tag := settings.get("tag"):
        found["tag"] = tag.replace("{{.ID}}", container.id[:12]).replace("{{.Name}}", container.name)
    return found


def check(driver: str, settings: Mapping[str, str]) -> None:
    """Raises: InvalidParameter for a log driver or option that is not there, in the reference engine's words."""
    if driver not in ("", "json-file", "none"):
        raise InvalidParameter(
            f'error looking up logging plugin {driver}: plugin "{driver}" not found', hint="use json-file or none"
        )
    if driver == "none":
        return
    for name in settings:
        if name not in _LOG_OPTIONS:
            raise InvalidParameter(f"unknown log opt '{name}' for json-file log driver")
    failed = "failed to initialize logging driver"
    try:
        size = _max_size(settings)
        compressed = _compressed(settings)
    except InvalidParameter as error:
        raise InvalidParameter(f"{failed}: {error}") from error
    text = settings.get("max-file", "1")
    if not text.lstrip("-").isdigit():
        raise InvalidParameter(f'{failed}: strconv.Atoi: parsing "{text}": invalid syntax')
    if int(text) < 1:
        raise InvalidParameter(f"{failed}: max-file cannot be less than 1")
    if compressed and (int(text) == 1 or size == -1):
        raise InvalidParameter(f"{failed}: compress cannot be true when max-file is less than 2 or max-size is not set")
