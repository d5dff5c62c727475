"""So many at once, first come first served."""

from __future__ import annotations

import threading
from collections import deque

from pyker.registry.cancel import Cancel


class Slots:
    """A bound on what goes on at once. A place in the queue is taken with ``queue``, so that order is the caller's."""

    def __init__(self, size: int) -> None:
        self._free = max(size, 1)
        self._lock = threading.Lock()
        self._waiting: deque[Place] = deque()

    def queue(self) -> Place:
        """Take the next place. Give it back with ``Place.leave``, whether or not it was entered."""
        place = Place(self)
        with self._lock:
            if self._free:
                self._free -= 1
                place.admit()
            else:
                self._waiting.append(place)
        return place

    def _left(self, place: Place) -> None:
        with self._lock:
            if place in self._waiting:
                self._waiting.remove(place)
                return
            if self._waiting:
                self._waiting.popleft().admit()
            else:
                self._free += 1


class Place:
    """One place in the queue of a Slots."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._admitted = threading.Event()
        self._gone = False

    @property
    def admitted(self) -> bool:
        """True if it is this one's turn."""
        return self._admitted.is_set()

    def admit(self) -> None:
        """It is this one's turn."""
        self._admitted.set()

    def enter(self, cancel: Cancel) -> None:
        """Wait for the turn. Raises Cancelled if the token is set before."""
        forget = cancel.on_cancel(self._admitted.set)
        try:
            self._admitted.wait()
        finally:
            forget()
        cancel.raise_if_cancelled()

    def leave(self) -> None:
        """Let the next one in. Calling it again does nothing."""
        if not self._gone:
            self._gone = True
            self._slots._left(self)
