"""JSON as Go reads it, into msgspec Structs: names in any case, null as zero value, unknown names ignored.

A ``Decoder`` is made once for a type. It parses, then straightens what came (a table per Struct, made at that time),
then has msgspec check and convert. Source: Go's encoding/json, Unmarshal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

from pyker.api.gojson import kind_of, parse_first
from pyker.errors import InvalidParameter

T = TypeVar("T")

Straighten = Callable[[Any], Any]

_decode = msgspec.json.Decoder().decode
_MISMATCH = re.compile(r"Expected `(.+?)`, got `(.+?)`(?: - at `\$(.*)`)?")
_GO_TYPES = {"str": "string", "int": "int64", "bool": "bool", "array": "[]string", "object": "map[string]string"}
_GO_VALUES = {"str": "string", "int": "number", "float": "number", "bool": "bool", "array": "array", "object": "object"}


class Decoder(Generic[T]):
    """Reads one type. ``lists`` names the fields whose value may be a bare string standing for a list of one.

    ``name`` is how the reference engine's error texts call the type.
    """

    def __init__(self, kind: type[T], *, name: str = "", lists: Iterable[str] = ()) -> None:
        self._kind = kind
        self._name = name or kind.__name__
        self._lists = frozenset(lists)
        self._straighten = self._for_type(inspect.type_info(kind))

    def decode(self, data: bytes) -> T:
        """Raises InvalidParameter, in Go's words, for what is no JSON or has the wrong types."""
        return self.convert(parse(data))

    def convert(self, value: Any) -> T:
        """The same for a value that was parsed already."""
        if not isinstance(value, dict):
            if value is not None:
                raise InvalidParameter(f"json: cannot unmarshal {kind_of(value)} into Go value of type {self._name}")
            value = {}
        straighten = self._straighten
        try:
            return msgspec.convert(straighten(value) if straighten is not None else value, self._kind)
        except msgspec.ValidationError as error:
            raise InvalidParameter(self._explain(error)) from error

    def _explain(self, error: msgspec.ValidationError) -> str:
        match = _MISMATCH.match(str(error))
        if match is None:
            return f"json: {error}"
        expected = match[1].partition(" |")[0]
        path = re.sub(r"\[[^]]*\]", "", match[3] or "").strip(".")
        value = _GO_VALUES.get(match[2], match[2])
        kind = "string" if path in self._lists else _GO_TYPES.get(expected, expected)
        return f"json: cannot unmarshal {value} into Go struct field {self._name}.{path} of type {kind}"

    # Tables: one function a type, None where nothing is to be done.

    def _for_type(self, node: inspect.Type) -> Straighten | None:
        match node:
            case inspect.StructType():
                return self._for_struct(node)
            case inspect.DictType():
                return self._for_dict(node)
            case inspect.VarTupleType() | inspect.ListType():
                return self._for_list(node.item_type)
            case inspect.TupleType():
                return self._for_fixed(node)
            case inspect.UnionType():
                kinds = [kind for kind in node.types if not isinstance(kind, inspect.NoneType | inspect.CustomType)]
                inner = self._for_type(kinds[0]) if len(kinds) == 1 else None
                return None if inner is None else lambda value: None if value is None else inner(value)
            case _:
                return None

    def _for_struct(self, node: inspect.StructType) -> Straighten:
        fields: dict[str, tuple[str, Straighten | None, bool]] = {}
        for item in node.fields:
            straighten = self._for_type(item.type)
            if item.encode_name in self._lists:
                straighten = _string_or_list
            fields[item.encode_name] = (item.encode_name, straighten, _nullable(item.type))
        folded = {name.lower(): entry for name, entry in fields.items()}

        def straighten_struct(value: Any) -> Any:
            if not isinstance(value, dict):
                return value
            result: dict[str, Any] = {}
            for key, item in value.items():
                entry = fields.get(key) or folded.get(key.lower())
                if entry is None:
                    continue
                name, straighten, nullable = entry
                if item is None:
                    if nullable:
                        result[name] = None
                else:
                    result[name] = item if straighten is None else straighten(item)
            return result

        return straighten_struct

    def _for_dict(self, node: inspect.DictType) -> Straighten:
        straighten = self._for_type(node.value_type)
        nullable = _nullable(node.value_type)
        zero = _zero(node.value_type)

        def straighten_dict(value: Any) -> Any:
            if not isinstance(value, dict):
                return value
            if straighten is None and (nullable or None not in value.values()):
                return value
            result: dict[str, Any] = {}
            for key, item in value.items():
                if item is None:
                    result[key] = None if nullable else zero
                else:
                    result[key] = item if straighten is None else straighten(item)
            return result

        return straighten_dict

    def _for_list(self, item_type: inspect.Type) -> Straighten:
        straighten = self._for_type(item_type)
        nullable = _nullable(item_type)
        zero = _zero(item_type)

        def straighten_list(value: Any) -> Any:
            if not isinstance(value, list):
                return value
            if not nullable and None in value:
                value = [zero if item is None else item for item in value]
            return value if straighten is None else [None if item is None else straighten(item) for item in value]

        return straighten_list

    def _for_fixed(self, node: inspect.TupleType) -> Straighten:
        """A Go array: what is missing is zero, what is too much is dropped."""
        zeros = [_zero(kind) for kind in node.item_types]

        def straighten_fixed(value: Any) -> Any:
            if not isinstance(value, list):
                return value
            filled = [zero if item is None else item for item, zero in zip(value, zeros, strict=False)]
            return filled + zeros[len(filled) :]

        return straighten_fixed


def _string_or_list(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    return ["" if item is None else item for item in value] if isinstance(value, list) else value


def _nullable(node: inspect.Type) -> bool:
    match node:
        case inspect.UnionType():
            return node.includes_none
        case inspect.NoneType() | inspect.AnyType():
            return True
        case _:
            return False


def _zero(node: inspect.Type) -> Any:
    match node:
        case inspect.StrType():
            return ""
        case inspect.IntType() | inspect.FloatType():
            return 0
        case inspect.BoolType():
            return False
        case inspect.StructType() | inspect.DictType():
            return {}
        case inspect.VarTupleType() | inspect.ListType():
            return []
        case _:
            return None


def parse(data: bytes) -> Any:
    """The first JSON value of ``data``. Raises InvalidParameter in Go's words if there is none."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # It may still be a value with something after it, which Go's decoder does not look at.
        return parse_first(data)
