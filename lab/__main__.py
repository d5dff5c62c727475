"""``python -m lab``: what ``nox -s lab`` starts."""

from __future__ import annotations

import argparse
import functools
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lab import cache, runner
from lab.commands import Tools
from lab.progress import Progress
from lab.runner import LEVELS, Outcome, Runner, Wanted
from lab.table import Guest, LabError, Table, table

AT_ONCE = 2


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="nox -s lab --",
        description="Run the suites in virtual machines of several kernels. See docs/lab.md.",
        epilog="What follows another -- goes to pytest in the guests: paths, -k, -x ...",
    )
    made.add_argument("--guest", action="append", default=[], metavar="NAME", help="only this guest; may be repeated")
    made.add_argument("--level", action="append", default=[], choices=LEVELS, help="only this level; may be repeated")
    made.add_argument("--list", action="store_true", help="the guests that there are, and what of them is built")
    made.add_argument("--shell", action="store_true", help="a shell in the guest instead of tests; Ctrl-] leaves it")
    made.add_argument("--keep", action="store_true", help="after the tests, a shell in the guest")
    made.add_argument("--command", default="", help="run this in the guest instead of tests")
    made.add_argument("--rebuild", action="store_true", help="make everything anew that the chosen guests need")
    made.add_argument("--build", action="store_true", help="make what is missing, and run nothing")
    made.add_argument("--deadline", type=float, default=900.0, metavar="SECONDS", help="end a guest after so long")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the lab; the exit code."""
    ours, tests = list(arguments), []
    if "--" in ours:
        cut = ours.index("--")
        ours, tests = ours[:cut], ours[cut + 1 :]
    given = parser().parse_args(ours)
    try:
        chosen = choose(table(), given.guest)
        if given.list:
            return show(table())
        if (given.shell or given.keep) and len(chosen) != 1:
            raise LabError("a shell is in one guest: name it with --guest")
        if os.geteuid() != 0:
            raise LabError("the lab builds root file systems, which needs root")
    except LabError as error:
        sys.stderr.write(f"lab: {error}\n")
        return 2
    if not tests:
        tests = [] if given.shell else runner.tests_of(given.level or LEVELS)
    wanted = Wanted(
        tests=tests,
        results=runner.host_results(),
        keep=given.keep,
        shell=given.shell,
        command=given.command,
        deadline_s=given.deadline,
    )
    return run(chosen, wanted, rebuild=given.rebuild, build=given.build)


def choose(table: Table, names: Sequence[str]) -> list[Guest]:
    """The guests of those names, or all that a run without names has."""
    if names:
        return [table.guest(name) for name in dict.fromkeys(names)]
    return [guest for guest in table.guests if not guest.on_request]


def show(table: Table) -> int:
    """Print the table."""
    for guest in table.guests:
        print(
            f"{guest.name:<12} kernel {guest.kernel:<6} cgroup {guest.cgroup}  root {guest.root:<9} {guest.graphdriver}"
        )
    return 0


def run(guests: Sequence[Guest], wanted: Wanted, *, rebuild: bool, build: bool) -> int:
    """Run guests two at a time; the exit code."""
    tools = Tools()
    store = cache.Cache(cache.home(), rebuild=rebuild)
    store.sweep()
    progress = Progress()
    lab = Runner(table(), store, tools, progress)

    def interrupted(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    outcomes: list[Outcome] = []
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        job = lab.build if build else functools.partial(lab.run, wanted=wanted)
        outcomes = list(pool.map(job, guests))
    except KeyboardInterrupt:
        tools.stop()
        pool.shutdown(wait=True, cancel_futures=True)
        sys.stderr.write("lab: interrupted; everything that it started is gone\n")
        return 130
    finally:
        pool.shutdown(wait=True)
        store.close()
    return report(outcomes)


def report(outcomes: Sequence[Outcome]) -> int:
    """Tell how it went; the exit code."""
    for outcome in outcomes:
        if outcome.output and (outcome.failed or outcome.trouble or not outcome.tally):
            print(f"----- {outcome.guest}\n{outcome.output.rstrip()}")
    for outcome in outcomes:
        print(f"{outcome.guest:<12} {outcome.tally}")
        if outcome.trouble:
            print(f"{outcome.guest:<12} {outcome.trouble}")
    return 0 if all(outcome.good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
