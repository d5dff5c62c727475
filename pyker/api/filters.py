"""Filters: ``{"label": {"a=b": true}}`` (Go's dialect) or ``{"label": ["a=b"]}`` (everybody else's) in a query.

Values of one key are alternatives, except labels, which must all match; keys must all match.
Source: Docker API v1.45, parameter ``filters``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping

from pyker.api import gojson
from pyker.errors import InvalidParameter

Filters = dict[str, tuple[str, ...]]

CONTAINERS = frozenset(
    {"ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network"}
    | {"publish", "since", "status", "volume"}
)
IMAGES = frozenset({"before", "dangling", "label", "reference", "since", "until"})
NETWORKS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
IMAGE_PRUNE = frozenset({"dangling", "label", "label!", "until"})
BUILD_PRUNE = frozenset({"description", "id", "inuse", "parent", "private", "shared", "type", "until"})
VOLUMES = frozenset({"dangling", "driver", "label", "name"})
VOLUME_PRUNE = frozenset({"all", "label", "label!"})
CONTAINER_PRUNE = NETWORK_PRUNE = frozenset({"label", "label!", "until"})
PLUGINS = frozenset({"capability", "enabled"})
EVENTS = frozenset(
    {"config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret"}
    | {"service", "type", "volume"}
)


def parse(text: str, accepted: Collection[str] | None = None) -> Filters:
    """Read either dialect. Raises InvalidParameter for what is neither, and for keys not in ``accepted``."""
    if not text:
        return {}
    raw = gojson.parse_first(text)
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise InvalidParameter(
            f"json: cannot unmarshal {gojson.kind_of(raw)} into Go value of type map[string]map[string]bool",
            hint='filters look like {"label": ["a=b"]}',
        )
    filters: Filters = {}
    for key, values in raw.items():
        match values:
            case dict():
                filters[key] = tuple(value for value, wanted in values.items() if wanted is True)
            case list() if all(isinstance(value, str) for value in values):
                filters[key] = tuple(values)
            case None:
                filters[key] = ()
            case _:
                raise InvalidParameter(
                    f"json: cannot unmarshal {gojson.kind_of(values)} into Go value of type map[string]bool"
                )
    if accepted is not None:
        validate(filters, accepted)
    return filters


def validate(filters: Mapping[str, tuple[str, ...]], accepted: Collection[str]) -> None:
    """Raise InvalidParameter for a key that this list doesn't know, in the reference engine's words."""
    for key in filters:
        if key not in accepted:
            raise InvalidParameter(f"Invalid filter '{key}'")


def encode(filters: Mapping[str, Iterable[str]]) -> str:
    """Go's dialect, for a query; "" when there is no filter."""
    if not filters:
        return ""
    return json.dumps({key: dict.fromkeys(values, True) for key, values in filters.items()}, separators=(",", ":"))


def matches_exactly(wanted: tuple[str, ...] | None, value: str) -> bool:
    """Whether ``value`` is one of ``wanted``; no filter matches everything."""
    return not wanted or value in wanted


def matches_pattern(wanted: tuple[str, ...] | None, *values: str) -> bool:
    """Whether one of ``values`` equals, or is found by, one of the regular expressions ``wanted``.

    What is no regular expression counts as plain text to be found.
    """
    if not wanted:
        return True
    for pattern in wanted:
        try:
            compiled = re.compile(pattern)
        except re.error:
            compiled = re.compile(re.escape(pattern))
        if any(value == pattern or compiled.search(value) for value in values):
            return True
    return False


def matches_labels(wanted: tuple[str, ...] | None, labels: Mapping[str, str] | None) -> bool:
    """Whether every ``key`` or ``key=value`` in ``wanted`` is among ``labels``."""
    if not wanted:
        return True
    if not labels:
        return False
    for want in wanted:
        key, equals, value = want.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def passes_prune(filters: Mapping[str, tuple[str, ...]], labels: Mapping[str, str] | None) -> bool:
    """Whether a prune with these filters takes what has ``labels``: all of ``label``, and none of ``label!``."""
    return matches_labels(filters.get("label"), labels) and not any(
        matches_labels((unwanted,), labels) for unwanted in filters.get("label!", ())
    )


def truth(filters: Mapping[str, tuple[str, ...]], key: str) -> bool | None:
    """A filter such as ``dangling`` as a boolean; None if not given.

    One value that means yes decides, else one that means no. Raises InvalidParameter for anything else.
    """
    values = filters.get(key)
    if not values:
        return None
    if any(value in ("1", "true", "True", "TRUE", "t", "T") for value in values):
        return True
    if any(value in ("0", "false", "False", "FALSE", "f", "F") for value in values):
        return False
    # All the values, as Go prints a list.
    raise InvalidParameter(f"Invalid filter '{key}=[{' '.join(values)}]'")
