"""What follows when a container's command ends: state, events, network, those who wait, restart or removal."""

from __future__ import annotations

import logging
import threading
import time

from msgspec.structs import replace

from pyker.container import state
from pyker.container.record import Container
from pyker.container.store import ContainerStore
from pyker.daemon.events import EventBus
from pyker.daemon.health import HealthChecks
from pyker.daemon.processes import Processes
from pyker.daemon.removal import Remover
from pyker.daemon.restartpolicy import RestartPauses
from pyker.daemon.waiters import Waiters
from pyker.engine.engine import Engine
from pyker.errors import NotFound, PykerError
from pyker.jobs.containers import ReleaseInterface, StartContainer, WaitResult
from pyker.libcontainer.spec import ExitRecord
from pyker.types.events import Event
from pyker.types.ids import ContainerId

log = logging.getLogger("pyker.daemon")


class ContainerWatcher:
    """The exec driver's line to one run of a container. Each call goes on in a thread of its own."""

    def __init__(self, exits: Exits, container_id: ContainerId) -> None:
        self._exits = exits
        self._container_id = container_id

    def on_exit(self, record: ExitRecord) -> None:
        """The command ended."""
        threading.Thread(
            target=self._exits.exited, args=(self._container_id, record), name="container-exit", daemon=True
        ).start()

    def on_oom(self) -> None:
        """The kernel killed something in the container."""
        threading.Thread(
            target=self._exits.out_of_memory, args=(self._container_id,), name="container-oom", daemon=True
        ).start()


class Exits:
    """Deals with the ends of containers, and starts those again whose policy says so."""

    def __init__(
        self,
        engine: Engine,
        store: ContainerStore,
        processes: Processes,
        waiters: Waiters,
        bus: EventBus,
        remover: Remover,
        health: HealthChecks,
    ) -> None:
        self._engine = engine
        self._store = store
        self._processes = processes
        self._waiters = waiters
        self._bus = bus
        self._remover = remover
        self._health = health
        self._pauses = RestartPauses()
        self._timers: dict[ContainerId, threading.Timer] = {}
        self._kept: set[ContainerId] = set()
        self._closing = False

    def watcher(self, container_id: ContainerId) -> ContainerWatcher:
        """For the exec driver."""
        return ContainerWatcher(self, container_id)

    def keep(self, container_id: ContainerId, *, kept: bool) -> None:
        """While kept, a container is neither removed nor started again when it ends: it is being restarted by hand."""
        (self._kept.add if kept else self._kept.discard)(container_id)

    def close(self) -> None:
        """From now on nothing is started again or removed; the next daemon does that."""
        self._closing = True
        for timer in list(self._timers.values()):
            timer.cancel()

    def exited(self, container_id: ContainerId, record: ExitRecord) -> None:
        """The command ended and all its output was delivered."""
        try:
            self._exited(container_id, record)
        except (PykerError, OSError):
            log.exception("container %s ended, and not everything could be cleaned up", container_id)

    def _exited(self, container_id: ContainerId, record: ExitRecord) -> None:
        with self._store.lock(container_id):
            container = self._store.find(container_id)
            if container is None or not container.state.running:
                return
            self._processes.ended(container_id)
            self._health.end(container_id)
            began_ns = state.nanoseconds(container.state.started_at)
            ran_s = max(0, record.ended_ns - began_ns) / 1e9
            kept = container_id in self._kept
            pause = None if kept or self._closing else self._pauses.next_pause_s(container, record.exit_code, ran_s)
            ended = state.exited(container, record) if pause is None else state.restarting(container, record)
            removes = container.host_config.auto_remove and not kept and pause is None
            published = any(container.network_settings.ports.values())
            self._store.show(ended)
            self._bus.container("die", container, exitCode=str(record.exit_code), execDuration=str(int(ran_s)))
            if published or removes:
                self._release(ended)
            result = WaitResult(exit_code=record.exit_code)
            self._waiters.exited(container_id, result)
            self._processes.changed(container_id)
            if not (published or removes):
                self._release(ended)
            if removes:
                doomed = self._remover.claim(self._store.find(container_id) or ended)
            else:
                self._store.put(self._store.find(container_id) or ended)
                if pause is not None:
                    self._start_later(container_id, pause)
        if removes:
            self._remover.remove_at_end(doomed)

    def _release(self, container: Container) -> None:
        """Give the network back, and say that volumes are not mounted any more."""
        try:
            self._engine.run(ReleaseInterface(container=container.id))
        except PykerError as error:
            log.warning("container %s: its network was not released: %s", container.id, error)
        publish_unmounts(self._bus, container)

    def _start_later(self, container_id: ContainerId, pause_s: float) -> None:
        timer = threading.Timer(pause_s, self._start_again, (container_id,))
        timer.daemon = True
        self._timers[container_id] = timer
        timer.start()

    def _start_again(self, container_id: ContainerId) -> None:
        with self._store.lock(container_id):
            self._timers.pop(container_id, None)
            container = self._store.find(container_id)
            if container is None or not container.state.restarting or self._closing:
                return
            try:
                self._engine.run(StartContainer(container=container_id))
            except PykerError as error:
                log.warning("container %s could not be started again: %s", container_id, error)
                failed = self._store.find(container_id)
                if failed is not None:
                    record = ExitRecord(exit_code=failed.state.exit_code or 128, ended_ns=time.time_ns())
                    self._waiters.exited(container_id, WaitResult(exit_code=record.exit_code))

    def cancel_restart(self, container: Container) -> bool:
        """If the container waits to be started again, end that: it is ``exited`` now. The caller holds its lock."""
        timer = self._timers.pop(container.id, None)
        if timer is not None:
            timer.cancel()
        if not container.state.restarting:
            return False
        stopped = replace(container.state, status="exited", running=False, restarting=False)
        self._store.put(replace(container, state=stopped, has_been_manually_stopped=True))
        self._pauses.forget(container.id)
        self._waiters.exited(container.id, WaitResult(exit_code=container.state.exit_code))
        self._processes.changed(container.id)
        return True

    def out_of_memory(self, container_id: ContainerId) -> None:
        """Note it in the state, and say so."""
        with self._store.lock(container_id):
            container = self._store.find(container_id)
            if container is None:
                return
            try:
                self._store.put(state.oom_killed(container))
            except NotFound:
                return
        self._bus.container("oom", container)


def publish_unmounts(bus: EventBus, container: Container) -> None:
    """One event for each volume that the container had mounted."""
    for point in container.mount_points:
        if point.type == "volume":
            bus.publish(
                Event(
                    kind="volume",
                    action="unmount",
                    actor_id=point.name,
                    attributes={"container": container.id, "driver": point.driver or "local"},
                )
            )
