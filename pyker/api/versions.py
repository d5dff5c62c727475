"""API versions: what is spoken here, and how two of them compare. Source: Docker API, version history."""

from __future__ import annotations

API_VERSION = "1.45"
"""The newest that Pyker speaks; a request without a version means this one."""
MIN_API_VERSION = "1.24"

Version = tuple[int, int]


def parse(text: str) -> Version:
    """``"1.41"`` -> ``(1, 41)``. Missing or odd parts count as zero, as the reference engine compares them."""
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0]
    return (int(major) if major.isdecimal() else 0, int(minor) if minor.isdecimal() else 0)


NEWEST = parse(API_VERSION)
OLDEST = parse(MIN_API_VERSION)


def negotiate(server: str) -> str:
    """The version that a client of ours speaks with a server that announced ``server`` (empty: it is very old)."""
    if not server:
        return MIN_API_VERSION
    return server if parse(server) < NEWEST else API_VERSION
