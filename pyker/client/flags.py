"""Command-line flags in docker's grammar: ``-it``, ``--rm=false``, ``-eA=1``, ``-p8080:80``, stop at IMAGE.

A command declares its flags as ``Flag`` values; ``parse`` turns arguments into ``Options``. Texts and statuses of
errors are those that scripts know from docker. Source: pflag's documented syntax, compared with the stock CLI.
"""

from __future__ import annotations

from pyker.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
REPEATED = ("list", "strings", "filter", "map", "mount", "ulimit", "network", "gpu-request")


class BadValue(ValueError):
    """A flag's value cannot be read; its text says why."""


class HelpAsked(Exception):
    """``--help`` stood among the flags."""


class VersionAsked(Exception):
    """``--version`` stood among the global flags."""


class Flag:
    """One flag. ``kind`` names the type as help shows it; ``check`` refuses a value with BadValue, or rewrites it.

    ``shown_default`` is what help prints in brackets. A ``hidden`` flag is accepted and not shown.
    """

    __slots__ = ("check", "default", "hidden", "kind", "name", "short", "shown_default", "text")

    def __init__(
        self,
        name: str,
        kind: str,
        text: str,
        *,
        short: str = "",
        default: Any = None,
        shown_default: str = "",
        check: Callable[[str], str] | None = None,
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.kind = kind
        self.text = text
        self.short = short
        self.shown_default = shown_default
        self.check = check
        self.hidden = hidden
        if default is None:
            if kind == "bool":
                default = False
            elif kind in ("string",):
                default = ""
            elif kind not in REPEATED:
                default = 0
        self.default = default

    @property
    def label(self) -> str:
        """As error texts name it: ``-m, --memory``."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


class Options:
    """What the flags of one command said."""

    __slots__ = ("_given", "_lists", "_values", "arguments")

    def __init__(self, flags: Sequence[Flag]) -> None:
        self._values: dict[str, Any] = {flag.name: flag.default for flag in flags if flag.kind not in REPEATED}
        self._lists: dict[str, list[str]] = {flag.name: [] for flag in flags if flag.kind in REPEATED}
        self._given: set[str] = set()
        self.arguments: list[str] = []

    def put(self, flag: Flag, value: Any) -> None:
        """Record ``value``; flags that repeat collect."""
        self._given.add(flag.name)
        if flag.kind == "strings":
            self._lists[flag.name] += value.split(",")
        elif flag.kind in REPEATED:
            self._lists[flag.name].append(value)
        else:
            self._values[flag.name] = value

    def given(self, name: str) -> bool:
        """Whether the flag stood on the command line, whatever its value."""
        return name in self._given

    def on(self, name: str) -> bool:
        return bool(self._values.get(name, False))

    def text(self, name: str) -> str:
        return str(self._values.get(name, ""))

    def number(self, name: str) -> int:
        return int(self._values.get(name, 0))

    def items(self, name: str) -> list[str]:
        """Every value of a flag that repeats, in order."""
        return self._lists.get(name, [])


def parse(flags: Sequence[Flag], arguments: Sequence[str], *, interspersed: bool = True) -> Options:
    """Read ``arguments``. Raises Failure (status 125) for what docker refuses, HelpAsked for ``--help``.

    With ``interspersed`` False the first word that is no flag ends the flags: it and all after it are arguments.
    """
    options = Options(flags)
    by_name = {flag.name: flag for flag in flags}
    by_short = {flag.short: flag for flag in flags if flag.short}
    rest = list(arguments)
    position = 0
    while position < len(rest):
        word = rest[position]
        position += 1
        if len(word) < 2 or word[0] != "-":
            if not interspersed:
                options.arguments = rest[position - 1 :]
                return options
            options.arguments.append(word)
        elif word == "--":
            options.arguments += rest[position:]
            break
        elif word.startswith("--"):
            position = _read_long(options, by_name, word, rest, position)
        else:
            position = _read_short(options, by_short, word, rest, position)
    return options


def _read_long(options: Options, by_name: dict[str, Flag], word: str, rest: list[str], position: int) -> int:
    name, equals, value = word[2:].partition("=")
    if not name or name[0] in "-=":
        raise Failure(f"bad flag syntax: {word}", 125)
    if name == "help":
        raise HelpAsked
    flag = by_name.get(name)
    if flag is None:
        raise Failure(f"unknown flag: --{name}", 125)
    if not equals:
        if flag.kind == "bool":
            value = "true"
        elif position < len(rest):
            value = rest[position]
            position += 1
        else:
            raise Failure(f"flag needs an argument: --{name}", 125)
    _set(options, flag, value)
    return position


def _read_short(options: Options, by_short: dict[str, Flag], word: str, rest: list[str], position: int) -> int:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = by_short.get(letter)
        if flag is None:
            if letter == "h":
                raise HelpAsked
            raise Failure(f"unknown shorthand flag: '{letter}' in -{letter}{letters}", 125)
        if len(letters) > 1 and letters[0] == "=":
            _set(options, flag, letters[1:])
            return position
        if flag.kind == "bool":
            _set(options, flag, "true")
        elif letters:
            _set(options, flag, letters)
            return position
        elif position < len(rest):
            _set(options, flag, rest[position])
            return position + 1
        else:
            raise Failure(f"flag needs an argument: '{letter}' in {word}", 125)
    return position


def _set(options: Options, flag: Flag, text: str) -> None:
    try:
        value = convert(flag.kind, text)
        if flag.check is not None and isinstance(value, str):
            value = flag.check(value)
    except BadValue as error:
        raise Failure(f'invalid argument {quote_go(text)} for "{flag.label}" flag: {error}', 125) from None
    options.put(flag, value)


def quote_go(text: str) -> str:
    """As Go's ``%q`` prints plain text."""
    escaped = (
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    )
    return f'"{escaped}"'


def convert(kind: str, text: str) -> Any:
    """The value of ``text`` as ``kind``. Raises BadValue in Go's words."""
    if kind == "bool":
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise BadValue(f"strconv.ParseBool: parsing {quote_go(text)}: invalid syntax")
    if kind == "int":
        return parse_integer(text, signed=True, bits=64)
    if kind == "uint16":
        return parse_integer(text, signed=False, bits=16)
    if kind == "uint":
        return parse_integer(text, signed=False, bits=64)
    if kind in ("bytes", "swap-bytes", "duration", "decimal"):
        from pyker.client import units

        try:
            if kind == "bytes":
                return units.parse_bytes(text)
            if kind == "swap-bytes":
                return -1 if text == "-1" else units.parse_bytes(text)
            if kind == "duration":
                return units.parse_duration(text)
            return units.parse_nano_cpus(text)
        except ValueError as error:
            raise BadValue(str(error)) from None
    if kind == "filter" and text:
        name, equals, _value = text.partition("=")
        if not equals or not name.strip():
            raise BadValue("bad format of filter (expected name=value)")
    return text


def parse_integer(text: str, *, signed: bool, bits: int) -> int:
    """Like Go's strconv with base 0: ``0x`` and a leading ``0`` are understood."""
    name = "ParseInt" if signed else "ParseUint"
    try:
        if not signed and text[:1] in ("+", "-"):
            raise ValueError
        sign = -1 if text[:1] == "-" else 1
        digits = text.lstrip("+-") if text[:1] in ("+", "-") else text
        if digits != text[1:] and digits != text:
            raise ValueError
        if not digits.isascii() or not digits[:1].isdigit():
            raise ValueError
        octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
        value = sign * (int(digits, 8) if octal else int(digits, 0))
    except ValueError:
        raise BadValue(f"strconv.{name}: parsing {quote_go(text)}: invalid syntax") from None
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if not low <= value <= high:
        raise BadValue(f"strconv.{name}: parsing {quote_go(text)}: value out of range")
    return value
