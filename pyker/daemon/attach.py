"""The jobs ``attach`` and ``resize``."""

from __future__ import annotations

import socket
import struct

from pyker.container.store import ContainerStore
from pyker.daemon.events import EventBus
from pyker.daemon.logs import LogHandlers, log_path
from pyker.daemon.processes import Processes
from pyker.daemon.streams import Relay, parse_detach_keys
from pyker.engine.job import JobContext
from pyker.errors import Conflict
from pyker.execdriver.base import Attachment, StreamFlags
from pyker.jobs.containers import AttachContainer, ResizeContainer

_MARK = struct.Struct(">QQ")
"""``StreamFlags.mark``"""


class AttachHandlers:
    """Joins clients to the streams of a container's command."""

    def __init__(self, store: ContainerStore, processes: Processes, bus: EventBus, logs: LogHandlers) -> None:
        self._store = store
        self._processes = processes
        self._bus = bus
        self._logs = logs

    def attach(self, job: AttachContainer, ctx: JobContext) -> None:
        """Join; a container that does not run yet keeps the client until it starts, so that no byte is lost."""
        keys = parse_detach_keys(job.detach_keys)
        container = self._store.get(job.container)
        ctx.subject = container.id
        if container.state.paused:
            raise Conflict(f"container {job.container} is paused, unpause the container before attach")
        if container.state.restarting:
            raise Conflict(f"container {job.container} is restarting, wait until the container is running")
        config = container.config
        stdin = job.stdin and config.open_stdin
        if not job.stream:
            client = ctx.stdio.hijack(multiplexed=not config.tty)
            if job.logs:
                self._logs.replay(container, client.send, stdout=job.stdout, stderr=job.stderr)
            return
        if job.logs:
            log_path(container)
        mine, theirs = socket.socketpair()
        with self._store.lock(container.id):
            process = self._processes.find(container.id)
            # What is said while the log is read comes as well: only the monitor knows where the one ends and the other
            # begins.
            marked = job.logs and process is not None
            flags = StreamFlags(stdin=stdin, stdout=job.stdout, stderr=job.stderr, mark=marked)
            attachment = Attachment(theirs.detach(), flags)
            if process is not None:
                process.attach(attachment)
            else:
                self._processes.wait_to_attach(container.id, attachment)
        try:
            self._bus.container("attach", container)
            client = ctx.stdio.hijack(multiplexed=not config.tty)
            if job.logs:
                mark = _read_mark(mine) if marked else None
                self._logs.replay(container, client.send, stdout=job.stdout, stderr=job.stderr, mark=mark)
            relay = Relay(client, mine, keys if config.tty and stdin else b"")
            relay.run(ctx.cancel, stdin=stdin)
            if relay.detached:
                self._bus.container("detach", container)
        finally:
            mine.close()
            self._processes.discard(container.id, attachment)

    def resize(self, job: ResizeContainer, ctx: JobContext) -> None:
        """Set the terminal's size, if it has one. Raises Conflict if the command does not run."""
        container = self._store.get(job.container)
        ctx.subject = container.id
        process = self._processes.find(container.id)
        if process is None or not container.state.running:
            raise Conflict(f"Container {container.id} is not running")
        process.resize(job.height, job.width)
        self._bus.container("resize", container, height=str(job.height), width=str(job.width))


def _read_mark(stream: socket.socket) -> tuple[int, int] | None:
    """Where the log ends and ``stream`` begins; None if the process went before it could tell."""
    data = b""
    while len(data) < _MARK.size:
        piece = stream.recv(_MARK.size - len(data))
        if not piece:
            return None
        data += piece
    inode, size = _MARK.unpack(data)
    return inode, size
