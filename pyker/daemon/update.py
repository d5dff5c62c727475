"""The job ``update``: limits and restart policy of a container that exists, and runs on."""

from __future__ import annotations

import dataclasses
from typing import Any

from msgspec.structs import replace

from pyker.container.record import Container
from pyker.container.store import ContainerStore
from pyker.daemon import spec_resources
from pyker.daemon.events import EventBus
from pyker.daemon.processes import Processes
from pyker.daemon.restartpolicy import check_restart_policy
from pyker.daemon.spec_checks import check_resources
from pyker.engine.job import JobContext
from pyker.errors import Conflict, PykerError, SystemFailure
from pyker.jobs.containers import UpdateContainer
from pyker.types.config import HostConfig

_FIELDS = (
    "blkio_weight",
    "cpu_shares",
    "nano_cpus",
    "cpu_period",
    "cpu_quota",
    "cpu_realtime_period",
    "cpu_realtime_runtime",
    "cpuset_cpus",
    "cpuset_mems",
    "memory",
    "memory_swap",
    "memory_reservation",
    "kernel_memory",
)
"""Zero, or nothing, leaves a limit as it is. Source: Docker API v1.45 POST /containers/{id}/update."""
_UNLIMITED = -1


class UpdateHandlers:
    """Changes what may be changed of containers."""

    def __init__(self, store: ContainerStore, processes: Processes, bus: EventBus) -> None:
        self._store = store
        self._processes = processes
        self._bus = bus

    def update(self, job: UpdateContainer, ctx: JobContext) -> tuple[str, ...]:
        """Returns warnings. Raises InvalidParameter for what cannot be, Conflict for what cannot be any more.

        The kernel is asked first: what it refuses is not recorded.
        """
        warnings = tuple(check_resources(job.host_config, update=True))
        check_restart_policy(job.host_config)
        container = self._store.get(job.container)
        ctx.subject = container.id
        with self._store.lock(container.id):
            container = self._store.get(container.id)
            if container.state.removal_in_progress or container.state.dead:
                raise _cannot(container, 'Container is marked for removal and cannot be "update".')
            updated = replace(container, host_config=_merged(container, job.host_config))
            if container.state.running and not container.state.restarting:
                self._apply(updated, job.host_config)
            self._store.put(updated, durable=True)
        self._bus.container("update", updated)
        return warnings

    def _apply(self, container: Container, wanted: HostConfig) -> None:
        limits = spec_resources.resources(container.host_config)
        if wanted.pids_limit is not None and wanted.pids_limit <= 0:
            limits = dataclasses.replace(limits, pids_limit=_UNLIMITED)
        try:
            self._processes.get(container.id).update(limits)
        except PykerError as error:
            raise SystemFailure(f"Cannot update container {container.id}: {error}", hint=error.hint) from error


def _cannot(container: Container, why: str) -> Conflict:
    return Conflict(f"Cannot update container {container.id}: {why}")


def _merged(container: Container, wanted: HostConfig) -> HostConfig:
    """Raises Conflict where two settings exclude each other."""
    now = container.host_config
    for given, name, there, other in (
        (wanted.nano_cpus, "Nano CPUs", now.cpu_period, "CPU Period"),
        (wanted.nano_cpus, "Nano CPUs", now.cpu_quota, "CPU Quota"),
        (wanted.cpu_period, "CPU Period", now.nano_cpus, "NanoCPUs"),
        (wanted.cpu_quota, "CPU Quota", now.nano_cpus, "NanoCPUs"),
    ):
        if given > 0 and there > 0:
            raise _cannot(container, f"Conflicting options: {name} cannot be updated as {other} has already been set")
    if wanted.memory > 0 and wanted.memory_swap == 0 and now.memory_swap != -1 and wanted.memory > now.memory_swap:
        raise _cannot(
            container,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        )
    changes: dict[str, Any] = {name: getattr(wanted, name) for name in _FIELDS if getattr(wanted, name)}
    if wanted.pids_limit is not None:
        changes["pids_limit"] = wanted.pids_limit
    policy = wanted.restart_policy
    if policy.name:
        if now.auto_remove and policy.name != "no":
            raise _cannot(container, "Restart policy cannot be updated because AutoRemove is enabled for the container")
        changes["restart_policy"] = policy
    return replace(now, **changes)
