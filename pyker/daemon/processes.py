"""The processes of containers that live now, and the clients that wait for one to start.

All of it is of this daemon's life only: after a restart the exec driver finds the processes again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from pyker.errors import Conflict
from pyker.execdriver.base import Attachment, ContainerProcess
from pyker.types.ids import ContainerId


class Processes:
    """The process of each running container, and the attachments that its next run gets. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[ContainerId, ContainerProcess] = {}
        self._pending: dict[ContainerId, list[Attachment]] = {}
        self._on_change: dict[ContainerId, list[Callable[[], None]]] = {}

    def started(self, container_id: ContainerId, process: ContainerProcess) -> None:
        """A container's command runs."""
        with self._lock:
            self._running[container_id] = process
        self.changed(container_id)

    def ended(self, container_id: ContainerId) -> None:
        """A container's command ended."""
        with self._lock:
            self._running.pop(container_id, None)

    def find(self, container_id: ContainerId) -> ContainerProcess | None:
        """None if it does not run."""
        return self._running.get(container_id)

    def get(self, container_id: ContainerId) -> ContainerProcess:
        """Raises Conflict if it does not run."""
        process = self._running.get(container_id)
        if process is None:
            raise Conflict(f"Container {container_id} is not running")
        return process

    def running(self) -> dict[ContainerId, ContainerProcess]:
        """A copy of the table."""
        with self._lock:
            return dict(self._running)

    def wait_to_attach(self, container_id: ContainerId, attachment: Attachment) -> None:
        """Keep a client for the next run. Its descriptor belongs to this table until it is taken or discarded."""
        with self._lock:
            self._pending.setdefault(container_id, []).append(attachment)

    def take_waiting(self, container_id: ContainerId) -> tuple[Attachment, ...]:
        """The clients that wait; the caller owns their descriptors now."""
        with self._lock:
            return tuple(self._pending.pop(container_id, ()))

    def discard(self, container_id: ContainerId, attachment: Attachment) -> None:
        """A client went away; if it still waits its descriptor is closed."""
        with self._lock:
            waiting = self._pending.get(container_id, [])
            mine = attachment in waiting
            if mine:
                waiting.remove(attachment)
            if not waiting:
                self._pending.pop(container_id, None)
        if mine:
            os.close(attachment.fd)

    def on_change(self, container_id: ContainerId, action: Callable[[], None]) -> Callable[[], None]:
        """Call ``action`` whenever the container starts, stops or goes away; returns a function that ends that."""
        with self._lock:
            self._on_change.setdefault(container_id, []).append(action)

        def forget() -> None:
            with self._lock:
                actions = self._on_change.get(container_id, [])
                if action in actions:
                    actions.remove(action)
                if not actions:
                    self._on_change.pop(container_id, None)

        return forget

    def changed(self, container_id: ContainerId) -> None:
        """Tell those who asked that the container's state is another now."""
        with self._lock:
            actions = list(self._on_change.get(container_id, ()))
        for action in actions:
            action()


def close_all(attachments: tuple[Attachment, ...]) -> None:
    """Let clients go whose container did not start: each sees the end of its stream."""
    for attachment in attachments:
        try:
            os.close(attachment.fd)
        except OSError:
            continue
