"""Read what a report is made from: results files, the list of claims, the lists of what is pending and what differs.

Every error names the file, what is wrong with it, and what was expected.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from tests.report.model import STATE_OF, Claim, Environment, Run, slug
from tests.support import claims as support

_KEYS = ("test", "level", "outcome")
# Terminal colours, and control characters that no page can show; tabs and line ends stay.
_NOISE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Where pytest keeps a test's files. Which machine and which run it was says nothing to a reader.
_TEMPORARY = re.compile(r"/\S*?/pytest-of-[^/\s]+/pytest-\d+/|/tmp/pytest/")
# The line that pytest-xdist puts before a failure.
_WORKER = re.compile(r"^\[gw\d+\] \w+ -- Python \S+ \S+\n*", re.MULTILINE)


class ReportError(Exception):
    """The report cannot be made; the message says why and what to do."""


def results(path: Path) -> list[tuple[Environment, list[Run]]]:
    """The environments and runs of one results file; a merged ``results.json`` holds several."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ReportError(f"{path}: not JSON: {error}; a run that was cut short? run it again") from error
    parts = document.get("results", [document]) if isinstance(document, dict) else None
    if not isinstance(parts, list):
        raise ReportError(f'{path}: expected an object with "environment" and "runs", as pytest --results writes it')
    return [_part(part, path) for part in parts]


def _part(part: object, path: Path) -> tuple[Environment, list[Run]]:
    match part:
        case {"environment": dict() as environment, "runs": list() as runs}:
            facts = {str(key): _text(value) for key, value in environment.items() if key != "name"}
            name = _text(environment.get("name")) or "this host"
            return Environment(name, facts), [_run(run, name, f"{path}: runs[{i}]") for i, run in enumerate(runs)]
    raise ReportError(f'{path}: expected an object with "environment" and "runs", as pytest --results writes it')


def _run(run: object, environment: str, place: str) -> Run:
    if not isinstance(run, dict):
        raise ReportError(f"{place}: expected an object, not {type(run).__name__}")
    missing = [key for key in _KEYS if key not in run]
    if missing:
        raise ReportError(f"{place}: lacks {', '.join(missing)}")
    if run["outcome"] not in STATE_OF:
        raise ReportError(f"{place}: outcome {run['outcome']!r} is none of {', '.join(STATE_OF)}")
    claims = run.get("claims", [])
    if not isinstance(claims, list | tuple):
        raise ReportError(f"{place}: claims: expected a list, not {type(claims).__name__}")
    seconds = run.get("seconds", 0.0)
    if not isinstance(seconds, int | float):
        raise ReportError(f"{place}: seconds: expected a number, not {type(seconds).__name__}")
    return Run(
        environment=environment,
        engine=_text(run.get("engine")),
        level=_text(run["level"]),
        test=_text(run["test"]),
        parameters=_text(run.get("parameters")),
        claims=tuple(dict.fromkeys(_text(claim) for claim in claims)),
        outcome=run["outcome"],
        reason=_text(run.get("reason")),
        log=_text(run.get("log")),
        seconds=float(seconds),
        only=_text(run.get("only")),
        unsteady=_text(run.get("unsteady")),
    )


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        value = ", ".join(_text(item) for item in value)
    elif isinstance(value, dict):
        value = ", ".join(f"{_text(key)}={_text(item)}" for key, item in value.items())
    text = _NOISE.sub("", str(value)).replace("\r\n", "\n").encode(errors="replace").decode()
    return _TEMPORARY.sub("tmp/", _WORKER.sub("", text).replace(f"{support.TREE}/", ""))


def lists() -> tuple[list[Claim], list[support.Pending], list[support.Difference]]:
    """The suite's own lists: claims in order (the document's, then the API's), pending tests, known differences."""
    taken: set[str] = set()
    try:
        claims = [new_claim(each, taken) for each in support.load_claims().values()]
        return claims, support.load_pending(), support.load_differences()
    except (support.WrongList, OSError, ValueError) as error:
        raise ReportError(f"{support.FOLDER}: {error}") from error


def new_claim(claim: support.Claim, taken: set[str], *, known: bool = True) -> Claim:
    """A claim whose address in the page is its own: ``taken`` collects the addresses that are."""
    base = address = slug(claim.id)
    number = 2
    while address in taken:
        address, number = f"{base}-{number}", number + 1
    taken.add(address)
    return Claim(
        id=claim.id,
        source=claim.source,
        section=claim.section,
        sentence=claim.sentence,
        priority=claim.priority,
        slug=address,
        level=claim.level,
        known=known,
    )


def docker_py_fails(path: Path) -> dict[str, str]:
    """The tests of docker-py's own suite that fail on the reference, and why."""
    try:
        rows = tomllib.loads(path.read_text("utf-8")).get("reference_fails", [])
        return {row["test"]: row["reason"] for row in rows}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{path}: {error!r}; expected rows of [[reference_fails]] with test and reason") from error


def claims_in_tests(folder: Path) -> set[str]:
    """The claims that some test's source names by ``pytest.mark.claim``, whether it has run or not."""
    found: set[str] = set()
    for path in folder.rglob("test_*.py"):
        text = path.read_bytes()
        if b".claim(" not in text:
            continue
        for node in ast.walk(ast.parse(text, str(path))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "claim":
                found.update(_strings(node.args))
    return found


def _strings(nodes: Iterable[ast.expr]) -> Iterable[str]:
    return (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def guests(path: Path) -> list[str]:
    """The lab's guests and pairs of guests, in the order of its table."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: {error}") from error
    rows = document.get("guests") if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise ReportError(f"{path}: expected a list of guests")
    pairs = document.get("pairs", []) if isinstance(document, dict) else []
    return [str(row["name"]) for row in [*rows, *pairs] if isinstance(row, dict) and "name" in row]
