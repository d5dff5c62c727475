"""Who waits for what becomes of a container. Source: Docker API v1.45 POST /containers/{id}/wait."""

from __future__ import annotations

import threading

from pyker.jobs.containers import WaitResult
from pyker.types.ids import ContainerId


class Waiter:
    """One who waits. ``result`` is None until it is over; then it is what happened."""

    __slots__ = ("_over", "condition", "result")

    def __init__(self, condition: str) -> None:
        self.condition = condition
        self.result: WaitResult | None = None
        self._over = threading.Event()

    def settle(self, result: WaitResult | None) -> None:
        """End the waiting; None means that it was given up."""
        if self.result is None:
            self.result = result
        self._over.set()

    def wait(self, timeout_s: float | None = None) -> WaitResult | None:
        """Block until settled or until the time is over."""
        self._over.wait(timeout_s)
        return self.result


class Waiters:
    """All who wait, by container. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[ContainerId, list[Waiter]] = {}

    def add(self, container_id: ContainerId, condition: str) -> Waiter:
        """Wait for ``condition``: not-running, next-exit (both: the next exit from now on) or removed."""
        waiter = Waiter(condition)
        with self._lock:
            self._waiters.setdefault(container_id, []).append(waiter)
        return waiter

    def discard(self, container_id: ContainerId, waiter: Waiter) -> None:
        """Forget one who waits no more."""
        with self._lock:
            waiting = self._waiters.get(container_id, [])
            if waiter in waiting:
                waiting.remove(waiter)
            if not waiting:
                self._waiters.pop(container_id, None)

    def exited(self, container_id: ContainerId, result: WaitResult) -> None:
        """The container's command ended."""
        with self._lock:
            waiting = self._waiters.get(container_id)
            if not waiting:
                return
            ready = [waiter for waiter in waiting if waiter.condition != "removed"]
            kept = [waiter for waiter in waiting if waiter.condition == "removed"]
            if kept:
                self._waiters[container_id] = kept
            else:
                del self._waiters[container_id]
        for waiter in ready:
            waiter.settle(result)

    def removed(self, container_id: ContainerId, result: WaitResult) -> None:
        """The container is gone; nothing else can happen to it."""
        with self._lock:
            waiting = self._waiters.pop(container_id, [])
        for waiter in waiting:
            waiter.settle(result)
