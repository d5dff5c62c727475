"""Put any number of results together: a row for each claim, a column for each engine in each environment."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tests.report.model import (
    FACTS,
    REFERENCE,
    STATES,
    SUBJECT,
    Cell,
    Claim,
    Column,
    Environment,
    Report,
    Run,
    column_of,
    in_matrix,
    natural,
    short_commits,
    worst,
)
from tests.report.read import new_claim
from tests.support import claims as support
from tests.support.claims import Difference, Pending


def merge(
    parts: Iterable[tuple[Environment, Sequence[Run]]],
    claims: Sequence[Claim],
    *,
    date: str,
    pending: Sequence[Pending] = (),
    differences: Sequence[Difference] = (),
    docker_py_fails: Mapping[str, str] | None = None,
    guests: Sequence[str] = (),
    written: Iterable[str] = (),
) -> Report:
    """A report of all ``parts``; of a test that two of them ran in the same column, the later one counts.

    ``guests`` orders the lab's environments (others come before them); ``written`` are the claims that a test's source
    names, so that what has no test is told from what did not run.
    """
    notices: list[str] = []
    environments: dict[str, Environment] = {}
    latest: dict[tuple[str, str, str, str, str], Run] = {}
    for environment, runs in parts:
        known = environments.get(environment.name)
        environments[environment.name] = environment if known is None else _joined(known, environment)
        for run in runs:
            latest[run.environment, run.level, run.engine, run.test, run.parameters] = run
    for environment in environments.values():
        if "; " in environment.facts.get("commit", ""):
            notices.append(
                f"The results of {environment.name} come from more than one commit: "
                f"{short_commits(environment.facts['commit'])}."
            )

    places = sorted(environments, key=lambda name: _place(name, guests))
    runs = tuple(
        sorted(
            latest.values(),
            key=lambda run: (
                places.index(run.environment),
                run.level,
                _engine_order(run.engine),
                run.test,
                natural(run.parameters),
            ),
        )
    )
    columns = tuple(
        sorted(
            {column_of(run) for run in runs if in_matrix(run)},
            key=lambda column: (places.index(column.environment), _engine_order(column.engine)),
        )
    )
    rows = [*claims, *_strangers(claims, runs, notices)]
    tested = set(written) | {id for run in runs for id in run.claims}
    cells = _cells(rows, columns, runs, tested)
    return Report(
        claims=tuple(rows),
        environments=tuple(environments[name] for name in places),
        columns=columns,
        runs=runs,
        cells=cells,
        pending=tuple(pending),
        differences=tuple(differences),
        docker_py_fails=dict(docker_py_fails or {}),
        notices=tuple(notices),
        date=date,
    )


def _joined(one: Environment, other: Environment) -> Environment:
    """Both environments' facts; where they differ, both values."""
    facts = dict(one.facts)
    for key, value in other.facts.items():
        had = facts.get(key, "")
        if not had or had == "unknown":
            facts[key] = value
        elif value and value != "unknown" and value not in had.split("; "):
            facts[key] = f"{had}; {value}"
    return Environment(one.name, facts)


def _place(name: str, guests: Sequence[str]) -> tuple[int, int, object]:
    if name in guests:
        return 1, guests.index(name), ()
    return 0, 0, natural(name)


def _engine_order(engine: str) -> tuple[int, object]:
    order = (SUBJECT, REFERENCE)
    if engine in order:
        return order.index(engine), ()
    return (2 if engine.startswith(REFERENCE) else 3), natural(engine)


def _strangers(claims: Sequence[Claim], runs: Sequence[Run], notices: list[str]) -> list[Claim]:
    """Rows for claims that tests name and the list does not have."""
    known = {claim.id for claim in claims}
    taken = {claim.slug for claim in claims}
    unknown = dict.fromkeys(id for run in runs if in_matrix(run) for id in run.claims if id not in known)
    if unknown:
        notices.append(f"Tests name claims that claims.toml does not list: {', '.join(unknown)}.")
    sentence = "A test names this claim; claims.toml does not list it."
    return [
        new_claim(support.Claim(id, "other", "Not in the list of claims", sentence), taken, known=False)
        for id in unknown
    ]


def _cells(
    claims: Sequence[Claim], columns: Sequence[Column], runs: Sequence[Run], tested: set[str]
) -> tuple[tuple[Cell, ...], ...]:
    found: dict[tuple[str, Column], list[int]] = {}
    for number, run in enumerate(runs):
        if in_matrix(run):
            for id in run.claims:
                found.setdefault((id, column_of(run)), []).append(number)
    inside = tested - {id for run in runs if not run.asks_pyker_alone for id in run.claims}
    inside &= {id for run in runs for id in run.claims}
    table = []
    for claim in claims:
        row = []
        for column in columns:
            here = found.get((claim.id, column), [])
            if here:
                here.sort(key=lambda number: (STATES.index(runs[number].state), runs[number].test))
                counts = Counter(runs[number].state for number in here)
                row.append(Cell(worst(counts), tuple(here), dict(counts)))
            elif column.engine != SUBJECT and (claim.level != "conformance" or claim.id in inside):
                row.append(Cell("n/a"))
            else:
                row.append(Cell("not run" if claim.id in tested else "no test"))
        table.append(tuple(row))
    return tuple(table)


def as_json(report: Report) -> dict[str, object]:
    """``results.json``: the merged runs, from which the same report can be made again, and the cells and totals."""
    by_environment: dict[str, list[dict[str, object]]] = {each.name: [] for each in report.environments}
    for run in report.runs:
        row = {
            key: value
            for key, value in dataclasses.asdict(run).items()
            if value not in ("", ()) and key != "environment"
        }
        by_environment[run.environment].append(row)
    return {
        "date": report.date,
        "columns": [
            {
                "environment": column.environment,
                "engine": column.engine,
                "claims": report.totals(number).claims,
                "tests": report.totals(number).tests,
            }
            for number, column in enumerate(report.columns)
        ],
        "claims": [
            {"id": claim.id, "section": claim.section, "states": [cell.state for cell in row]}
            for claim, row in zip(report.claims, report.cells, strict=True)
        ],
        "results": [
            {
                "environment": {"name": each.name} | dict.fromkeys(FACTS, "") | each.facts,
                "runs": by_environment[each.name],
            }
            for each in report.environments
        ],
    }
