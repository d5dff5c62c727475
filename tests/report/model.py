"""What a report is made of: claims, environments, runs of tests, and the cells where they meet."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.support.claims import Difference, Pending

# The worst first: the worst of a cell's tests decides the cell.
STATES = ("fail", "pending", "differs", "skip", "pass", "not run", "no test", "n/a")
STATE_OF = {"failed": "fail", "pending": "pending", "skipped": "skip", "passed": "pass"}

# How the suite begins the reason of a test that an engine other than Pyker is known to fail.
KNOWN_DIFFERENCE = "known difference: "
VERSION = " version"
REASON_LIMIT = 240

FACTS = ("kernel", "distribution", "cgroup", "graphdriver", "python", "commit")

# Docker's own engine decides whether a test is right.
REFERENCE = "docker"
SUBJECT = "pyker"


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence that an engine must make true. ``slug`` is its address in the page."""

    id: str
    source: str
    section: str
    sentence: str
    priority: str
    slug: str
    level: str = "conformance"
    known: bool = True


@dataclass(frozen=True, slots=True)
class Environment:
    """A machine: its name, the six facts of ``FACTS``, and what else its results say: ``docker version``."""

    name: str
    facts: dict[str, str]

    def version(self, engine: str) -> str:
        return self.facts.get(f"{engine}{VERSION}", "")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one test on one engine in one environment."""

    environment: str
    engine: str
    level: str
    test: str
    parameters: str
    claims: tuple[str, ...]
    outcome: str
    reason: str
    log: str
    seconds: float
    only: str = ""
    unsteady: str = ""
    """What it said first, where it passed only when asked again by itself."""

    @property
    def asks_pyker_alone(self) -> bool:
        """Whether no other engine can be put to this test: it is of a level below the engine, or marked so."""
        return self.only == SUBJECT or not self.engine

    @property
    def why(self) -> str:
        """The reason's first line, without what the state says already."""
        line = self.reason.removeprefix(KNOWN_DIFFERENCE).strip().split("\n", 1)[0].strip()
        return line if len(line) <= REASON_LIMIT else f"{line[: REASON_LIMIT - 1].rstrip()}…"

    @property
    def state(self) -> str:
        if self.outcome == "skipped" and self.reason.startswith(KNOWN_DIFFERENCE):
            return "differs"
        return STATE_OF[self.outcome]


@dataclass(frozen=True, slots=True)
class Column:
    """An engine in an environment."""

    environment: str
    engine: str

    @property
    def label(self) -> str:
        return f"{engine_name(self.engine)} on {self.environment}"


@dataclass(frozen=True, slots=True)
class Cell:
    """A claim in a column. ``runs`` are indices into the report's runs, the worst first."""

    state: str
    runs: tuple[int, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def figure(self) -> str:
        """How many tests are in the cell's state, of how many there are."""
        total = len(self.runs)
        share = self.counts.get(self.state, 0)
        return "" if not total else str(total) if share == total else f"{share}/{total}"


@dataclass(frozen=True, slots=True)
class Totals:
    """A column's bottom line: claims by the state of their cell, and tests by their own."""

    claims: dict[str, int]
    tests: dict[str, int]

    @property
    def met(self) -> int:
        return self.claims.get("pass", 0)

    @property
    def judged(self) -> int:
        """Claims that some test here has something to say about."""
        return sum(self.claims.get(state, 0) for state in ("pass", "fail", "pending", "differs", "skip"))


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the page shows. ``cells`` holds a row for each claim, a cell for each column.

    ``docker_py_fails`` are the tests of docker-py that are expected to fail on the reference, with reasons.
    """

    claims: tuple[Claim, ...]
    environments: tuple[Environment, ...]
    columns: tuple[Column, ...]
    runs: tuple[Run, ...]
    cells: tuple[tuple[Cell, ...], ...]
    pending: tuple[Pending, ...]
    differences: tuple[Difference, ...]
    docker_py_fails: dict[str, str]
    notices: tuple[str, ...]
    date: str

    def totals(self, column: int) -> Totals:
        where = self.columns[column]
        tests = Counter(run.state for run in self.runs if in_matrix(run) and column_of(run) == where)
        return Totals(dict(Counter(row[column].state for row in self.cells)), dict(tests))

    def sections(self) -> list[tuple[str, str, list[int]]]:
        """Source, section and the claims in it, in order. A section that comes twice stays one."""
        found: dict[tuple[str, str], list[int]] = {}
        for number, claim in enumerate(self.claims):
            found.setdefault((claim.source, claim.section), []).append(number)
        return [(source, section, numbers) for (source, section), numbers in found.items()]

    def of_level(self, level: str) -> list[Run]:
        return [run for run in self.runs if run.level == level]

    def failed_cells(self) -> int:
        """Cells that fail, and the failures of levels that have no column (docker-py's own has a list of its own)."""
        elsewhere = sum(
            run.outcome == "failed" and not in_matrix(run) and run.level != "docker-py" for run in self.runs
        )
        loose = sum(run.outcome == "failed" and in_matrix(run) and not run.claims for run in self.runs)
        return sum(cell.state == "fail" for row in self.cells for cell in row) + elsewhere + loose


def in_matrix(run: Run) -> bool:
    """Whether a run counts in the table of claims: it belongs to the conformance level, or names a claim."""
    return run.level == "conformance" or (bool(run.claims) and run.level != "docker-py")


def column_of(run: Run) -> Column:
    """A test below the engine (of a driver, of libcontainer) is about Pyker."""
    return Column(run.environment, run.engine or SUBJECT)


def worst(states: Iterable[str]) -> str:
    """The worst of some states; of none, ``not run``."""
    return min(states, key=STATES.index, default="not run")


def engine_name(engine: str) -> str:
    """How people say it: ``docker:28`` is ``dockerd 28``."""
    kind, _, version = engine.partition(":")
    name = {"pyker": "Pyker", "docker": "dockerd", "podman": "Podman"}.get(kind, kind)
    return f"{name} {version}".strip()


def slug(text: str) -> str:
    """``POST /containers/{id}/start`` becomes ``post-containers-id-start``."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "claim"


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key by which ``6.1`` comes before ``6.12`` and 9 before 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text.lower()) if part]


def short_commits(commits: str) -> str:
    """Commits, "; " between them, each as short as people write it."""
    return "; ".join(each[:12] if re.fullmatch("[0-9a-f]{40}", each) else each for each in commits.split("; "))
