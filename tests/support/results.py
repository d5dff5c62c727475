"""``--results FILE``: what each test said, on which engine, for which claims, as JSON that the report reads.

A plugin of pytest. Under pytest-xdist the controller alone writes; what it must know of a test comes with the reports.

While tests run, ``FILE.running`` has the same as far as it is known, a JSON object a line: of a run that never ends,
because the machine under it hangs, ``cut_short`` makes what the report reads.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support import claims

LOG_LIMIT = 60_000
JOURNAL_SUFFIX = ".running"
FACT = "fact:"
"""User properties of a test that tell something of the machine or an engine begin so."""
_TITLES = {"Captured stdout setup": "set-up", "Captured stdout call": "test", "Captured stdout teardown": "teardown"}


@dataclass
class Run:
    """One test on one engine, as its reports come in."""

    test: str
    parameters: str
    level: str
    engine: str
    claims: list[str]
    outcome: str = "passed"
    reason: str = ""
    log: str = ""
    seconds: float = 0.0
    only: str = ""
    """The one engine that can be asked, by the mark ``only_pyker``; otherwise empty."""
    _failures: list[str] = field(default_factory=list)

    def add(self, report: pytest.TestReport) -> None:
        """Take in the report of set-up, call or teardown."""
        self.seconds = round(self.seconds + report.duration, 3)
        expected = getattr(report, "wasxfail", None)
        if report.failed:
            self._failures.append(f"{report.when}: " if report.when != "call" else "")
            self.outcome = "failed"
            self.reason = self.reason or self._failures[0] + _first_line(report)
            self.log += f"{report.longreprtext}\n"
        elif report.skipped and self.outcome != "failed":
            if expected is not None and expected.startswith("pending: "):
                self.outcome, self.reason = "pending", expected.removeprefix("pending: ")
                self.log += f"{report.longreprtext}\n"
            else:
                self.outcome = "skipped"
                self.reason = expected or _skipped(report)
        if report.when == "teardown" or report.failed:
            self.log = _cut(
                self.log + "".join(f"--- {_TITLES.get(name, name)}\n{text}\n" for name, text in report.sections)
            )

    def row(self) -> dict[str, object]:
        """As it stands in the file."""
        return {key: value for key, value in vars(self).items() if not key.startswith("_")}


def _skipped(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return report.longreprtext


def _first_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else report.longreprtext
    return next(iter(text.strip().splitlines()), "")[:300]


def _cut(text: str) -> str:
    """The beginning and the end of what is too long."""
    if len(text) <= LOG_LIMIT:
        return text
    half = LOG_LIMIT // 2
    return f"{text[:half]}\n[{len(text) - LOG_LIMIT} characters left out]\n{text[-half:]}"


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _cgroup() -> str:
    """``v1``, ``v2``, or ``hybrid`` where version 2 is mounted beside version 1 without controllers."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    one, two = (any(f" - {kind} " in line for line in lines) for kind in ("cgroup", "cgroup2"))
    if one and two:
        return "hybrid"
    return "v2" if two else "v1" if one else "none"


def _commit() -> str:
    if given := os.environ.get("PYKER_COMMIT"):
        return given
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=claims.TREE, capture_output=True, text=True, check=False
        )
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def environment(facts: dict[str, str]) -> dict[str, str]:
    """What the results are of; ``facts`` came from the tests."""
    return {
        "name": os.environ.get("PYKER_ENVIRONMENT") or "this host",
        "kernel": platform.release(),
        "distribution": _distribution(),
        "cgroup": _cgroup(),
        "graphdriver": facts.get("pyker graphdriver", "unknown"),
        "python": platform.python_version(),
        "commit": _commit(),
        **{name: value for name, value in sorted(facts.items()) if name.endswith(" version")},
    }


class Results:
    """Collects the reports of a run and writes them at its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs: dict[str, Run] = {}
        self._facts: dict[str, str] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._journal_path = path.with_name(path.name + JOURNAL_SUFFIX)
        # A line at a time: whatever ends this process, the lines are there.
        self._journal = open(self._journal_path, "w", buffering=1, encoding="utf-8")  # noqa: SIM115 - closed at the end
        self._note(environment=environment({}))

    def _note(self, **entry: object) -> None:
        self._journal.write(json.dumps(entry, ensure_ascii=False) + "\n")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Note that a test begins. Where workers run the tests, this is not asked."""
        self._note(nodeid=item.nodeid, begun=_run(item.nodeid, dict(item.user_properties)).row())

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note one report."""
        told: dict[str, Any] = dict(report.user_properties)
        if report.nodeid not in self._runs:
            self._runs[report.nodeid] = _run(report.nodeid, told)
        run = self._runs[report.nodeid]
        run.add(report)
        facts = self._facts | {key.removeprefix(FACT): str(told[key]) for key in told if key.startswith(FACT)}
        if report.when == "teardown":
            if facts != self._facts:
                self._note(environment=environment(facts))
            self._note(nodeid=report.nodeid, ended=run.row())
        self._facts = facts

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        """Write the file, whole or not at all."""
        value = {"environment": environment(self._facts), "runs": [run.row() for run in self._runs.values()]}
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        new.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        new.replace(self._path)
        self._journal.close()
        self._journal_path.unlink(missing_ok=True)


def _run(nodeid: str, told: dict[str, Any]) -> Run:
    return Run(
        test=nodeid.partition("[")[0],
        parameters=told.get("parameters", ""),
        level=nodeid.split("/")[1] if "/" in nodeid else "",
        engine=told.get("engine", ""),
        claims=list(told.get("claims", ())),
        only=told.get("only", ""),
    )


class CutShort(NamedTuple):
    """What a journal says: the machine, the rows by test, and the test that had begun and not ended."""

    environment: dict[str, Any]
    rows: dict[str, dict[str, Any]]
    running: str


def cut_short(journal: str, why: str, log: str) -> CutShort:
    """What is known of a run whose results were never written; the test that was running failed, with ``why``.

    The last line may be half of one.
    """
    found = CutShort({}, {}, "")
    for line in journal.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        match entry:
            case {"environment": dict() as machine}:
                found.environment.update(machine)
            case {"nodeid": str() as nodeid, "begun": dict() as row}:
                found.rows[nodeid] = {**row, "outcome": "failed", "reason": f"not ended: {why}", "log": _cut(log)}
                found = found._replace(running=nodeid)
            case {"nodeid": str() as nodeid, "ended": dict() as row}:
                found.rows[nodeid] = row
                found = found._replace(running="")
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--results``."""
    parser.addoption("--results", metavar="FILE", default=None, help="write what each test said as JSON to FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Only the controller collects."""
    if (path := config.getoption("--results")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results(Path(path).absolute()), "pyker-results")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell with each test what its reports cannot."""
    for item in session.items:
        item.user_properties += _told(item)


def _told(item: pytest.Item) -> Iterable[tuple[str, object]]:
    yield "engine", claims.engine_of(item)
    yield "parameters", claims.parameters_of(item)
    yield "claims", claims.claims_of(item)
    yield "only", "pyker" if item.get_closest_marker("only_pyker") else ""
