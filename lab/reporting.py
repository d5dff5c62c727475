"""What is told at the end: a line a guest, what failed, and the report with a column a guest."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lab.commandline import Choice
from lab.commands import Tools
from lab.runner import RESULTS, TREE, Outcome
from lab.table import LabError, Table


def listing(table: Table, cache: Path) -> str:
    """The table, for people."""
    lines = []
    for guest in table.guests:
        saved = "saved state" if any(cache.glob(f"state-{guest.name}-*/manifest.json")) else "-"
        asked = "on request" if guest.on_request else ""
        lines.append(
            f"{guest.name:<12} kernel {guest.kernel:<5} cgroup {guest.cgroup}  root {guest.root:<9} "
            f"{guest.graphdriver:<9} on {guest.storage:<6} {saved:<12} {asked}".rstrip()
        )
    lines += [f"{pair.name:<12} {pair.guests[0]} and {pair.guests[1]} on one L2" for pair in table.pairs]
    lines += [f"{box.name:<12} {box.box}, {box.graphdriver}, --backend vagrant" for box in table.boxes]
    return "\n".join(lines) + "\n"


def forget(results: Path, names: Sequence[str]) -> None:
    """Remove what earlier runs said of these guests: one that hangs now must not be shown by it."""
    for name in names:
        for suffix in ("xml", "json"):
            (results / f"lab-{name}.{suffix}").unlink(missing_ok=True)


def finish(outcomes: Sequence[Outcome], choice: Choice, tools: Tools) -> int:
    """Tell how it went; the exit code."""
    for outcome in outcomes:
        if outcome.output and (not outcome.good or not outcome.tally or not choice.report):
            print(f"----- {outcome.name}\n{outcome.output.rstrip()}")
    for outcome in outcomes:
        if outcome.trouble:
            print(f"----- {outcome.name}: {outcome.trouble}")
    good = all(outcome.good for outcome in outcomes)
    if choice.report:
        results = choice.wanted.results
        # Where every session leaves its own, the report is of them all.
        own = [] if results == RESULTS else [*map(str, results.glob("lab-*.json")), "--output", str(results / "report")]
        try:
            print(tools.run([sys.executable, "-m", "tests.report", *own], cwd=TREE).rstrip())
        except LabError as error:
            print(f"the report could not be made: {error}")
            good = False
    for outcome in outcomes:
        print(f"{outcome.name:<12} {'good' if outcome.good else 'NOT GOOD'}  {outcome.tally}".rstrip())
    return 0 if good else 1
