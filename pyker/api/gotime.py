"""Times and durations as Go writes and reads them: RFC 3339 with nanoseconds, ``1h2m3.5s``, and docker's ``--since``.

A moment is an int of nanoseconds since 1970, UTC (negative before); Go's zero time is ``ZERO_NS``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from time import time_ns

from pyker.errors import InvalidParameter

SECOND = 1_000_000_000
ZERO_TIME = "0001-01-01T00:00:00Z"
ZERO_NS = -62_135_596_800 * SECOND
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?(?:([Zz])|([+-])(\d\d):?(\d\d))?\Z"
)
_UNITS_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": SECOND, "m": 60 * SECOND}
_UNITS_NS["h"] = 3600 * SECOND
_DURATION_PART = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)")


def format_time(moment_ns: int) -> str:
    """RFC 3339 in UTC with up to nine digits, trailing zeros dropped: ``2026-11-23T20:22:31.15Z``."""
    seconds, fraction = divmod(moment_ns, SECOND)
    if moment_ns <= ZERO_NS:
        return ZERO_TIME
    date = datetime.fromtimestamp(seconds, UTC) if seconds >= 0 else _before_1970(seconds)
    head = date.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    return f"{head}.{fraction:09d}".rstrip("0") + "Z" if fraction else head + "Z"


def _before_1970(seconds: int) -> datetime:
    return datetime.fromordinal(_EPOCH.toordinal() + seconds // 86400).replace(
        hour=seconds % 86400 // 3600, minute=seconds % 3600 // 60, second=seconds % 60, tzinfo=UTC
    )


def format_time_fixed(moment_ns: int) -> str:
    """The same with always nine digits, as log lines with ``--timestamps`` begin."""
    seconds, fraction = divmod(max(moment_ns, 0), SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC).strftime('%Y-%m-%dT%H:%M:%S')}.{fraction:09d}Z"


def now() -> str:
    """The present, formatted."""
    return format_time(time_ns())


def parse_time(text: str) -> int:
    """Read RFC 3339, to the nanosecond; without a zone it is UTC. Raises InvalidParameter."""
    match = _RFC3339.match(text)
    if match is None:
        raise InvalidParameter(f"parsing time {text!r}: not RFC 3339")
    year, month, day, hour, minute, second, fraction, _, sign, zone_hours, zone_minutes = match.groups()
    try:
        date = datetime(int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC)
    except ValueError as error:
        raise InvalidParameter(f"parsing time {text!r}: {error}") from error
    span = date - _EPOCH
    moment = (span.days * 86400 + span.seconds) * SECOND + int((fraction or "").ljust(9, "0"))
    if sign:
        offset = (int(zone_hours) * 3600 + int(zone_minutes) * 60) * SECOND
        moment += -offset if sign == "+" else offset
    return moment


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration such as ``1h30m``, ``-1.5s`` or ``300ms``. Raises InvalidParameter."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    total = 0
    at = 0
    while at < len(rest):
        match = _DURATION_PART.match(rest, at)
        if match is None or not (match[1] or match[2]):
            break
        unit = _UNITS_NS[match[3]]
        total += int(match[1] or 0) * unit
        if match[2]:
            total += int(match[2]) * unit // 10 ** len(match[2])
        at = match.end()
    if at != len(rest) or not rest:
        raise InvalidParameter(f'time: invalid duration "{text}"')
    return -total if text[0] == "-" else total


def format_duration(duration_ns: int) -> str:
    """A duration as Go prints it: ``1h0m0s``, ``2.5s``, ``300ms``, ``0s``."""
    if duration_ns == 0:
        return "0s"
    sign = "-" if duration_ns < 0 else ""
    value = abs(duration_ns)
    if value < SECOND:
        unit, size = ("ms", 1_000_000) if value >= 1_000_000 else ("µs", 1_000) if value >= 1_000 else ("ns", 1)
        return sign + _decimal(value, size) + unit
    minutes, rest = divmod(value, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    text = _decimal(rest, SECOND) + "s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else sign + text


def _decimal(value: int, size: int) -> str:
    whole, fraction = divmod(value, size)
    digits = str(fraction).rjust(len(str(size)) - 1, "0").rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)


def parse_unix(text: str) -> int:
    """Nanoseconds of ``seconds[.fraction]`` since 1970, as ``since`` and ``until`` travel; "" is 0.

    Raises InvalidParameter with the words that clients of the reference engine see.
    """
    if not text:
        return 0
    seconds, dot, fraction = text.partition(".")
    digits = seconds[1:] if seconds[:1] in ("+", "-") else seconds
    if not (digits.isascii() and digits.isdecimal()):
        raise InvalidParameter(f'strconv.ParseInt: parsing "{seconds}": invalid syntax')
    if dot and not (fraction.isascii() and fraction.isdecimal()):
        raise InvalidParameter(f'strconv.ParseInt: parsing "{fraction}": invalid syntax')
    return int(seconds) * SECOND + int(fraction[:9].ljust(9, "0") if fraction else 0)


def to_unix(text: str, now_ns: int | None = None) -> str:
    """What a user typed after ``--since``, as it travels: a duration before now, a date, or seconds since 1970.

    Raises InvalidParameter. Source: docker logs(1), ``--since``.
    """
    try:
        before = parse_duration(text)
    except InvalidParameter:
        pass
    else:
        return _unix((time_ns() if now_ns is None else now_ns) - before)
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return text
    for pattern in ("%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d"):
        try:
            date = datetime.strptime(text.rstrip("Z"), pattern)
        except ValueError:
            continue
        zone = UTC if text.endswith("Z") else None
        return _unix(int((date.replace(tzinfo=zone) if zone else date.astimezone()).timestamp()) * SECOND)
    if _RFC3339.match(text) and not re.search(r"[Zz]\Z|[+-]\d\d:?\d\d\Z", text):
        offset = datetime.now().astimezone().utcoffset()
        return _unix(parse_time(text) - int(offset.total_seconds() if offset else 0) * SECOND)
    return _unix(parse_time(text))


def moment_before(text: str) -> int:
    """A filter such as ``until``, in nanoseconds since 1970: a date, seconds since 1970, or a duration before now."""
    try:
        return parse_unix(to_unix(text, time_ns()))
    except InvalidParameter as error:
        hint = "such as 10m, 1h30m, 2006-01-02T15:04:05Z, or seconds since 1970"
        raise InvalidParameter(f'failed to parse value as time or duration: "{text}"', hint=hint) from error


def _unix(moment_ns: int) -> str:
    return f"{moment_ns // SECOND}.{moment_ns % SECOND:09d}"
