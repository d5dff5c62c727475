"""Variables and labels, from flags and from files. Source: docker run, "Set environment variables"."""

from __future__ import annotations

import os

from pyker.client.failure import Failure

MAX_FILE = 16 * 1024 * 1024


def read_pairs(files: list[str], given: list[str], *, inherit: bool) -> list[str]:
    """``NAME=value`` of every line of ``files``, then ``given``. With ``inherit`` a bare name takes our own value."""
    found: list[str] = []
    for path in files:
        found += _read_file(path, inherit=inherit)
    return found + given


def _read_file(path: str, *, inherit: bool) -> list[str]:
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_FILE)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise Failure(f"open {path}: {reason}", 125) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Failure(f"env file {path} contains invalid utf8 bytes", 125) from None
    found: list[str] = []
    for line in text.split("\n"):
        line = line.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        name = name.lstrip()
        if not name:
            raise Failure(f"invalid env file ({path}): no variable name on line '{line}'", 125)
        if any(character.isspace() for character in name):
            raise Failure(f"invalid env file ({path}): variable '{name}' contains whitespaces", 125)
        if equals:
            found.append(f"{name}={value}")
        elif inherit and name in os.environ:
            found.append(f"{name}={os.environ[name]}")
    return found


def as_map(pairs: list[str]) -> dict[str, str]:
    """``["a=1", "b"]`` as ``{"a": "1", "b": ""}``, in the order of names; of several values the last counts."""
    found = {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
    return dict(sorted(found.items()))
