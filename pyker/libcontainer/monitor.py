"""The monitor: one process a container, from before its first process to after its last.

It is forked by the launcher and outlives it and the daemon. It makes the cgroup, clones init, owns the pipes or the
terminal, writes the log, serves attached clients, waits for init, writes the exit record and removes the cgroup. The
daemon that started it talks to it over a socket pair, later daemons over ``monitor.sock`` in the state folder; both
speak ``pyker.libcontainer.handshake``.
"""

from __future__ import annotations

import _socket
import os
import select
import signal
import time
from typing import NoReturn

from pyker.errors import PykerError, SystemFailure, Unavailable
from pyker.libcontainer import console, handshake, init, namespaces, setns, statefiles
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import Cgroup, open_cgroup
from pyker.libcontainer.handshake import (
    Attach,
    CloseStdin,
    Created,
    Enter,
    Exec,
    Exited,
    Failure,
    Mapped,
    Oom,
    Pty,
    Ready,
    Resize,
    Run,
    Socket,
    Started,
)
from pyker.libcontainer.logfile import JsonFileLog
from pyker.libcontainer.spec import ExitRecord, ProcessSpec
from pyker.libcontainer.streams import STDERR, STDOUT, Poller, StreamPump

DRAIN_S = 1.0
"""How long output may still come after the process ended, from others that hold its pipes."""
FLUSH_S = 10.0
"""How long the exit is held back for attached clients that are slow to take the last output."""


class Monitor:
    """Runs one process and stays with it; ``run_container`` and ``run_exec`` are its two lives."""

    def __init__(self, control: Socket, process: ProcessSpec) -> None:
        self._process = process
        self._poller = Poller()
        self._controls: list[Socket] = [control]
        self._pump: StreamPump | None = None
        self._terminal = -1
        self._outputs: dict[int, int] = {}
        self._stdin = -1
        self._child_ends: tuple[int, int, int] | None = None
        self._pid = 0
        self._pidfd = -1
        self._started = Started(0, 0, {})
        self._cgroup: Cgroup | None = None
        self._oom_fd = -1
        self._oom_killed = False
        self._listener: Socket | None = None
        self._state_dir = ""
        self._log: JsonFileLog | None = None
        self._wait_status: int | None = None
        self._ended_ns = 0
        self._kill_leftovers = False

    # Starting

    def run_container(self, request: Run, client_fds: list[int]) -> None:
        """Start a container, serve it to its end. On failure everything is undone and reported."""
        spec = request.spec
        try:
            self._start_container(request, client_fds)
        except (PykerError, OSError) as error:
            self._undo()
            self._send(Failure.of(error, "monitor"))
            return
        del request
        self._kill_leftovers = "pid" not in spec.namespaces or bool(spec.namespaces["pid"])
        del spec
        self._serve()

    def _start_container(self, request: Run, client_fds: list[int]) -> None:
        spec = request.spec
        namespaces.check(spec.namespaces)
        self._state_dir = spec.state_dir
        statefiles.forget_exit(spec.state_dir)
        self._open_streams()
        ours, theirs = handshake.pair()
        cgroup = open_cgroup(spec.cgroup_path) if spec.cgroup_path else None
        if spec.namespaces.get("pid"):
            # Counts for children only: the monitor itself stays outside.
            namespaces.join("pid", spec.namespaces["pid"])
        pid, pidfd = sc.clone3(namespaces.new_flags(spec.namespaces))
        if pid == 0:
            init.main(spec, theirs, self._child_ends, cgroup, request.sent_ns)
        self._pid, self._pidfd = pid, pidfd
        theirs.close()
        self._close_child_ends()
        if request.announce:
            self._send(Created(pid))
        if spec.namespaces.get("user") == "":
            namespaces.write_mappings(pid, spec.uid_mappings, spec.gid_mappings)
            handshake.send(ours, Mapped())
        if cgroup is not None:
            self._cgroup = cgroup
            cgroup.create(spec.resources)
            if "user" in spec.namespaces:
                # With the rights of its own user namespace only, init cannot enter by itself.
                cgroup.add(pid)
        handshake.send(ours, Enter())
        if spec.log.driver == "json-file" and spec.log.path:
            self._log = JsonFileLog(spec.log)
        self._listener = statefiles.listen(spec.state_dir)
        stages, warnings = self._wait_for_execve(ours)
        start_time = statefiles.start_time_of(pid)
        own = tuple(spec.namespaces)
        statefiles.write_state(spec.state_dir, spec.id, pid, start_time, spec.cgroup_path, own, self._process)
        self._begin(stages, warnings, start_time, request.attachments, client_fds)

    def run_exec(self, request: Exec, client_fds: list[int]) -> None:
        """Run one more process in a container, serve it to its end."""
        try:
            self._open_streams()
            ours, theirs = handshake.pair()
            target = setns.open_target(request)
            cgroup = open_cgroup(request.cgroup_path) if request.cgroup_path else None
            if "pid" in request.namespaces:
                sc.setns(target, sc.CLONE_NEWPID)
            pid, pidfd = sc.clone3(0)
            if pid == 0:
                setns.main(request, target, theirs, self._child_ends, cgroup)
            self._pid, self._pidfd = pid, pidfd
            os.close(target)
            theirs.close()
            self._close_child_ends()
            stages, warnings = self._wait_for_execve(ours)
            self._begin(stages, warnings, statefiles.start_time_of(pid), request.attachments, client_fds)
        except (PykerError, OSError) as error:
            self._undo()
            self._send(Failure.of(error, "exec"))
            return
        del request
        self._serve()

    def _open_streams(self) -> None:
        """Pipes for the process, unless it has a terminal; standard input is /dev/null unless it is open."""
        if self._process.tty:
            return
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        err_read, err_write = os.pipe2(os.O_CLOEXEC)
        self._outputs = {out_read: STDOUT, err_read: STDERR}
        if self._process.open_stdin:
            stdin, self._stdin = os.pipe2(os.O_CLOEXEC)
        else:
            stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._child_ends = (stdin, out_write, err_write)

    def _close_child_ends(self) -> None:
        for fd in self._child_ends or ():
            os.close(fd)
        self._child_ends = None

    def _wait_for_execve(self, ours: Socket) -> tuple[dict[str, int], tuple[str, ...]]:
        """Returns (stages, warnings) once execve succeeded. Raises what the child reports."""
        ready: Ready | None = None
        ready_ns = 0
        while True:
            try:
                message, fds = handshake.receive_from_init(ours)
            except EOFError:
                break
            match message:
                case Pty():
                    self._terminal, slave = fds
                    os.close(slave)
                    self._outputs = {self._terminal: STDOUT}
                    if self._process.open_stdin:
                        self._stdin = os.dup(self._terminal)
                case Ready():
                    ready, ready_ns = message, time.monotonic_ns()
                case Failure():
                    raise message.error()
        ours.close()
        if ready is None:
            _, status = os.waitpid(self._pid, 0)
            self._pid = 0
            raise SystemFailure(f"the container's first process died while being set up (wait status {status})")
        stages = dict(ready.stages)
        stages["exec"] = time.monotonic_ns() - ready_ns
        return stages, ready.warnings

    def _begin(
        self,
        stages: dict[str, int],
        warnings: tuple[str, ...],
        start_time: int,
        attachments: tuple[handshake.Streams, ...],
        client_fds: list[int],
    ) -> None:
        """Connect everything to the poller and report success."""
        poller = self._poller
        self._pump = StreamPump(
            poller,
            self._outputs,
            self._stdin,
            tty=self._process.tty,
            stdin_once=self._process.stdin_once,
            log=self._log,
        )
        for fd, streams in zip(client_fds, attachments, strict=True):
            self._pump.attach(fd, streams)
        poller.watch(self._pidfd, select.POLLIN, self._process_ended)
        if self._cgroup is not None:
            self._oom_fd = self._cgroup.oom_fd() or -1
            if self._oom_fd >= 0:
                poller.watch(self._oom_fd, select.POLLIN | select.POLLPRI, self._memory_exhausted)
        if self._listener is not None:
            poller.watch(self._listener.fileno(), select.POLLIN, self._accept)
        self._started = Started(self._pid, start_time, stages, warnings)
        control = self._controls[0]
        poller.watch(control.fileno(), select.POLLIN, lambda _: self._command(control))
        self._send(self._started, (self._pidfd,))

    def _undo(self) -> None:
        """Nothing is to be left of a start that failed: no process, cgroup, socket or descriptor of a client."""
        if self._pid:
            try:
                sc.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except OSError:
                pass
            os.waitpid(self._pid, 0)
        self._remove_cgroup()
        if self._state_dir:
            statefiles.forget(self._state_dir)
        if self._log is not None:
            self._log.close()

    # Serving

    def _serve(self) -> None:
        """The monitor's life: move bytes and answer until the process has ended and its output is delivered."""
        pump = self._pump
        assert pump is not None
        drain_until: float | None = None
        flush_until = 0.0
        while True:
            now = time.monotonic()
            deadlines = [d for d in (pump.next_deadline(), drain_until) if d is not None]
            if self._wait_status is not None:
                if drain_until is None:
                    drain_until, flush_until = now + DRAIN_S, now + FLUSH_S
                    if self._kill_leftovers:
                        self._kill_cgroup()
                    deadlines.append(drain_until)
                if not pump.outputs_ended and now >= drain_until:
                    pump.read_rest()
                if pump.drained or now >= flush_until:
                    break
                if pump.outputs_ended:
                    deadlines.append(flush_until)
                    drain_until = flush_until
            self._poller.run_once(min(deadlines) - now if deadlines else None)
            pump.expire()
        self._finish(pump)

    def _process_ended(self, _: int) -> None:
        _, status = os.waitpid(self._pid, 0)
        self._wait_status = status
        self._ended_ns = time.time_ns()
        self._poller.forget(self._pidfd)

    def _finish(self, pump: StreamPump) -> None:
        """Deliver, record, report, in this order; then let go of what is left."""
        assert self._wait_status is not None
        self._check_oom()
        code = os.waitstatus_to_exitcode(self._wait_status)
        record = ExitRecord(
            exit_code=128 - code if code < 0 else code,
            signal=max(-code, 0),
            oom_killed=self._oom_killed,
            ended_ns=self._ended_ns,
        )
        pump.end_clients()
        if self._log is not None:
            self._log.close()
        self._remove_cgroup()
        if self._state_dir:
            statefiles.write_exit(self._state_dir, record)
            statefiles.forget(self._state_dir)
        self._send(Exited(record))
        pump.close()

    def _kill_cgroup(self) -> None:
        """Without a PID namespace of its own a container's other processes survive its first: end them."""
        if self._cgroup is None:
            return
        for pid in self._cgroup.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _remove_cgroup(self) -> None:
        if self._oom_fd >= 0:
            self._poller.forget(self._oom_fd)
            os.close(self._oom_fd)
            self._oom_fd = -1
        if self._cgroup is None:
            return
        try:
            self._kill_cgroup()
            self._cgroup.remove()
        except PykerError:
            # The exit must be reported all the same; the driver's cleanup tries again.
            return

    # Events

    def _memory_exhausted(self, _: int) -> None:
        try:
            os.read(self._oom_fd, 8)
        except BlockingIOError:
            return
        if self._check_oom():
            self._send(Oom())

    def _check_oom(self) -> bool:
        """Whether the kernel has killed something since the last look."""
        if self._cgroup is None or self._oom_killed:
            return False
        try:
            self._oom_killed = self._cgroup.oom_count() > 0
        except (PykerError, OSError):
            return False
        return self._oom_killed

    def _accept(self, _: int) -> None:
        assert self._listener is not None
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        control = Socket(fileno=fd)
        self._controls.append(control)
        self._poller.watch(fd, select.POLLIN, lambda _: self._command(control))
        try:
            handshake.send(control, self._started, (self._pidfd,))
        except Unavailable:
            self._hang_up(control)

    def _command(self, control: Socket) -> None:
        try:
            message, fds = handshake.receive_from_daemon(control, wait=False)
        except BlockingIOError:
            return
        except (EOFError, OSError):
            self._hang_up(control)
            return
        assert self._pump is not None
        match message:
            case Attach(streams):
                self._pump.attach(fds[0], streams)
            case Resize(height, width):
                if self._terminal >= 0:
                    try:
                        console.set_size(self._terminal, height, width)
                    except OSError:
                        return
            case CloseStdin():
                self._pump.close_stdin()

    def _hang_up(self, control: Socket) -> None:
        self._poller.forget(control.fileno())
        control.close()
        self._controls.remove(control)

    def _send(self, message: handshake.FromMonitor, fds: tuple[int, ...] = ()) -> None:
        """Tell every daemon that is connected."""
        for control in list(self._controls):
            try:
                handshake.send(control, message, fds)
            except (PykerError, OSError):
                self._hang_up(control)


def main(request: Run | Exec, fds: list[int], log_errors_to: int) -> NoReturn:
    """Become the monitor of ``request``. ``fds`` are the control socket and the clients'. Never returns."""
    control, *client_fds = fds
    short_id = (request.spec.id if isinstance(request, Run) else request.container_id)[:12]
    sc.set_name(f"pyker-m:{short_id}")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = 0
    try:
        if isinstance(request, Run):
            monitor = Monitor(_socket.socket(fileno=control), request.spec.process)
            monitor.run_container(request, client_fds)
        else:
            monitor = Monitor(_socket.socket(fileno=control), request.process)
            monitor.run_exec(request, client_fds)
    except BaseException:  # noqa: BLE001 - a fault of ours: leave its trace in the daemon's own log
        import traceback

        os.write(log_errors_to, traceback.format_exc().encode())
        code = 1
    finally:
        os._exit(code)
