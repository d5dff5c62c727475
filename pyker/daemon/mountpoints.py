"""What a container has mounted: ``-v``, ``--mount``, the image's VOLUMEs, ``--volumes-from``.

Source: Docker API v1.45 HostConfig.Binds and HostConfig.Mounts.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import UNSET
from msgspec.structs import replace

from pyker.container.record import Container, MountPoint
from pyker.container.volumes import Volume, VolumeStore
from pyker.errors import InvalidParameter, NotFound, NotSupported, SystemFailure
from pyker.types.config import ContainerConfig, HostConfig, MountRequest

_PROPAGATIONS = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_IGNORED = frozenset({"z", "Z", "consistent", "cached", "delegated"})


@dataclass(slots=True)
class MountPlan:
    """The mounts of a container to be.

    ``created`` are volumes that did not exist before, ``held`` the names of all that nobody may remove meanwhile;
    ``copied`` are the destinations whose volume takes over what the image has there, if it is empty.
    """

    points: tuple[MountPoint, ...] = ()
    held: list[str] = field(default_factory=list)
    created: list[Volume] = field(default_factory=list)
    copied: list[MountPoint] = field(default_factory=list)


class MountPlanner:
    """Turns what the user asked for into mount points; makes the volumes that don't exist yet."""

    def __init__(self, volumes: VolumeStore, containers: Callable[[str], Container]) -> None:
        self._volumes = volumes
        self._containers = containers

    def plan(self, config: ContainerConfig, host_config: HostConfig) -> MountPlan:
        """Raises InvalidParameter for what cannot be; volumes made until then are in nobody's use and are removed."""
        plan = MountPlan()
        points: dict[str, MountPoint] = {}
        try:
            for source in host_config.volumes_from or ():
                for point in self._from_container(source):
                    points[point.destination] = point
            given: set[str] = set()
            for bind in host_config.binds or ():
                point = self._bind(bind, plan)
                _claim(given, point.destination)
                points[point.destination] = point
            mounts = () if host_config.mounts is UNSET else host_config.mounts or ()
            for request in mounts:
                point = self._mount(request, plan)
                _claim(given, point.destination)
                points[point.destination] = point
            tmpfs = {} if host_config.tmpfs is UNSET else host_config.tmpfs or {}
            for target in config.volumes or {}:
                destination = _destination(target, target)
                if destination in points or destination in tmpfs:
                    continue
                points[destination] = self._volume("", destination, plan, copied=True)
        except BaseException:
            self.undo(plan)
            raise
        plan.points = tuple(points.values())
        return plan

    def settle(self, plan: MountPlan) -> None:
        """The container is recorded: its volumes stay."""
        for name in plan.held:
            self._volumes.settle(name)

    def undo(self, plan: MountPlan) -> None:
        """Remove the volumes that were made for this plan."""
        for name in plan.held:
            self._volumes.let_go(name)
        for volume in plan.created:
            self._volumes.remove(volume.name, [])

    def _from_container(self, text: str) -> list[MountPoint]:
        name, _, mode = text.partition(":")
        if mode not in ("", "ro", "rw", "z", "Z"):
            raise InvalidParameter(f"invalid mode: {mode}")
        try:
            other = self._containers(name)
        except NotFound as error:
            # 404 would tell the client that the image is missing, and it would pull.
            raise InvalidParameter(error.message, hint=error.hint) from error
        return [
            replace(point, rw=point.rw and mode != "ro", mode=mode or point.mode, anonymous=False)
            for point in other.mount_points
            if point.type != "tmpfs"
        ]

    def _bind(self, text: str, plan: MountPlan) -> MountPoint:
        parts = text.split(":")
        if len(parts) not in (2, 3) or not parts[0] or not parts[1]:
            if len(parts) == 1 and parts[0]:
                return self._volume("", _destination(parts[0], text), plan, copied=True)
            raise InvalidParameter(f"invalid volume specification: '{text}'")
        source, target = parts[0], parts[1]
        mode = parts[2] if len(parts) == 3 else ""
        destination = _destination(target, text)
        named = not source.startswith("/")
        rw, propagation, nocopy = _mode(mode, named=named)
        if named:
            point = self._volume(source, destination, plan, copied=not nocopy)
            return replace(point, mode=mode or "z", rw=rw)
        return MountPoint(
            type="bind",
            source=posixpath.normpath(source),
            destination=destination,
            mode=mode,
            rw=rw,
            propagation=propagation or "rprivate",
        )

    def _mount(self, request: MountRequest, plan: MountPlan) -> MountPoint:
        destination = _destination(request.target, request.target, kind=request.type)
        match request.type:
            case "bind":
                return _bind_mount(request, destination)
            case "volume":
                options = request.volume_options
                point = self._volume(
                    request.source,
                    destination,
                    plan,
                    copied=not (options and options.no_copy),
                    labels=options.labels if options else None,
                )
                return replace(point, mode="z", rw=not request.read_only)
            case "tmpfs":
                if request.source:
                    raise InvalidParameter('invalid mount config for type "tmpfs": field Source must not be specified')
                return MountPoint(type="tmpfs", source="", destination=destination, rw=not request.read_only)
            case "image" | "cluster" | "npipe":
                raise NotSupported(f"mounts of type {request.type!r} are not there yet")
            case _:
                raise InvalidParameter(f'invalid mount config for type "{request.type}": mount type unknown')

    def _volume(
        self, name: str, destination: str, plan: MountPlan, *, copied: bool, labels: dict[str, str] | None = None
    ) -> MountPoint:
        volume, new = self._volumes.create(name, labels=labels, unused=True)
        plan.held.append(volume.name)
        if new:
            plan.created.append(volume)
        point = MountPoint(
            type="volume",
            name=volume.name,
            source=volume.mountpoint,
            destination=destination,
            driver=volume.driver,
            anonymous=not name,
            bound=volume.bound,
        )
        if copied:
            plan.copied.append(point)
        return point


def make_bind_sources(container: Container) -> None:
    """Make the folders on the host that ``-v`` names and that are not there. ``--mount`` never makes any."""
    mounts = () if container.host_config.mounts is UNSET else container.host_config.mounts or ()
    strict = {posixpath.normpath(request.target) for request in mounts if request.type == "bind"}
    for point in container.mount_points:
        if point.type != "bind" or os.path.lexists(point.source):
            continue
        if point.destination in strict:
            raise InvalidParameter(
                f'invalid mount config for type "bind": bind source path does not exist: {point.source}'
            )
        try:
            os.makedirs(point.source, exist_ok=True)
        except OSError as error:
            raise SystemFailure(
                f"error while creating mount source path '{point.source}': mkdir {point.source}: "
                f"{(error.strerror or str(error)).lower()}"
            ) from error


def _bind_mount(request: MountRequest, destination: str) -> MountPoint:
    options = request.bind_options
    if not request.source:
        raise InvalidParameter('invalid mount config for type "bind": field Source must not be empty')
    if not request.source.startswith("/"):
        raise InvalidParameter(
            'invalid mount config for type "bind": '
            f"invalid mount path: '{request.source}' mount path must be absolute"
        )
    if not os.path.lexists(request.source):
        if not (options and options.create_mountpoint):
            raise InvalidParameter(
                f'invalid mount config for type "bind": bind source path does not exist: {request.source}'
            )
        os.makedirs(request.source, exist_ok=True)
    propagation = options.propagation if options else ""
    if propagation and propagation not in _PROPAGATIONS:
        raise InvalidParameter(f'invalid mount config for type "bind": invalid propagation mode: {propagation}')
    return MountPoint(
        type="bind",
        source=posixpath.normpath(request.source),
        destination=destination,
        rw=not request.read_only,
        propagation=propagation or "rprivate",
    )


def _claim(given: set[str], destination: str) -> None:
    if destination in given:
        raise InvalidParameter(f"Duplicate mount point: {destination}")
    given.add(destination)


def _destination(target: str, text: str, *, kind: str = "") -> str:
    if not target:
        raise InvalidParameter(f'invalid mount config for type "{kind}": field Target must not be empty')
    destination = "/" + posixpath.normpath(target).lstrip("/")
    if not target.startswith("/"):
        reason = f"invalid mount path: '{target}' mount path must be absolute"
    elif destination == "/":
        reason = "invalid specification: destination can't be '/'"
    else:
        return destination
    if kind:
        raise InvalidParameter(f'invalid mount config for type "{kind}": {reason}')
    kind = "bind" if text.startswith("/") and ":" in text else "volume"
    raise InvalidParameter(
        f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": {reason}"
    )


def _mode(mode: str, *, named: bool) -> tuple[bool, str, bool]:
    """(writable, propagation, without copy-up). Raises SystemFailure (as the reference does) for an unknown word."""
    writable, propagation, nocopy = True, "", False
    for word in mode.split(",") if mode else ():
        if word in ("ro", "rw"):
            writable = word == "rw"
        elif word in _PROPAGATIONS and not named:
            propagation = word
        elif word == "nocopy" and named:
            nocopy = True
        elif word not in _IGNORED:
            raise SystemFailure(f"invalid mode: {mode}")
    return writable, propagation, nocopy
