"""What the page and the Markdown say in sentences: what was tested, against what, and what the verdict is."""

from __future__ import annotations

from dataclasses import dataclass

from tests.report.model import (
    FACTS,
    REFERENCE,
    SUBJECT,
    VERSION,
    Column,
    Environment,
    Report,
    Run,
    Totals,
    column_of,
    engine_name,
    in_matrix,
)
from tests.support.claims import Difference

TITLE = "Pyker conformance report"
NOTHING = "\N{EN DASH}"

STATE_MEANS = {
    "pass": "every test of the claim passed",
    "fail": "at least one test failed",
    "pending": "at least one test is ahead of Pyker: written, right on the reference, not yet met",
    "differs": "the engine is known to fail at least one test here, and the test stays as it is, for the reason given",
    "skip": "at least one test could not run here, for the reason given",
    "not run": "tests exist, but these results have none of them in this column",
    "no test": "nobody has written a test yet",
    "n/a": "nothing that this engine could be asked: only Pyker has it, or no client can see it",
}


def count(number: int, one: str, many: str = "") -> str:
    """``1 claim``, ``2 claims``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def lead(report: Report) -> str:
    """One paragraph for somebody who has never heard of the project."""
    sources = {claim.source for claim in report.claims if claim.known}
    what = " or ".join(
        words
        for source, words in (
            ("document", "a sentence of the document that Pyker was built to"),
            ("api", "an endpoint or a rule of the Docker Engine API"),
        )
        if source in sources
    )
    tests = len({run.test for run in report.runs if in_matrix(run)})
    kernels = len({each.facts.get("kernel", each.name) for each in report.environments})
    where = "a real kernel" if kernels == 1 else f"{kernels} real kernels"
    engines = list(dict.fromkeys(engine_name(column.engine) for column in report.columns if column.engine != SUBJECT))
    also = (
        f" The same tests run on {listed(engines)}; what Docker's own engine fails would be a wrong test."
        if "dockerd" in engines
        else ""
    )
    return (
        "Pyker is a container engine, written in Python, that promises to be compatible with Docker. This page shows "
        f"how far that is true. {count(len(report.claims), 'claim')}"
        + (f", each {what}," if what else "")
        + f" are tried by {count(tests, 'test')} from outside the engine, with real clients, on {where}.{also}"
    )


def listed(names: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def tried(report: Report, totals: Totals) -> str:
    """What a column's claims are counted against: all, or those that were tried where that is the smaller part."""
    if totals.claims.get("not run", 0) > len(report.claims) / 2:
        return f"{totals.judged:,} claims tried here met"
    return f"{len(report.claims):,} claims met"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``state`` is ``pass``, ``fail`` or ``not run``; the headline is a sentence, and so is what follows."""

    state: str
    headline: str
    rest: str


def verdict(report: Report) -> Verdict:
    """What came of it for Pyker, over all of its columns."""
    own = [number for number, column in enumerate(report.columns) if column.engine == SUBJECT]
    if not own:
        return Verdict("not run", "Pyker was not among the engines tested.", "")
    totals = {number: report.totals(number) for number in own}
    # Some machines run a part of the suite: the headline is about the one that ran most of it.
    chief = max(own, key=lambda number: totals[number].judged)
    failing = {
        claim.id
        for claim, row in zip(report.claims, report.cells, strict=True)
        for number in own
        if row[number].state == "fail"
    }
    ends = f"{count(len(failing), 'claim fails', 'claims fail')}" if failing else "no claim fails"
    name = report.columns[chief].environment
    headline = f"Pyker meets {totals[chief].met:,} of {len(report.claims):,} claims on {name}"
    if len(own) == 1:
        headline += f"; {ends}."
    else:
        others = count(len(own) - 1, "other machine")
        headline += f". There and on {others}, {ends}."

    rest = []
    states = totals[chief].claims
    pending, skipped, untested = states.get("pending", 0), states.get("skip", 0), states.get("no test", 0)
    if pending:
        rest.append(f"{count(pending, 'claim is', 'claims are')} pending: tested, known to be unmet, not yet built.")
    if skipped:
        rest.append(f"{count(skipped, 'claim needs', 'claims need')} something that this machine lacks.")
    if untested:
        rest.append(f"{count(untested, 'claim has', 'claims have')} no test.")
    rest += _beside_the_reference(report)
    return Verdict("fail" if failing else "pass", headline, " ".join(rest))


def _beside_the_reference(report: Report) -> list[str]:
    """What Docker's own engine makes of the same tests on the same machine, and how much of that Pyker does too."""
    for number, column in enumerate(report.columns):
        own = Column(column.environment, SUBJECT)
        if column.engine != REFERENCE or own not in report.columns:
            continue
        beside = report.columns.index(own)
        met = [row for row in report.cells if row[number].state == "pass"]
        both = sum(row[beside].state == "pass" for row in met)
        fails = sum(row[number].state == "fail" for row in report.cells)
        return [
            f"By the same tests Docker's own engine meets {count(len(met), 'claim')} and fails {fails or 'none'}; "
            f"of those that it meets, Pyker meets {both:,}."
        ]
    return []


def seconds(number: float) -> str:
    """``0.04 s``, ``3.2 s``, ``2 min 5 s``."""
    if number >= 60:
        return f"{int(number // 60)} min {int(number % 60)} s"
    return f"{number:.2f} s" if number < 1 else f"{number:.1f} s"


def full_name(run: Run) -> str:
    return f"{run.test}[{run.parameters}]" if run.parameters else run.test


def engines_of(report: Report, environment: Environment) -> list[str]:
    """The engines that were tested there, with their versions."""
    engines = [column.engine for column in report.columns if column.environment == environment.name]
    return [
        name if version in name else f"{name} {version}"
        for name, version in ((engine_name(engine), environment.version(engine)) for engine in engines)
    ]


def facts_of(report: Report) -> list[str]:
    """The names of the facts that the environments have, versions of engines apart."""
    extra = (key for each in report.environments for key in each.facts if key not in FACTS)
    return [*FACTS, *dict.fromkeys(key for key in extra if not key.endswith(VERSION))]


def meant(difference: Difference) -> str:
    """The engine of a known difference, and in which versions and on which machines it differs."""
    said = engine_name(difference.engine)
    if difference.versions:
        said += f" {', '.join(difference.versions)}"
    return f"{said}, without {' or '.join(difference.lacks)}" if difference.lacks else said


def place(run: Run) -> str:
    return column_of(run).label
