"""From system call rules to a classic BPF program.

The program first finds the architecture, then searches the call's number in a balanced tree whose leaves are ranges of
numbers with the same verdict. A typical profile needs some 400 instructions and a dozen steps a call; the kernel, which
runs the program over every number once at load (seccomp_cache_prepare), takes a tenth of what a linear list costs it.

Numbers above the highest one that the rules name get ENOSYS instead of the default action, so that a libc that tries a
newer call falls back to an older one, as with the reference's runtime.

Source: seccomp(2), kernel Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyker.errors import InvalidParameter
from pyker.libcontainer.seccomp_default import Argument, Rule

_LOAD, _AND, _RETURN, _JUMP = 0x20, 0x54, 0x06, 0x05
_EQUAL, _GREATER, _GREATER_OR_EQUAL = 0x15, 0x25, 0x35
_NR_OFFSET, _ARCH_OFFSET, _ARGS_OFFSET = 0, 4, 16
_X32_BIT = 0x40000000
MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS."""

_ACTIONS = {
    "KILL_PROCESS": 0x80000000,
    "KILL": 0x00000000,
    "KILL_THREAD": 0x00000000,
    "TRAP": 0x00030000,
    "ERRNO": 0x00050000,
    "NOTIFY": 0x7FC00000,
    "TRACE": 0x7FF00000,
    "LOG": 0x7FFC0000,
    "ALLOW": 0x7FFF0000,
}
_ENOSYS = _ACTIONS["ERRNO"] | 38

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, value)."""


@dataclass(frozen=True, slots=True)
class Machine:
    """An architecture as the filter sees it. ``audit`` is its AUDIT_ARCH value; ``token`` is libseccomp's."""

    token: int
    audit: int
    bits: int


MACHINES: dict[str, Machine] = {
    "amd64": Machine(0xC000003E, 0xC000003E, 64),
    "x86": Machine(0x40000003, 0x40000003, 32),
    "x32": Machine(0x4000003E, 0xC000003E, 32),
    "arm64": Machine(0xC00000B7, 0xC00000B7, 64),
    "arm": Machine(0x40000028, 0x40000028, 32),
    "s390x": Machine(0x80000016, 0x80000016, 64),
    "s390": Machine(0x00000016, 0x00000016, 32),
    "riscv64": Machine(0xC00000F3, 0xC00000F3, 64),
    "ppc64le": Machine(0xC0000015, 0xC0000015, 64),
}
"""x32 shares amd64's AUDIT_ARCH and is told apart by a bit of the number. ``bits`` says how much of an argument counts.
"""


def action_value(action: str, errno: int) -> int:
    """The word that a filter returns. Raises: InvalidParameter for an unknown action."""
    if action not in _ACTIONS:
        raise InvalidParameter(f"invalid seccomp action {action!r}", hint=f"one of {', '.join(_ACTIONS)}")
    return _ACTIONS[action] | (errno & 0xFFFF if action in ("ERRNO", "TRACE") else 0)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The conditions are tried in order; ``otherwise`` applies when none holds."""

    conditions: tuple[tuple[tuple[Argument, ...], int], ...]
    otherwise: int


def _split_repeated(arguments: tuple[Argument, ...]) -> list[tuple[Argument, ...]]:
    """Comparisons of different arguments must all hold; several of one argument are alternatives, as in runc."""
    indices = [argument.index for argument in arguments]
    return [arguments] if len(set(indices)) == len(indices) else [(argument,) for argument in arguments]


def _verdicts(rules: Iterable[Rule], numbers: Mapping[str, int], default: int) -> dict[int, _Verdict]:
    conditions: dict[int, list[tuple[tuple[Argument, ...], int]]] = {}
    otherwise: dict[int, int] = {}
    for rule in rules:
        value = action_value(rule.action, rule.errno)
        for name in rule.names:
            number = numbers.get(name)
            if number is None:
                continue
            if rule.args:
                conditions.setdefault(number, []).extend((args, value) for args in _split_repeated(rule.args))
            else:
                otherwise.setdefault(number, value)
    return {
        number: _Verdict(
            tuple(c for c in conditions.get(number, ()) if c[1] != otherwise.get(number)),
            otherwise.get(number, default),
        )
        for number in conditions.keys() | otherwise.keys()
    }


def _half(argument: Argument, *, high: bool) -> tuple[Instruction, int, int]:
    """Load one 32-bit half of an argument; also the halves of ``value`` and ``value_two``."""
    first_is_high = sys.byteorder == "big"
    offset = _ARGS_OFFSET + 8 * argument.index + (4 if high != first_is_high else 0)
    shift = 32 if high else 0
    return (
        (_LOAD, 0, 0, offset),
        argument.value >> shift & 0xFFFFFFFF,
        argument.value_two >> shift & 0xFFFFFFFF,
    )


_FAIL, _PASS = -1, -2
"""Jump targets to fill in: out of the whole conjunction, and past this comparison."""


def _comparison(argument: Argument, bits: int) -> list[Instruction]:
    """Code that falls through, or jumps to _PASS, if the comparison holds, and jumps to _FAIL if not."""
    load_low, low, low_two = _half(argument, high=False)
    load_high, high, high_two = _half(argument, high=True)
    wide = bits == 64
    match argument.op:
        case "EQ":
            head = [load_high, (_EQUAL, 0, _FAIL, high)] if wide else []
            return [*head, load_low, (_EQUAL, 0, _FAIL, low)]
        case "NE":
            head = [load_high, (_EQUAL, 0, _PASS, high)] if wide else []
            return [*head, load_low, (_EQUAL, _FAIL, 0, low)]
        case "NE_INT":
            return [load_low, (_EQUAL, _FAIL, 0, low)]
        case "GT" | "GE":
            head = [load_high, (_GREATER, _PASS, 0, high), (_EQUAL, 0, _FAIL, high)] if wide else []
            code = _GREATER if argument.op == "GT" else _GREATER_OR_EQUAL
            return [*head, load_low, (code, 0, _FAIL, low)]
        case "LT" | "LE":
            head = [load_high, (_GREATER, _FAIL, 0, high), (_EQUAL, 0, _PASS, high)] if wide else []
            code = _GREATER_OR_EQUAL if argument.op == "LT" else _GREATER
            return [*head, load_low, (code, _FAIL, 0, low)]
        case "MASKED_EQ":
            # value is the mask, value_two what must remain.
            head = [load_high, (_AND, 0, 0, high), (_EQUAL, 0, _FAIL, high_two & high)] if wide and high else []
            return [*head, load_low, (_AND, 0, 0, low), (_EQUAL, 0, _FAIL, low_two & low)]
        case _:
            raise InvalidParameter(f"invalid seccomp operator {argument.op!r}")


def _resolve(code: list[Instruction], target: int, mark: int) -> list[Instruction]:
    """Turn ``mark`` into a distance to ``target``, an index just past ``code`` or later."""

    def distance(index: int, jump: int) -> int:
        return target - index - 1 if jump == mark else jump

    return [(op, distance(i, true), distance(i, false), value) for i, (op, true, false, value) in enumerate(code)]


def _leaf(verdict: _Verdict, bits: int) -> list[Instruction]:
    code: list[Instruction] = []
    for arguments, value in verdict.conditions:
        block: list[Instruction] = []
        for argument in arguments:
            test = _comparison(argument, bits)
            block += _resolve(test, len(test), _PASS)
        block.append((_RETURN, 0, 0, value))
        code += _resolve(block, len(block), _FAIL)
    return [*code, (_RETURN, 0, 0, verdict.otherwise)]


def _tree(ranges: list[tuple[int, list[Instruction]]]) -> list[Instruction]:
    """A search over ``ranges``, each from its number to the next one's; the call's number is loaded."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = _tree(ranges[:middle]), _tree(ranges[middle:])
    pivot = ranges[middle][0]
    if len(below) <= 255:
        return [(_GREATER_OR_EQUAL, len(below), 0, pivot), *below, *above]
    return [(_GREATER_OR_EQUAL, 0, 1, pivot), (_JUMP, 0, 0, len(below)), *below, *above]


def _ranges(
    verdicts: dict[int, _Verdict], default: int, above: int, first: int, bits: int
) -> list[tuple[int, _Verdict]]:
    """Neighbours with the same verdict are one range; what lies past the last number gets ``above``."""
    found: list[tuple[int, _Verdict]] = []

    def add(start: int, verdict: _Verdict) -> None:
        if not found or found[-1][1] != verdict:
            found.append((start, verdict))

    expected = first
    for number in sorted(verdicts):
        if number != expected:
            add(expected, _Verdict((), default))
        add(number, verdicts[number])
        expected = number + 1
    add(expected, _Verdict((), above))
    return found


def _section(
    rules: list[Rule], tables: list[tuple[str, Mapping[str, int]]], default: int, beyond: int
) -> list[Instruction]:
    """The code for all machines that share one AUDIT_ARCH value."""
    ranges: list[tuple[int, list[Instruction]]] = []
    for name, numbers in sorted(tables, key=lambda pair: pair[0] == "x32"):
        bits = MACHINES[name].bits
        first = _X32_BIT if name == "x32" else 0
        verdicts = _verdicts(rules, numbers, default)
        ranges += [(start, _leaf(v, bits)) for start, v in _ranges(verdicts, default, beyond, first, bits)]
    if any(name == "amd64" for name, _ in tables) and not any(name == "x32" for name, _ in tables):
        ranges.append((_X32_BIT, [(_RETURN, 0, 0, _ACTIONS["KILL"])]))
    return [(_LOAD, 0, 0, _NR_OFFSET), *_tree(ranges)]


def assemble(
    rules: list[Rule], tables: Mapping[str, Mapping[str, int]], default_action: str, default_errno: int
) -> bytes:
    """The program, as an array of struct sock_filter. ``tables`` has each machine's call numbers by name.

    A call from a machine that ``tables`` lacks kills the thread. Raises: InvalidParameter for an unknown action or
    operator, and for a profile that does not fit into BPF_MAXINSNS.
    """
    default = action_value(default_action, default_errno)
    beyond = default if default_action in ("ALLOW", "LOG") else _ENOSYS
    groups: dict[int, list[tuple[str, Mapping[str, int]]]] = {}
    for name, numbers in tables.items():
        groups.setdefault(MACHINES[name].audit, []).append((name, numbers))
    code: list[Instruction] = [(_LOAD, 0, 0, _ARCH_OFFSET)]
    for audit, group in groups.items():
        section = _section(rules, group, default, beyond)
        if len(section) <= 255:
            code += [(_EQUAL, 0, len(section), audit), *section]
        else:
            code += [(_EQUAL, 1, 0, audit), (_JUMP, 0, 0, len(section)), *section]
    code.append((_RETURN, 0, 0, _ACTIONS["KILL"]))
    if len(code) > MAX_INSTRUCTIONS:
        raise InvalidParameter(
            f"the seccomp profile needs {len(code)} instructions; the kernel takes {MAX_INSTRUCTIONS}"
        )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
