"""JSON for the wire, straight on the interpreter's own C scanner and encoder.

Importing ``json`` compiles regular expressions and costs more than all the rest of ``pyker ps``; the C parts that it is
made of are there already. Where an interpreter lacks them, ``json`` is used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SPACE = " \t\r\n"


class _Context:
    """The settings that the C scanner reads once. Strings may hold control bytes."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}

    @staticmethod
    def parse_constant(name: str) -> float:
        return float(name)


def _fallback_loads(text: str) -> Any:
    import json

    return json.loads(text)


def _fallback_dumps(value: object, *, indent: int | None = None) -> str:
    import json

    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(value, indent=indent, separators=separators, ensure_ascii=False)


try:
    from _json import make_scanner as _make_scanner

    _scan: Any = _make_scanner(_Context)  # type: ignore[arg-type]
except ImportError:  # another interpreter than CPython
    _scan = None


def loads(data: bytes | str) -> Any:
    """Decode one JSON value. Raises ValueError for what is not JSON, or is nested too deeply."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    if _scan is None:
        return _fallback_loads(text)
    start, length = 0, len(text)
    while start < length and text[start] in _SPACE:
        start += 1
    try:
        value, end = _scan(text, start)
    except (StopIteration, SystemError):
        # The scanner looks for json.decoder's error class, and is at a loss where nobody imported it.
        raise ValueError("not JSON") from None
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    if text[end:].strip(_SPACE):
        raise ValueError("more than one JSON value")
    return value


def dumps(value: object) -> str:
    """Encode without spaces, keys in the order given."""
    try:
        from _json import encode_basestring
        from _json import make_encoder as make
    except ImportError:
        return _fallback_dumps(value)
    encoder: Any = make(None, _refuse, encode_basestring, None, ":", ",", False, False, True)
    return "".join(encoder(value, 0))


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def dumps_go(value: object) -> str:
    """Encode as Go's json.Marshal does: no spaces, ``<``, ``>`` and ``&`` escaped; keys in the order given."""
    return escape_go(dumps(value))


def dumps_indented(value: object) -> str:
    """Encode for people, four spaces a level, in the order that the daemon sent."""
    return _fallback_dumps(value, indent=4)


def escape_go(text: str) -> str:
    """The escapes that Go adds so that JSON may stand inside HTML."""
    return (
        text.replace("&", "\\u0026")
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )
