"""Runs that did not end: the journal of results, what is made of it, and what the lab leaves of a guest it lost."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lab import cache, runner, session, unfinished
from lab.agentlink import Done, Event, GuestLost
from lab.commands import Tools
from lab.progress import Progress
from lab.runner import Runner, Wanted
from lab.table import LabError, table
from tests.report import read
from tests.support.results import JOURNAL_SUFFIX, cut_short

TREE = Path(__file__).resolve().parents[2]

SUITE = """
import os
import pytest


def test_good():
    pass


def test_skipped():
    pytest.skip("not here")


@pytest.mark.parametrize("number", [1, 2])
def test_bad(number):
    assert number == 1, "as it should"


def test_that_never_ends():
    os.kill(os.getpid(), 9)


def test_after():
    pass
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The journal of a run that was killed in the middle of a test."""
    (tmp_path / "tests/unit").mkdir(parents=True)
    (tmp_path / "tests/unit/test_it.py").write_text(SUITE)
    (tmp_path / "tests/conftest.py").write_text("")
    results = tmp_path / "results.json"
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.support.results"]
    argv += [f"--rootdir={tmp_path}", f"--results={results}", str(tmp_path / "tests/unit/test_it.py")]
    done = subprocess.run(argv, cwd=TREE, capture_output=True, check=False)
    assert done.returncode == -9, done.stdout.decode()
    assert not results.exists()
    return tmp_path / f"results.json{JOURNAL_SUFFIX}"


def test_what_a_killed_run_had_done_is_known(killed: Path) -> None:
    found = cut_short(killed.read_text(), "the guest ended", "console:\nPanic")
    assert {nodeid.rpartition("::")[2]: row["outcome"] for nodeid, row in found.rows.items()} == {
        "test_good": "passed",
        "test_skipped": "skipped",
        "test_bad[1]": "passed",
        "test_bad[2]": "failed",
        "test_that_never_ends": "failed",
    }
    assert found.running.endswith("::test_that_never_ends")
    row = found.rows[found.running]
    assert (row["reason"], row["log"]) == ("not ended: the guest ended", "console:\nPanic")
    assert found.environment["python"] == ".".join(map(str, sys.version_info[:3]))


def test_half_a_line_is_no_line(killed: Path) -> None:
    text = killed.read_text()
    begun = text.rstrip("\n").rindex("\n") + 1
    cut = cut_short(text[: begun + 30], "why", "")
    assert len(cut.rows) == 4
    assert cut.running == ""


def test_a_run_that_ends_leaves_no_journal(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.support.results"]
    argv += [f"--rootdir={tmp_path}", f"--results={tmp_path}/out.json", str(tmp_path / "test_it.py")]
    subprocess.run(argv, cwd=TREE, capture_output=True, check=True)
    assert [path.name for path in tmp_path.glob("out.json*")] == ["out.json"]


def test_the_report_reads_it(killed: Path, tmp_path: Path) -> None:
    found = unfinished.known(killed, "the guest ended", "console")
    path = tmp_path / "lab-g.json"
    path.write_bytes(unfinished.results(found, {"name": "g", "commit": "c"}, "the guest ended; in a test", "console"))
    ((environment, runs),) = read.results(path)
    assert environment.name == found.environment["name"]
    assert [(run.level, run.outcome, run.why) for run in runs if run.test == unfinished.TEST] == [
        ("lab", "failed", "the guest ended; in a test")
    ]
    assert sum(run.outcome == "failed" for run in runs) == 3


def test_where_nothing_is_known_the_guest_is_still_named(tmp_path: Path) -> None:
    assert unfinished.known(tmp_path / "none", "why", "") == unfinished.NO_RUN
    path = tmp_path / "lab-g.json"
    path.write_bytes(unfinished.results(unfinished.NO_RUN, {"name": "g"}, "no kernel", "no kernel\nat all"))
    ((environment, runs),) = read.results(path)
    assert (environment.name, [run.log for run in runs]) == ("g", ["no kernel\nat all"])


def test_the_junit_file(killed: Path) -> None:
    found = unfinished.known(killed, "the guest ended", "\x1b[31mconsole\x00")
    suite = ElementTree.fromstring(unfinished.junit(found, "g", "lost", "\x07")).find("testsuite")
    assert suite is not None
    assert {key: suite.get(key) for key in ("name", "tests", "failures", "errors", "skipped")} == {
        "name": "g",
        "tests": "6",
        "failures": "1",
        "errors": "2",
        "skipped": "1",
    }
    (error,) = [case for case in suite if case.get("name") == "test_that_never_ends"]
    told = error.find("error")
    assert told is not None
    assert (told.get("message"), told.text) == ("not ended: the guest ended", "?[31mconsole?")


class Lost:
    """A machine whose tests go as they are told to: so many events, then the end."""

    name = "6.1-v2"
    hostspec = "local://"
    check_environment: Mapping[str, str] = {}

    def __init__(self, events: Sequence[Event], journal: str, end: Exception | int) -> None:
        self._events = events
        self._journal = journal
        self._end = end

    def checked(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Done:
        raise GuestLost("the guest did not answer within 5 s")

    def pytest(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_event: Callable[[Event], None],
        deadline_s: float,
    ) -> session.Tested:
        for event in self._events:
            on_event(event)
        if isinstance(self._end, int):
            return session.Tested(self._end, "what pytest wrote", 1.0)
        raise self._end

    def interact(self) -> int:
        return 0

    def last_words(self) -> str:
        return "console:\nI hang"

    def fetch(self, folder: Path) -> None:
        if self._journal:
            (folder / f"results.json{JOURNAL_SUFFIX}").write_text(self._journal)


EVENTS: tuple[Event, ...] = (
    {"kind": "collected", "count": 3},
    {"kind": "start", "test": "tests/kernel/test_a.py::test_one"},
    {"kind": "end", "test": "tests/kernel/test_a.py::test_one", "outcome": "passed"},
    {"kind": "start", "test": "tests/kernel/test_a.py::test_two"},
)


def row(name: str, outcome: str = "passed") -> dict[str, Any]:
    return {"test": f"tests/kernel/test_a.py::{name}", "level": "kernel", "outcome": outcome, "seconds": 0.5} | {
        "claims": ["libcontainer-cgroups"],
        "reason": "",
        "log": "",
        "parameters": "",
        "engine": "",
    }


JOURNAL = "".join(
    json.dumps(entry) + "\n"
    for entry in (
        {"environment": {"name": "6.1-v2", "kernel": "6.1.0-amd64"}},
        {"nodeid": "tests/kernel/test_a.py::test_one", "begun": row("test_one")},
        {"nodeid": "tests/kernel/test_a.py::test_one", "ended": row("test_one")},
        {"nodeid": "tests/kernel/test_a.py::test_two", "begun": row("test_two")},
    )
)


@pytest.fixture
def lose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[runner.Outcome, Path]]]:
    """Has the lab run tests in a guest that is lost, and gives the outcome and the folder of results."""

    def run(given: Lost | LabError, **wanted: Any) -> tuple[runner.Outcome, Path]:
        @contextlib.contextmanager
        def there(*_: object) -> Iterator[Lost]:
            if isinstance(given, LabError):
                raise given
            yield given

        made = Runner(table(), cache.Cache(tmp_path / "cache"), Tools(), Progress(io.StringIO()))
        monkeypatch.setattr(made, "_session", there)
        options = {"tests": ["tests/kernel"], "checks": False, "deadline_s": 5.0} | wanted
        outcome = made.run(table().guest("6.1-v2"), Wanted(results=tmp_path / "results", **options))
        return outcome, tmp_path / "results"

    yield run


def rows_of(results: Path) -> dict[str, str]:
    value = json.loads((results / "lab-6.1-v2.json").read_text())
    return {each["test"].rpartition("::")[2]: each["outcome"] for each in value["runs"]}


def test_a_guest_that_hangs_in_a_test(lose: Callable[..., tuple[runner.Outcome, Path]]) -> None:
    outcome, results = lose(Lost(EVENTS, JOURNAL, GuestLost("the guest did not answer within 5 s")))
    first, *rest = outcome.trouble.splitlines()
    assert first == ("the guest did not answer within 5 s; 1 of 3: 1 passed, in tests/kernel/test_a.py::test_two")
    assert rest == ["console:", "I hang"]
    assert not outcome.good
    assert rows_of(results) == {"test_one": "passed", "test_two": "failed", "the guest itself": "failed"}
    value = json.loads((results / "lab-6.1-v2.json").read_text())
    assert value["environment"]["kernel"] == "6.1.0-amd64"
    assert value["runs"][1]["claims"] == ["libcontainer-cgroups"]
    assert (results / "lab-6.1-v2.xml").read_bytes().count(b"<testcase") == 3


def test_a_guest_that_cannot_be_had(lose: Callable[..., tuple[runner.Outcome, Path]]) -> None:
    outcome, results = lose(LabError("there is no kernel\nanywhere"))
    assert outcome.trouble == "there is no kernel\nanywhere"
    assert rows_of(results) == {"the guest itself": "failed"}


def test_a_pytest_that_was_killed_in_a_guest_that_goes_on(lose: Callable[..., tuple[runner.Outcome, Path]]) -> None:
    """By the kernel, out of memory, for one."""
    outcome, results = lose(Lost(EVENTS, JOURNAL, -9))
    assert outcome.trouble == "pytest exited -9"
    assert rows_of(results) == {"test_one": "passed", "test_two": "failed", "the guest itself": "failed"}


def test_a_command_in_a_guest_that_hangs_is_no_result(lose: Callable[..., tuple[runner.Outcome, Path]]) -> None:
    outcome, results = lose(Lost((), "", 0), tests=[], command="spin")
    assert outcome.trouble == "the guest did not answer within 5 s\nconsole:\nI hang"
    assert not results.exists()
