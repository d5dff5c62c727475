"""What a run needs of the machine that it runs in, whoever provides the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from lab.agentlink import Done, Event

# What pytest writes, and what it has written of it while it still runs.
FETCHED = ("junit.xml", "results.json", "results.json.running")


class Tested(NamedTuple):
    """How pytest ended, and the end of what it wrote."""

    code: int
    output: str
    seconds: float


class Session(Protocol):
    """A machine that is there, with the tree under test in ``/src`` or where it came from."""

    name: str
    # What testinfra connects to, and what the process that does it needs in its environment.
    hostspec: str
    check_environment: Mapping[str, str]

    def checked(self) -> AbstractContextManager[None]:
        """While checks use ``hostspec``, nothing else talks to the machine."""

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Done:
        """A command, to its end, in the tree."""

    def pytest(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_event: Callable[[Event], None],
        deadline_s: float,
    ) -> Tested:
        """pytest in the tree; its junit file and its results come to ``fetch``. Raises GuestLost at the deadline."""

    def interact(self) -> int:
        """A shell for whoever sits at the terminal."""

    def last_words(self) -> str:
        """What is known of a machine that does not answer."""

    def fetch(self, folder: Path) -> None:
        """Copy those of ``FETCHED`` that there are to ``folder``."""
