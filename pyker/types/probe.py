"""The answer of a driver's probe."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probe:
    """Usable, or why not: the reason names the missing feature and what would bring it."""

    usable: bool
    reason: str = ""
