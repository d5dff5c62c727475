"""Signals that come while a container is attached.

Written on ``_signal``: the enumerations of ``signal`` cost a fifth of a whole ``pyker run``. Source: signal(7).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NUMBERS: dict[str, int] = {
    name[3:]: int(getattr(_signal, name)) for name in dir(_signal) if name.startswith("SIG") and name[3] != "_"
}
HANGUP, INTERRUPT, TERMINATE, RESIZED = (NUMBERS[name] for name in ("HUP", "INT", "TERM", "WINCH"))
# Some numbers have a second, older name.
NAMES: dict[int, str] = {NUMBERS[name]: name for name in NUMBERS if name not in ("CLD", "IOT", "POLL")}


class Signals:
    """Signals as bytes on a pipe, so that the poll loop sees them. A context manager; handlers are restored."""

    IGNORED = ("CHLD", "PIPE", "URG", "KILL", "STOP", "TSTP", "TTIN", "TTOU", "CONT")
    FAULTS = ("SEGV", "BUS", "FPE", "ILL", "ABRT", "TRAP", "SYS", "PROF", "VTALRM")

    def __init__(self, *, active: bool = True) -> None:
        self._active = active
        self._previous: dict[int, Any] = {}
        self._ends: tuple[int, int] = (-1, -1)

    def __enter__(self) -> Signals:
        if not self._active:
            return self
        self._ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        skipped = {NUMBERS[name] for name in (*self.IGNORED, *self.FAULTS) if name in NUMBERS}
        for number in range(1, 32):
            if number not in skipped:
                self._previous[number] = _signal.signal(number, _ignore)
        _signal.set_wakeup_fd(self._ends[1], warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._active:
            return
        _signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            if handler is not None:
                _signal.signal(number, handler)
        for end in self._ends:
            os.close(end)

    def fileno(self) -> int:
        return self._ends[0]

    def take(self) -> bytes:
        """The numbers of the signals that came."""
        try:
            return os.read(self._ends[0], 4096)
        except BlockingIOError:
            return b""


def _ignore(_number: int, _frame: object) -> None:
    """The wakeup descriptor carries the signal; nothing happens here."""
