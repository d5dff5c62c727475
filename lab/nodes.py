"""Two guests on one virtual L2, for tests that run on the host and speak to both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lab import qemu, sourcetree
from lab.agentlink import Done, GuestLost
from lab.backends import direct
from lab.cache import Cache
from lab.commands import Tools
from lab.machine import Machine
from lab.progress import Progress
from lab.table import LabError, Pair, Table
from lab.workshop import Workshop

NETWORK = "10.77.0"


@dataclass(frozen=True, slots=True)
class Node:
    """One of the two. ``interface`` is up and has ``address``; the tree under test is in /src."""

    name: str
    interface: str
    address: str
    machine: Machine

    def run(self, *argv: str, stdin: bytes = b"", timeout_s: float = 120) -> Done:
        """A command in the tree, to its end."""
        try:
            return self.machine.agent.run(argv, stdin=stdin, cwd="/src", timeout_s=timeout_s)
        except GuestLost as error:
            raise GuestLost(f"{self.name}: {error}\n{self.machine.last_words()}") from error

    def check(self, *argv: str, stdin: bytes = b"", timeout_s: float = 120) -> str:
        """What a command wrote. Raises LabError with what it said if it failed."""
        done = self.run(*argv, stdin=stdin, timeout_s=timeout_s)
        if done.code != 0:
            said = (done.stdout + done.stderr).decode(errors="replace")[-4000:]
            raise LabError(f"{self.name}: {' '.join(argv)} exited {done.code}:\n{said}\n{self.machine.last_words()}")
        return done.stdout.decode(errors="replace")


@contextlib.contextmanager
def pair(entry: Pair, table: Table, workshop: Workshop, store: Cache, tools: Tools, tree: Path) -> Iterator[list[Node]]:
    """Both guests of ``entry``, restored and addressed; gone afterwards.

    Each has a saved state of its own: the address of its card is part of it.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(store.scratch(entry.name))
        made = []
        for number, name in enumerate(entry.guests, 1):
            guest = table.guest(name)
            # The first listens, so it is there before the second connects.
            wire = qemu.Wire(folder / "wire", listens=number == 1, mac=f"52:54:00:00:00:{number:02x}")
            hardware = replace(workshop.hardware(guest), wires=(wire,))
            state = workshop.state(guest, hardware, f"{entry.name}.{number}")
            results = folder / f"results{number}"
            results.mkdir()
            sourcetree.pack(tree, store.root / f"bytecode-{guest.root}", results / sourcetree.ARCHIVE)
            machine = stack.enter_context(Machine(tools, hardware, folder / f"machine{number}", tree, results))
            machine.restore(state)
            promised = ",".join(table.promised(guest))
            environment = {"PYKER_ENVIRONMENT": name, "PYKER_DRIVER": guest.graphdriver, "PYKER_PROMISED": promised}
            machine.begin(storage=guest.storage, environment={**environment, "TMPDIR": "/storage/tmp", **direct.GO})
            made.append(_addressed(name, number, machine))
        yield made


def _addressed(name: str, number: int, machine: Machine) -> Node:
    script = (
        "set -e; hostname $1; for link in /sys/class/net/*; do "
        "[ -e $link/device ] && name=${link##*/}; done; ip addr add $2/24 dev $name; ip link set $name up; echo $name"
    )
    address = f"{NETWORK}.{number}"
    done = machine.agent.run(["sh", "-c", script, "sh", f"node{number}", address])
    if done.code != 0:
        raise LabError(f"{name} has no network card that works: {done.stderr.decode(errors='replace')}")
    return Node(name, done.stdout.decode().strip(), address, machine)


@contextlib.contextmanager
def by_name(name: str, table: Table, cache: Path, tree: Path, progress: Progress) -> Iterator[Sequence[Node]]:
    """The pair of that name, with tools and a cache of its own: for a test process."""
    entry = next((pair for pair in table.pairs if pair.name == name), None)
    if entry is None:
        raise LabError(f"there is no pair {name!r} in the table")
    tools = Tools()
    store = Cache(cache)
    try:
        workshop = Workshop(table, store, tools, progress.say)
        with pair(entry, table, workshop, store, tools, tree) as nodes:
            yield nodes
    finally:
        tools.stop()
        store.close()
