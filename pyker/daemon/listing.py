"""The jobs ``containers`` (ps), ``container_inspect`` and ``top``."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec import UNSET
from msgspec.structs import replace

from pyker.api import filters as wanted
from pyker.container.record import Container
from pyker.container.store import ContainerStore
from pyker.daemon import links
from pyker.daemon.processes import Processes
from pyker.engine.job import JobContext
from pyker.errors import Conflict, InvalidParameter, NotFound, PykerError, SystemFailure
from pyker.graph.graph import Graph
from pyker.jobs.containers import (
    ContainerRow,
    ContainerView,
    InspectContainer,
    ListContainers,
    ProcessTable,
    TopContainer,
)
from pyker.types.ids import ContainerId, ExecId, ImageId

_STATUSES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
_HEALTHS = ("starting", "healthy", "unhealthy", "none")


class ImageNames(Protocol):
    """What listing asks of the graph about names."""

    def lookup(self, name: str) -> ImageId: ...


class ListingHandlers:
    """Shows containers."""

    def __init__(
        self,
        store: ContainerStore,
        graph: Graph,
        processes: Processes,
        execs_of: Callable[[ContainerId], tuple[ExecId, ...]],
    ) -> None:
        self._store = store
        self._graph = graph
        self._processes = processes
        self._execs_of = execs_of

    def list(self, job: ListContainers, ctx: JobContext) -> tuple[ContainerRow, ...]:
        """Newest first. Filters on status and exit code look at stopped containers too, as ``limit`` does."""
        chosen = self._filter(job)
        rows = []
        containers = self._store.all()
        linked = links.linked_names(containers)
        for container in sorted(containers, key=lambda each: each.created, reverse=True):
            if not chosen(container):
                continue
            size_rw = size_root = -1
            if job.size:
                size_rw, size_root = self._sizes(container)
            rows.append(
                ContainerRow(
                    container=container,
                    image_name=self._image_name(container),
                    size_rw=size_rw,
                    size_root_fs=size_root,
                    linked_names=tuple(linked.get(container.id, ())),
                )
            )
            if 0 < job.limit <= len(rows):
                break
        return tuple(rows)

    def inspect(self, job: InspectContainer, ctx: JobContext) -> ContainerView:
        """Everything about one container."""
        container = self._store.get(job.container)
        ctx.subject = container.id
        size_rw = size_root = -1
        if job.size:
            size_rw, size_root = self._sizes(container)
        try:
            data = self._graph.layers.rootfs(container.id).data
        except (PykerError, OSError):
            data = {}
        # What was asked for stays in the record; clients see what it means now.
        shown = replace(container.host_config, links=links.shown(container, self._store.get))
        return ContainerView(
            container=replace(container, host_config=shown),
            exec_ids=self._execs_of(container.id),
            graphdriver_name=container.driver,
            graphdriver_data=data,
            size_rw=size_rw,
            size_root_fs=size_root,
        )

    def top(self, job: TopContainer, ctx: JobContext) -> ProcessTable:
        """Run ps on the host and keep the container's processes."""
        container = self._store.get(job.container)
        ctx.subject = container.id
        if not container.state.running:
            raise Conflict(f"Container {container.id} is not running")
        if container.state.restarting:
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        pids = {str(pid) for pid in self._processes.get(container.id).pids()}
        arguments = (job.ps_args or "-ef").split()
        done = subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False, errors="replace")
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["it failed"])[0]
            raise SystemFailure(f"ps: {reason}")
        return _table(done.stdout, pids)

    def _sizes(self, container: Container) -> tuple[int, int]:
        size_rw = self._graph.layers.size_rw(container.id)
        return size_rw, size_rw + self._image_size(container.image)

    def _image_size(self, image_id: ImageId) -> int:
        try:
            image = self._graph.images.get(image_id)
        except PykerError:
            return 0
        layers = (self._graph.layers.get(chain_id) for chain_id in image.chain_ids)
        return sum(layer.size for layer in layers if layer is not None)

    def _image_name(self, container: Container) -> str:
        """What the user typed, unless that name means another image by now."""
        typed = container.config.image
        try:
            if self._graph.lookup(typed) == container.image:
                return typed
        except PykerError:
            pass
        return str(container.image)

    def _filter(self, job: ListContainers) -> Callable[[Container], bool]:
        filters = job.filters
        wanted.validate(filters, wanted.CONTAINERS)
        for value in filters.get("status", ()):
            if value not in _STATUSES:
                raise InvalidParameter(f"Invalid filter 'status={value}'")
        for value in filters.get("health", ()):
            if value not in _HEALTHS:
                raise InvalidParameter(f"Unrecognised filter value for health: {value}")
        codes = set()
        for value in filters.get("exited", ()):
            try:
                codes.add(int(value))
            except ValueError:
                raise InvalidParameter(f'strconv.Atoi: parsing "{value}": invalid syntax') from None
        tasks = wanted.truth(filters, "is-task")
        for key in ("publish", "expose"):
            for value in filters.get(key, ()):
                _ports(key, value)
        before = [self._anchor(value, "before") for value in filters.get("before", ())]
        since = [self._anchor(value, "since") for value in filters.get("since", ())]
        images = self._ancestors(filters.get("ancestor", ()))
        every = job.all or job.limit > 0 or any(key in filters for key in ("status", "exited"))

        def chosen(container: Container) -> bool:
            state = container.state
            return (
                (every or state.running)
                and (images is None or container.image in images)
                and all(container.created < other for other in before)
                and all(container.created > other for other in since)
                and (not codes or (not state.running and state.status == "exited" and state.exit_code in codes))
                and wanted.matches_exactly(filters.get("status"), state.status)
                and wanted.matches_exactly(filters.get("health"), state.health.status if state.health else "none")
                and wanted.matches_labels(filters.get("label"), container.config.labels)
                and wanted.matches_pattern(filters.get("name"), container.name, "/" + container.name)
                and wanted.matches_pattern(filters.get("id"), container.id)
                and _on_network(container, filters.get("network"))
                and _mounts(container, filters.get("volume"))
                and _has_port(_exposed(container), "expose", filters.get("expose"))
                and _has_port(_published(container), "publish", filters.get("publish"))
                and not tasks
            )

        return chosen

    def _anchor(self, name: str, key: str) -> str:
        try:
            return self._store.get(name).created
        except NotFound:
            raise NotFound(f"No such container: {name}") from None

    def _ancestors(self, names: tuple[str, ...]) -> set[ImageId] | None:
        """The images meant, and all that were made from them."""
        if not names:
            return None
        found: set[ImageId] = set()
        for name in names:
            try:
                found.add(self._graph.lookup(name))
            except PykerError:
                continue
        grown = True
        while grown:
            grown = False
            for image_id in self._graph.images.ids():
                if image_id not in found and self._graph.images.get(image_id).parent in found:
                    found.add(image_id)
                    grown = True
        return found


def _table(output: str, pids: set[str]) -> ProcessTable:
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise SystemFailure("Couldn't find PID field in ps output", hint="let ps_args print the column PID")
    column = titles.index("PID")
    rows = []
    for line in lines[1:]:
        fields = line.split(None, len(titles) - 1)
        if len(fields) > column and fields[column] in pids:
            rows.append(tuple(fields))
    return ProcessTable(titles=tuple(titles), processes=tuple(rows))


def _on_network(container: Container, names: tuple[str, ...] | None) -> bool:
    if not names:
        return True
    networks = container.network_settings.networks
    known = set(networks) | {settings.network_id for settings in networks.values()}
    return any(
        name in known or (len(name) >= 4 and any(identifier.startswith(name) for identifier in known)) for name in names
    )


def _mounts(container: Container, names: tuple[str, ...] | None) -> bool:
    return not names or any(
        name in (point.name, point.source, point.destination) for point in container.mount_points for name in names
    )


def _exposed(container: Container) -> set[str]:
    ports = container.config.exposed_ports
    return set() if ports is UNSET else set(ports)


def _published(container: Container) -> set[str]:
    return {port for port, bindings in container.network_settings.ports.items() if bindings}


def _has_port(ports: set[str], key: str, specifications: tuple[str, ...] | None) -> bool:
    return not specifications or any(not ports.isdisjoint(_ports(key, text)) for text in specifications)


def _ports(key: str, specification: str) -> Iterator[str]:
    """``80-82/tcp`` one by one, ``80/tcp`` first. Raises InvalidParameter, at once."""
    numbers, _, protocol = specification.partition("/")
    bounds = []
    for text in numbers.split("-", 1):
        if not (text.isascii() and text.isdigit()):
            reason = f'strconv.ParseUint: parsing "{text}": invalid syntax'
            raise InvalidParameter(f"error while looking up for {key} {specification}: {reason}")
        bounds.append(int(text))
    return (f"{number}/{protocol or 'tcp'}" for number in range(bounds[0], min(bounds[-1], 65535) + 1))
