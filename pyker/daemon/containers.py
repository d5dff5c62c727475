"""The jobs ``rm``, ``rename`` and ``wait``."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from pyker.api import filters as wanted
from pyker.api import gotime
from pyker.container.names import check_name
from pyker.container.record import Container
from pyker.container.store import ContainerStore
from pyker.daemon.events import EventBus
from pyker.daemon.exits import Exits
from pyker.daemon.lifecycle import LifecycleHandlers
from pyker.daemon.netfiles import forget_link
from pyker.daemon.removal import Remover
from pyker.daemon.waiters import Waiters
from pyker.engine.job import JobContext
from pyker.errors import Conflict, InvalidParameter, NotFound, PykerError, SystemFailure
from pyker.jobs.containers import (
    PruneContainers,
    PrunedContainers,
    RemoveContainer,
    RemoveLink,
    RenameContainer,
    WaitContainer,
    WaitResult,
)
from pyker.networkdriver.dnsnames import with_new_name
from pyker.types.events import Event
from pyker.types.ids import ContainerId

_CONDITIONS = ("not-running", "next-exit", "removed")


class ContainerHandlers:
    """Removes, renames and waits for containers."""

    def __init__(
        self,
        store: ContainerStore,
        waiters: Waiters,
        bus: EventBus,
        exits: Exits,
        remover: Remover,
        lifecycle: LifecycleHandlers,
        size_of: Callable[[ContainerId], int],
        rename_sandbox: Callable[[ContainerId, str, str], None],
    ) -> None:
        """``size_of`` tells how many bytes one has written; ``rename_sandbox`` is given the old and the new name."""
        self._store = store
        self._waiters = waiters
        self._bus = bus
        self._exits = exits
        self._remover = remover
        self._lifecycle = lifecycle
        self._size_of = size_of
        self._rename_sandbox = rename_sandbox

    def remove(self, job: RemoveContainer, ctx: JobContext) -> None:
        """Delete a container. Raises Conflict if it runs and ``force`` is not set."""
        container = self._store.get(job.container)
        ctx.subject = container.id
        if container.state.removal_in_progress:
            raise Conflict(f"removal of container {job.container} is already in progress")
        if container.state.running and not job.force:
            raise Conflict(_refusal(container))
        while True:
            if container.state.running:
                try:
                    self._exits.keep(container.id, kept=True)
                    self._lifecycle.force_end(container)
                except PykerError as error:
                    raise SystemFailure(
                        f"Could not kill running container {container.id}, cannot remove - {error}"
                    ) from error
                finally:
                    self._exits.keep(container.id, kept=False)
            with self._store.lock(container.id):
                current = self._store.find(container.id)
                if current is None:
                    raise NotFound(f"No such container: {job.container}")
                if current.state.running:
                    if not job.force:
                        raise Conflict(_refusal(current))
                    container = current
                    continue
                if current.state.removal_in_progress:
                    raise Conflict(f"removal of container {job.container} is already in progress")
                doomed = self._remover.claim(current)
            self._remover.remove(doomed, volumes=job.volumes)
            return

    def prune(self, job: PruneContainers, ctx: JobContext) -> PrunedContainers:
        """What somebody starts or removes meanwhile is theirs."""
        before = [gotime.moment_before(text) for text in job.filters.get("until", ())]
        removed = []
        reclaimed = 0
        for container in self._store.all():
            if container.state.running or not wanted.passes_prune(job.filters, container.config.labels):
                continue
            if any(gotime.parse_time(container.created) >= limit for limit in before):
                continue
            try:
                size = self._size_of(container.id)
                self.remove(RemoveContainer(container=container.id), ctx)
            except (Conflict, NotFound, FileNotFoundError):
                continue
            removed.append(container.id)
            reclaimed += size
        ctx.subject = ""
        self._bus.publish(
            Event(kind="container", action="prune", actor_id="", attributes={"reclaimed": str(reclaimed)})
        )
        return PrunedContainers(ids=tuple(removed), reclaimed=reclaimed)

    def rename(self, job: RenameContainer, ctx: JobContext) -> None:
        """Give a container another name. Raises Conflict if that is taken."""
        if not job.container or not job.new_name:
            raise InvalidParameter("Neither old nor new names may be empty")
        container = self._store.get(job.container)
        ctx.subject = container.id
        with self._store.lock(container.id):
            container = self._store.get(container.id)
            new_name = job.new_name.removeprefix("/")
            if new_name == container.name:
                raise InvalidParameter("Renaming a container with the same name as its current name")
            try:
                check_name(f"/{new_name}")
                self._store.reserve_name(new_name, container.id)
            except InvalidParameter as error:
                raise InvalidParameter(f"Error when allocating new name: {error}", hint=error.hint) from None
            except Conflict as error:
                raise Conflict(
                    f"Error when allocating new name: {error}", hint="choose another name, or remove that container"
                ) from None
            settings = container.network_settings
            networks = {key: with_new_name(each, container.name, new_name) for key, each in settings.networks.items()}
            renamed = replace(container, name=new_name, network_settings=replace(settings, networks=networks))
            try:
                self._store.put(renamed, durable=True)
            except BaseException:
                self._store.release_name(new_name, container.id)
                raise
            self._store.release_name(container.name, container.id)
            self._rename_sandbox(container.id, container.name, new_name)
        self._bus.container("rename", renamed, oldName="/" + container.name)

    def unlink(self, job: RemoveLink, ctx: JobContext) -> None:
        """Undo a link. Raises NotFound, or Conflict for the name that a container has of its own."""
        target = self._store.get(job.link)
        ctx.subject = target.id
        parent, _, alias = job.link.removeprefix("/").partition("/")
        if not alias:
            raise SystemFailure("Conflict, cannot remove the default link name of the container")
        container = self._store.get(parent)
        with self._store.lock(container.id):
            container = self._store.get(container.id)
            links = {key: each for key, each in container.links.items() if key != alias}
            self._store.put(replace(container, links=links), durable=True)
            if container.state.running:
                forget_link(container, alias)

    def wait(self, job: WaitContainer, ctx: JobContext) -> WaitResult:
        """Block until the condition holds. Raises Cancelled if the client goes away first."""
        if job.condition not in _CONDITIONS:
            raise InvalidParameter(f'invalid condition: "{job.condition}"')
        container = self._store.get(job.container)
        ctx.subject = container.id
        waiter = self._waiters.add(container.id, job.condition)
        forget = ctx.cancel.on_cancel(lambda: waiter.settle(None))
        try:
            current = self._store.find(container.id)
            if current is None:
                waiter.settle(WaitResult(exit_code=container.state.exit_code))
            elif job.condition == "not-running" and not current.state.running:
                waiter.settle(WaitResult(exit_code=current.state.exit_code))
            ctx.stdio.stdout("application/json")
            result = waiter.wait()
        finally:
            forget()
            self._waiters.discard(container.id, waiter)
        if result is None:
            ctx.cancel.raise_if_cancelled()
            raise SystemFailure("waiting ended without a result")
        return result


def _refusal(container: Container) -> str:
    procedure = "Stop the container before attempting removal or force remove"
    if container.state.status == "paused":
        procedure = "Unpause and then s" + procedure[1:]
    return f"You cannot remove a {container.state.status} container {container.id}. {procedure}"
