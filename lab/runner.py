"""One guest's run: restore, look whether it is what the table promises, run the tests, bring the results home."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab import shell, sourcetree
from lab.agentlink import GuestLost
from lab.cache import Cache
from lab.commands import Tools
from lab.machine import Machine
from lab.progress import Progress, Tally
from lab.table import Guest, LabError, Table
from lab.workshop import Workshop

TREE = Path(__file__).parent.parent
LEVELS = ("kernel", "contracts", "conformance")
_TEST_TIMEOUT_S = 300


@dataclass(slots=True)
class Wanted:
    """What a run of the lab is to do in each guest."""

    tests: Sequence[str]
    results: Path
    keep: bool = False
    shell: bool = False
    command: str = ""
    deadline_s: float = 900.0


@dataclass(slots=True)
class Outcome:
    """How a guest's run ended. ``trouble`` is no test's failure: a guest that hangs, or one that can't be had."""

    guest: str
    tally: str = ""
    failed: list[str] = field(default_factory=list)
    trouble: str = ""
    output: str = ""

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
        self.workshop = Workshop(table, store, tools, progress.say)

    def build(self, guest: Guest) -> Outcome:
        """Make what ``guest`` needs, and start nothing."""
        outcome = Outcome(guest.name)
        try:
            self.workshop.state(guest, self.workshop.hardware(guest), guest.name)
        except LabError as error:
            outcome.trouble = str(error)
        return outcome

    def run(self, guest: Guest, wanted: Wanted) -> Outcome:
        """All of it. What goes wrong is in the outcome, not raised."""
        outcome = Outcome(guest.name)
        try:
            hardware = self.workshop.hardware(guest)
            state = self.workshop.state(guest, hardware, guest.name)
            with self._store.scratch(guest.name) as folder:
                results = folder / "results"
                results.mkdir()
                sourcetree.pack(TREE, self._bytecode(guest), results / sourcetree.ARCHIVE)
                with Machine(self._tools, hardware, folder / "machine", TREE, results) as machine:
                    machine.restore(state)
                    machine.begin(storage=guest.storage, environment=self.environment(guest))
                    self._progress.say(guest.name, "restored")
                    self._inside(guest, machine, wanted, outcome)
                    machine.agent.call("end", timeout_s=60)
                self._bring_home(guest, results, wanted, outcome)
        except LabError as error:
            outcome.trouble = str(error)
        return outcome

    def environment(self, guest: Guest) -> dict[str, str]:
        """What programs in the guest find in their environment."""
        return {
            "PYKER_ENVIRONMENT": guest.name,
            "PYKER_PROMISED": ",".join(self._table.promised(guest)),
            "PYKER_DRIVER": guest.graphdriver,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "TMPDIR": "/storage/tmp",
        }

    def _inside(self, guest: Guest, machine: Machine, wanted: Wanted, outcome: Outcome) -> None:
        if wanted.command:
            done = machine.agent.run(["bash", "-c", wanted.command], cwd="/src", timeout_s=wanted.deadline_s)
            outcome.output = (done.stdout + done.stderr).decode(errors="replace")
            if done.code != 0:
                outcome.trouble = f"the command exited {done.code}"
            return
        if wanted.tests:
            self._pytest(guest, machine, wanted, outcome)
        if wanted.shell:
            shell.interact(machine.agent, machine.folder / "shell")
        elif wanted.keep:
            self._progress.say(guest.name, "kept")
            shell.interact(machine.agent, machine.folder / "shell")

    def _pytest(self, guest: Guest, machine: Machine, wanted: Wanted, outcome: Outcome) -> None:
        tally = Tally(self._progress, guest.name)
        arguments = ["-q", "-p", "no:cacheprovider", "-p", "pytest_timeout", f"--timeout={_TEST_TIMEOUT_S}"]
        arguments += [
            "--basetemp=/storage/tmp/pytest",
            "--junitxml=/out/junit.xml",
            "-o",
            f"junit_suite_name={guest.name}",
        ]
        if (TREE / "tests/support/results.py").exists():
            arguments += ["--results", "/out/results.json"]
        try:
            answer = machine.agent.call(
                "pytest", timeout_s=wanted.deadline_s, on_event=tally, cwd="/src", arguments=[*arguments, *wanted.tests]
            )
        except GuestLost as error:
            where = f" in {tally.running}" if tally.running else ""
            raise GuestLost(f"{error}, after {tally}{where}\n{machine.last_words()}") from error
        finally:
            outcome.tally = str(tally)
            outcome.failed = [test for test, how in tally.outcomes.items() if how == "failed"]
        outcome.output = answer["output"]
        if answer["code"] not in (0, 1) or (answer["code"] == 1 and not outcome.failed):
            outcome.trouble = f"pytest exited {answer['code']}"
        self._progress.say(guest.name, f"{tally}, in {answer['seconds']:.0f} s")

    def _bring_home(self, guest: Guest, results: Path, wanted: Wanted, outcome: Outcome) -> None:
        if (results / sourcetree.BYTECODE).exists():
            sourcetree.absorb(results / sourcetree.BYTECODE, self._bytecode(guest))
        wanted.results.mkdir(parents=True, exist_ok=True)
        for made, kept in (("junit.xml", f"lab-{guest.name}.xml"), ("results.json", f"lab-{guest.name}.json")):
            if (results / made).exists():
                shutil.copyfile(results / made, wanted.results / kept)

    def _bytecode(self, guest: Guest) -> Path:
        return self._store.root / f"bytecode-{self._table.roots[guest.root].python}"


def tests_of(levels: Sequence[str]) -> list[str]:
    """The folders of levels."""
    return [f"tests/{level}" for level in levels]


def host_results() -> Path:
    """Where results are kept."""
    return TREE / "build/results" if os.access(TREE, os.W_OK) else Path.cwd() / "build/results"
