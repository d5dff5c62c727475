"""The daemon's side of ``pyker.graphdriver.view_main``: a process for each look into a container's files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from pyker.container.record import Container
from pyker.daemon.processes import Processes
from pyker.engine.job import ByteSource, CancelToken
from pyker.errors import Forbidden, InvalidParameter, NotFound, PykerError, SystemFailure
from pyker.graphdriver.base import RootfsSpec
from pyker.types.ids import ContainerId
from pyker.types.mount import Mount

_CHUNK = 1 << 17
_CLASSES: dict[str, type[PykerError]] = {
    "not-found": NotFound,
    "invalid": InvalidParameter,
    "forbidden": Forbidden,
}
_MODULE = "pyker.graphdriver.view_main"


class Roots(Protocol):
    """What a view needs of the graph."""

    def rootfs(self, container_id: ContainerId, *, readonly: bool = False) -> RootfsSpec: ...


class Views:
    """Starts the processes. ``folder`` is where their mounts are, each in a namespace of its own."""

    def __init__(self, layers: Roots, processes: Processes, folder: str) -> None:
        self._layers = layers
        self._processes = processes
        self._folder = folder

    def ask(self, container: Container, operation: str, **fields: Any) -> Any:
        """What ``operation`` answers, as JSON."""
        pieces: list[bytes] = []
        self.read(container, operation, pieces.append, None, **fields)
        return json.loads(b"".join(pieces))

    def read(
        self,
        container: Container,
        operation: str,
        write: Callable[[bytes], None],
        cancel: CancelToken | None,
        **fields: Any,
    ) -> None:
        """Give ``write`` what ``operation`` says, in pieces; not called before there is one."""
        writable = operation != "export" and self.lacks_places(container)
        with self._started(container, operation, fields, writable=writable, cancel=cancel) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            while data := os.read(process.stdout.fileno(), _CHUNK):
                write(data)

    def write(self, container: Container, source: ByteSource, cancel: CancelToken, **fields: Any) -> None:
        """Extract what ``source`` gives, a tar, into the container. It is read to its end whatever happens."""
        with self._started(container, "put", fields, writable=True, cancel=cancel) as process:
            assert process.stdin is not None
            open_end = True
            while data := source.read(_CHUNK):
                if open_end:
                    try:
                        _write_all(process.stdin.fileno(), data)
                    except BrokenPipeError:
                        # It has refused, and says why when it is asked below.
                        open_end = False
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    @contextlib.contextmanager
    def _started(
        self,
        container: Container,
        operation: str,
        fields: dict[str, Any],
        *,
        writable: bool,
        cancel: CancelToken | None,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The process with its request; afterwards its end. Raises what it ran into."""
        os.makedirs(self._folder, mode=0o711, exist_ok=True)
        at = tempfile.mkdtemp(prefix="view-", dir=self._folder)
        request = {**fields, "operation": operation, "at": at, **self._root(container, writable=writable)}
        if operation != "export":
            create = "dir" if self.lacks_places(container) else ""
            request["mounts"] = [dataclasses.asdict(mount) for mount in _bound(container, create=create)]
        body = json.dumps(request).encode()
        try:
            with subprocess.Popen(
                [sys.executable, "-m", _MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                bufsize=0,
            ) as process:
                assert process.stdin is not None and process.stderr is not None
                said: list[bytes] = []
                listener = threading.Thread(target=_listen, args=(process.stderr.fileno(), said), daemon=True)
                listener.start()
                forget = cancel.on_cancel(process.kill) if cancel is not None else None
                try:
                    with contextlib.suppress(BrokenPipeError):
                        _write_all(process.stdin.fileno(), len(body).to_bytes(4, "big") + body)
                    yield process
                    status = process.wait()
                    listener.join()
                except BaseException:
                    process.kill()
                    raise
                finally:
                    if forget is not None:
                        forget()
        finally:
            os.rmdir(at)
        if status != 0:
            raise _error(b"".join(said), status)

    @staticmethod
    def lacks_places(container: Container) -> bool:
        """Whether the places of its mounts must be made first, which takes a root that can be written."""
        return bool(container.mount_points) and not container.has_been_started_before

    def _root(self, container: Container, *, writable: bool) -> dict[str, Any]:
        process = self._processes.find(container.id)
        if process is not None:
            return {"pid": process.pid}
        return {"rootfs": dataclasses.asdict(self._layers.rootfs(container.id, readonly=not writable).mount)}


def _bound(container: Container, *, create: str) -> Iterator[Mount]:
    """What is mounted into the container and is there without it, outer places first."""
    for point in sorted(container.mount_points, key=lambda each: each.destination.count("/")):
        if point.type != "tmpfs":
            options = ("rbind", "rprivate") if point.rw else ("rbind", "rro", "rprivate")
            source = point.bound or point.source
            yield Mount(target=point.destination, fstype="bind", source=source, options=options, create=create)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _listen(fd: int, said: list[bytes]) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(fd, _CHUNK):
            said.append(data)


def _error(said: bytes, status: int) -> PykerError:
    try:
        fields = json.loads(said)
        return _CLASSES.get(fields["class"], SystemFailure)(fields["message"])
    except (ValueError, KeyError, TypeError):
        lines = said.decode(errors="replace").strip().splitlines() or [f"it ended with status {status}"]
        return SystemFailure(f"the files of the container could not be read: {lines[-1]}")
