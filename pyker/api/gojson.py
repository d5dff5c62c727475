"""What Go's decoder would say of bytes that are no JSON. Standard library only. Source: Go's encoding/json."""

from __future__ import annotations

import json
from typing import Any

from pyker.errors import InvalidParameter

_scanner = json.JSONDecoder()
_KINDS = {"str": "string", "int": "number", "float": "number", "bool": "bool", "list": "array", "dict": "object"}


def parse_first(data: bytes | str) -> Any:
    """The first JSON value of ``data``; what follows it is not looked at. Raises InvalidParameter in Go's words."""
    text = (data if isinstance(data, str) else data.decode("utf-8", "replace")).lstrip(" \t\r\n")
    if not text:
        raise InvalidParameter("EOF")
    try:
        value, _ = _scanner.raw_decode(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or "Unterminated string" in error.msg:
            raise InvalidParameter("unexpected EOF") from error
        where = f"in JSON at offset {error.pos}: {error.msg.lower()}"
        if error.msg == "Expecting value":
            where = "looking for beginning of value"
        raise InvalidParameter(f"invalid character '{text[error.pos]}' {where}") from error
    except RecursionError as error:
        raise InvalidParameter("exceeded max depth") from error
    return value


def kind_of(value: object) -> str:
    """What Go calls the kind of a decoded value."""
    return _KINDS.get(type(value).__name__, "null")
