"""``python -m lab``: what ``nox -s lab`` starts."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lab import cache, commandline, reporting, runner
from lab.commandline import Choice
from lab.commands import Tools
from lab.progress import Progress
from lab.runner import Outcome, Runner
from lab.table import Guest, LabError, Pair, table

AT_ONCE = 2
INTERRUPTED = 130
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
    """Run guests two at a time, those that take longest first; the exit code."""
    tools = Tools()
    store = cache.Cache(cache.home(), rebuild=choice.rebuild)
    store.sweep()
    progress = Progress()
    lab = Runner(table(), store, tools, progress)
    everywhere = [*choice.places, *choice.pairs]
    reporting.forget(choice.wanted.results, [place.name if place else runner.LOCAL for place in everywhere])

    longest_first = sorted(everywhere, key=lambda place: -place.seconds if isinstance(place, Guest | Pair) else 0)
    one_pair = threading.Lock()

    def job(place: runner.Place) -> Outcome:
        if choice.build and isinstance(place, Guest):
            return lab.build(place)
        # Its two guests mostly wait for each other, so it may run beside another guest, but not beside another pair.
        with one_pair if isinstance(place, Pair) else contextlib.nullcontext():
            return lab.run(place, choice.wanted)

    for number in ENDING:
        signal.signal(number, _interrupt)
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        outcomes = dict(zip(longest_first, pool.map(job, longest_first), strict=True))
        return reporting.finish([outcomes[place] for place in everywhere], choice, tools)
    except KeyboardInterrupt:
        tools.stop()
        pool.shutdown(wait=True, cancel_futures=True)
        sys.stderr.write("lab: interrupted; everything that it started is gone\n")
        return INTERRUPTED
    finally:
        pool.shutdown(wait=True)
        store.close()


def _interrupt(number: int, frame: object) -> None:
    """Once: who is impatient would only keep what was started from being ended."""
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
