"""Who hung up: one thread watches the connections whose requests end when their client goes away."""

from __future__ import annotations

import select
import threading
from contextlib import suppress

from pyker.engine.job import CancelToken

_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR | select.EPOLLONESHOT


class HangupWatch:
    """Cancels a token when its connection is closed, or half-closed, by the client.

    Only connections on which nothing is to be received now may be watched. The thread begins with the first one.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._lock = threading.Lock()
        self._tokens: dict[int, CancelToken] = {}
        self._running = False

    def watch(self, descriptor: int, token: CancelToken) -> None:
        """Begin to watch ``descriptor``."""
        with self._lock:
            self._tokens[descriptor] = token
            self._epoll.register(descriptor, _GONE)
            if not self._running:
                self._running = True
                threading.Thread(target=self._loop, name="hangups", daemon=True).start()

    def forget(self, descriptor: int) -> None:
        """Stop watching; call it before the descriptor is closed or used otherwise."""
        with self._lock:
            if self._tokens.pop(descriptor, None) is not None:
                with suppress(OSError):
                    self._epoll.unregister(descriptor)

    def _loop(self) -> None:
        while True:
            for descriptor, _ in self._epoll.poll():
                with self._lock:
                    token = self._tokens.get(descriptor)
                if token is not None:
                    token.cancel()

    def cancel_all(self) -> None:
        """The server stops: nobody will be answered any more."""
        with self._lock:
            tokens = list(self._tokens.values())
        for token in tokens:
            token.cancel()
