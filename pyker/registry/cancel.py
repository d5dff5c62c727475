"""How a transfer learns that nobody waits for it any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Cancel(Protocol):
    """A token that is set once. The engine's CancelToken is one."""

    @property
    def cancelled(self) -> bool: ...

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Run ``callback`` when the token is set; returns a function that takes it back."""
        ...

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until set or until the time is over; True if set."""
        ...

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled if the token is set."""
        ...


class NeverCancelled:
    """For callers that always wait."""

    cancelled = False

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def wait(self, timeout_s: float | None = None) -> bool:
        return False

    def raise_if_cancelled(self) -> None:
        return None


NEVER = NeverCancelled()
