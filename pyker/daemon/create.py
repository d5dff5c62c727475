"""The job ``create``: a container's record, names, mounts and writable layer; all of it or nothing."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import UNSET
from msgspec.structs import replace

from pyker.api.gotime import format_time
from pyker.container.names import check_name
from pyker.container.record import Container, MountPoint, NetworkSettings
from pyker.container.store import ContainerStore
from pyker.daemon import links
from pyker.daemon.events import EventBus
from pyker.daemon.imageconfig import ImageConfig, merge, read_image_config
from pyker.daemon.mountpoints import MountPlanner
from pyker.daemon.restartpolicy import check_restart_policy
from pyker.daemon.spec_security import with_hidden_paths
from pyker.engine.job import JobContext
from pyker.errors import InvalidParameter, NotFound, SystemFailure
from pyker.graph.graph import Graph
from pyker.jobs.containers import ContainerCreated, CreateContainer
from pyker.libcontainer.syscalls import remove_tree
from pyker.registry.manifests import Platform
from pyker.registry.platforms import parse_platform, suits
from pyker.types.config import ContainerConfig, EndpointSettings, HostConfig, LogConfig, NetworkingConfig
from pyker.types.events import Event
from pyker.types.ids import ChainId, ContainerId, ImageId

_LOG_DRIVERS = ("json-file", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateDefaults:
    """What the daemon's own options give to every container."""

    log_driver: str = "json-file"
    log_options: dict[str, str] = field(default_factory=dict)
    cgroupns_mode: str = "host"
    shm_bytes: int = 64 << 20


class CopyUp(Protocol):
    """Fills a volume with what the image has at its destination."""

    def __call__(self, container_id: ContainerId, points: list[MountPoint]) -> None: ...


Check = Callable[[ContainerConfig, HostConfig], tuple[str, ...]]
"""Raises InvalidParameter for limits, capabilities and the like that cannot be; returns warnings."""


@dataclass(frozen=True, slots=True)
class _Source:
    """The image that a container is made of; ``top`` None is an image without layers."""

    image_id: ImageId
    top: ChainId | None
    config: ImageConfig
    warning: str = ""


class CreateHandlers:
    """Makes containers."""

    def __init__(
        self,
        store: ContainerStore,
        graph: Graph,
        planner: MountPlanner,
        bus: EventBus,
        check: Check,
        copy_up: CopyUp,
        defaults: CreateDefaults,
    ) -> None:
        self._store = store
        self._graph = graph
        self._planner = planner
        self._bus = bus
        self._check = check
        self._copy_up = copy_up
        self._defaults = defaults

    def create(self, job: CreateContainer, ctx: JobContext) -> ContainerCreated:
        """Raises NotFound for an unknown image, Conflict for a taken name, InvalidParameter for the rest."""
        try:
            return self._create(job, ctx)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise SystemFailure(f"create: {where}{(error.strerror or str(error)).lower()}") from error

    def _create(self, job: CreateContainer, ctx: JobContext) -> ContainerCreated:
        warnings = list(self._check(job.config, job.host_config))
        check_restart_policy(job.host_config)
        source = self._source(job.config.image, job.platform)
        if source.warning:
            warnings.append(source.warning)
        config = merge(job.config, source.config)
        if not config.entrypoint and not config.cmd:
            raise InvalidParameter("No command specified")
        name = check_name(job.container_name) if job.container_name else ""
        if config.working_dir and not config.working_dir.startswith("/"):
            raise InvalidParameter(
                f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
            )
        container_id = ContainerId(secrets.token_hex(32))
        ctx.subject = container_id
        host_config = self._host_config(job.host_config)
        linked = links.chosen(host_config, self._store.get)
        config = replace(config, hostname=_hostname(config, host_config, container_id))
        with ExitStack() as undo:
            name = self._store.reserve_name(name, container_id)
            undo.callback(self._store.release_name, name, container_id)
            plan = self._planner.plan(config, host_config)
            undo.callback(self._planner.undo, plan)
            folder = self._store.folder(container_id)
            os.mkdir(folder, 0o710)
            undo.callback(remove_tree, folder)
            storage = {} if host_config.storage_opt is UNSET else host_config.storage_opt or {}
            self._graph.layers.create_rw(container_id, source.top, storage)
            undo.callback(self._graph.layers.remove_rw, container_id)
            copied = [point for point in plan.copied if _empty(point.source)]
            if copied:
                self._copy_up(container_id, copied)
            command = tuple(config.entrypoint or ()) + tuple(config.cmd or ())
            logs = host_config.log_config.type == "json-file"
            container = Container(
                id=container_id,
                name=name,
                created=format_time(time.time_ns()),
                path=command[0],
                args=command[1:],
                config=config,
                host_config=host_config,
                image=source.image_id,
                driver=self._graph.driver.name,
                log_path=os.path.join(folder, f"{container_id}-json.log") if logs else "",
                network_settings=NetworkSettings(networks=_endpoints(host_config, job.networking)),
                mount_points=plan.points,
                links=linked,
            )
            self._graph.hold(container_id, source.image_id)
            undo.callback(self._graph.release, container_id)
            # One that goes at its end is not missed after a power cut; any other must be there once its ID was told.
            self._store.add(container, durable=not host_config.auto_remove)
            undo.pop_all()
        self._planner.settle(plan)
        for volume in plan.created:
            self._bus.publish(
                Event(kind="volume", action="create", actor_id=volume.name, attributes={"driver": volume.driver})
            )
        self._bus.container("create", container)
        return ContainerCreated(id=container_id, warnings=tuple(warnings))

    def _source(self, image: str, platform: str) -> _Source:
        if not image:
            raise InvalidParameter("invalid reference format")
        found = self._graph.images.get(self._graph.lookup(image))
        if platform:
            _check_platform(image, found.config, parse_platform(platform))
        top = found.chain_ids[-1] if found.chain_ids else None
        return _Source(found.id, top, read_image_config(found.config), _platform_warning(found.config, platform))

    def _host_config(self, given: HostConfig) -> HostConfig:
        """Fill in what inspect shows as defaults."""
        changes: dict[str, object] = {}
        log_config = given.log_config
        if not log_config.type:
            log_config = LogConfig(
                type=self._defaults.log_driver, config={**self._defaults.log_options, **(log_config.config or {})}
            )
            changes["log_config"] = log_config
        elif log_config.config is None:
            changes["log_config"] = replace(log_config, config={})
        if log_config.type not in _LOG_DRIVERS:
            raise InvalidParameter(f"logger: no log driver named '{log_config.type}' is registered")
        if not given.network_mode:
            changes["network_mode"] = "default"
        if not given.shm_size:
            changes["shm_size"] = self._defaults.shm_bytes
        if not given.ipc_mode:
            changes["ipc_mode"] = "private"
        if not given.cgroupns_mode:
            changes["cgroupns_mode"] = self._defaults.cgroupns_mode
        if not given.runtime:
            changes["runtime"] = "native"
        if given.memory > 0 and given.memory_swap == 0:
            changes["memory_swap"] = given.memory * 2
        if given.memory_swappiness == -1:
            changes["memory_swappiness"] = None
        if given.oom_kill_disable is None:
            changes["oom_kill_disable"] = False
        if not given.restart_policy.name:
            changes["restart_policy"] = replace(given.restart_policy, name="no")
        for field_name in ("network_mode", "pid_mode", "ipc_mode"):
            if mode := self._joined(getattr(given, field_name)):
                changes[field_name] = mode
        return with_hidden_paths(replace(given, **changes))

    def _joined(self, mode: str) -> str:
        """``container:name`` by ID, so that it means the same container after a rename; "" leaves the mode as it is.

        Whether the container of a network mode exists is asked at start, as the reference does.
        """
        kind, _, name = mode.partition(":")
        if kind != "container":
            return ""
        try:
            return f"container:{self._store.get(name).id}"
        except NotFound:
            return ""


def network_name(mode: str) -> str:
    """The network that a mode stands for: ``default`` and nothing at all mean bridge."""
    return "bridge" if mode in ("", "default") else mode


def _endpoints(host_config: HostConfig, networking: NetworkingConfig) -> dict[str, EndpointSettings]:
    """The networks to join, by name; the one of the network mode is always among them."""
    mode = network_name(host_config.network_mode)
    given = networking.endpoints_config or {}
    endpoints = {network_name(name): settings or EndpointSettings() for name, settings in given.items()}
    if mode.startswith("container:"):
        return {}
    endpoints.setdefault(mode, EndpointSettings())
    return endpoints


def _hostname(config: ContainerConfig, host_config: HostConfig, container_id: ContainerId) -> str:
    mode = network_name(host_config.network_mode)
    if mode.startswith("container:"):
        return ""
    if config.hostname:
        return config.hostname
    if mode == "host" or host_config.uts_mode == "host":
        return socket.gethostname()
    return container_id[:12]


def _check_platform(image: str, fields: dict[str, object], wanted: Platform) -> None:
    """Raises NotFound, which clients answer by a pull, if an image is for other machines than was asked for."""
    system, architecture, variant = (str(fields.get(name) or "") for name in ("os", "architecture", "variant"))
    actual = Platform(os=system or "linux", architecture=architecture, variant=variant)
    if not suits(actual, wanted):
        raise NotFound(
            f"image with reference {image} was found but does not match the specified platform: "
            f"wanted {wanted}, actual: {actual}"
        )


def _platform_warning(fields: dict[str, object], platform: str) -> str:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    system, architecture = fields.get("os") or "linux", fields.get("architecture") or machine
    if platform or (system, architecture) == ("linux", machine):
        return ""
    return (
        f"The requested image's platform ({system}/{architecture}) does not match the detected host platform "
        f"(linux/{machine}) and no specific platform was requested"
    )


def _empty(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None
