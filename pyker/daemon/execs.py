"""The jobs ``exec_create``, ``exec_start``, ``exec_resize`` and ``exec_inspect``."""

from __future__ import annotations

import errno
import logging
import secrets
import signal
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from pyker.api import frames
from pyker.container.record import Container
from pyker.container.store import ContainerStore
from pyker.daemon.events import EventBus
from pyker.daemon.processes import Processes
from pyker.daemon.startfailure import describe
from pyker.daemon.streams import OutOfFrames, Relay, in_frames, parse_detach_keys
from pyker.engine.job import Duplex, JobContext
from pyker.errors import Cancelled, Conflict, InvalidParameter, KernelError, NotFound, PykerError
from pyker.execdriver.base import Attachment, ExecDriver, Process, StreamFlags, Watcher
from pyker.jobs.containers import CreateExec, ExecView, InspectExec, ResizeExec, StartExec
from pyker.libcontainer.spec import ExitRecord, ProcessSpec
from pyker.types.ids import ContainerId, ExecId

log = logging.getLogger("pyker.daemon")

_KEPT_S = 300.0
"""How long an exec that ended can still be asked about."""
_CANCEL_CHECK_S = 0.5
_BEGIN_S = 10.0


class ExecSpecs(Protocol):
    """Who knows what an exec's process looks like."""

    def exec_spec(self, container: Container, job: CreateExec) -> ProcessSpec: ...


class Exec:
    """One exec: prepared, running or ended."""

    def __init__(self, view: ExecView) -> None:
        self.view = view
        self.lock = threading.Lock()
        self.started = False
        self.begun = threading.Event()
        """Its start is over, well or badly."""
        self.process: Process | None = None
        self.over = threading.Event()
        self.ended_at = 0.0


class _ExecWatcher:
    """The exec driver's line to one exec."""

    def __init__(self, handlers: ExecHandlers, record: Exec) -> None:
        self._handlers = handlers
        self._record = record

    def on_exit(self, record: ExitRecord) -> None:
        """The process ended."""
        self._handlers.ended(self._record, record.exit_code)

    def on_oom(self) -> None:
        """The container's own watcher hears of it too."""
        log.debug("exec %s: out of memory in the container", self._record.view.id)


class ExecHandlers:
    """Runs more processes in running containers."""

    def __init__(
        self, store: ContainerStore, processes: Processes, bus: EventBus, driver: ExecDriver, specs: ExecSpecs
    ) -> None:
        self._store = store
        self._processes = processes
        self._bus = bus
        self._driver = driver
        self._specs = specs
        self._guard = threading.Lock()
        self._execs: dict[ExecId, Exec] = {}

    def create(self, job: CreateExec, ctx: JobContext) -> ExecId:
        """Prepare. Raises Conflict if the container does not run."""
        if not job.command:
            raise InvalidParameter("No exec command specified")
        parse_detach_keys(job.detach_keys)
        container = self._active(job.container)
        ctx.subject = container.id
        exec_id = ExecId(secrets.token_hex(32))
        view = ExecView(id=exec_id, container_id=container.id, running=False, exit_code=None, pid=0, request=job)
        with self._guard:
            self._forget_old()
            self._execs[exec_id] = Exec(view)
        self._publish(f"exec_create: {_line(job.command)}", container, exec_id)
        return exec_id

    def start(self, job: StartExec, ctx: JobContext) -> None:
        """Run it. What goes wrong is said in the stream, and in ``exec_inspect``, unless nobody is attached."""
        record = self._get(job.exec_id)
        request = record.view.request
        container = self._active(record.view.container_id)
        ctx.subject = container.id
        if job.detach:
            ctx.stages.update(self._begin(record, container, job, ()))
            return
        mine, theirs = socket.socketpair()
        flags = StreamFlags(
            stdin=request.attach_stdin, stdout=request.attach_stdout, stderr=request.attach_stderr or request.tty
        )
        # The terminal was decided when the exec was made; how its output travels is decided now.
        client = ctx.stdio.hijack(multiplexed=not job.tty)
        try:
            ctx.stages.update(self._begin(record, container, job, (Attachment(theirs.detach(), flags),)))
        except PykerError as error:
            mine.close()
            _say(client, f"{error}\r\n", tty=job.tty)
            return
        keys = parse_detach_keys(request.detach_keys) if request.tty and request.attach_stdin else b""
        shape = None if job.tty == request.tty else in_frames if request.tty else OutOfFrames()
        relay = Relay(client, mine, keys, shape)
        if relay.run(ctx.cancel, stdin=request.attach_stdin):
            while not record.over.wait(_CANCEL_CHECK_S) and not ctx.cancel.cancelled:
                continue
        elif relay.detached:
            self._publish("exec_detach", container, record.view.id)

    def resize(self, job: ResizeExec, ctx: JobContext) -> None:
        """Set the terminal's size, if it has one. Raises Conflict if it does not run."""
        record = self._get(job.exec_id)
        ctx.subject = record.view.container_id
        if record.started:
            # Clients resize as soon as their stream is there, which is before the terminal is.
            record.begun.wait(_BEGIN_S)
        if record.process is None or not record.view.running:
            raise Conflict(f"cannot resize a stopped container: exec {record.view.id} is not running")
        record.process.resize(job.height, job.width)

    def inspect(self, job: InspectExec, ctx: JobContext) -> ExecView:
        """How it is doing."""
        record = self._get(job.exec_id)
        return record.view

    def of_container(self, container_id: ContainerId) -> tuple[ExecId, ...]:
        """The execs that run in a container, or are prepared."""
        with self._guard:
            return tuple(
                record.view.id
                for record in self._execs.values()
                if record.view.container_id == container_id and record.view.exit_code is None
            )

    def exit_code(self, exec_id: ExecId) -> int | None:
        """None while it runs."""
        return self._get(exec_id).view.exit_code

    def ran(self, exec_id: ExecId) -> bool:
        """Whether its command could be started at all."""
        return self._get(exec_id).process is not None

    def kill(self, exec_id: ExecId) -> None:
        """End it, if it has not ended."""
        process = self._get(exec_id).process
        if process is not None:
            with suppress(NotFound):
                process.signal(signal.SIGKILL)

    def ended(self, record: Exec, exit_code: int) -> None:
        """The driver saw the process end."""
        record.view = replace(record.view, running=False, exit_code=exit_code, can_remove=True)
        record.ended_at = time.monotonic()
        container = self._store.find(record.view.container_id)
        if container is not None:
            self._publish("exec_die", container, record.view.id, exitCode=str(exit_code))
        record.over.set()

    def _begin(
        self, record: Exec, container: Container, job: StartExec, attachments: tuple[Attachment, ...]
    ) -> dict[str, int]:
        """Run it; returns what its start took, by stage."""
        with record.lock:
            again = record.started
            record.started = True
        if again:
            _close(attachments)
            raise Conflict(f"Error: Exec command {record.view.id} has already run")
        request = record.view.request
        if job.console_size != (0, 0):
            request = replace(request, console_size=job.console_size)
        self._publish(f"exec_start: {_line(request.command)}", container, record.view.id)
        watcher: Watcher = _ExecWatcher(self, record)
        try:
            spec = self._specs.exec_spec(container, request)
        except BaseException:
            _close(attachments)
            record.view = replace(record.view, exit_code=126)
            record.begun.set()
            raise
        try:
            record.view = replace(record.view, running=True)
            process = self._driver.exec(container.id, spec, watcher, attachments)
        except KernelError as error:
            failure = describe(error, spec.args[0], spec.cwd)
            missing = error.stage == "exec" and error.errno == errno.ENOENT
            self._failed(record, 127 if missing else 126)
            raise type(failure.error)(
                f"OCI runtime exec failed: exec failed: unable to start container process: {failure.reason}: unknown"
            ) from error
        except PykerError:
            self._failed(record, 126)
            raise
        record.process = process
        record.begun.set()
        if not record.over.is_set():
            record.view = replace(record.view, pid=process.pid)
        return process.stages

    def _failed(self, record: Exec, exit_code: int) -> None:
        record.view = replace(record.view, running=False, exit_code=exit_code, can_remove=True)
        record.ended_at = time.monotonic()
        record.begun.set()
        record.over.set()

    def _active(self, name: str) -> Container:
        container = self._store.get(name)
        if not container.state.running:
            raise Conflict(f"Container {container.id} is not running")
        if container.state.paused:
            raise Conflict(f"Container {name} is paused, unpause the container before exec")
        if container.state.restarting:
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        return container

    def _get(self, exec_id: str) -> Exec:
        record = self._execs.get(ExecId(exec_id))
        if record is None:
            matches = [found for key, found in list(self._execs.items()) if exec_id and key.startswith(exec_id)]
            record = matches[0] if len(matches) == 1 else None
        if record is None or self._store.find(record.view.container_id) is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return record

    def _forget_old(self) -> None:
        now = time.monotonic()
        for key, record in list(self._execs.items()):
            gone = self._store.find(record.view.container_id) is None
            if gone or (record.over.is_set() and now - record.ended_at > _KEPT_S):
                del self._execs[key]

    def _publish(self, action: str, container: Container, exec_id: ExecId, **attributes: str) -> None:
        self._bus.container(action, container, execID=exec_id, **attributes)


def _line(command: Sequence[str]) -> str:
    """As the reference has it in its events, with a space behind a command without arguments."""
    return f"{command[0]} {' '.join(command[1:])}"


def _close(attachments: tuple[Attachment, ...]) -> None:
    for attachment in attachments:
        socket.socket(fileno=attachment.fd).close()


def _say(client: Duplex, text: str, *, tty: bool) -> None:
    """Tell an attached client what went wrong, on its stdout as the reference does."""
    data = text.encode()
    try:
        client.send(data if tty else frames.frame(frames.STDOUT, data))
    except Cancelled:
        return
