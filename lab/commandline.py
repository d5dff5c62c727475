"""The command line of the lab."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import runner
from lab.backends import BACKENDS
from lab.runner import LEVELS, Place, Wanted
from lab.table import LabError, Pair, Table

DEADLINE_S = 1200.0


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for."""

    places: tuple[Place, ...]
    pairs: tuple[Pair, ...]
    wanted: Wanted
    listing: bool = False
    rebuild: bool = False
    build: bool = False
    # A run of whole levels ends with the report; one of chosen tests is somebody at work.
    report: bool = True


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="nox -s lab --",
        description="Run the suites in virtual machines of several kernels. See docs/lab.md.",
        epilog="What follows another -- goes to pytest in the guests: paths, -k, -x ...",
    )
    made.add_argument("--guest", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    made.add_argument("--level", action="append", default=[], choices=LEVELS, help="only this level; may be repeated")
    made.add_argument("--full", action="store_true", help="whole levels, not only what the table selects of them")
    made.add_argument("--backend", choices=BACKENDS, default="qemu", help="who provides the machines (default: qemu)")
    made.add_argument("--list", action="store_true", help="the guests that there are, and which have a saved state")
    made.add_argument("--shell", action="store_true", help="a shell in the guest instead of tests; Ctrl-] leaves it")
    made.add_argument("--keep", action="store_true", help="after the tests, a shell in the guest")
    made.add_argument("--command", default="", metavar="TEXT", help="run this by the guest's shell instead of tests")
    made.add_argument("--rebuild", action="store_true", help="make anew what the chosen guests are built from")
    made.add_argument("--build", action="store_true", help="make what is missing, and run nothing")
    made.add_argument(
        "--no-checks", action="store_true", help="don't look first whether guests are what they should be"
    )
    made.add_argument("--results", type=Path, default=runner.RESULTS, metavar="DIR", help="where results go")
    made.add_argument("--deadline", type=float, default=DEADLINE_S, metavar="SECONDS", help="end a guest after so long")
    return made


def parse(arguments: Sequence[str], table: Table) -> Choice:
    """Raises LabError for what can't be done, and SystemExit as argparse does."""
    ours, tests = list(arguments), list[str]()
    if "--" in ours:
        cut = ours.index("--")
        ours, tests = ours[:cut], ours[cut + 1 :]
    given = parser().parse_args(ours)
    if given.deadline <= 0:
        raise LabError("a guest has to have some seconds: --deadline is above 0")
    places, pairs = _places(given.backend, given.guest, table)
    alone = given.shell or given.keep or given.command
    if tests or alone or given.level or given.build:
        pairs = tuple(pair for pair in pairs if pair.name in given.guest)
    if (given.shell or given.keep) and len(places) != 1:
        raise LabError("a shell is in one guest: name it with --guest")
    if os.geteuid() != 0 and not given.list:
        raise LabError("the lab builds root file systems and its tests make containers: run it as root")
    whole = not (tests or given.shell or given.command)
    if whole:
        tests = _tests(given.level or LEVELS, table, full=given.full)
    wanted = Wanted(
        tests=[] if given.shell else tests,
        results=given.results.absolute(),
        chosen=() if whole else tests,
        shared=whole and not given.full and not given.level and not given.guest,
        keep=given.keep,
        shell=given.shell,
        command=given.command,
        checks=not (given.no_checks or given.shell or given.command),
        deadline_s=given.deadline,
    )
    return Choice(
        places=places,
        pairs=pairs,
        wanted=wanted,
        listing=given.list,
        rebuild=given.rebuild,
        build=given.build,
        report=whole and not given.build,
    )


def _tests(levels: Sequence[str], table: Table, *, full: bool) -> list[str]:
    if full:
        return [f"tests/{level}" for level in levels]
    return [test for level in levels for test in table.selection[level]]


def _places(backend: str, names: Sequence[str], table: Table) -> tuple[tuple[Place, ...], tuple[Pair, ...]]:
    unique = list(dict.fromkeys(names))
    match backend:
        case "local":
            return (None,), ()
        case "vagrant":
            boxes = {box.name: box for box in table.boxes}
            if unknown := [name for name in unique if name not in boxes]:
                raise LabError(f"there is no box {unknown[0]!r}; there are: {', '.join(boxes)}")
            return tuple(boxes[name] for name in unique or boxes), ()
    pairs = {pair.name: pair for pair in table.pairs}
    if not unique:
        return tuple(guest for guest in table.guests if not guest.on_request), table.pairs
    guests = tuple(table.guest(name) for name in unique if name not in pairs)
    return guests, tuple(pairs[name] for name in unique if name in pairs)
