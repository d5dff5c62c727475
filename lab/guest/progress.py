"""A pytest plugin in the guest that tells the host how far a run is, a JSON object a line.

The agent hands it a file descriptor; where there is no agent, ``-p progress`` takes that of ``PYKER_LAB_EVENTS``.
"""

from __future__ import annotations

import json
import os
from typing import Any


class Progress:
    """How many tests there are, which one starts, how each ended."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._outcome = ""

    def _tell(self, **event: Any) -> None:
        os.write(self._fd, json.dumps(event).encode() + b"\n")

    def pytest_collection_finish(self, session: Any) -> None:
        self._tell(kind="collected", count=len(session.items))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._outcome = ""
        self._tell(kind="start", test=nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        # A test that passed and could not be cleaned up after has failed.
        if report.failed:
            self._outcome = "failed"
        elif report.skipped and not self._outcome:
            self._outcome = "pending" if hasattr(report, "wasxfail") else "skipped"
        elif report.when == "call" and not self._outcome:
            self._outcome = "passed"
        if report.when == "teardown":
            self._tell(kind="end", test=report.nodeid, outcome=self._outcome or "passed")


def pytest_configure(config: Any) -> None:
    """Loaded by its name."""
    fd = int(os.environ["PYKER_LAB_EVENTS"])
    # Programs that tests start must not hold it open.
    os.set_inheritable(fd, False)
    config.pluginmanager.register(Progress(fd), "lab-progress")
