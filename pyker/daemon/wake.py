"""A descriptor that other threads make readable, to end a poll."""

from __future__ import annotations

import os
import threading


class Wake:
    """Poll on ``fileno()``. ``poke`` may be called at any time, also after ``close``. Source: eventfd(2)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """For poll; -1 once closed."""
        return self._fd

    def poke(self) -> None:
        """Make it readable."""
        with self._lock:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Make it wait again."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptor back."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)
