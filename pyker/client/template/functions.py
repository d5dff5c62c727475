"""What templates can call, and how values print. Source: Go text/template "Functions"; docker's formatting page."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_WIDTH = 4096


class TemplateError(Exception):
    """A template that cannot be carried out; the text is Go's where users know it."""


def truth(value: object) -> bool:
    """Zero values are false, all else is true."""
    return bool(value)


def show(value: object) -> str:
    """As Go's ``%v``; what is missing prints as ``<no value>``."""
    return "<no value>" if value is None else _plain(value)


def _plain(value: object) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_plain(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(_plain(item) for item in value) + "]"
    if isinstance(value, float):
        return _float(value)
    return str(value)


def _float(value: float) -> str:
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


def to_json(value: object) -> str:
    """As Go marshals; methods of a row are left out."""
    from pyker.client.wirejson import dumps_go

    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if not callable(item)}
    return dumps_go(value)


def _length(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, (list, dict, tuple)):
        return len(value)
    if value is None:
        return 0
    raise TemplateError(f"error calling len: len of type {type(value).__name__}")


def _index(value: Any, *keys: Any) -> object:
    for key in keys:
        if isinstance(value, dict):
            if key in value:
                value = value[key]
            else:
                value = "" if all(isinstance(item, str) for item in value.values()) else None
        elif isinstance(value, (list, tuple, str)):
            if not isinstance(key, int) or isinstance(key, bool):
                raise TemplateError(f"error calling index: cannot index slice/array with type {type(key).__name__}")
            if not 0 <= key < len(value):
                raise TemplateError(f"error calling index: index out of range: {key}")
            value = value[key] if not isinstance(value, str) else value.encode()[key]
        elif value is None:
            value = "" if key is keys[-1] else None
        else:
            raise TemplateError(f"error calling index: can't index item of type {type(value).__name__}")
    return value


def _slice(value: Any, *bounds: int) -> object:
    if not isinstance(value, (str, list, tuple)):
        raise TemplateError("error calling slice: can't slice that")
    if any(not 0 <= bound <= len(value) for bound in bounds):
        raise TemplateError("error calling slice: index out of range")
    return value[slice(*bounds[:2])] if len(bounds) > 1 else value[bounds[0] if bounds else 0 :]


def _equal(first: object, *others: object) -> bool:
    return any(_same_kind(first, other) and first == other for other in others)


def _same_kind(first: object, second: object) -> bool:
    if first is None or second is None:
        return first is second
    numbers = (int, float)
    same = isinstance(first, bool) == isinstance(second, bool)
    if not (same and (type(first) is type(second) or (isinstance(first, numbers) and isinstance(second, numbers)))):
        raise TemplateError("error calling eq: incompatible types for comparison")
    return True


def _less(first: Any, second: Any) -> bool:
    if isinstance(first, str) != isinstance(second, str) or isinstance(first, (dict, list)) or first is None:
        raise TemplateError("error calling lt: incompatible types for comparison")
    return bool(first < second)


def _printf(form: object, *arguments: Any) -> str:
    if not isinstance(form, str):
        raise TemplateError("error calling printf: the format is no string")
    out: list[str] = []
    rest = list(arguments)
    position = 0
    while position < len(form):
        character = form[position]
        position += 1
        if character != "%":
            out.append(character)
            continue
        start = position
        while position < len(form) and form[position] in "+-# 0123456789.":
            position += 1
        flags, verb = form[start:position], form[position : position + 1]
        position += 1
        if verb == "%":
            out.append("%")
        elif not verb:
            out.append("%!(NOVERB)")
        elif not rest:
            out.append(f"%!{verb}(MISSING)")
        else:
            out.append(_verb(flags, verb, rest.pop(0)))
    if rest:
        out.append("%!(EXTRA " + ", ".join(f"{type(item).__name__}={_plain(item)}" for item in rest) + ")")
    return "".join(out)


def _verb(flags: str, verb: str, value: Any) -> str:
    numbers = [part for part in flags.strip("+-# ").lstrip("0").split(".") if part]
    if any(int(part) > MAX_WIDTH for part in numbers):
        return f"%!(BADWIDTH){_plain(value)}"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        if verb in "sv":
            text = _plain(value)
            return str(f"%{flags.removeprefix('0')}s" % text)
        if verb == "q":
            from pyker.client.commands.ps import quote

            return quote(_plain(value))
        if verb == "t" and isinstance(value, bool):
            return _plain(value)
        if verb == "T":
            from pyker.client.template.evaluate import type_name

            return type_name(value)
        if verb in "xX" and isinstance(value, str):
            return value.encode().hex() if verb == "x" else value.encode().hex().upper()
        if verb in "dxXobc" and number and value == int(value):
            return format(int(value), "b") if verb == "b" else str(f"%{flags}{verb}" % int(value))
        if verb in "feEgG" and number:
            return str(f"%{flags}{verb}" % value)
    except (ValueError, TypeError, OverflowError):
        pass
    return f"%!{verb}({type(value).__name__}={_plain(value)})"


def _print(*arguments: object) -> str:
    out = ""
    for index, value in enumerate(arguments):
        if index and not isinstance(value, str) and not isinstance(arguments[index - 1], str):
            out += " "
        out += _plain(value)
    return out


def _join(items: Any, separator: str) -> str:
    if not isinstance(items, (list, tuple)):
        raise TemplateError("error calling join: want a list")
    return str(separator).join(_plain(item) for item in items)


def _split(text: object, separator: str) -> list[str]:
    plain = _plain(text)
    return plain.split(separator) if separator else list(plain)


def _title(text: object) -> str:
    out, previous = "", " "
    for character in _plain(text):
        out += character.upper() if previous.isspace() else character
        previous = character
    return out


def _pad(text: object, before: int, after: int) -> str:
    plain = _plain(text)
    return plain if not plain else " " * min(before, MAX_WIDTH) + plain + " " * min(after, MAX_WIDTH)


def _truncate(text: object, width: int) -> str:
    plain = _plain(text)
    return plain if len(plain) < width else plain[:width]


def _html(*values: object) -> str:
    text = _print(*values)
    for plain, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        text = text.replace(plain, escaped)
    return text


def _urlquery(*values: object) -> str:
    from pyker.client.transport import quote_query

    return quote_query(_print(*values))


FUNCTIONS: dict[str, Callable[..., object]] = {
    "eq": _equal,
    "ge": lambda first, second: not _less(first, second),
    "gt": lambda first, second: not _less(first, second) and first != second,
    "html": _html,
    "index": _index,
    "join": _join,
    "json": to_json,
    "le": lambda first, second: _less(first, second) or first == second,
    "len": _length,
    "lower": lambda text: _plain(text).lower(),
    "lt": _less,
    "ne": lambda first, second: not (_same_kind(first, second) and first == second),
    "not": lambda value: not truth(value),
    "pad": _pad,
    "print": _print,
    "printf": _printf,
    "println": lambda *values: " ".join(_plain(value) for value in values) + "\n",
    "slice": _slice,
    "split": _split,
    "title": _title,
    "truncate": _truncate,
    "upper": lambda text: _plain(text).upper(),
    "urlquery": _urlquery,
}

LIMITS: dict[str, tuple[int, int]] = {
    "eq": (2, 1000),
    "ge": (2, 2),
    "gt": (2, 2),
    "index": (1, 1000),
    "join": (2, 2),
    "json": (1, 1),
    "le": (2, 2),
    "len": (1, 1),
    "lower": (1, 1),
    "lt": (2, 2),
    "ne": (2, 2),
    "not": (1, 1),
    "pad": (3, 3),
    "printf": (1, 1000),
    "slice": (1, 4),
    "split": (2, 2),
    "title": (1, 1),
    "truncate": (2, 2),
    "upper": (1, 1),
}
