"""``python -m lab``: what ``nox -s lab`` starts."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lab import cache, commandline, reporting, runner
from lab.commandline import Choice
from lab.commands import Tools
from lab.progress import Progress
from lab.runner import Outcome, Runner
from lab.table import Guest, LabError, table

AT_ONCE = 2
INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Run the lab; the exit code."""
    try:
        choice = commandline.parse(arguments, table())
    except LabError as error:
        sys.stderr.write(f"lab: {error}\n")
        return 2
    if choice.listing:
        sys.stdout.write(reporting.listing(table(), cache.home()))
        return 0
    return run(choice)


def run(choice: Choice) -> int:
    """Run guests two at a time, then what needs several of them; the exit code."""
    tools = Tools()
    store = cache.Cache(cache.home(), rebuild=choice.rebuild)
    store.sweep()
    progress = Progress()
    lab = Runner(table(), store, tools, progress)
    everywhere = [*choice.places, *choice.pairs]
    reporting.forget(choice.wanted.results, [place.name if place else runner.LOCAL for place in everywhere])

    def job(place: runner.Place) -> Outcome:
        if choice.build and isinstance(place, Guest):
            return lab.build(place)
        return lab.run(place, choice.wanted)

    signal.signal(signal.SIGTERM, _interrupt)
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        outcomes = list(pool.map(job, choice.places))
        # Two guests each: one pair at a time.
        for pair in choice.pairs:
            outcomes += pool.map(job, [pair])
    except KeyboardInterrupt:
        tools.stop()
        pool.shutdown(wait=True, cancel_futures=True)
        sys.stderr.write("lab: interrupted; everything that it started is gone\n")
        return INTERRUPTED
    finally:
        pool.shutdown(wait=True)
        store.close()
    return reporting.finish(outcomes, choice, tools)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
