"""What people see while guests are made and tests run in them: a line for each step, counts while tests go on."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from typing import TextIO

from lab.agentlink import Event

_EVERY_S = 10.0
_OUTCOMES = ("passed", "failed", "skipped", "pending")


class Progress:
    """Writes lines; may be used by several threads."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._started = time.monotonic()

    def say(self, name: str, what: str) -> None:
        with self._lock:
            seconds = time.monotonic() - self._started
            self._stream.write(f"{seconds:6.1f} s  {name:<14}  {what}\n")
            self._stream.flush()


class Tally:
    """Counts the tests of one guest. ``running`` is the test that has started and not ended."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._name = name
        self._said = time.monotonic()
        self.outcomes: dict[str, str] = {}
        self.collected = 0
        self.running = ""

    def __call__(self, event: Event) -> None:
        """Take up what the guest's pytest tells."""
        match event:
            case {"kind": "collected", "count": count}:
                self.collected = count
                self._progress.say(self._name, f"{count} tests")
            case {"kind": "start", "test": test}:
                self.running = test
            case {"kind": "end", "test": test, "outcome": outcome}:
                self.running = ""
                self.outcomes[test] = outcome
                if outcome == "failed":
                    self._progress.say(self._name, f"FAILED {test}")
        if time.monotonic() - self._said > _EVERY_S:
            self._said = time.monotonic()
            self._progress.say(self._name, str(self) + (f"; now {self.running}" if self.running else ""))

    def __str__(self) -> str:
        counts = Counter(self.outcomes.values())
        words = ", ".join(f"{counts[outcome]} {outcome}" for outcome in _OUTCOMES if counts[outcome])
        return f"{len(self.outcomes)} of {self.collected}: {words or 'none yet'}"
