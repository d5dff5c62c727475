"""The native execdriver: containers by libcontainer, through the launcher and one monitor a container."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from signal import SIGKILL

from pyker.errors import Conflict, KernelError, NotFound, PykerError, SystemFailure, Unavailable
from pyker.execdriver.base import Attachment, ContainerProcess, Process, Watcher
from pyker.libcontainer import handshake, statefiles
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import Cgroup, open_cgroup
from pyker.libcontainer.handshake import (
    Attach,
    CloseStdin,
    Created,
    Exec,
    Exited,
    Failure,
    Fault,
    Oom,
    Resize,
    Run,
    Socket,
    Started,
    Streams,
    ToMonitor,
)
from pyker.libcontainer.launcher import Launcher
from pyker.libcontainer.spec import ContainerSpec, ExitRecord, ProcessSpec, Resources
from pyker.types.probe import Probe

log = logging.getLogger("pyker.execdriver")

KILLED = 128 + SIGKILL
NAMESPACES = ("mnt", "uts", "ipc", "pid", "net", "cgroup")


class NativeProcess:
    """An exec that was started. ``stages`` are the nanoseconds its start took, by stage."""

    def __init__(self, control: Socket, started: Started, pidfd: int, *, tty: bool) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._pid = started.pid
        self._pidfd = pidfd
        self._tty = tty
        self.start_time = started.start_time
        self.stages: dict[str, int] = dict(started.stages)
        self.warnings = started.warnings

    @property
    def pid(self) -> int:
        return self._pid

    def signal(self, signum: int) -> None:
        with self._lock:
            try:
                if self._pidfd < 0:
                    raise ProcessLookupError
                sc.pidfd_send_signal(self._pidfd, signum)
            except ProcessLookupError:
                raise NotFound(f"process {self._pid} is not running") from None

    def attach(self, attachment: Attachment) -> None:
        try:
            self._tell(Attach(_streams(attachment)), (attachment.fd,))
        finally:
            os.close(attachment.fd)

    def resize(self, height: int, width: int) -> None:
        if self._tty:
            self._tell(Resize(height, width))

    def close_stdin(self) -> None:
        self._tell(CloseStdin())

    def release(self) -> None:
        """Let go of the descriptors; the process is not touched. Safe to repeat."""
        self._control.close()
        with self._lock:
            pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def _tell(self, message: ToMonitor, fds: tuple[int, ...] = ()) -> None:
        try:
            handshake.send(self._control, message, fds)
        except Unavailable:
            raise NotFound(f"process {self._pid} is not running") from None


class NativeContainer(NativeProcess):
    """A container's init."""

    def __init__(
        self,
        control: Socket,
        started: Started,
        pidfd: int,
        *,
        tty: bool,
        container_id: str,
        cgroup_path: str,
        namespaces: tuple[str, ...],
    ) -> None:
        super().__init__(control, started, pidfd, tty=tty)
        self.container_id = container_id
        self.cgroup_path = cgroup_path
        self.namespaces = namespaces

    def signal(self, signum: int) -> None:
        super().signal(signum)
        if signum == SIGKILL and self.cgroup_path:
            # In a frozen cgroup of version 1 even SIGKILL waits.
            with contextlib.suppress(PykerError, OSError):
                cgroup = self._cgroup()
                if cgroup.frozen():
                    cgroup.thaw()

    def _cgroup(self) -> Cgroup:
        if not self.cgroup_path:
            raise Conflict(f"container {self.container_id} has no cgroup of its own")
        return open_cgroup(self.cgroup_path)

    def pause(self) -> None:
        self._cgroup().freeze()

    def resume(self) -> None:
        try:
            self._cgroup().thaw()
        except KernelError as error:
            # A frozen container that was killed may be gone, with its cgroup, before it could be thawed.
            if error.errno in (errno.ENOENT, errno.ENODEV):
                raise NotFound(f"container {self.container_id} has ended") from error
            raise

    def update(self, resources: Resources) -> None:
        self._cgroup().set(resources)

    def stats(self) -> dict[str, object]:
        return self._cgroup().stats()

    def pids(self) -> list[int]:
        return self._cgroup().pids()


class _Unheard(Unavailable):
    """Who was asked to start a process died without a word."""


@dataclass(slots=True)
class _Watched:
    process: NativeProcess
    watcher: Watcher
    container_id: str = ""


class NativeDriver:
    """Runs containers by namespaces, cgroups and pivot_root, without any other program.

    One thread waits for what all monitors have to say and tells the watchers.
    """

    name = "native"

    def __init__(self, launcher: Launcher, exec_root: str) -> None:
        self._launcher = launcher
        self._exec_root = exec_root
        self._lock = threading.Lock()
        self._watched: dict[int, _Watched] = {}
        self._containers: dict[str, NativeContainer] = {}
        self._epoll = select.epoll()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._epoll.register(self._wake_read, select.EPOLLIN)
        self._thread: threading.Thread | None = None
        self._closed = False

    def probe(self) -> Probe:
        """Root, the namespaces, a cgroup hierarchy, and openat2 are what it takes."""
        if os.geteuid() != 0:
            return Probe(False, "needs root")
        for name in NAMESPACES:
            if not os.path.exists(f"/proc/self/ns/{name}"):
                return Probe(False, f"the kernel has no {name} namespaces (CONFIG_NAMESPACES)")
        try:
            fd = sc.openat2(sc.AT_FDCWD, "/", os.O_PATH, sc.RESOLVE_IN_ROOT)
        except OSError as error:
            return Probe(False, f"needs Linux 5.6 or newer: {error.strerror}")
        os.close(fd)
        try:
            open_cgroup("/pyker-probe")
        except PykerError as error:
            return Probe(False, error.message)
        return Probe(True)

    def run(
        self,
        spec: ContainerSpec,
        watcher: Watcher,
        attachments: tuple[Attachment, ...] = (),
        on_pid: Callable[[int], None] | None = None,
    ) -> ContainerProcess:
        request = Run(
            spec=spec,
            attachments=tuple(_streams(attachment) for attachment in attachments),
            sent_ns=time.monotonic_ns(),
            announce=on_pid is not None,
        )
        control, started, pidfd = self._start(request, attachments, on_pid)
        container = NativeContainer(
            control,
            started,
            pidfd,
            tty=spec.process.tty,
            container_id=spec.id,
            cgroup_path=spec.cgroup_path,
            namespaces=tuple(spec.namespaces),
        )
        self._watch(container, watcher, spec.id)
        return container

    def exec(
        self, container_id: str, process: ProcessSpec, watcher: Watcher, attachments: tuple[Attachment, ...] = ()
    ) -> Process:
        with self._lock:
            container = self._containers.get(container_id)
        if container is None:
            _close_all(attachments)
            raise Conflict(f"Container {container_id} is not running")
        request = Exec(
            container_id=container_id,
            pid=container.pid,
            start_time=container.start_time,
            cgroup_path=container.cgroup_path,
            namespaces=container.namespaces,
            process=process,
            attachments=tuple(_streams(attachment) for attachment in attachments),
            sent_ns=time.monotonic_ns(),
        )
        control, started, pidfd = self._start(request, attachments, None)
        running = NativeProcess(control, started, pidfd, tty=process.tty)
        self._watch(running, watcher, "")
        return running

    def adopt(self, container_id: str, state_dir: str, watcher: Watcher) -> ContainerProcess | ExitRecord | None:
        """A monitor that lives answers on its socket; one that has ended has left the exit record.

        If the monitor was killed, its container has lost its streams and nobody can wait for it: it is killed too,
        and counts as ended by SIGKILL.
        """
        control = statefiles.connect(state_dir)
        if control is not None:
            try:
                return self._adopt_living(container_id, state_dir, control, watcher)
            except (EOFError, Unavailable):
                # It ended between our two looks.
                control.close()
        record = statefiles.read_exit(state_dir)
        if record is not None:
            return record
        state = statefiles.read_state(state_dir)
        if state is None:
            return None
        _kill(state)
        if state.cgroup_path:
            _remove_cgroup(state.cgroup_path)
        record = ExitRecord(exit_code=KILLED, signal=SIGKILL, ended_ns=time.time_ns())
        statefiles.write_exit(state_dir, record)
        statefiles.forget(state_dir)
        return record

    def _adopt_living(
        self, container_id: str, state_dir: str, control: Socket, watcher: Watcher
    ) -> NativeContainer | None:
        started, pidfd = self._await_start(control, None)
        state = statefiles.read_state(state_dir)
        if state is None or state.pid != started.pid:
            os.close(pidfd)
            raise EOFError
        container = NativeContainer(
            control,
            started,
            pidfd,
            tty=state.tty,
            container_id=container_id,
            cgroup_path=state.cgroup_path,
            namespaces=state.namespaces,
        )
        self._watch(container, watcher, container_id)
        return container

    def cleanup(self, container_id: str, state_dir: str) -> None:
        state = statefiles.read_state(state_dir)
        if state is not None and statefiles.start_time_of(state.pid) != state.start_time:
            if state.cgroup_path:
                _remove_cgroup(state.cgroup_path)
            statefiles.forget(state_dir)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
        os.write(self._wake_write, b"x")
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        with self._lock:
            watched = list(self._watched.values())
            self._watched.clear()
            self._containers.clear()
        for each in watched:
            each.process.release()
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._launcher.close()

    # Starting

    def _start(
        self, request: Run | Exec, attachments: tuple[Attachment, ...], on_pid: Callable[[int], None] | None
    ) -> tuple[Socket, Started, int]:
        """Returns our end of the control socket, what the start said, and a pidfd.

        A launcher that is killed may take a request with it that nobody has looked at: the next one is asked again.
        """
        try:
            asked = self._launcher.pid
            control = self._request(request, attachments)
            try:
                try:
                    return control, *self._await_start(control, on_pid)
                except _Unheard:
                    if not self._launcher.has_died(asked):
                        raise
                    control.close()
                    control = self._request(request, attachments)
                    return control, *self._await_start(control, on_pid)
            except BaseException:
                control.close()
                raise
        finally:
            _close_all(attachments)

    def _request(self, request: Run | Exec, attachments: tuple[Attachment, ...]) -> Socket:
        """Send a request and the clients' sockets to the launcher; returns our end of the control socket."""
        ours, theirs = handshake.pair()
        with contextlib.closing(theirs):
            try:
                self._launcher.send(request, (theirs.fileno(), *(attachment.fd for attachment in attachments)))
            except BaseException:
                ours.close()
                raise
        return ours

    def _await_start(self, control: Socket, on_pid: Callable[[int], None] | None) -> tuple[Started, int]:
        heard = False
        while True:
            try:
                message, fds = handshake.receive_from_monitor(control)
            except EOFError:
                kind = Unavailable if heard else _Unheard
                raise kind("the monitor died before its process started", hint="try again") from None
            heard = True
            match message:
                case Started():
                    return message, fds[0]
                case Created(pid):
                    if on_pid is not None:
                        on_pid(pid)
                case Failure():
                    raise message.error()
                case _:
                    raise SystemFailure(f"unexpected message from a monitor: {type(message).__name__}")

    # Watching

    def _watch(self, process: NativeProcess, watcher: Watcher, container_id: str) -> None:
        control = process._control
        with self._lock:
            if self._closed:
                process.release()
                raise Unavailable("the execdriver is closed")
            self._watched[control.fileno()] = _Watched(process, watcher, container_id)
            if isinstance(process, NativeContainer):
                self._containers[container_id] = process
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="execdriver", daemon=True)
                self._thread.start()
            self._epoll.register(control.fileno(), select.EPOLLIN)

    def _listen(self) -> None:
        while not self._closed:
            for fd, _ in self._epoll.poll():
                if fd == self._wake_read:
                    continue
                try:
                    self._event(fd)
                except Exception:
                    # One watcher's fault must not make us deaf to all others.
                    log.exception("while telling what became of a process")

    def _event(self, fd: int) -> None:
        with self._lock:
            watched = self._watched.get(fd)
        if watched is None:
            return
        record: ExitRecord | None = None
        try:
            message, fds = handshake.receive_from_monitor(watched.process._control, wait=False)
            for received in fds:
                os.close(received)
        except BlockingIOError:
            return
        except (EOFError, OSError):
            # The monitor was killed: what it watched cannot be waited for by anybody.
            with contextlib.suppress(NotFound, OSError):
                watched.process.signal(SIGKILL)
            record = ExitRecord(exit_code=KILLED, signal=SIGKILL, ended_ns=time.time_ns())
        else:
            match message:
                case Oom():
                    watched.watcher.on_oom()
                case Fault(trace):
                    log.error("the monitor of process %d failed: %s", watched.process.pid, trace)
                case Exited(record):
                    pass
                case _:
                    return
        if record is not None:
            self._forget(fd, watched)
            watched.watcher.on_exit(record)

    def _forget(self, fd: int, watched: _Watched) -> None:
        with self._lock:
            self._watched.pop(fd, None)
            if self._containers.get(watched.container_id) is watched.process:
                del self._containers[watched.container_id]
            self._epoll.unregister(fd)
        watched.process.release()


def _streams(attachment: Attachment) -> Streams:
    flags = attachment.flags
    return Streams(stdin=flags.stdin, stdout=flags.stdout, stderr=flags.stderr, mark=flags.mark)


def _close_all(attachments: tuple[Attachment, ...]) -> None:
    for attachment in attachments:
        os.close(attachment.fd)


def _kill(state: statefiles.State) -> None:
    """Kill the process of ``state``, if it is still that one, and wait until it is gone."""
    try:
        pidfd = os.pidfd_open(state.pid)
    except ProcessLookupError:
        return
    try:
        if statefiles.start_time_of(state.pid) == state.start_time:
            sc.pidfd_send_signal(pidfd, SIGKILL)
            select.select([pidfd], [], [], 10.0)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def _remove_cgroup(path: str) -> None:
    cgroup = open_cgroup(path)
    for pid in cgroup.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, SIGKILL)
    cgroup.remove()
