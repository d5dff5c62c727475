"""The claims that tests cover, the tests ahead of Pyker, and what the reference engine fails here: a plugin of pytest.

``tests/conformance/claims.toml`` says what is claimed; ``@pytest.mark.claim(ID, ...)`` says which test covers it;
``pending.toml`` and ``known-differences.toml`` beside it name tests that are expected to fail, so that one which passes
fails the run until it leaves its list. A list that is wrong fails the collection: what it says is then about nothing.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support import capabilities

FOLDER = Path(__file__).parents[1] / "conformance"
TREE = FOLDER.parents[1]
Row = TypeVar("Row")


class WrongList(Exception):
    """A list of the suite that contradicts itself or the tests."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence that can be true or false of an engine."""

    id: str
    source: str
    section: str
    sentence: str
    priority: str = ""
    level: str = "conformance"


@dataclass(frozen=True, slots=True)
class Pending:
    """A test of something that Pyker has not got yet. ``test`` may end in ``[parameters]``, without the engine's."""

    test: str
    reason: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A test that ``engine`` fails. Only in ``versions`` (their beginnings), and only where a capability is lacking.

    ``test`` may be a whole file: of its tests ``engine`` fails some, which need not be the same each time.
    """

    test: str
    engine: str
    reason: str
    versions: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def concerns(self, kind: str) -> bool:
        """Whether the engine named ``kind``, such as ``docker`` or ``docker:28``, is meant, on this machine."""
        if self.engine not in (kind, kind.partition(":")[0]):
            return False
        if self.lacks and all(map(capabilities.has, self.lacks)):
            return False
        return not self.versions or version(kind).startswith(self.versions)


@functools.cache
def version(kind: str) -> str:
    """The version of the engine that this machine has, empty if it cannot be asked for."""
    programs = {"docker": "dockerd", "podman": "podman"}
    name, _, asked = kind.partition(":")
    if asked:
        return asked
    if name not in programs:
        return ""
    try:
        said = subprocess.run([programs[name], "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
    found = re.search(r"version ([\w.]+)", said)
    return found[1] if found else ""


def _rows(path: Path, key: str) -> list[dict[str, Any]]:
    with path.open("rb") as file:
        return list(tomllib.load(file).get(key, []))


def _only_once(path: Path, keys: Iterable[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise WrongList(f"{path.name}: {key!r} is there twice")
        seen.add(key)


def _no_whole_files(path: Path, tests: Iterable[str]) -> None:
    for test in tests:
        if "::" not in test:
            raise WrongList(
                f"{path.name}: {test!r} is no test; a whole file is only of engines other than docker and pyker"
            )


def _made(path: Path, make: Callable[..., Row], rows: Iterable[dict[str, Any]]) -> list[Row]:
    try:
        return [make(**{key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}) for row in rows]
    except TypeError as error:
        raise WrongList(f"{path.name}: {error}") from error


def load_claims(path: Path = FOLDER / "claims.toml") -> dict[str, Claim]:
    """All claims by ID, in order. Raises: WrongList."""
    claims = _made(path, Claim, _rows(path, "claim"))
    _only_once(path, (claim.id for claim in claims))
    return {claim.id: claim for claim in claims}


def load_pending(path: Path = FOLDER / "pending.toml") -> list[Pending]:
    """Raises: WrongList."""
    pending = _made(path, Pending, _rows(path, "pending"))
    _only_once(path, (entry.test for entry in pending))
    _no_whole_files(path, (entry.test for entry in pending))
    return pending


def load_differences(path: Path = FOLDER / "known-differences.toml") -> list[Difference]:
    """A row that lists several ``tests`` is as many differences. Raises: WrongList."""
    rows = []
    for row in _rows(path, "difference"):
        listed = row.pop("tests", ())
        rows += [{**row, "test": test} for test in listed] or [row]
    differences = _made(path, Difference, rows)
    ours = ("docker", "pyker")
    _no_whole_files(path, (entry.test for entry in differences if entry.engine.partition(":")[0] in ours))
    _only_once(path, (f"{entry.engine} {entry.test} {entry.versions}" for entry in differences))
    return differences


def engine_of(item: pytest.Item) -> str:
    """The engine under test, empty for a test that has none to choose."""
    callspec = getattr(item, "callspec", None)
    value = callspec.params.get("engine", "") if callspec is not None else ""
    return value if isinstance(value, str) else ""


def parameters_of(item: pytest.Item) -> str:
    """What stands in the brackets of a test's name, without the engine, which comes first there or after a client."""
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return ""
    kind, whole = engine_of(item), f"-{callspec.id}-"
    return (whole.replace(f"-{kind}-", "-", 1) if kind else whole)[1:-1]


def function_of(item: pytest.Item) -> str:
    """The node ID without parameters."""
    return item.nodeid.partition("[")[0]


def claims_of(item: pytest.Item) -> list[str]:
    """The IDs that a test, its class and its module name, in that order."""
    return list(dict.fromkeys(str(each) for mark in item.iter_markers("claim") for each in mark.args))


def names(entry: str, item: pytest.Item) -> bool:
    """Whether an entry of a list means this test."""
    if "::" not in entry:
        return item.nodeid.startswith(f"{entry}::")
    function, bracket, parameters = entry.partition("[")
    if function != function_of(item):
        return False
    return not bracket or parameters.removesuffix("]") == parameters_of(item)


def _defined(path: Path) -> Iterator[str]:
    """What a file of tests defines: ``test_x``, ``TestX::test_y``."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield from (f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef))


def check_listed(entries: Sequence[str], items: Sequence[pytest.Item], *, whole: bool, tree: Path = TREE) -> None:
    """See that each entry names a test that there is. ``whole``: ``items`` have every case of the functions in them.

    Raises: WrongList.
    """
    defined: dict[str, set[str]] = {}
    for entry in entries:
        function = entry.partition("[")[0]
        file, _, inside = function.partition("::")
        if file not in defined:
            path = tree / file
            defined[file] = set(_defined(path)) if path.is_file() else set()
        if not inside and defined[file]:
            continue
        if inside not in defined[file]:
            raise WrongList(f"listed, but not there: {entry}")
        cases = [item for item in items if function_of(item) == function]
        if whole and cases and not any(names(entry, item) for item in cases):
            there = ", ".join(dict.fromkeys(parameters_of(item) for item in cases))
            raise WrongList(f"listed, but not there: {entry}; its cases are {there}")


def _mark_expected_failures(items: Sequence[pytest.Item], *, whole: bool, checked: bool) -> None:
    kinds = {engine_of(item) for item in items}
    pending = load_pending() if not checked or "pyker" in kinds else []
    differences = load_differences() if not checked or kinds - {"pyker", ""} else []
    if not checked:
        check_listed([*(e.test for e in pending), *(e.test for e in differences)], items, whole=whole)
    waiting: dict[str, list[Pending]] = {}
    for entry in pending:
        waiting.setdefault(entry.test.partition("[")[0], []).append(entry)
    differing: dict[str, list[Difference]] = {}
    for difference in differences:
        differing.setdefault(difference.test.partition("[")[0], []).append(difference)
    for item in items:
        kind, function = engine_of(item), function_of(item)
        reasons = []
        if kind == "pyker":
            reasons = [(f"pending: {e.reason}", True) for e in waiting.get(function, ()) if names(e.test, item)]
        reasons += [
            (f"known difference: {e.reason}", "::" in e.test)
            for e in (*differing.get(function, ()), *differing.get(function.partition("::")[0], ()))
            if names(e.test, item) and e.concerns(kind)
        ]
        for reason, strict in reasons[:1]:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=strict))


class _WrongLists(pytest.Item):
    """All that is left of a collection in a worker of pytest-xdist, whose usage errors nobody sees."""

    def __init__(self, *, error: WrongList, **rest: Any) -> None:
        super().__init__(**rest)
        self._error = error

    def runtest(self) -> None:
        raise self._error

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        return str(excinfo.value)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check the marks against the claims, and expect failures where they are listed, before anything is deselected.

    ``PYKER_LISTS=checked`` says that another machine has done so with the same tree: in the lab's guests, which are
    slow, only what is expected of these tests is read.
    """
    checked = os.environ.get("PYKER_LISTS") == "checked"
    try:
        claims = {} if checked else load_claims()
        for item in items if not checked else ():
            if unknown := [each for each in claims_of(item) if each not in claims]:
                raise WrongList(f"{item.nodeid} names a claim that claims.toml has not: {', '.join(unknown)}")
        whole = not any("[" in argument for argument in config.args)
        _mark_expected_failures(items, whole=whole, checked=checked)
    except WrongList as error:
        if not hasattr(config, "workerinput"):
            raise pytest.UsageError(str(error)) from error
        items[:] = [_WrongLists.from_parent(session, name="the lists of the suite", error=error)]
