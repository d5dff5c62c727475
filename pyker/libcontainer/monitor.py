"""The monitor: one process a container, from before its first process to after its last.

It is forked by the launcher and outlives it and the daemon. It lets others bring the process into being, then owns
the pipes or the terminal, writes the log, serves attached clients, waits for the process, writes the exit record and
removes the cgroup. The daemon that asked for it talks to it over a socket pair, later daemons over ``monitor.sock``
in the state folder; both speak ``pyker.libcontainer.handshake``. An exec has a monitor too, which keeps no files.

It is small: what it does while its container runs touches little of the memory that it shares with the launcher.
Whatever takes more it leaves to a speaker, a child that is forked when there is something to do (output, a client, a
daemon) and that retires when there has been nothing for a while. What it touched is gone with it. The monitor sleeps
meanwhile: it waits for both, and tells the speaker how the process ended. Both have the same descriptors.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import select
import time
from collections.abc import Callable

# By name: what a monitor does before it sleeps should touch as few modules and their words as possible.
from os import O_CLOEXEC, WNOHANG, close, getpid, kill, pipe2, read, waitpid
from typing import NoReturn

from pyker.errors import PykerError, Unavailable
from pyker.libcontainer import console, handshake, statefiles
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import Cgroup, open_cgroup
from pyker.libcontainer.handshake import Attach, Begin, CloseStdin, Exited, Oom, Resize, Socket, Started
from pyker.libcontainer.logfile import JsonFileLog
from pyker.libcontainer.spec import ExitRecord
from pyker.libcontainer.streams import Poller, StreamPump

DRAIN_S = 1.0
"""How long output may still come after the process ended, from others that hold its pipes."""
HELPERS_S = 0.05
"""How long a process has been running before those are seen off who brought it into being."""
QUIET_S = 0.008
"""After the end of a process: what its client does then, and its removal."""
FLUSH_S = 10.0
"""How long the exit is held back for attached clients that are slow to take the last output."""
REST_S = 2.0
"""After how long without anything to do a speaker retires."""
_SIGKILL = int(_signal.SIGKILL)
FAILED, RETIRED = 1, 2
"""What a speaker exits with, if not with 0: that the process has ended, and all is done."""


class Monitor:
    """Stays with one process until it has ended. It owns the descriptors of ``begin``. ``status`` is called once, when
    the process has ended: it returns how, as wait(2) does. ``helpers`` are those of ``sleep``.
    """

    def __init__(self, begin: Begin, status: Callable[[], int], helpers: tuple[int, ...] = ()) -> None:
        self._begin = begin
        self._status = status
        self._helpers = helpers
        self._helpers_until = time.monotonic() + HELPERS_S
        self._poller = poller = Poller()
        self._controls: list[Socket] = []
        self._pidfd = begin.pidfd
        self._terminal = next(iter(begin.outputs), -1) if begin.tty else -1
        self._oom_fd = begin.oom
        self._oom_kills = begin.oom_kills
        self._listener: Socket | None = None
        self._log: JsonFileLog | None = None
        self._wait_status: int | None = None
        self._ended_ns = 0
        self._pump = StreamPump(
            poller,
            begin.outputs,
            begin.stdin,
            tty=begin.tty,
            stdin_once=begin.stdin_once,
            log=self if begin.log is not None else None,
        )
        if begin.unfinished:
            # To be written at the end, also if nothing follows.
            self._open_log()
        for fd, streams in begin.clients:
            self._pump.attach(fd, streams)
        poller.watch(self._pidfd, select.POLLIN, self._process_ended)
        if self._oom_fd >= 0:
            poller.watch(self._oom_fd, select.POLLIN | select.POLLPRI, self._memory_exhausted)
        if begin.listener >= 0:
            self._listener = Socket(fileno=begin.listener)
            poller.watch(begin.listener, select.POLLIN, self._accept)
        for fd in begin.controls:
            self._listen_to(Socket(fileno=fd))

    def abandon(self) -> None:
        """Let go of the descriptors that the end of the process would otherwise close."""
        for control in self._controls:
            control.close()
        os.close(self._pidfd)

    def write(self, stream: int, data: bytes, time_ns: int) -> None:
        """The pump's log. The file is opened when there is something to write: many containers never say a word."""
        self._open_log().write(stream, data, time_ns)

    def mark(self) -> tuple[int, int]:
        """Where the pump's log ends now."""
        return self._open_log().mark()

    def unfinished(self) -> dict[int, bytes]:
        """What the pump's log holds back until there is a whole line."""
        return self._open_log().unfinished()

    def _open_log(self) -> JsonFileLog:
        if self._log is None:
            assert self._begin.log is not None
            self._log = JsonFileLog(self._begin.log, self._begin.unfinished)
        return self._log

    def serve(self, rest_s: float | None = None) -> bool:
        """Move bytes and answer until the process has ended and its output is delivered; then report and tidy up.

        Returns False, before that, when there was nothing to do for ``rest_s``, and ``retire`` may follow.
        """
        pump = self._pump
        poller = self._poller
        while self._wait_status is None:
            if self._helpers:
                poller.run_once(max(0.0, self._helpers_until - time.monotonic()))
                if time.monotonic() >= self._helpers_until:
                    self._end_helpers()
            elif pump.behind:
                poller.run_once(pump.seconds_left())
                pump.expire()
            elif not poller.run_once(rest_s) and pump.resting and (self._log is None or self._log.resting):
                return False
        self._drain(pump)
        self._finish(pump)
        if self._helpers:
            # To take their memory apart takes a processor that whoever was told of the end needs more now.
            time.sleep(QUIET_S)
            self._end_helpers()
        return True

    def retire(self, memfd: int, news: int) -> None:
        """Leave all to another: to ``memfd`` the state, and in place of the descriptor ``news`` one that turns readable
        when there is something to do. Not to be used after this.
        """
        epoll = select.epoll()
        for fd in self._poller.watched:
            epoll.register(fd, select.EPOLLIN | select.EPOLLPRI)
        os.dup2(epoll.fileno(), news, inheritable=False)
        epoll.close()
        if self._listener is not None:
            self._listener.detach()
        handshake.rewrite_begin(
            memfd,
            handshake.changed(
                self._begin,
                outputs=self._pump.outputs,
                stdin=self._pump.stdin,
                oom=self._oom_fd,
                controls=tuple([control.detach() for control in self._controls]),
                clients=(),
                oom_kills=self._oom_kills,
                unfinished=self._log.leave() if self._log is not None else {},
            ),
        )

    def _end_helpers(self) -> None:
        if self._helpers:
            end_helpers(self._helpers)
            self._helpers = ()

    def _drain(self, pump: StreamPump) -> None:
        """The process is gone; what it said is to reach everybody before its end does, within limits."""
        if self._begin.outlived:
            self._kill_cgroup()
        ended = time.monotonic()
        while not pump.outputs_ended:
            left = ended + DRAIN_S - time.monotonic()
            if left <= 0:
                pump.read_rest()
                break
            self._poller.run_once(left)
        while not pump.drained:
            left = ended + FLUSH_S - time.monotonic()
            if left <= 0:
                break
            self._poller.run_once(left)

    def _process_ended(self, _: int) -> None:
        self._wait_status = self._status()
        self._ended_ns = time.time_ns()
        self._poller.forget(self._pidfd)

    def _finish(self, pump: StreamPump) -> None:
        """Deliver, record, report, in this order; then let go of what is left."""
        assert self._wait_status is not None
        self._report_oom()
        code = os.waitstatus_to_exitcode(self._wait_status)
        record = ExitRecord(
            exit_code=128 - code if code < 0 else code,
            signal=max(-code, 0),
            oom_killed=self._oom_kills > 0,
            ended_ns=self._ended_ns,
        )
        pump.end_clients()
        if self._log is not None:
            self._log.close()
        removed = self._remove_cgroup()
        if self._begin.state_dir:
            try:
                statefiles.write_exit(self._begin.state_dir, record)
            except OSError:
                # A full or failing disk: who is connected shall hear how it ended all the same.
                removed = False
            # With a cgroup left over the state stays, so that the driver's cleanup knows where it is.
            statefiles.forget(self._begin.state_dir, state=removed)
        self._send(Exited(record))
        if self._begin.mounts >= 0:
            os.close(self._begin.mounts)
        while not pump.drained:
            # Whoever is still reading gets all of it, however slowly; only the news of the end could not wait.
            self._poller.run_once(pump.seconds_left())
            pump.expire()
        pump.end_clients()
        pump.close()

    def _cgroup(self) -> Cgroup | None:
        return open_cgroup(self._begin.cgroup_path) if self._begin.cgroup_path else None

    def _kill_cgroup(self) -> None:
        """Without a PID namespace of its own a container's other processes survive its first: end them."""
        cgroup = self._cgroup()
        if cgroup is None:
            return
        for pid in cgroup.pids():
            try:
                os.kill(pid, _signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _remove_cgroup(self) -> bool:
        if self._oom_fd >= 0:
            self._poller.forget(self._oom_fd)
            os.close(self._oom_fd)
            self._oom_fd = -1
        cgroup = self._cgroup()
        if cgroup is None:
            return True
        try:
            cgroup.remove()
        except PykerError:
            return False
        return True

    # Events

    def _memory_exhausted(self, _: int) -> None:
        try:
            os.read(self._oom_fd, 4096)
        except BlockingIOError:
            return
        self._report_oom()

    def _report_oom(self) -> None:
        """Tell of what the kernel has killed since the last look. It may count it a little after it signalled."""
        cgroup = self._cgroup()
        if cgroup is None:
            return
        try:
            killed = cgroup.oom_count()
        except (PykerError, OSError):
            return
        if killed > self._oom_kills:
            self._oom_kills = killed
            self._send(Oom())

    def _accept(self, _: int) -> None:
        assert self._listener is not None
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        control = Socket(fileno=fd)
        self._listen_to(control)
        try:
            handshake.send(control, Started(self._begin.pid, self._begin.start_time, {}), (self._pidfd,))
        except Unavailable:
            self._hang_up(control)

    def _listen_to(self, control: Socket) -> None:
        self._controls.append(control)
        self._poller.watch(control.fileno(), select.POLLIN, lambda _: self._commands(control), first=True)

    def _commands(self, control: Socket) -> None:
        try:
            while True:
                self._command(*handshake.receive_from_daemon(control, wait=False))
        except BlockingIOError:
            return
        except (EOFError, OSError):
            self._hang_up(control)

    def _command(self, message: handshake.ToMonitor, fds: list[int]) -> None:
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


def have_spoken(pid: int, tell: int, news: int, rest_s: float) -> int | None:
    """Have a speaker do what there is to do, until it retires. If the process ``pid`` ended and the speaker does not
    know, returns how; does not return if it has dealt with that.
    """
    ends, end = pipe2(O_CLOEXEC)
    us = getpid()
    speaker = sc.fork(sc.CLONE_FILES)
    if speaker == 0:
        _speak(us, tell, news, ends, rest_s)
    status: int | None = None
    while True:
        who, how = waitpid(-1, 0)
        if who != speaker:
            status = how
            os.write(end, b"%d" % how)
        elif how == RETIRED << 8:
            break
        else:
            os._exit(how and 1)
    close(ends)
    close(end)
    return status


def _speak(monitor: int, tell: int, news: int, ends: int, rest_s: float) -> NoReturn:
    """A speaker's life; ``ends`` tells how the process ended, once it has. It does not outlive ``monitor``."""
    code = FAILED
    try:
        sc.prctl(sc.PR_SET_PDEATHSIG, _signal.SIGKILL)
        if os.getppid() == monitor:
            begin = handshake.read_begin(tell)
            sc.set_title("pyker-s" + begin.name[7:])
            served = Monitor(begin, lambda: int(os.read(ends, handshake.PID_DIGITS)))
            if served.serve(rest_s):
                code = 0
            else:
                served.retire(tell, news)
                code = RETIRED
    except BaseException:  # noqa: BLE001 - a fault of ours: leave its trace where somebody looks
        _report_fault(tell)
    finally:
        os._exit(code)


def end_helpers(helpers: tuple[int, ...]) -> None:
    """Reap those who brought the process into being. All but the first, the starter, must be told that it is over."""
    for pid in helpers[1:]:
        kill(pid, _SIGKILL)
    for pid in helpers:
        waitpid(pid, 0)


def _report_fault(tell: int) -> None:
    """Have the daemon log the exception that is being handled, if one listens."""
    import traceback

    trace = traceback.format_exc()
    for fd in handshake.read_begin(tell).controls:
        try:
            handshake.send(Socket(fileno=fd), handshake.Fault(trace))
        except (PykerError, OSError):
            continue


def _end_all() -> None:
    """Nothing came of it: kill and reap whatever there is."""
    with open("/proc/thread-self/children") as children:
        for pid in children.read().split():
            os.kill(int(pid), _signal.SIGKILL)
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return


def sleep(starter_pid: int, tell: int, news: select.epoll, room: int) -> tuple[int, tuple[int, ...], bool]:
    """Wait until the process is there, and there is something to do. Returns its pid, those of its helpers (starter,
    cradle, holder; none if they were seen off already), and whether clients are attached from the beginning, which
    is something to do at once; (0, (), False) if there will be no process.
    """
    try:
        title = read(tell, room)
    except OSError:
        return 0, (), False
    sc.set_raw_title(title)
    pid = int(read(tell, handshake.PID_DIGITS))
    helpers: tuple[int, ...] = (starter_pid, int(read(tell, handshake.PID_DIGITS)))
    if holder_pid := int(read(tell, handshake.PID_DIGITS)):
        helpers = (*helpers, holder_pid)
    if read(tell, 1) == handshake.ATTENDED:
        return pid, helpers, True
    # To see them off takes a moment, which a command that ends at once shall not wait for.
    if not news.poll(HELPERS_S, 1):
        end_helpers(helpers)
        helpers = ()
        news.poll(-1, 1)
    return pid, helpers, False


def sleep_on(pid: int, news: select.epoll, timeout_s: float) -> tuple[int, int]:
    """Wait for something to do, and have waitpid(2) say whether it is that the process has ended."""
    news.poll(timeout_s, 1)
    return waitpid(pid, WNOHANG)


def main(starter_pid: int, tell: int, news: select.epoll, room: int) -> NoReturn:
    """Let a starter and a cradle bring a process into being, and become its monitor. Never returns.

    The starter was forked, and has exited; it has left us the descriptors that we shall need: what it has to say at
    ``tell``, and in place of ``news`` one that tells when the process ends or says something, or anybody wants
    anything, unless somebody is attached, who needs us at once. ``room`` is a title's length. Source: clone(2)
    CLONE_FILES.
    """
    code = 0
    try:
        pid, helpers, attended = sleep(starter_pid, tell, news, room)
        if not pid:
            # Nothing was handed over. The daemon was told by the starter; the process, if there was one, is dead, or
            # dies now.
            os.closerange(3, 1024)
            _end_all()
            os._exit(0)
        status: int | None = None
        timeout_s = 0.0
        while not attended:
            ended, status = sleep_on(pid, news, timeout_s)
            if ended:
                break
            if helpers:
                end_helpers(helpers)
                helpers = ()
            status = have_spoken(pid, tell, news.fileno(), REST_S)
            if status is not None:
                break
            timeout_s = -1
        news.close()
        begin = handshake.read_begin(tell)
        # Whoever is attached from the beginning shall not wait for a fork; and at the end there is nothing to save.
        Monitor(begin, lambda: waitpid(pid, 0)[1] if status is None else status, helpers).serve()
    except BaseException:  # noqa: BLE001 - a fault of ours: leave its trace where somebody looks
        code = 1
        _report_fault(tell)
    finally:
        os._exit(code)
