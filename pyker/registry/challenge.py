"""``WWW-Authenticate``: what a registry wants to see before it answers.

Source: RFC 9110 section 11.6.1; distribution token authentication specification.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*({_TOKEN})(?:\s+|$|(?=,))")
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*(?:,|$)')
_ESCAPE = re.compile(r"\\(.)")
_HEADER_MAX = 8192


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate. ``scheme`` and the parameters' names are lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Every challenge of one header, or of several joined by commas. What cannot be read is left out."""
    text = header[:_HEADER_MAX]
    found: list[Challenge] = []
    position = 0
    while position < len(text):
        if text[position] in ", \t":
            position += 1
            continue
        parameter = _PARAMETER.match(text, position)
        if parameter is not None and found:
            name, quoted, plain = parameter.groups()
            value = _ESCAPE.sub(r"\1", quoted) if quoted is not None else plain
            found[-1].parameters.setdefault(name.lower(), value)
            position = parameter.end()
            continue
        scheme = _SCHEME.match(text, position)
        if scheme is None:
            break
        found.append(Challenge(scheme.group(1).lower()))
        position = max(scheme.end(), position + 1)
    return tuple(found)
