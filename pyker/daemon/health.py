"""Health checks: the job ``health_probe``, and who runs it again and again for each container that has a check.

A probe is an exec like any other, so its events and jobs can be seen. What it says changes ``State.Health``.
"""

from __future__ import annotations

import logging
import threading
import time

from pyker.api import frames
from pyker.api.gotime import format_duration, format_time
from pyker.container import state
from pyker.container.record import Container, HealthLogEntry
from pyker.container.store import ContainerStore
from pyker.daemon.events import EventBus
from pyker.daemon.execs import ExecHandlers
from pyker.engine.engine import Engine, NoStdio
from pyker.engine.job import CancelToken, Duplex, JobContext
from pyker.errors import Cancelled, NotFound, PykerError, Unavailable
from pyker.jobs.containers import CreateExec, HealthProbe, StartExec
from pyker.types.config import HealthConfig
from pyker.types.ids import ContainerId

log = logging.getLogger("pyker.daemon")

_INTERVAL_NS = 30_000_000_000
_TIMEOUT_NS = 30_000_000_000
_START_INTERVAL_NS = 5_000_000_000
_RETRIES = 3
_OUTPUT_LIMIT = 4096
_NOT_RUN = -1


class HealthChecks:
    """A thread for each running container that has a check. Thread-safe."""

    def __init__(self, engine: Engine, store: ContainerStore, bus: EventBus) -> None:
        self._engine = engine
        self._store = store
        self._bus = bus
        self._lock = threading.Lock()
        self._over: dict[ContainerId, threading.Event] = {}
        self._closed = False

    def begin(self, container: Container) -> None:
        """The container runs: probe it from now on, if it has a check."""
        if state.health_command(container.config) is None:
            return
        over = threading.Event()
        with self._lock:
            if self._closed:
                return
            before, self._over[container.id] = self._over.get(container.id), over
        if before is not None:
            before.set()
        threading.Thread(target=self._run, args=(container, over), name="health", daemon=True).start()

    def end(self, container_id: ContainerId) -> None:
        """The run is over; a probe under way ends with the container, and nobody asks what it said."""
        with self._lock:
            over = self._over.pop(container_id, None)
        if over is not None:
            over.set()

    def close(self) -> None:
        """No probes from now on."""
        with self._lock:
            self._closed = True
            waiting, self._over = self._over, {}
        for over in waiting.values():
            over.set()

    def _run(self, container: Container, over: threading.Event) -> None:
        check = container.config.healthcheck
        if not isinstance(check, HealthConfig):
            return
        while not over.wait(self._pause_s(container, check)):
            now = self._store.find(container.id)
            if now is None or not now.state.running:
                return
            if now.state.paused or now.state.restarting:
                continue
            try:
                entry = self._probe(now, check)
            except Unavailable:
                return
            except PykerError as error:
                # Only what cannot even be tried: the container has just ended, or was paused.
                log.debug("container %s: no health probe: %s", container.id[:12], error)
                continue
            self._note(container.id, check, entry, over)

    def _pause_s(self, container: Container, check: HealthConfig) -> float:
        """Shorter while the container is still starting, if it was given time for that."""
        now = self._store.find(container.id)
        if now is not None and state.is_starting(now, check.start_period, time.time_ns()):
            return (check.start_interval or _START_INTERVAL_NS) / 1e9
        return (check.interval or _INTERVAL_NS) / 1e9

    def _probe(self, container: Container, check: HealthConfig) -> HealthLogEntry:
        command = state.health_command(container.config) or ()
        timeout_ns = check.timeout or _TIMEOUT_NS
        job = HealthProbe(container=container.id, command=command, timeout_ns=timeout_ns)
        cancel = CancelToken()
        timer = threading.Timer(timeout_ns / 1e9, cancel.cancel)
        timer.daemon = True
        timer.start()
        try:
            return self._engine.run(job, stdio=_Capture(), cancel=cancel)
        finally:
            timer.cancel()

    def _note(
        self, container_id: ContainerId, check: HealthConfig, entry: HealthLogEntry, over: threading.Event
    ) -> None:
        """Put a probe's result into the state, unless the run that it was of is over."""
        with self._store.lock(container_id):
            container = self._store.find(container_id)
            if container is None or over.is_set() or not container.state.running:
                return
            before = container.state.health
            changed = state.probed(container, entry, check.retries or _RETRIES, check.start_period, time.time_ns())
            after = changed.state.health
            if before is None or after is None:
                return
            if after.status == before.status:
                self._store.show(changed)
                return
            try:
                self._store.put_later(changed)
            except NotFound:
                return
        self._bus.container(f"health_status: {after.status}", changed)


class HealthProber:
    """Runs one probe."""

    def __init__(self, execs: ExecHandlers) -> None:
        self._execs = execs

    def probe(self, job: HealthProbe, ctx: JobContext) -> HealthLogEntry:
        """Its exit code and output; -1 where it took too long or could not be run."""
        ctx.subject = job.container
        capture = ctx.stdio
        started, began_ns = time.time_ns(), time.monotonic_ns()
        exec_id = ctx.run(
            CreateExec(container=job.container, command=job.command, attach_stdout=True, attach_stderr=True)
        )
        ctx.run(StartExec(exec_id=exec_id))
        code = self._execs.exit_code(exec_id)
        output = capture.text() if isinstance(capture, _Capture) else ""
        if code is None:
            self._execs.kill(exec_id)
            if time.monotonic_ns() - began_ns < job.timeout_ns:
                raise Cancelled("the health check was cancelled", hint="the engine is closing")
            ended = f"Health check exceeded timeout ({format_duration(job.timeout_ns)})"
            output, code = f"{ended}: {output}" if output else ended, _NOT_RUN
        elif not self._execs.ran(exec_id):
            output, code = output.rstrip("\r\n"), _NOT_RUN
        return HealthLogEntry(
            start=format_time(started), end=format_time(time.time_ns()), exit_code=code, output=output
        )


class _Capture(NoStdio):
    """The client of a probe: keeps the beginning of what it says."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._more = False
        self._frames: frames.Demultiplexer | None = None

    def hijack(self, *, multiplexed: bool) -> Duplex:
        self._frames = frames.Demultiplexer() if multiplexed else None
        return self

    def recv(self, size: int) -> bytes:
        return b""

    def send(self, data: bytes | memoryview) -> None:
        pieces = [bytes(data)] if self._frames is None else [piece for _, piece in self._frames.feed(bytes(data))]
        for piece in pieces:
            room = _OUTPUT_LIMIT - len(self._kept)
            self._kept += piece[:room]
            self._more = self._more or len(piece) > room

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self._frames = None

    def text(self) -> str:
        """As the reference keeps it: dots where something was left out."""
        return self._kept.decode(errors="replace") + ("..." if self._more else "")
