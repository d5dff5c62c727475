"""Sizes, durations and times as docker users read and write them.

Source: the formats of the docker CLI's output (``1.98MB``, ``23.54GiB``, ``About an hour``).
"""

from __future__ import annotations

import time

from pyker.api.units import bytes_size, human_duration, human_size

_BINARY = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DURATIONS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def parse_bytes(text: str) -> int:
    """``64m``, ``1.5g``, ``10 KiB``: powers of 1024. Raises ValueError."""
    bad = ValueError(f"invalid size: '{text}'")
    split = len(text)
    while split and text[split - 1] not in "0123456789. ":
        split -= 1
    number, suffix = text[:split], text[split:].lower()
    if number.endswith(" "):
        number = number[:-1]
    try:
        if not number or number[0] in "+-" or "_" in number or " " in number:
            raise bad
        value = float(number)
    except ValueError:
        raise bad from None
    if suffix in ("", "b"):
        return int(value)
    if suffix[0] not in _BINARY or suffix[1:] not in ("", "b", "ib") or suffix == "bb":
        raise bad
    return int(value * _BINARY[suffix[0]])


def parse_duration(text: str) -> int:
    """Go's ``1h2m3.5s`` in nanoseconds. Raises ValueError."""
    bad = f'time: invalid duration "{text}"'
    rest, sign = text, 1
    if rest[:1] in ("-", "+"):
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(bad)
    total = 0
    while rest:
        split = 0
        while split < len(rest) and (rest[split].isdigit() or rest[split] == "."):
            split += 1
        number, rest = rest[:split], rest[split:]
        if not number or number == "." or number.count(".") > 1:
            raise ValueError(bad)
        split = 0
        while split < len(rest) and not (rest[split].isdigit() or rest[split] == "."):
            split += 1
        unit, rest = rest[:split], rest[split:]
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in _DURATIONS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        whole, _, fraction = number.partition(".")
        scale = _DURATIONS[unit]
        total += int(whole or "0") * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
    return sign * total


def parse_nano_cpus(text: str) -> int:
    """``--cpus 1.5`` in billionths of a processor. Raises ValueError."""
    from fractions import Fraction

    try:
        value = Fraction(text) * 10**9
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if value.denominator != 1:
        raise ValueError("value is too precise")
    return value.numerator


def short_size(size: float) -> str:
    """``1.98MB``, as lists show it."""
    return human_size(size, 3)


def now() -> float:
    """The wall clock, for ages of things that carry dates."""
    return time.time_ns() / 1e9


def ago(created: float) -> str:
    """``3 minutes ago``."""
    return human_duration(now() - created) + " ago"


def days_before(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to the date, in the proleptic Gregorian calendar."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def parse_time(text: str) -> float:
    """An RFC 3339 time as seconds since 1970. Raises ValueError."""
    try:
        date, _, clock = text.partition("T")
        year, month, day = (int(part) for part in date.split("-"))
        offset = 0
        if clock.endswith("Z"):
            clock = clock[:-1]
        else:
            for sign in "+-":
                if sign in clock:
                    clock, _, zone = clock.partition(sign)
                    hours, _, minutes = zone.partition(":")
                    offset = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1)
        hour, minute, second = clock.split(":")
        days = days_before(year, month, day)
        return days * 86400 + int(hour) * 3600 + int(minute) * 60 + float(second) - offset
    except ValueError:
        raise ValueError(f"not an RFC 3339 time: {text!r}") from None


def local_offset(moment: float) -> tuple[str, str]:
    """The local zone at ``moment``: ``+0100`` and its name."""
    local = time.localtime(moment)
    return time.strftime("%z", local), time.strftime("%Z", local)


def go_time(moment: float) -> str:
    """As Go prints a time without a format: ``2026-11-23 17:08:01 +0000 UTC``."""
    offset, zone = local_offset(moment)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)) + f" {offset} {zone}"


__all__ = [
    "ago",
    "bytes_size",
    "days_before",
    "go_time",
    "human_duration",
    "human_size",
    "local_offset",
    "now",
    "parse_bytes",
    "parse_duration",
    "parse_nano_cpus",
    "parse_time",
    "short_size",
]


def utc_time(text: str) -> str:
    """A date of the API's (RFC 3339, UTC) as Go prints a time; other text as it is."""
    whole = text.removesuffix("Z")
    try:
        parse_time(f"{whole}Z")
    except ValueError:
        return text
    return f"{whole.replace('T', ' ')} +0000 UTC"
