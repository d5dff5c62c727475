"""Sizes and spans of time as docker's users read them: ``1.98MB``, ``23.54GiB``, ``About a minute``."""

from __future__ import annotations

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def _scaled(size: float, base: float, names: tuple[str, ...], digits: int) -> str:
    at = 0
    while size >= base and at < len(names) - 1:
        size /= base
        at += 1
    return f"{size:.{digits}g}{names[at]}" if size < 10**digits else f"{size:.0f}{names[at]}"


def human_size(size: float, digits: int = 4) -> str:
    """Decimal units, at most ``digits`` significant digits: 1982256 is ``1.982MB``."""
    return _scaled(float(size), 1000.0, _DECIMAL, digits)


def bytes_size(size: float) -> str:
    """Binary units, four significant digits: ``23.54GiB``."""
    return _scaled(float(size), 1024.0, _BINARY, 4)


def human_duration(seconds: float) -> str:
    """A span, roughly: ``Less than a second``, ``5 seconds``, ``About a minute``, ``3 weeks``."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = int(seconds / 60)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"
