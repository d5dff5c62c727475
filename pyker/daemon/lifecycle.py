"""The jobs ``stop``, ``kill``, ``restart``, ``pause`` and ``unpause``.

A lock per container covers each change of state. Waiting for a process to end happens without it.
"""

from __future__ import annotations

import signal

from msgspec import UNSET
from msgspec.structs import replace

from pyker.container import state
from pyker.container.record import Container
from pyker.container.store import ContainerStore
from pyker.daemon.events import EventBus
from pyker.daemon.exits import Exits
from pyker.daemon.processes import Processes
from pyker.daemon.waiters import Waiters
from pyker.engine.job import JobContext
from pyker.errors import Conflict, NotFound, NotModified, SystemFailure
from pyker.jobs.containers import (
    KillContainer,
    PauseContainer,
    RestartContainer,
    StartContainer,
    StopContainer,
    UnpauseContainer,
)
from pyker.types import signals

_STOP_TIMEOUT_S = 10
_KILL_GRACE_S = 10.0
"""How long a killed process may take to be gone before the caller is told that something is wrong."""


class LifecycleHandlers:
    """Stops, kills, freezes and restarts containers."""

    def __init__(
        self,
        store: ContainerStore,
        processes: Processes,
        waiters: Waiters,
        bus: EventBus,
        exits: Exits,
    ) -> None:
        self._store = store
        self._processes = processes
        self._waiters = waiters
        self._bus = bus
        self._exits = exits

    def stop(self, job: StopContainer, ctx: JobContext) -> None:
        """Ask the command to end, and make it end after a while. Raises NotModified if it does not run."""
        container = self._store.get(job.container)
        ctx.subject = container.id
        if not container.state.running:
            raise NotModified(f"Container {container.id} is already stopped")
        self._stop(container, job.timeout_s, job.signal)
        self._bus.container("stop", self._store.find(container.id) or container)

    def restart(self, job: RestartContainer, ctx: JobContext) -> None:
        """Stop it if it runs, and start it. ``--rm`` does not remove it in between."""
        container = self._store.get(job.container)
        ctx.subject = container.id
        self._exits.keep(container.id, kept=True)
        try:
            if container.state.running:
                self._stop(container, job.timeout_s, job.signal)
                self._bus.container("stop", self._store.find(container.id) or container)
            ctx.run(StartContainer(container=container.id))
        finally:
            self._exits.keep(container.id, kept=False)
        self._bus.container("restart", container)

    def kill(self, job: KillContainer, ctx: JobContext) -> None:
        """Send a signal; after SIGKILL, wait until the command is gone."""
        number = signals.parse(job.signal or "KILL")
        try:
            container = self._store.get(job.container)
        except NotFound as error:
            raise NotFound(f"Cannot kill container: {job.container}: {error}") from None
        ctx.subject = container.id
        if not container.state.running:
            raise Conflict(f"Cannot kill container: {job.container}: Container {container.id} is not running")
        self._kill(container, number)

    def pause(self, job: PauseContainer, ctx: JobContext) -> None:
        """Freeze every process."""
        container = self._store.get(job.container)
        ctx.subject = container.id
        with self._store.lock(container.id):
            container = self._store.get(container.id)
            if container.state.restarting:
                raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
            frozen = state.paused(container)
            self._processes.get(container.id).pause()
            self._store.put(frozen)
        self._bus.container("pause", container)

    def unpause(self, job: UnpauseContainer, ctx: JobContext) -> None:
        """Thaw every process."""
        container = self._store.get(job.container)
        ctx.subject = container.id
        with self._store.lock(container.id):
            container = self._store.get(container.id)
            if not container.state.paused:
                raise SystemFailure(f"Container {container.id} is not paused")
            self._resume(container)

    def force_end(self, container: Container) -> None:
        """Kill a container that is about to be removed. Raises SystemFailure if it will not die."""
        self._kill(container, signal.SIGKILL)

    def _resume(self, container: Container) -> None:
        self._processes.get(container.id).resume()
        self._store.put(state.resumed(container))
        self._bus.container("unpause", container)

    def _stop(self, container: Container, timeout_s: int | None, wanted_signal: str) -> None:
        number = signals.parse(wanted_signal) if wanted_signal else stop_signal(container)
        timeout = stop_timeout_s(container) if timeout_s is None else timeout_s
        waiter = self._waiters.add(container.id, "not-running")
        try:
            if not self._signal(container, number):
                return
            if waiter.wait(None if timeout < 0 else timeout) is not None:
                return
            self._kill(container, signal.SIGKILL)
        finally:
            self._waiters.discard(container.id, waiter)

    def _kill(self, container: Container, number: int) -> None:
        if number != signal.SIGKILL:
            self._signal(container, number)
            return
        waiter = self._waiters.add(container.id, "not-running")
        try:
            if self._signal(container, number) and waiter.wait(_KILL_GRACE_S) is None:
                raise SystemFailure(
                    f"Cannot kill container: {container.id}: tried to kill it, and it did not end within "
                    f"{_KILL_GRACE_S:.0f} s",
                    hint="a process that waits for a disk or a remote file system cannot be killed before that answers",
                )
        finally:
            self._waiters.discard(container.id, waiter)

    def _signal(self, container: Container, number: int) -> bool:
        """Send one signal, note that somebody did so by hand; False if the command had ended already."""
        with self._store.lock(container.id):
            current = self._store.find(container.id)
            if current is None or not current.state.running:
                return False
            if self._exits.cancel_restart(current):
                return False
            process = self._processes.get(current.id)
            if not current.has_been_manually_stopped:
                current = replace(current, has_been_manually_stopped=True)
                self._store.put(current)
            try:
                process.signal(number)
            except NotFound:
                return self._still_ending(current)
            self._bus.container("kill", current, signal=str(int(number)))
            if current.state.paused and number in (signal.SIGKILL, stop_signal(current)):
                try:
                    self._resume(current)
                except NotFound:
                    return self._still_ending(current)
            return True

    def _still_ending(self, container: Container) -> bool:
        """The process is gone, and its end is being dealt with: there is something to wait for."""
        return self._processes.find(container.id) is not None


def stop_signal(container: Container) -> int:
    """What ``docker stop`` sends: the container's own choice, or SIGTERM."""
    chosen = container.config.stop_signal
    return signals.parse(chosen) if chosen is not UNSET and chosen else int(signal.SIGTERM)


def stop_timeout_s(container: Container) -> int:
    """How long ``docker stop`` waits: the container's own choice, or ten seconds; -1 is for ever."""
    chosen = container.config.stop_timeout
    return _STOP_TIMEOUT_S if chosen is UNSET or chosen is None else int(chosen)
