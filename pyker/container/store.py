"""The containers: immutable snapshots in memory and on disk, their names, and a lock for each.

Readers never block: a snapshot is replaced as a whole. Whoever changes a container holds its lock from reading the
snapshot to putting the next one. On disk each has ``containers/<id>/{config.v2.json,hostconfig.json}``, written new,
fsynced and renamed.

A new container is on the disk before anybody is told of it, unless it is to be removed at its end anyway. What else
must be answered fast is put with ``put_later``: the snapshot goes to a file that survives the daemon but not the
machine (``<exec-root>/records/<id>.json``), and a thread brings it to the disk a moment later. After a crash of the
daemon nothing is lost; after a power cut the last fraction of a second is, whole.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

import msgspec

from pyker.container.names import random_name
from pyker.container.record import Container
from pyker.errors import Conflict, Corrupt, InvalidParameter, NotFound
from pyker.libcontainer.syscalls import remove_tree
from pyker.types.config import HostConfig
from pyker.types.ids import ContainerId

log = logging.getLogger("pyker.container")

CONFIG = "config.v2.json"
HOST_CONFIG = "hostconfig.json"
BEHIND_S = 0.15
"""How long the disk may be behind: longer than a short run, whose snapshots it then need not learn."""
_REMOVED = ".removed"
"""Ends the name of a folder that is only waiting to be deleted."""


class ContainerStore:
    """All containers under ``<data-root>/containers``. Thread-safe."""

    def __init__(self, root: str, exec_root: str) -> None:
        self.root = os.path.join(root, "containers")
        self._records = os.path.join(exec_root, "records")
        for folder in (self.root, self._records):
            os.makedirs(folder, mode=0o710, exist_ok=True)
        self._containers: dict[ContainerId, Container] = {}
        self._names: dict[str, ContainerId] = {}
        self._locks: dict[ContainerId, threading.RLock] = {}
        self._hosts: dict[ContainerId, HostConfig] = {}
        self._guard = threading.Lock()
        self._disk = tuple(threading.Lock() for _ in range(16))
        self._record_lock = threading.Lock()
        self._recorded: set[ContainerId] = set()
        self._behind: SimpleQueue[ContainerId | None] = SimpleQueue()
        self._writer: threading.Thread | None = None

    def close(self) -> None:
        """Bring to the disk what is not there yet."""
        with self._guard:
            writer, self._writer = self._writer, None
        if writer is not None:
            self._behind.put(None)
            writer.join()

    def load(self) -> list[str]:
        """Read what an earlier daemon left; returns a warning for each record that cannot be read (it stays there)."""
        warnings = []
        for entry in sorted(os.listdir(self.root)):
            folder = os.path.join(self.root, entry)
            if entry.endswith(_REMOVED):
                remove_tree(folder)
                continue
            try:
                container, behind = self._read(folder, entry)
                if container.id != entry:
                    raise Corrupt(f"the record in {folder!r} is that of container {container.id!r}")
                self.reserve_name(container.name, container.id)
            except FileNotFoundError:
                if not os.path.exists(os.path.join(folder, CONFIG)) and len(entry) == 64:
                    # A create that was not finished: nobody was told of it.
                    remove_tree(folder)
                    continue
                warnings.append(f"container {entry}: the record is incomplete; it is left alone in {folder!r}")
            except (OSError, msgspec.DecodeError, Corrupt, Conflict) as error:
                warnings.append(f"container {entry}: {error}; it is left alone in {folder!r}")
            else:
                self._containers[container.id] = container
                if behind:
                    self._recorded.add(container.id)
                    self._write_behind(container.id)
        for record in os.listdir(self._records):
            if ContainerId(record.removesuffix(".json")) not in self._containers:
                os.unlink(os.path.join(self._records, record))
        return warnings

    def get(self, name: str) -> Container:
        """By exact ID, then by name (with or without a slash) or link, then by unique prefix of an ID.

        Raises NotFound, or InvalidParameter if the prefix fits several. Source: Docker API, container identifiers.
        """
        containers = self._containers
        exact = containers.get(ContainerId(name))
        if exact is not None:
            return exact
        named = self._names.get(name.removeprefix("/"))
        if named is not None and (found := containers.get(named)) is not None:
            return found
        parent, slash, alias = name.removeprefix("/").partition("/")
        if slash and (other := containers.get(self._names.get(parent, ContainerId("")))) is not None:
            # What another container calls it: "client/db".
            found = containers.get(other.links.get(alias, ContainerId("")))
            if found is not None:
                return found
        matches = [identifier for identifier in list(containers) if identifier.startswith(name)] if name else []
        if len(matches) > 1:
            raise InvalidParameter(f"Multiple IDs found with provided prefix: {name}")
        if matches and (found := containers.get(matches[0])) is not None:
            return found
        raise NotFound(f"No such container: {name}", hint="`pyker ps -a` lists all of them")

    def find(self, container_id: ContainerId) -> Container | None:
        """By full ID; None if there is none such."""
        return self._containers.get(container_id)

    def all(self) -> list[Container]:
        """Every container, in no particular order."""
        return list(self._containers.values())

    def lock(self, container_id: ContainerId) -> threading.RLock:
        """The lock that whoever changes this container holds."""
        lock = self._locks.get(container_id)
        if lock is None:
            with self._guard:
                lock = self._locks.setdefault(container_id, threading.RLock())
        return lock

    def folder(self, container_id: ContainerId) -> str:
        """Where the container's own files are."""
        return os.path.join(self.root, container_id)

    def reserve_name(self, name: str, container_id: ContainerId) -> str:
        """Take ``name`` ("" chooses a random one) for a container; returns it. Raises Conflict if it is taken."""
        with self._guard:
            if not name:
                attempt = 0
                name = random_name(attempt)
                while name in self._names:
                    attempt += 1
                    name = random_name(attempt)
            holder = self._names.setdefault(name, container_id)
        if holder != container_id:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        return name

    def release_name(self, name: str, container_id: ContainerId) -> None:
        """Give a name back; one that belongs to another is left alone."""
        with self._guard:
            if self._names.get(name) == container_id:
                del self._names[name]

    def add(self, container: Container, *, durable: bool) -> None:
        """Keep a new container; its name is reserved already and its folder exists.

        ``durable``: a power cut after this does not lose it. Otherwise it is kept as ``put_later`` does.
        """
        if not durable:
            self._keep_record(container)
            return
        with self._disk_lock(container.id):
            self._write(container)
            _sync_folder(self.folder(container.id))
            _sync_folder(self.root)
            self._containers[container.id] = container

    def put(self, container: Container, *, durable: bool = False) -> None:
        """Replace a container's snapshot, and keep it. Raises NotFound if it was removed meanwhile.

        Not ``durable``, a power cut within seconds may bring the snapshot before it back, whole.
        """
        before = self._containers.get(container.id)
        if before is None:
            raise NotFound(f"No such container: {container.id}")
        with self._disk_lock(container.id):
            self._write(container)
            if durable:
                _sync_folder(self.folder(container.id))
            with self._record_lock:
                self._containers[container.id] = container
                self._drop_record(container.id)

    def put_later(self, container: Container) -> None:
        """The same, but the disk learns it a little later."""
        if container.id not in self._containers:
            raise NotFound(f"No such container: {container.id}")
        self._keep_record(container)

    def show(self, container: Container) -> None:
        """Replace a container's snapshot in memory only; ``put`` follows, or the disk need not know."""
        if container.id in self._containers:
            self._containers[container.id] = container

    def remove(self, container: Container) -> str:
        """Forget a container. Its name is free after this; its folder waits to be deleted, and is returned."""
        folder = self.folder(container.id)
        doomed = folder + _REMOVED
        with self._disk_lock(container.id):
            with self._record_lock:
                self._containers.pop(container.id, None)
                self._drop_record(container.id)
            try:
                os.rename(folder, doomed)
            except FileNotFoundError:
                doomed = ""
        self.release_name(container.name, container.id)
        with self._guard:
            self._locks.pop(container.id, None)
            self._hosts.pop(container.id, None)
        return doomed

    def _disk_lock(self, container_id: ContainerId) -> threading.Lock:
        return self._disk[int(container_id[:2], 16) % len(self._disk)]

    def _record(self, container_id: ContainerId) -> str:
        return os.path.join(self._records, f"{container_id}.json")

    def _keep_record(self, container: Container) -> None:
        data = msgspec.json.encode(container)
        with self._record_lock:
            _write_file(self._records, f"{container.id}.json", data, durable=False)
            self._containers[container.id] = container
            self._recorded.add(container.id)
        self._write_behind(container.id)

    def _drop_record(self, container_id: ContainerId) -> None:
        """The disk knows as much; the lock of the records is held."""
        if container_id in self._recorded:
            self._recorded.discard(container_id)
            with suppress(FileNotFoundError):
                os.unlink(self._record(container_id))

    def _write_behind(self, container_id: ContainerId) -> None:
        if self._writer is None:
            with self._guard:
                if self._writer is None:
                    self._writer = threading.Thread(target=self._write_loop, name="records", daemon=True)
                    self._writer.start()
        self._behind.put(container_id)

    def _write_loop(self) -> None:
        """Snapshots gather for a moment: of a run that is over by then, or goes on, only the last is written."""
        last = False
        while not last:
            gathered = [self._behind.get()]
            deadline = monotonic() + BEHIND_S
            with suppress(Empty):
                while gathered[-1] is not None:
                    gathered.append(self._behind.get(timeout=max(0.0, deadline - monotonic())))
            last = gathered[-1] is None
            for container_id in dict.fromkeys(gathered):
                if container_id is not None:
                    self._bring_to_disk(container_id)

    def _bring_to_disk(self, container_id: ContainerId) -> None:
        with self._disk_lock(container_id):
            container = self._containers.get(container_id)
            if container is None or container_id not in self._recorded:
                return
            try:
                self._write(container)
            except OSError as error:
                log.error("container %s: its record cannot be written: %s", container_id[:12], error)
                return
            with self._record_lock:
                # A newer snapshot may have come meanwhile: then the record is that one's.
                if self._containers.get(container_id) is container:
                    self._drop_record(container_id)

    def _write(self, container: Container) -> None:
        """Bring a snapshot to the disk; the disk's lock is held."""
        folder = self.folder(container.id)
        if self._hosts.get(container.id) is not container.host_config:
            _write_file(folder, HOST_CONFIG, msgspec.json.encode(container.host_config))
            self._hosts[container.id] = container.host_config
        fields: dict[str, Any] = msgspec.to_builtins(container)
        del fields["HostConfig"]
        _write_file(folder, CONFIG, msgspec.json.encode(fields))

    def _read(self, folder: str, entry: str) -> tuple[Container, bool]:
        """A container's record, and whether the disk does not know it yet."""
        try:
            with open(self._record(ContainerId(entry)), "rb") as file:
                return msgspec.json.decode(file.read(), type=Container), True
        except (FileNotFoundError, msgspec.DecodeError):
            return _read(folder), False


def _write_file(folder: str, name: str, data: bytes, *, durable: bool = True) -> None:
    """Write new, fsync, rename: a crash leaves the old or the new file."""
    path = os.path.join(folder, name)
    fresh = os.path.join(folder, f".tmp-{name}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        if durable:
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(fresh, path)


def _sync_folder(path: str) -> None:
    """Names in a folder are as durable as files only after this. Source: fsync(2)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(folder: str) -> Container:
    with open(os.path.join(folder, CONFIG), "rb") as file:
        fields: dict[str, Any] = msgspec.json.decode(file.read())
    with open(os.path.join(folder, HOST_CONFIG), "rb") as file:
        host_config = msgspec.json.decode(file.read(), type=HostConfig)
    fields["HostConfig"] = msgspec.to_builtins(host_config)
    return msgspec.convert(fields, Container)
