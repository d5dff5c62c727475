"""What a new daemon finds: containers that live on, that ended meanwhile, that must be started again or cleaned up."""

from __future__ import annotations

import logging
import os
import threading
import time

from msgspec.structs import replace

from pyker.container import state
from pyker.container.record import Container
from pyker.container.store import ContainerStore
from pyker.daemon.events import EventBus
from pyker.daemon.exits import Exits
from pyker.daemon.health import HealthChecks
from pyker.daemon.processes import Processes
from pyker.daemon.removal import Remover, state_folder
from pyker.daemon.restartpolicy import starts_with_daemon
from pyker.engine.engine import Engine
from pyker.errors import NotModified, PykerError
from pyker.execdriver.base import ContainerProcess, ExecDriver
from pyker.jobs.containers import StartContainer
from pyker.libcontainer.spec import ExitRecord
from pyker.libcontainer.syscalls import remove_tree
from pyker.types.ids import ContainerId

log = logging.getLogger("pyker.daemon")


class Restorer:
    """Brings the records and the machine into agreement, once, before the API is served."""

    def __init__(
        self,
        engine: Engine,
        store: ContainerStore,
        driver: ExecDriver,
        processes: Processes,
        exits: Exits,
        health: HealthChecks,
        remover: Remover,
        bus: EventBus,
        exec_root: str,
    ) -> None:
        self._engine = engine
        self._store = store
        self._driver = driver
        self._processes = processes
        self._exits = exits
        self._health = health
        self._remover = remover
        self._bus = bus
        self._exec_root = exec_root
        self._ended: list[tuple[Container, ExitRecord]] = []

    def adopt(self) -> None:
        """Find every container's process again."""
        for container in self._store.all():
            folder = state_folder(self._exec_root, container.id)
            if not container.state.running and not os.path.isdir(folder):
                continue
            found = self._find(container, folder)
            if found is None or isinstance(found, ExitRecord):
                if container.state.restarting:
                    # Its end was dealt with; only the pause before the next start was not over.
                    stopped = replace(container.state, status="exited", running=False, restarting=False)
                    self._store.put(replace(container, state=stopped))
                elif container.state.running:
                    self._ended.append((container, found or _lost()))
                elif found is not None and found.ended_ns > state.nanoseconds(container.state.finished_at):
                    # The daemon died before it could note that the command had been started.
                    self._store.put(state.started(container, 0, found.ended_ns))
                    self._ended.append((container, found))
                continue
            self._processes.started(container.id, found)
            if not container.state.running or container.state.restarting:
                # The daemon died between the start of the process and the writing of that.
                container = state.started(container, found.pid, time.time_ns())
            elif container.state.pid != found.pid:
                container = replace(container, state=replace(container.state, pid=found.pid))
            self._store.put(container)

    def settle(self) -> None:
        """After the network is up: deal with what ended while no daemon was there, and clean up."""
        for container, record in self._ended:
            log.info("container %s ended while no daemon ran, with %d", container.id[:12], record.exit_code)
            self._exits.exited(container.id, record)
        for container in self._store.all():
            if container.state.running:
                continue
            self._driver.cleanup(container.id, state_folder(self._exec_root, container.id))
            if container.state.removal_in_progress or container.state.dead:
                self._remove(container, "its removal was interrupted")
            elif container.host_config.auto_remove:
                # One that was never started too, as the reference does: whoever made it spoke to a daemon that is gone.
                self._remove(container, "it was to be removed at its end")
        self._sweep()

    def start_all(self) -> None:
        """Start, in the background, those whose policy says so, and watch the health of those that live on."""
        for container in self._store.all():
            if container.state.running:
                self._health.begin(container)
        wanted = [each for each in self._store.all() if not each.state.running and starts_with_daemon(each)]
        if wanted:
            threading.Thread(target=self._start_each, args=(wanted,), name="start-at-boot", daemon=True).start()

    def _start_each(self, containers: list[Container]) -> None:
        for container in sorted(containers, key=lambda each: each.created):
            try:
                self._engine.run(StartContainer(container=container.id))
            except NotModified:
                continue
            except PykerError as error:
                log.warning("container %s could not be started: %s", container.id[:12], error)

    def _find(self, container: Container, folder: str) -> ContainerProcess | ExitRecord | None:
        try:
            return self._driver.adopt(container.id, folder, self._exits.watcher(container.id))
        except (PykerError, OSError) as error:
            log.warning("container %s cannot be adopted: %s", container.id[:12], error)
            return None

    def _remove(self, container: Container, why: str) -> None:
        log.info("removing container %s: %s", container.id[:12], why)
        cleared = replace(container, state=replace(container.state, removal_in_progress=False, dead=False))
        self._store.show(cleared)
        try:
            self._remover.remove(self._remover.claim(cleared), volumes=container.host_config.auto_remove)
        except PykerError as error:
            log.warning("%s", error)

    def _sweep(self) -> None:
        """Folders of containers that no record knows: what they left in the kernel goes, and they go."""
        root = os.path.dirname(state_folder(self._exec_root, ContainerId("x")))
        if not os.path.isdir(root):
            return
        for name in os.listdir(root):
            container_id = ContainerId(name)
            if self._store.find(container_id) is not None:
                continue
            log.info("cleaning up after container %s, of which no record is left", name[:12])
            self._end_orphan(container_id, os.path.join(root, name))

    def _end_orphan(self, container_id: ContainerId, folder: str) -> None:
        try:
            found = self._driver.adopt(container_id, folder, self._exits.watcher(container_id))
            if found is not None and not isinstance(found, ExitRecord):
                found.signal(9)
            self._driver.cleanup(container_id, folder)
            remove_tree(folder)
        except (PykerError, OSError) as error:
            log.warning("what container %s left cannot be cleaned up: %s", container_id[:12], error)


def _lost() -> ExitRecord:
    """Nobody knows how it ended: the machine was switched off."""
    return ExitRecord(exit_code=255, ended_ns=time.time_ns())
