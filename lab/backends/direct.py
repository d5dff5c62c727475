"""QEMU, started directly: a guest of the table, restored from its saved state."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from lab import shell, sourcetree
from lab.agentlink import Done, Event
from lab.cache import Cache
from lab.commands import Tools
from lab.machine import Machine
from lab.session import FETCHED, Tested
from lab.table import Guest
from lab.workshop import Workshop

# The copy of the agent's socket that the checks' process connects to.
AGENT_VARIABLE = "PYKER_LAB_AGENT"
# Programs in Go that live for a moment, such as the docker CLI, start in two thirds of the time when they collect no
# garbage before there is some, and need no signals to be held up.
GO = {"GOGC": "off", "GOMEMLIMIT": "200MiB", "GODEBUG": "asyncpreemptoff=1"}


class DirectSession:
    """A guest and its agent."""

    def __init__(self, guest: Guest, machine: Machine, results: Path) -> None:
        self.name = guest.name
        self.hostspec = f"lab://{guest.name}"
        self.check_environment: Mapping[str, str] = {AGENT_VARIABLE: str(machine.folder / "agent")}
        self.machine = machine
        self._results = results

    def checked(self) -> contextlib.AbstractContextManager[None]:
        return self.machine.agent.lent()

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Done:
        return self.machine.agent.run(argv, cwd="/src", timeout_s=timeout_s)

    def pytest(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_event: Callable[[Event], None],
        deadline_s: float,
    ) -> Tested:
        given = [
            "--basetemp=/storage/tmp/pytest",
            "--junitxml=/out/junit.xml",
            "--results=/out/results.json",
            *arguments,
        ]
        answer = self.machine.agent.call(
            "pytest",
            timeout_s=deadline_s,
            on_event=on_event,
            cwd="/src",
            arguments=given,
            environment=dict(environment),
        )
        return Tested(answer["code"], answer["output"], answer["seconds"])

    def interact(self) -> int:
        return shell.interact(self.machine.agent, self.machine.folder / "shell")

    def last_words(self) -> str:
        return self.machine.last_words()

    def fetch(self, folder: Path) -> None:
        for name in FETCHED:
            if (self._results / name).exists():
                shutil.copyfile(self._results / name, folder / name)


@contextlib.contextmanager
def session(
    guest: Guest, tree: Path, environment: Mapping[str, str], workshop: Workshop, store: Cache, tools: Tools
) -> Iterator[DirectSession]:
    """``guest``, from its saved state, which is made if it is missing; gone afterwards."""
    hardware = workshop.hardware(guest)
    state = workshop.state(guest, hardware, guest.name)
    with store.scratch(guest.name) as folder:
        results = folder / "results"
        results.mkdir()
        bytecode = store.root / f"bytecode-{guest.root}"
        sourcetree.pack(tree, bytecode, results / sourcetree.ARCHIVE)
        with Machine(tools, hardware, folder / "machine", tree, results) as machine:
            machine.restore(state)
            machine.begin(storage=guest.storage, environment=environment)
            yield DirectSession(guest, machine, results)
            machine.end()
        if (results / sourcetree.BYTECODE).exists():
            sourcetree.absorb(results / sourcetree.BYTECODE, bytecode)
