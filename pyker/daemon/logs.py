"""The job ``logs``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from urllib.parse import quote_plus

from pyker.api import frames, versions
from pyker.api.gotime import format_time_fixed
from pyker.container.logs import LogEntry, LogReader
from pyker.container.record import Container
from pyker.container.store import ContainerStore
from pyker.daemon.processes import Processes
from pyker.daemon.wake import Wake
from pyker.engine.job import JobContext
from pyker.errors import InvalidParameter, NotSupported
from pyker.jobs.containers import ContainerLogs

_STREAMS = {"stdout": frames.STDOUT, "stderr": frames.STDERR}
_MULTIPLEXED_SINCE = (1, 42)
Write = Callable[[bytes], None]


class LogHandlers:
    """Shows what containers said."""

    def __init__(self, store: ContainerStore, processes: Processes) -> None:
        self._store = store
        self._processes = processes

    def logs(self, job: ContainerLogs, ctx: JobContext) -> None:
        """Write the log, and with ``follow`` what comes until the container stops."""
        if not (job.stdout or job.stderr):
            raise InvalidParameter("Bad parameters: you must choose at least one stream")
        container = self._store.get(job.container)
        ctx.subject = container.id
        path = log_path(container)
        tty = container.config.tty
        write = ctx.stdio.stdout(_content_type(ctx.env.get("api_version", ""), tty=tty))
        reader = LogReader(path)
        if job.follow and container.state.status in ("created", "running", "paused", "restarting"):
            entries = self._follow(container, reader, job, ctx)
        elif os.path.exists(path):
            entries = reader.read(tail=job.tail, since_ns=job.since_ns, until_ns=job.until_ns)
        else:
            entries = ()
        for entry in entries:
            if ctx.cancel.cancelled:
                return
            if (entry.stream == "stdout" and job.stdout) or (entry.stream == "stderr" and job.stderr):
                write(_render(entry, timestamps=job.timestamps, details=job.details, framed=not tty))

    def replay(
        self,
        container: Container,
        write: Write,
        *,
        stdout: bool,
        stderr: bool,
        mark: tuple[int, int] | None = None,
    ) -> None:
        """Everything said so far, or up to ``mark`` (a file's inode, and its size then), for a client that attaches."""
        path = log_path(container)
        if not os.path.exists(path):
            return
        reader = LogReader(path)
        for entry in reader.read() if mark is None else reader.up_to(*mark):
            if (entry.stream == "stdout" and stdout) or (entry.stream == "stderr" and stderr):
                write(_render(entry, timestamps=False, details=False, framed=not container.config.tty))

    def _follow(
        self, container: Container, reader: LogReader, job: ContainerLogs, ctx: JobContext
    ) -> Iterable[LogEntry]:
        wake = Wake()
        started_at = container.state.started_at
        created = container.state.status == "created"

        def stopped() -> bool:
            if ctx.cancel.cancelled:
                return True
            wake.clear()
            now = self._store.find(container.id)
            if now is None:
                return True
            if created:
                return now.has_been_started_before and not now.state.running
            return not now.state.running or now.state.restarting or now.state.started_at != started_at

        forget = [self._processes.on_change(container.id, wake.poke), ctx.cancel.on_cancel(wake.poke)]
        try:
            os.close(os.open(container.log_path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o640))
            yield from reader.follow(
                stopped, wake.fileno(), tail=job.tail, since_ns=job.since_ns, until_ns=job.until_ns
            )
        finally:
            for done in forget:
                done()
            wake.close()


def log_path(container: Container) -> str:
    """The json-file. Raises NotSupported if the container's log driver keeps nothing that can be read."""
    if container.host_config.log_config.type not in ("", "json-file") or not container.log_path:
        raise NotSupported("configured logging driver does not support reading")
    return container.log_path


def _content_type(api_version: str, *, tty: bool) -> str:
    """Clients before 1.42 were told nothing; ``application/octet-stream`` is what they saw."""
    version = versions.parse(api_version) if api_version else versions.NEWEST
    if version < _MULTIPLEXED_SINCE:
        return "application/octet-stream"
    return frames.RAW_STREAM if tty else frames.MULTIPLEXED_STREAM


def _render(entry: LogEntry, *, timestamps: bool, details: bool, framed: bool) -> bytes:
    line = entry.log.encode()
    if details:
        attrs = ",".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in sorted((entry.attrs or {}).items()))
        line = attrs.encode() + b" " + line
    if timestamps:
        line = format_time_fixed(entry.time_ns).encode() + b" " + line
    return frames.frame(_STREAMS.get(entry.stream, frames.STDOUT), line) if framed else line
