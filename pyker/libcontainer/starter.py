"""The starter: a short-lived child of the monitor that brings a process into being and hands it over.

It waits for the request, too; one that is about a network namespace it has a child answer, and waits for the next.

Decoding a spec and making cgroups touch about a megabyte of memory. Done here, that megabyte goes when the starter
exits, and the monitor, which stays as long as its container, remains small. The process itself comes from the cradle
beside it, which was given the same request.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import contextlib
import os
import select
import time
from typing import NoReturn

from pyker.errors import PykerError, SystemFailure, Unavailable
from pyker.libcontainer import cradle, handshake, inplace, netns, rehearsal, statefiles, usernamespace
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import Cgroup, open_cgroup
from pyker.libcontainer.handshake import (
    Begin,
    Born,
    Created,
    Enter,
    Exec,
    Failure,
    Pty,
    Ready,
    Run,
    Socket,
    Started,
)
from pyker.libcontainer.spec import ProcessSpec
from pyker.libcontainer.streams import STDERR, STDOUT

TAKEN, DAEMON_GONE = b"t", b"g"
"""What a starter tells the launcher: it has a request, or there will be no more."""


class Starter:
    """Starts one process. ``control`` leads to the daemon, ``cradle`` to the process that has the request already;
    ``tell`` and ``wake`` are what the monitor will look at.
    """

    def __init__(
        self,
        control: Socket,
        clients: list[int],
        cradle_pid: int,
        cradle: Socket,
        tell: int,
        wake: int,
        process: ProcessSpec,
    ) -> None:
        self._control = control
        self._cradle_pid = cradle_pid
        self._cradle = cradle
        self._clients = clients
        self._tell = tell
        self._wake = wake
        self._process = process
        self._child_ends: tuple[int, ...] = ()
        self._born = False
        self._outputs: list[int] = []
        self._stdin = -1
        self._pidfd = -1
        self._memfd = -1
        self._news: select.epoll | None = None
        self._cgroup: Cgroup | None = None
        self._state_dir = ""

    def run_container(self, request: Run) -> None:
        """Start a container's init. On failure everything is undone, then reported."""
        spec = request.spec
        try:
            self._open_streams()
            self._state_dir = spec.state_dir
            statefiles.forget_exit(spec.state_dir)
            log = spec.log if spec.log.driver == "json-file" and spec.log.path else None
            if log is not None:
                # It must be there when the daemon hears that the container runs.
                os.close(os.open(log.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640))
            self._cgroup = cgroup = open_cgroup(spec.cgroup_path) if spec.cgroup_path else None
            if usernamespace.own(spec):
                usernamespace.give(self._child_ends[1:], spec.uid_mappings, spec.gid_mappings)
            pid, ours = self._await_birth()
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
            self._let_enter(ours)
            mounts = _hold_mounts(pid) if spec.disposable and spec.rootfs.fstype == "overlay" else -1
            oom = cgroup.oom_fd() if cgroup is not None else None
            listener = statefiles.listen(spec.state_dir)
            start_time = statefiles.start_time_of(pid)
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
            begin = Begin(
                name=f"pyker-m:{spec.id}",
                pid=pid,
                start_time=start_time,
                tty=self._process.tty,
                stdin_once=self._process.stdin_once,
                log=log,
                cgroup_path=spec.cgroup_path,
                state_dir=spec.state_dir,
                outlived="pid" not in spec.namespaces or bool(spec.namespaces["pid"]),
                pidfd=self._pidfd,
                oom=-1 if oom is None else oom,
                listener=listener.fileno(),
                mounts=mounts,
                controls=(self._control.fileno(),),
                clients=tuple(zip(self._clients, request.attachments, strict=True)),
            )
            self._hand_over(begin, ours)
        except BaseException as error:
            self._undo(error)
            if not isinstance(error, (PykerError, OSError)):
                raise

    def run_exec(self, request: Exec) -> None:
        """Start one more process in a container."""
        try:
            self._open_streams()
            if "user" in request.namespaces:
                usernamespace.give_like(self._child_ends[1:], request.pid)
            pid, ours = self._await_birth()
            self._let_enter(ours)
            begin = Begin(
                name=f"pyker-e:{request.container_id}",
                pid=pid,
                start_time=statefiles.start_time_of(pid),
                tty=self._process.tty,
                stdin_once=self._process.stdin_once,
                pidfd=self._pidfd,
                controls=(self._control.fileno(),),
                clients=tuple(zip(self._clients, request.attachments, strict=True)),
            )
            self._hand_over(begin, ours)
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

    def _await_birth(self) -> tuple[int, Socket]:
        """Returns (pid, channel) of the process. Raises what the cradle reports."""
        self._born = True
        try:
            message, fds = handshake.receive_from_init(self._cradle)
        except EOFError:
            raise SystemFailure("the process died before it was born") from None
        match message:
            case Born(pid):
                # The number cannot have got another owner: only the monitor could reap it, and that waits for us.
                self._pidfd = os.pidfd_open(pid)
                return pid, _socket.socket(fileno=fds[0])
            case Failure():
                raise message.error()
            case _:
                raise SystemFailure(f"unexpected message from a cradle: {type(message).__name__}")

    def _let_enter(self, ours: Socket) -> None:
        """Let the process go on, with its streams. If it has failed already, its report waits to be read."""
        with contextlib.suppress(Unavailable):
            handshake.send(ours, Enter(), self._child_ends)
        for fd in self._child_ends:
            os.close(fd)

    def _hand_over(self, begin: Begin, ours: Socket) -> NoReturn:
        """Wait until execve has succeeded, and meanwhile have all ready for the monitor; tell the daemon, and exit.

        ``begin`` lacks what a terminal will be. Raises what the child reports.
        """
        if not begin.tty:
            self._make_ready(begin, ours)
        ready: Ready | None = None
        ready_ns = 0
        while True:
            try:
                message, fds = handshake.receive_from_init(ours)
            except EOFError:
                break
            match message:
                case Pty():
                    self._outputs = [fds[0]]
                    if self._process.open_stdin:
                        self._stdin = os.dup(fds[0])
                    self._make_ready(begin, ours)
                case Ready():
                    ready, ready_ns = message, time.monotonic_ns()
                case Failure():
                    raise message.error()
        if ready is None:
            raise SystemFailure("the process died while it was being set up")
        stages = dict(ready.stages)
        stages["exec"] = time.monotonic_ns() - ready_ns
        handshake.send(self._control, Started(begin.pid, begin.start_time, stages, ready.warnings), (self._pidfd,))
        # Nothing may fail from here on: the monitor would not know what it has.
        if self._news is not None:
            os.dup2(self._news.fileno(), self._wake, inheritable=False)
            self._news.close()
        os.dup2(self._memfd, self._tell, inheritable=False)
        os.close(self._memfd)
        os.close(ours.fileno())
        # At once: socket objects that go out of scope would close what the monitor is to have.
        os._exit(0)

    def _make_ready(self, begin: Begin, ours: Socket) -> None:
        """Prepare what the monitor is to find, and close what is not for it."""
        outputs = dict(zip(self._outputs, (STDOUT, STDERR), strict=False))
        begin = handshake.changed(begin, outputs=outputs, stdin=self._stdin)
        holder_pid = 0
        if begin.clients:
            # Somebody waits for the end as much as for the start: the monitor shall have the processor.
            with contextlib.suppress(OSError):
                holder_pid = inplace.hold()
        else:
            self._news = select.epoll()
            for fd in (begin.pidfd, *begin.controls, begin.oom, begin.listener, *outputs):
                if fd >= 0:
                    self._news.register(fd, select.EPOLLIN | select.EPOLLPRI)
        self._memfd = handshake.write_begin(begin, self._cradle_pid, holder_pid)
        mine = {self._memfd, ours.fileno(), self._wake if self._news is None else self._news.fileno()}
        owned = {begin.pidfd, begin.stdin, begin.oom, begin.listener, begin.mounts, *outputs, *begin.controls}
        # The monitor has the same descriptors: what it does not need would stay open in it.
        sc.close_all_but({0, 1, 2, self._wake, self._tell, *mine, *owned, *self._clients})

    def _undo(self, error: BaseException) -> None:
        """Nothing is to be left of a start that failed: no process, cgroup or socket. Then tell the daemon why."""
        failure = Failure.of(error, "start")
        if not self._born:
            with contextlib.suppress(PykerError, OSError):
                self._await_birth()
        if self._pidfd >= 0:
            try:
                sc.pidfd_send_signal(self._pidfd, _signal.SIGKILL)
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


def _hold_mounts(pid: int) -> int:
    """The mount namespace of ``pid``, -1 if it cannot be opened.

    The last process of a mount namespace takes it apart before its end is seen, an overlay with a sync of the file
    system below it: a millisecond or more, unless somebody has it open. Source: namespaces(7).
    """
    try:
        return os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def main(requests: Socket, tell: int, wake: int, errors_to: int) -> NoReturn:
    """Take one request from the daemon, tell the launcher by ``tell``, do what was asked, and exit. Never returns.

    ``errors_to`` is the daemon's own log. Descriptors are shared with the monitor, as its ``main`` tells.
    """
    cradle_pid = 0
    try:
        cradle_channel, theirs = handshake.pair()
        # A sibling, for the monitor to see off: it has work after we are gone.
        cradle_pid = sc.fork(sc.CLONE_PARENT)
        if cradle_pid == 0:
            cradle.main(theirs, errors_to)
        theirs.close()
        sc.set_title("pyker-starter")
        # For those that answer aside: nobody waits for them.
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
        if not select.select([requests], [], [], 0)[0]:
            # Only while nobody waits: in a crowd of starts it would be one more thing to wait for.
            rehearsal.starter()
        while True:
            try:
                raw, fds = handshake.receive_raw(requests)
            except EOFError:
                os.write(tell, DAEMON_GONE)
                os._exit(0)
            if not handshake.is_about_netns(raw):
                break
            netns.answer_aside(raw, fds, errors_to)
        with contextlib.suppress(Unavailable):
            # If it is gone, that will be seen where we wait for it.
            handshake.send_raw(cradle_channel, raw, ())
        os.write(tell, TAKEN)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        requests.close()
        request = handshake.decode_request(raw)
        control = _socket.socket(fileno=fds[0])
        match request:
            case Run():
                process = request.spec.process
                Starter(control, fds[1:], cradle_pid, cradle_channel, tell, wake, process).run_container(request)
            case Exec():
                process = request.process
                Starter(control, fds[1:], cradle_pid, cradle_channel, tell, wake, process).run_exec(request)
    except Unavailable:
        # The daemon is gone, or the launcher: there is nobody to tell, and nothing of ours at fault.
        os._exit(1)
    except BaseException:  # noqa: BLE001 - a fault of ours: leave its trace where somebody looks
        import traceback

        os.write(errors_to, traceback.format_exc().encode())
        os._exit(1)
    os._exit(0)
