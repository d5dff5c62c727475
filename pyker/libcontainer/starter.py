"""The starter: a short-lived child of the monitor that brings a process into being and hands it over.

It waits for the request, too; one that is about a network namespace it answers itself, and its monitor ends with it.

Decoding a spec, making cgroups and cloning touch about a megabyte of memory. Done here, that megabyte goes when the
starter exits, and the monitor, which stays as long as its container, remains small. The process is cloned with
CLONE_PARENT: it is the monitor's child from the first, so the monitor can wait for it.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import select
import signal
import time
from typing import NoReturn

from pyker.errors import PykerError, SystemFailure, Unavailable
from pyker.libcontainer import handshake, init, namespaces, netns, rehearsal, setns, statefiles, usernamespace
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import Cgroup, open_cgroup
from pyker.libcontainer.handshake import Begin, Created, Enter, Exec, Failure, Pty, Ready, Run, Socket, Started
from pyker.libcontainer.spec import ProcessSpec

TAKEN, DAEMON_GONE = b"t", b"g"
"""What a starter tells the launcher: it has a request, or there will be no more."""


class Starter:
    """Starts one process. ``control`` leads to the daemon; ``tell`` and ``wake`` are what the monitor will look at."""

    def __init__(self, control: Socket, clients: list[int], tell: int, wake: int, process: ProcessSpec) -> None:
        self._control = control
        self._clients = clients
        self._tell = tell
        self._wake = wake
        self._process = process
        self._child_ends: tuple[int, int, int] | None = None
        self._outputs: list[int] = []
        self._stdin = -1
        self._terminal = -1
        self._pidfd = -1
        self._cgroup: Cgroup | None = None
        self._state_dir = ""

    def run_container(self, request: Run) -> None:
        """Start a container's init. On failure everything is undone, then reported."""
        spec = request.spec
        try:
            namespaces.check(spec.namespaces)
            self._open_streams()
            self._state_dir = spec.state_dir
            statefiles.forget_exit(spec.state_dir)
            log = spec.log if spec.log.driver == "json-file" and spec.log.path else None
            if log is not None:
                # It must be there when the daemon hears that the container runs.
                os.close(os.open(log.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640))
            ours, theirs = handshake.pair()
            self._cgroup = cgroup = open_cgroup(spec.cgroup_path) if spec.cgroup_path else None
            if usernamespace.own(spec):
                usernamespace.enter_shared(spec)
                usernamespace.set_oom_score_adj(spec.process)
                usernamespace.give((self._child_ends or ())[1:], spec.uid_mappings, spec.gid_mappings)
            if spec.namespaces.get("pid"):
                # Counts for children only: we stay outside.
                namespaces.join("pid", spec.namespaces["pid"])
            pid, self._pidfd = _clone(namespaces.new_flags(spec.namespaces) | sc.CLONE_PARENT, cgroup)
            if pid == 0:
                init.main(spec, theirs, self._child_ends, cgroup, request.sent_ns)
            theirs.close()
            self._close_child_ends()
            if request.announce:
                handshake.send(self._control, Created(pid))
            if usernamespace.own(spec):
                with contextlib.suppress(Unavailable):
                    usernamespace.map_and_tell(spec, pid, ours)
            if cgroup is not None:
                cgroup.create(spec.resources)
                if "user" in spec.namespaces:
                    # With the rights of its own user namespace only, init cannot enter by itself.
                    cgroup.add(pid)
            with contextlib.suppress(Unavailable):
                # If init has failed already, its report waits to be read.
                handshake.send(ours, Enter())
            oom = cgroup.oom_fd() if cgroup is not None else None
            listener = statefiles.listen(spec.state_dir)
            start_time = statefiles.start_time_of(pid)
            stages, warnings = self._wait_for_execve(ours)
            statefiles.write_state(
                spec.state_dir,
                statefiles.State(
                    id=spec.id,
                    pid=pid,
                    start_time=start_time,
                    monitor_pid=os.getppid(),
                    cgroup_path=spec.cgroup_path,
                    namespaces=tuple(spec.namespaces),
                    tty=self._process.tty,
                ),
            )
            self._hand_over(
                Begin(
                    name=f"pyker-m:{spec.id}",
                    pid=pid,
                    start_time=start_time,
                    tty=self._process.tty,
                    stdin_once=self._process.stdin_once,
                    clients=request.attachments,
                    log=log,
                    cgroup_path=spec.cgroup_path,
                    state_dir=spec.state_dir,
                    outlived="pid" not in spec.namespaces or bool(spec.namespaces["pid"]),
                ),
                Started(pid, start_time, stages, warnings),
                oom=-1 if oom is None else oom,
                listener=listener.fileno(),
            )
        except BaseException as error:
            self._undo(error)
            if not isinstance(error, (PykerError, OSError)):
                raise

    def run_exec(self, request: Exec) -> None:
        """Start one more process in a container."""
        try:
            self._open_streams()
            ours, theirs = handshake.pair()
            target = setns.open_target(request)
            cgroup = open_cgroup(request.cgroup_path) if request.cgroup_path else None
            if "user" in request.namespaces:
                usernamespace.set_oom_score_adj(request.process)
                usernamespace.give_like((self._child_ends or ())[1:], request.pid)
            if "pid" in request.namespaces:
                sc.setns(target, sc.CLONE_NEWPID)
            pid, self._pidfd = _clone(sc.CLONE_PARENT, cgroup)
            if pid == 0:
                setns.main(request, target, theirs, self._child_ends, cgroup)
            theirs.close()
            self._close_child_ends()
            start_time = statefiles.start_time_of(pid)
            stages, warnings = self._wait_for_execve(ours)
            self._hand_over(
                Begin(
                    name=f"pyker-e:{request.container_id}",
                    pid=pid,
                    start_time=start_time,
                    tty=self._process.tty,
                    stdin_once=self._process.stdin_once,
                    clients=request.attachments,
                ),
                Started(pid, start_time, stages, warnings),
            )
        except BaseException as error:
            self._undo(error)
            if not isinstance(error, (PykerError, OSError)):
                raise

    def _open_streams(self) -> None:
        """Pipes for the process, unless it has a terminal; standard input is /dev/null unless it is open."""
        if self._process.tty:
            return
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        err_read, err_write = os.pipe2(os.O_CLOEXEC)
        self._outputs = [out_read, err_read]
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
                    self._terminal = fds[0]
                    self._outputs = [fds[0]]
                    if self._process.open_stdin:
                        self._stdin = os.dup(fds[0])
                case Ready():
                    ready, ready_ns = message, time.monotonic_ns()
                case Failure():
                    raise message.error()
        if ready is None:
            raise SystemFailure("the process died while it was being set up")
        stages = dict(ready.stages)
        stages["exec"] = time.monotonic_ns() - ready_ns
        return stages, ready.warnings

    def _hand_over(self, begin: Begin, started: Started, *, oom: int = -1, listener: int = -1) -> NoReturn:
        fds = [self._pidfd, *self._outputs]
        optional = {"stdin": self._stdin, "oom": oom, "listener": listener}
        places = {}
        for name, fd in optional.items():
            if fd >= 0:
                places[name] = len(fds)
                fds.append(fd)
        fds += [self._control.fileno(), *self._clients]
        handshake.send(self._control, started, (self._pidfd,))
        epoll = select.epoll()
        for fd in fds:
            epoll.register(fd, select.EPOLLIN | select.EPOLLPRI)
        if begin.clients:
            # Ready at once: with somebody attached there will be something to do soon.
            epoll.modify(self._control.fileno(), select.EPOLLIN | select.EPOLLOUT)
        memfd = handshake.write_begin(handshake.with_fds(begin, tuple(fds), len(self._outputs), places))
        # Nothing may fail from here on: the monitor would not know what it has.
        os.dup2(epoll.fileno(), self._wake, inheritable=False)
        os.dup2(memfd, self._tell, inheritable=False)
        _close_all_but({0, 1, 2, self._wake, self._tell, *fds})
        # At once: socket objects that go out of scope would close what the monitor is to have.
        os._exit(0)

    def _undo(self, error: BaseException) -> None:
        """Nothing is to be left of a start that failed: no process, cgroup or socket. Then tell the daemon why."""
        failure = Failure.of(error, "start")
        if self._pidfd >= 0:
            try:
                sc.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except OSError:
                pass
            # The monitor reaps it; that it has ended is enough for the cgroup to be removed.
            select.select([self._pidfd], [], [])
        if self._cgroup is not None:
            try:
                self._cgroup.remove()
            except PykerError:
                pass
        if self._state_dir:
            statefiles.forget(self._state_dir)
        try:
            handshake.send(self._control, failure)
        except PykerError:
            return


def _clone(flags: int, cgroup: Cgroup | None) -> tuple[int, int]:
    """``clone3``; where there is a version 2 hierarchy the child is born in its cgroup, which saves a slow move.

    A kernel before Linux 5.7 cannot, and a cgroup whose processes made others below may refuse: then the child moves.
    """
    born_in = cgroup.birth_fd() if cgroup is not None else -1
    if born_in < 0:
        return sc.clone3(flags)
    try:
        return sc.clone3(flags, cgroup_fd=born_in)
    except OSError as error:
        if error.errno not in (errno.E2BIG, errno.EINVAL, errno.ENOSYS, errno.EBUSY, errno.EOPNOTSUPP):
            raise
        return sc.clone3(flags)
    finally:
        os.close(born_in)


def _close_all_but(kept: set[int]) -> None:
    """The monitor has the same descriptors: what it does not need would stay open in it."""
    ceiling = max(kept)
    for fd in range(ceiling):
        if fd not in kept:
            try:
                os.close(fd)
            except OSError:
                continue
    os.closerange(ceiling + 1, 1024)


def main(requests: Socket, tell: int, wake: int, errors_to: int) -> NoReturn:
    """Take one request from the daemon, tell the launcher by ``tell``, do what was asked, and exit. Never returns.

    ``errors_to`` is the daemon's own log. Descriptors are shared with the monitor, as its ``main`` tells.
    """
    try:
        sc.set_title("pyker-starter")
        if not select.select([requests], [], [], 0)[0]:
            # Only while nobody waits: in a crowd of starts it would be one more thing to wait for.
            rehearsal.start()
        try:
            raw, fds = handshake.receive_raw(requests)
        except EOFError:
            os.write(tell, DAEMON_GONE)
            os._exit(0)
        os.write(tell, TAKEN)
        requests.close()
        request = handshake.decode_request(raw)
        control = _socket.socket(fileno=fds[0])
        match request:
            case Run():
                Starter(control, fds[1:], tell, wake, request.spec.process).run_container(request)
            case Exec():
                Starter(control, fds[1:], tell, wake, request.process).run_exec(request)
            case _:
                netns.answer(request, control)
    except Unavailable:
        # The daemon is gone, or the launcher: there is nobody to tell, and nothing of ours at fault.
        os._exit(1)
    except BaseException:  # noqa: BLE001 - a fault of ours: leave its trace where somebody looks
        import traceback

        os.write(errors_to, traceback.format_exc().encode())
        os._exit(1)
    os._exit(0)
