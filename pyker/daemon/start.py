"""The job ``start`` and its children: root file system, network, process. Seed: docker run, step 2."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from msgspec import UNSET, structs
from msgspec.structs import replace

from pyker.container import state
from pyker.container.record import Container, NetworkSettings
from pyker.container.store import ContainerStore
from pyker.daemon import links
from pyker.daemon.create import network_name
from pyker.daemon.events import EventBus
from pyker.daemon.exits import Exits, publish_unmounts
from pyker.daemon.health import HealthChecks
from pyker.daemon.mountpoints import make_bind_sources
from pyker.daemon.netfiles import move_link, share_network_files, write_network_files
from pyker.daemon.options import Options
from pyker.daemon.processes import Processes, close_all
from pyker.daemon.removal import Remover, state_folder
from pyker.daemon.startfailure import StartFailure, describe
from pyker.daemon.steps import StepsFile
from pyker.engine.job import JobContext
from pyker.errors import Conflict, InvalidParameter, NotFound, NotModified, PykerError
from pyker.execdriver.base import Attachment, ExecDriver
from pyker.graphdriver.base import RootfsSpec
from pyker.jobs.containers import (
    AllocateInterface,
    MountRootfs,
    ReleaseInterface,
    RunProcess,
    StartContainer,
)
from pyker.libcontainer.spec import ContainerSpec
from pyker.libcontainer.syscalls import remove_tree
from pyker.networkdriver.base import Sandbox
from pyker.types.events import Event
from pyker.types.ids import ContainerId
from pyker.types.mount import Mount


class Layers(Protocol):
    """What a start needs of the graph."""

    def rootfs(self, container_id: ContainerId, *, readonly: bool = False) -> RootfsSpec: ...


class Sandboxes(Protocol):
    """Who knows the network sandboxes of running containers; raises NotFound."""

    def sandbox(self, container_id: ContainerId) -> Sandbox: ...


class Specs(Protocol):
    """Who turns a container into what libcontainer runs."""

    def container_spec(
        self, container: Container, rootfs: RootfsSpec, sandbox: Sandbox | None, state_dir: str
    ) -> ContainerSpec: ...


@dataclass(slots=True)
class _Plan:
    """A start under way: what its children found out for each other."""

    container: Container
    attachments: tuple[Attachment, ...]
    rootfs: RootfsSpec | None = None
    sandbox: Sandbox | None = None
    allocated: bool = False
    mounted: bool = False
    steps: Mount | None = None


class StartHandlers:
    """Starts containers."""

    def __init__(
        self,
        store: ContainerStore,
        layers: Layers,
        sandboxes: Sandboxes,
        driver: ExecDriver,
        specs: Specs,
        processes: Processes,
        bus: EventBus,
        exits: Exits,
        health: HealthChecks,
        remover: Remover,
        steps: StepsFile,
        options: Options,
    ) -> None:
        self._store = store
        self._layers = layers
        self._sandboxes = sandboxes
        self._driver = driver
        self._specs = specs
        self._processes = processes
        self._bus = bus
        self._exits = exits
        self._health = health
        self._remover = remover
        self._steps = steps
        self._options = options
        self._plans: dict[ContainerId, _Plan] = {}

    def start(self, job: StartContainer, ctx: JobContext) -> None:
        """Raises NotModified if it runs, Conflict if it may not start now, and what went wrong otherwise.

        A failure leaves the container as it was, with the reason in its state, and nothing else behind.
        """
        container = self._store.get(job.container)
        ctx.subject = container.id
        doomed: Container | None = None
        failure: StartFailure | None = None
        with self._store.lock(container.id):
            container = self._store.get(container.id)
            _check(container, by_engine=ctx.actor.kind == "engine")
            plan = _Plan(container, self._processes.take_waiting(container.id))
            self._plans[container.id] = plan
            try:
                self._start(plan, ctx)
            except (PykerError, OSError) as error:
                failure = describe(error, container.path, container.config.working_dir)
                doomed = self._undo(plan, ctx, failure)
            finally:
                del self._plans[container.id]
        if doomed is not None:
            self._remover.remove_at_end(doomed)
        if failure is not None:
            raise failure.error

    def mount_rootfs(self, job: MountRootfs, ctx: JobContext) -> None:
        """Ask the graphdriver how the root file system is mounted."""
        plan = self._plans[job.container]
        plan.rootfs = self._layers.rootfs(job.container)

    def run_process(self, job: RunProcess, ctx: JobContext) -> int:
        """Let the exec driver run the command; returns its pid."""
        plan = self._plans[job.container]
        if plan.rootfs is None:
            raise InvalidParameter(f"container {job.container} has no root file system")
        state_dir = state_folder(self._options.exec_root, job.container)
        if os.path.lexists(state_dir):
            remove_tree(state_dir)
        os.makedirs(state_dir, mode=0o700)
        spec = self._specs.container_spec(plan.container, plan.rootfs, plan.sandbox, state_dir)
        plan.container = replace(plan.container, app_armor_profile=spec.process.apparmor_profile)
        if plan.steps is not None:
            spec = structs.replace(spec, mounts=(*spec.mounts, plan.steps))
        attachments, plan.attachments = plan.attachments, ()
        process = self._driver.run(spec, self._exits.watcher(job.container), attachments)
        self._processes.started(job.container, process)
        ctx.stages = process.stages
        return process.pid

    def _start(self, plan: _Plan, ctx: JobContext) -> None:
        container = plan.container
        links.check(container, self._store.get)
        make_bind_sources(container)
        ctx.run(MountRootfs(container=container.id))
        mode = network_name(container.host_config.network_mode)
        if mode.startswith("container:"):
            container = self._join(container, mode.removeprefix("container:"), plan)
        else:
            disabled = container.config.network_disabled not in (UNSET, False)
            ctx.run(AllocateInterface(container=container.id, mode="none" if disabled else mode))
            plan.allocated = True
            plan.sandbox = self._sandboxes.sandbox(container.id)
            container = write_network_files(
                container,
                self._store.folder(container.id),
                plan.sandbox,
                self._options,
                links.hosts_entries(container, self._store.get),
            )
            settings = NetworkSettings(
                sandbox_id=plan.sandbox.id,
                sandbox_key=plan.sandbox.netns_path,
                networks=plan.sandbox.endpoints,
                ports=plan.sandbox.ports,
            )
            container = replace(container, network_settings=settings)
        plan.steps = self._steps.write(container, self._store.folder(container.id))
        plan.mounted = True
        for point in container.mount_points:
            if point.type == "volume":
                self._bus.publish(_volume_mounted(container, point.name, point.destination, writable=point.rw))
        plan.container = container
        # A daemon that dies while the process starts must find its network again.
        self._store.put_later(container)
        pid = ctx.run(RunProcess(container=container.id, driver=self._driver.name))
        container = state.started(plan.container, pid, time.time_ns())
        if ctx.actor.kind != "engine":
            container = replace(container, restart_count=0)
        self._store.put_later(container)
        self._processes.changed(container.id)
        self._bus.container("start", container)
        self._health.begin(container)
        self._tell_linked(container)

    def _tell_linked(self, container: Container) -> None:
        """Those that are linked to it, which were made after it, find it at the address that it has now."""
        address = links.address_of(container)
        if not address:
            return
        for other, alias in links.parents(container, self._store.all()):
            move_link(other, alias, address)

    def _join(self, container: Container, other_name: str, plan: _Plan) -> Container:
        try:
            other = self._store.get(other_name)
        except NotFound:
            raise NotFound(f"No such container: {other_name}") from None
        if not other.state.running:
            raise Conflict(f"cannot join network of a non running container: {other.id}")
        if other.state.restarting:
            raise Conflict(f"Container {other.id} is restarting, wait until the container is running")
        other_mode = network_name(other.host_config.network_mode)
        if other_mode.startswith("container:"):
            return self._join(container, other_mode.removeprefix("container:"), plan)
        plan.sandbox = self._sandboxes.sandbox(other.id)
        return share_network_files(container, other)

    def _undo(self, plan: _Plan, ctx: JobContext, failure: StartFailure) -> Container | None:
        """Give everything back and note the failure; returns the container if it must be removed now."""
        container = plan.container
        close_all(plan.attachments)
        if self._processes.find(container.id) is not None:
            # Only the record could not be written: a process that nobody would know of must not go on.
            self._processes.get(container.id).signal(signal.SIGKILL)
            self._processes.ended(container.id)
        if plan.allocated:
            ctx.run(ReleaseInterface(container=container.id))
        if plan.mounted:
            publish_unmounts(self._bus, container)
        with suppress(FileNotFoundError):
            remove_tree(state_folder(self._options.exec_root, container.id))
        before = self._store.find(container.id) or container
        failed = state.start_failed(before, failure.exit_code, failure.error.message)
        try:
            self._store.put(failed)
        except OSError:
            self._store.show(failed)
        self._processes.changed(container.id)
        return self._remover.claim(failed) if container.host_config.auto_remove else None


def _check(container: Container, *, by_engine: bool) -> None:
    now = container.state
    if now.paused:
        raise Conflict("cannot start a paused container, try unpause instead")
    if now.removal_in_progress or now.dead:
        raise Conflict("container is marked for removal and cannot be started")
    if now.running and not (now.restarting and by_engine):
        raise NotModified(f"Container {container.id} is already started")


def _volume_mounted(container: Container, name: str, destination: str, *, writable: bool) -> Event:
    attributes = {
        "container": container.id,
        "destination": destination,
        "driver": "local",
        "propagation": "",
        "read/write": "true" if writable else "false",
    }
    return Event(kind="volume", action="mount", actor_id=name, attributes=attributes)
