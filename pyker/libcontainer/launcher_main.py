"""The launcher: a process of one thread that keeps one monitor ready, and forks the next when that one is taken.

``python -m pyker.libcontainer.launcher_main FD [PROGRAM]``: FD is its end of the socket pair to the daemon; PROGRAM is
a descriptor that it was executed by, and closes. It never reads a request itself: the starter of the monitor that is
ready does, says so on a pipe, and gets its successor. So a start waits for no fork, and what the launcher touches of
the memory that it shares with every monitor, which each of them would have to keep in its old state, is next to
nothing. Whatever a child will need is imported here, once, and frozen out of the garbage collector.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import codecs
import contextlib
import errno
import gc
import os
import select
import signal
import sys
import time
from typing import NoReturn

from pyker.errors import PykerError
from pyker.libcontainer import (
    capabilities,
    credentials,
    handshake,
    inplace,
    monitor,
    nursery,
    rehearsal,
    starter,
)
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import open_cgroup
from pyker.libcontainer.handshake import Begin, Socket, Streams
from pyker.libcontainer.spec import LogSpec
from pyker.libcontainer.streams import STDERR, STDOUT

REHEARSALS = 12
"""The interpreter begins to specialise code after eight runs."""
QUIET_MS = 6
"""After a start: what a short command and its removal take."""
PAUSE_S = 0.1
"""Before a monitor that died while it was ready is replaced: whatever kills them shall not keep us busy."""


def main(fd: int) -> NoReturn:
    """Serve requests from ``fd`` until the daemon is gone. Never returns."""
    sc.set_title("pyker-launcher")
    channel = _socket.socket(fileno=fd)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    errors_to = os.dup(2)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    try:
        _import_the_rest()
        inplace.prepare()
        nursery.prepare()
        for _ in range(REHEARSALS):
            _rehearse()
            rehearsal.starter()
            rehearsal.init()
    except BaseException:  # noqa: BLE001 - a fault of ours: leave its trace where somebody looks
        import traceback

        os.write(errors_to, traceback.format_exc().encode())
        os._exit(1)
    # The kernel reaps children of a process that ignores SIGCHLD: no zombies, no waiting.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    credentials.note_ignored_signals()
    gc.collect()
    gc.disable()
    gc.freeze()
    _keep_one_ready(channel, errors_to)


def _keep_one_ready(channel: Socket, errors_to: int) -> NoReturn:
    epoll = select.epoll()
    news = epoll.fileno()
    room = sc.title_room()
    # Looked up now: each look is at memory that the monitor would have to copy.
    become_monitor = monitor.main
    try:
        tell, pid = nursery.rear(channel.fileno(), QUIET_MS, PAUSE_S)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        tell, pid = _rear(channel.fileno())
    if pid == 0:
        starter.main(channel, tell, news, errors_to)
    if tell < 0:
        os._exit(0)
    become_monitor(pid, tell, epoll, room)


def _rear(channel: int) -> tuple[int, int]:
    """``nursery.rear`` for machines that it has no instructions for."""
    waiting = select.poll()
    waiting.register(channel, select.POLLIN)
    while True:
        news, tell = os.pipe2(os.O_CLOEXEC)
        # Not os.fork: its handlers touch half a megabyte of memory that would then be each child's own.
        if sc.fork() == 0:
            os.setsid()
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            return tell, sc.fork(sc.CLONE_FILES | sc.CLONE_VFORK)
        os.close(tell)
        said = os.read(news, 1)
        if said == starter.DAEMON_GONE:
            return -1, 1
        if said == starter.TAKEN:
            _wait_for_quiet(waiting, news)
        else:
            time.sleep(PAUSE_S)
        os.close(news)


def _wait_for_quiet(waiting: select.poll, news: int) -> None:
    """Return when another request waits at the channel that ``waiting`` has, or a little after the start that was taken
    is over, when ``news`` ends: the starter has handed over, or failed.

    Forking a successor takes some milliseconds of a processor: taken from a start, and from a command that ends at
    once, they would make it that much longer.
    """
    waiting.register(news, 0)
    ((ready, _), *more) = waiting.poll()
    waiting.unregister(news)
    if ready == news and not more:
        waiting.poll(QUIET_MS)


def _rehearse() -> None:
    """Play a monitor's part from beginning to end, with a process that says two lines, and exits when told; and in
    between, in a child, a speaker's.

    What the interpreter learns about code when it runs (specialised instructions, caches) it writes beside the code.
    Learnt here, it is shared by all monitors; learnt by each, it would cost each some hundred kilobytes.
    """
    us = os.getpid()
    daemon, control = handshake.pair()
    out_read, out_write = os.pipe2(os.O_CLOEXEC)
    err_read, err_write = os.pipe2(os.O_CLOEXEC)
    wait, go = os.pipe2(os.O_CLOEXEC)
    ours, theirs = _socket.socketpair()
    pid, pidfd = sc.clone3(0)
    if pid == 0:
        _go_with(us)
        os.write(out_write, b"out\n")
        os.write(err_write, b"err")
        os.read(wait, 1)
        os._exit(0)
    begin = Begin(
        name="pyker-launcher",
        pid=pid,
        start_time=0,
        tty=False,
        stdin_once=False,
        log=LogSpec(path="/dev/null"),
        pidfd=pidfd,
        outputs={out_read: STDOUT, err_read: STDERR},
        controls=(control.detach(),),
    )
    cradle_pid = sc.fork()
    if cradle_pid == 0:
        _go_with(us)
        select.select([], [], [])
    memfd = handshake.write_begin(begin, cradle_pid)
    for fd in (out_write, err_write):
        os.close(fd)
    starter_pid = sc.fork(sc.CLONE_FILES | sc.CLONE_VFORK)
    if starter_pid == 0:
        os._exit(0)
    news = select.epoll()
    news.register(out_read, select.EPOLLIN)
    # On a busy machine it has seen them off itself, when it waited too long for the first word.
    _, left, _ = monitor.sleep(starter_pid, memfd, news, sc.title_room())
    if left:
        monitor.end_helpers(left)
    monitor.have_spoken(pid, memfd, news.fileno(), 0.0)
    monitor.sleep_on(pid, news, 0.0)
    begin = handshake.changed(handshake.read_begin(memfd), clients=((theirs.detach(), Streams()),))
    os.write(go, b"x")
    news.close()
    os.close(memfd)
    playing = monitor.Monitor(begin, lambda: os.waitpid(pid, 0)[1])
    ours.shutdown(_socket.SHUT_WR)
    playing.serve()
    playing.abandon()
    for channel in (daemon, ours):
        channel.close()
    for fd in (wait, go):
        os.close(fd)


def _go_with(launcher: int) -> None:
    """Die when the launcher does: who is left would keep the channel open, and the daemon waiting for an answer."""
    sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:
        os._exit(1)


def _import_the_rest() -> None:
    """Whatever is imported at its first use. Children import nothing: in a container it would come from the image."""
    for encoding in ("ascii", "latin-1", "unicode_escape"):
        codecs.lookup(encoding)
    capabilities.bounding_set()
    with contextlib.suppress(PykerError):
        open_cgroup("/warm")
    if os.path.isdir("/sys/kernel/security/apparmor"):
        from pyker.libcontainer import apparmor

        apparmor.enabled()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        os.close(int(sys.argv[2]))
    main(int(sys.argv[1]))
