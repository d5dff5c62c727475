"""Removing containers: by request, after ``--rm``, and what a broken start left."""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from pyker.container import state
from pyker.container.record import Container
from pyker.container.store import ContainerStore
from pyker.container.volumes import VolumeStore
from pyker.daemon.events import EventBus
from pyker.daemon.processes import Processes, close_all
from pyker.daemon.waiters import Waiters
from pyker.errors import Conflict, NotFound, PykerError, SystemFailure
from pyker.graph.graph import Graph
from pyker.jobs.containers import WaitResult
from pyker.libcontainer.syscalls import remove_tree
from pyker.types.events import Event
from pyker.types.ids import ContainerId

log = logging.getLogger("pyker.daemon")


class Remover:
    """Takes a stopped container apart."""

    def __init__(
        self,
        store: ContainerStore,
        volumes: VolumeStore,
        graph: Graph,
        processes: Processes,
        waiters: Waiters,
        bus: EventBus,
        exec_root: str,
    ) -> None:
        self._store = store
        self._volumes = volumes
        self._graph = graph
        self._processes = processes
        self._waiters = waiters
        self._bus = bus
        self._exec_root = exec_root

    def claim(self, container: Container) -> Container:
        """Mark that removal began; the caller holds the lock. Raises Conflict if somebody else removes it."""
        if container.state.removal_in_progress:
            raise Conflict(f"removal of container {container.id} is already in progress")
        doomed = state.removing(container)
        self._store.show(doomed)
        return doomed

    def remove(self, container: Container, *, volumes: bool) -> None:
        """Delete everything of a claimed container, tell the bus and those who wait.

        Raises SystemFailure if something cannot be deleted; the container is ``dead`` then and can be removed again.
        """
        try:
            if volumes:
                self.remove_anonymous(container)
            self._delete(container)
            doomed = self._store.remove(container)
            if doomed:
                remove_tree(doomed)
        except (PykerError, OSError) as error:
            message = f"container {container.id}: cannot remove: {error}"
            if self._store.find(container.id) is not None:
                self._store.put(state.dead(container, message))
            self._waiters.removed(container.id, WaitResult(exit_code=container.state.exit_code, error=message))
            raise SystemFailure(message) from error
        self._tell(container)

    def remove_at_end(self, container: Container) -> None:
        """The same after ``--rm``: those who wait hear of it first, and what cannot be deleted is left to start-up."""
        try:
            self.remove_anonymous(container)
            doomed = self._store.remove(container)
            self._tell(container)
            self._delete(container)
            if doomed:
                remove_tree(doomed)
        except (PykerError, OSError) as error:
            log.warning("container %s: not everything could be removed: %s", container.id[:12], error)

    def _delete(self, container: Container) -> None:
        """The writable layer and the monitor's folder."""
        self._graph.layers.remove_rw(container.id)
        self._graph.release(container.id)
        with suppress(FileNotFoundError):
            remove_tree(state_folder(self._exec_root, container.id))

    def _tell(self, container: Container) -> None:
        self._bus.container("destroy", container)
        close_all(self._processes.take_waiting(container.id))
        self._waiters.removed(container.id, WaitResult(exit_code=container.state.exit_code))
        self._processes.changed(container.id)

    def remove_anonymous(self, container: Container) -> None:
        """Delete the volumes that were made for this container alone."""
        for point in container.mount_points:
            if point.type != "volume" or not point.anonymous:
                continue
            try:
                users = [user for user in users_of(self._store, point.name) if user != container.id]
                self._volumes.remove(point.name, users)
            except (Conflict, NotFound) as error:
                log.debug("volume %s stays: %s", point.name, error)
            except OSError as error:
                log.warning("volume %s cannot be removed: %s", point.name, error)
            else:
                self._bus.publish(
                    Event(kind="volume", action="destroy", actor_id=point.name, attributes={"driver": "local"})
                )


def users_of(store: ContainerStore, volume: str) -> list[str]:
    """The IDs of the containers that mount a volume."""
    return [
        container.id
        for container in store.all()
        if any(point.type == "volume" and point.name == volume for point in container.mount_points)
    ]


def state_folder(exec_root: str, container_id: ContainerId) -> str:
    """Where a container's monitor keeps its socket and its exit record."""
    return os.path.join(exec_root, "containers", container_id)
