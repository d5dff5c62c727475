"""The one thread of the resolver: sockets with their handlers, commands from other threads, and deadlines."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
from collections.abc import Callable

from pyker.errors import PykerError

_LOG = logging.getLogger(__name__)

Handler = Callable[[int], None]
"""Gets the events of epoll(7). They may be those of an earlier socket of the same number: nothing may block on them."""


class Loop:
    """Starts its thread with the first command. ``call`` and ``close`` are for any thread, all else for its own.

    ``on_tick`` is called before each wait and returns how long that may be in seconds, None for ever. ``on_end`` is
    the last thing that the thread does.
    """

    def __init__(self, name: str, on_tick: Callable[[], float | None], on_end: Callable[[], None]) -> None:
        self._name = name
        self._on_tick = on_tick
        self._on_end = on_end
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._lock = threading.Lock()
        self._commands: list[Callable[[], None]] = []
        self._handlers: dict[int, Handler] = {}
        self._thread: threading.Thread | None = None
        self._closing = False

    def call(self, command: Callable[[], None]) -> bool:
        """Have the thread run ``command``, in order; False if there will be no more."""
        with self._lock:
            if self._closing:
                return False
            self._commands.append(command)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._thread.start()
            os.eventfd_write(self._wake, 1)
        return True

    def close(self) -> None:
        """End the thread; safe to repeat."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            thread = self._thread
            os.eventfd_write(self._wake, 1)
        if thread is not None:
            thread.join()
        self._epoll.close()
        os.close(self._wake)

    def watch(self, one: socket.socket, events: int, handler: Handler) -> None:
        """Call ``handler`` when ``events`` happen, until ``drop``."""
        self._epoll.register(one.fileno(), events)
        self._handlers[one.fileno()] = handler

    def change(self, one: socket.socket, events: int) -> None:
        """Wait for other events from now on."""
        self._epoll.modify(one.fileno(), events)

    def drop(self, one: socket.socket) -> None:
        """Close a socket; one that is closed already is fine."""
        number = one.fileno()
        if number >= 0 and self._handlers.pop(number, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(number)
        one.close()

    def _serve(self) -> None:
        try:
            while True:
                for number, events in self._epoll.poll(self._timeout_s()):
                    if number == self._wake:
                        os.eventfd_read(self._wake)
                    elif (handler := self._handlers.get(number)) is not None:
                        self._guarded(handler, events)
                with self._lock:
                    commands, self._commands = self._commands, []
                    closing = self._closing
                for command in commands:
                    self._guarded(command)
                if closing:
                    return
        finally:
            self._on_end()

    def _timeout_s(self) -> float | None:
        try:
            return self._on_tick()
        except Exception:  # noqa: BLE001 - as below
            _LOG.exception("%s: a fault of its own", self._name)
            return 1.0

    def _guarded(self, work: Callable[..., None], *arguments: int) -> None:
        """What goes wrong with one socket is no reason to leave all others without an answer."""
        try:
            work(*arguments)
        except (OSError, PykerError) as error:
            _LOG.debug("%s: %s", self._name, error)
        except Exception:  # noqa: BLE001 - a fault of ours, and all other sockets wait
            _LOG.exception("%s: a fault of its own", self._name)
