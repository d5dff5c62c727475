"""One guest's run: start it, look whether it is what the table promises, run the tests, bring the results home."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import assert_never

from lab import checking, unfinished
from lab.agentlink import GuestLost
from lab.backends import direct, local, vagrant
from lab.cache import Cache
from lab.commands import Tools
from lab.progress import Progress, Tally
from lab.session import FETCHED, Session
from lab.table import Box, Guest, LabError, Pair, Table
from lab.workshop import Workshop
from tests.support.results import CutShort

TREE = Path(__file__).parent.parent
RESULTS = TREE / "build/results"
LEVELS = ("kernel", "contracts", "conformance")
LOCAL = "local"
PAIR_TESTS = ("tests/lab/nodes",)
_TEST_TIMEOUT_S = 300
_CHECKS_TIMEOUT_S = 600.0

Place = Guest | Box | Pair | None
"""Where tests run: a guest, a box, this host with two guests that they speak to, or this host."""


@dataclass(slots=True)
class Wanted:
    """What a run of the lab is to do in each guest."""

    tests: Sequence[str]
    results: Path
    # What was asked for by name; then it is that for pairs too, which have tests of their own otherwise.
    chosen: Sequence[str] = ()
    # Guests share the selection out among them, as the table says.
    shared: bool = False
    keep: bool = False
    shell: bool = False
    command: str = ""
    checks: bool = True
    deadline_s: float = 900.0


@dataclass(slots=True)
class Outcome:
    """How a guest's run ended. ``trouble`` is no test's failure: a guest that hangs, or one that can't be had."""

    name: str
    tally: str = ""
    failed: list[str] = field(default_factory=list)
    trouble: str = ""
    output: str = ""
    # What tests said that did not come to their end.
    found: CutShort = unfinished.NO_RUN

    @property
    def good(self) -> bool:
        return not self.failed and not self.trouble


class Runner:
    """Runs guests, each by a thread of its own."""

    def __init__(self, table: Table, store: Cache, tools: Tools, progress: Progress) -> None:
        self._table = table
        self._store = store
        self._tools = tools
        self._progress = progress
        self._commit = _commit(tools)
        self.workshop = Workshop(table, store, tools, progress.say)

    def build(self, guest: Guest) -> Outcome:
        """Make what ``guest`` needs, and start nothing."""
        outcome = Outcome(guest.name)
        try:
            self.workshop.state(guest, self.workshop.hardware(guest), guest.name)
        except LabError as error:
            outcome.trouble = str(error)
        return outcome

    def run(self, place: Place, wanted: Wanted) -> Outcome:
        """All of it. What goes wrong is in the outcome, not raised."""
        outcome = Outcome(place.name if place else LOCAL)
        try:
            if isinstance(place, Pair):
                wanted = replace(wanted, tests=wanted.chosen or PAIR_TESTS)
            elif isinstance(place, Guest) and wanted.shared:
                wanted = replace(wanted, tests=shared(wanted.tests, place))
            with self._session(place, wanted) as session:
                self._progress.say(session.name, "is there")
                self._inside(place, session, wanted, outcome)
        except LabError as error:
            outcome.trouble = str(error)
        if outcome.trouble:
            self._progress.say(outcome.name, outcome.trouble.splitlines()[0])
            if wanted.tests and not self._tools.stopped:
                self._write_unfinished(place, wanted.results, outcome)
        return outcome

    def environment(self, place: Place) -> dict[str, str]:
        """What programs there find in their environment."""
        made = {"PYKER_COMMIT": self._commit, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        if place is not None:
            made |= {"PYKER_ENVIRONMENT": place.name}
        if isinstance(place, Guest | Box):
            made |= {"PYKER_DRIVER": place.graphdriver}
        if isinstance(place, Guest):
            made |= {"PYKER_LISTS": "checked"}
            made |= {"PYKER_PROMISED": ",".join(self._table.promised(place)), "TMPDIR": "/storage/tmp", **direct.GO}
        return made

    @contextlib.contextmanager
    def _session(self, place: Place, wanted: Wanted) -> Iterator[Session]:
        environment = self.environment(place)
        match place:
            case Guest():
                with direct.session(place, TREE, environment, self.workshop, self._store, self._tools) as guest:
                    yield guest
            case Box():
                with self._store.scratch(place.name) as scratch:
                    with vagrant.session(place, TREE, environment, scratch, self._tools, keep=wanted.keep) as box:
                        yield box
            case Pair() | None:
                name = place.name if place else LOCAL
                with self._store.scratch(name) as scratch:
                    yield local.LocalSession(name, self._tools, TREE, environment, scratch)
            case _:
                assert_never(place)

    def _inside(self, place: Place, session: Session, wanted: Wanted, outcome: Outcome) -> None:
        ends = time.monotonic() + wanted.deadline_s
        try:
            found: tuple[str, ...] = ()
            if wanted.checks and isinstance(place, Guest):
                checking.check(self._tools, session, TREE, timeout_s=min(_CHECKS_TIMEOUT_S, wanted.deadline_s))
                found = self._table.promised(place)
                self._progress.say(session.name, "is what the table promises")
            left_s = max(1.0, ends - time.monotonic())
            if wanted.command:
                done = session.run(["bash", "-c", wanted.command], timeout_s=left_s)
                outcome.output = (done.stdout + done.stderr).decode(errors="replace")
                if done.code != 0:
                    outcome.trouble = f"the command exited {done.code}"
            elif wanted.tests:
                self._pytest(session, wanted, outcome, left_s, {"PYKER_FOUND": ",".join(found)})
        except GuestLost as error:
            raise GuestLost(f"{error}\n{session.last_words()}") from error
        if wanted.shell or wanted.keep:
            session.interact()

    def _pytest(
        self, session: Session, wanted: Wanted, outcome: Outcome, deadline_s: float, environment: Mapping[str, str]
    ) -> None:
        tally = Tally(self._progress, session.name)
        arguments = ["-q", "-p", "no:cacheprovider", "-p", "pytest_timeout", f"--timeout={_TEST_TIMEOUT_S}"]
        arguments += ["-o", f"junit_suite_name={session.name}", *wanted.tests]
        try:
            tested = session.pytest(arguments, environment=environment, on_event=tally, deadline_s=deadline_s)
        except GuestLost as error:
            where = f", in {tally.running}" if tally.running else ""
            why = f"{error}; {tally}{where}"
            self._bring_home(session, wanted.results, outcome, why)
            raise GuestLost(why) from error
        finally:
            outcome.tally = str(tally)
            outcome.failed = [test for test, how in tally.outcomes.items() if how == "failed"]
        outcome.output = tested.output
        if tested.code not in (0, 1) or (tested.code == 1 and not outcome.failed):
            outcome.trouble = f"pytest exited {tested.code}"
        self._bring_home(session, wanted.results, outcome, outcome.trouble)
        self._progress.say(session.name, f"{tally}, in {tested.seconds:.0f} s")

    def _bring_home(self, session: Session, results: Path, outcome: Outcome, why: str) -> None:
        """What pytest wrote; if it did not come to that, what is known."""
        junit, written, journal = FETCHED
        results.mkdir(parents=True, exist_ok=True)
        with self._store.scratch(f"results-{session.name}") as folder:
            # Of a guest that is lost, there may be nothing to be had.
            with contextlib.suppress(GuestLost):
                session.fetch(folder)
            for made, kept in ((junit, f"lab-{session.name}.xml"), (written, f"lab-{session.name}.json")):
                if (folder / made).exists():
                    (results / kept).write_bytes((folder / made).read_bytes())
            if not (folder / written).exists():
                outcome.found = unfinished.known(folder / journal, why, session.last_words())

    def _write_unfinished(self, place: Place, results: Path, outcome: Outcome) -> None:
        """Have the report show a run that did not end as it should."""
        results.mkdir(parents=True, exist_ok=True)
        why, log = outcome.trouble.splitlines()[0], outcome.trouble
        path = results / f"lab-{outcome.name}.json"
        if path.exists():
            path.write_bytes(unfinished.with_trouble(path.read_bytes(), why, log))
            return
        machine = {"name": outcome.name, "commit": self._commit}
        if isinstance(place, Guest):
            machine |= {"kernel": place.kernel, "cgroup": place.cgroup, "graphdriver": place.graphdriver}
        path.write_bytes(unfinished.results(outcome.found, machine, why, log))
        path.with_suffix(".xml").write_bytes(unfinished.junit(outcome.found, outcome.name, why, log))


def shared(tests: Sequence[str], guest: Guest) -> list[str]:
    """What pytest is given in ``guest`` when others run what it leaves."""
    kept = [test for test in tests if test not in guest.leaves]
    return kept + [f"--deselect={test}" for test in guest.leaves if "::" in test and test not in tests]


def _commit(tools: Tools) -> str:
    if given := os.environ.get("PYKER_COMMIT"):
        return given
    try:
        return tools.run(["git", "-C", str(TREE), "rev-parse", "HEAD"]).strip()
    except LabError:
        return "unknown"
