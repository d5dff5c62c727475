"""The launcher: a process of one thread that waits for requests and forks a child for each.

``python -m pyker.libcontainer.launcher_main FD [PROGRAM]``: FD is its end of the socket pair to the daemon; when the
other end closes, it exits. PROGRAM is a descriptor that it was executed by, and closes. Whatever a child will need is
imported here, once; what is imported is frozen out of the garbage collector, so that children share its memory. The
launcher itself does not even decode requests: it never waits for anything but the next one. One monitor with its
starter is always ready, so that a start need not wait for two forks.
"""

from __future__ import annotations

import _socket
import codecs
import contextlib
import gc
import os
import signal
import sys
from typing import NoReturn

from pyker.errors import PykerError
from pyker.libcontainer import handshake, monitor, netns
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import open_cgroup
from pyker.libcontainer.handshake import Done, DropNetns, Failure, NewNetns, OpenNetns, Socket


def main(fd: int) -> NoReturn:
    """Serve requests from ``fd`` until the daemon is gone. Never returns."""
    sc.set_title("pyker-launcher")
    channel = _socket.socket(fileno=fd)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    # The kernel reaps children of a process that ignores SIGCHLD: no zombies, no waiting.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    errors_to = os.dup(2)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    _import_the_rest()
    gc.collect()
    gc.disable()
    gc.freeze()
    _serve(channel, errors_to)


def _serve(channel: Socket, errors_to: int) -> NoReturn:
    """Pass requests on; keep one monitor ready, made while there is nothing else to do."""
    spare: Socket | None = None
    while True:
        try:
            raw, fds = handshake.receive_raw(channel, wait=spare is not None)
        except BlockingIOError:
            spare = _fork_monitor(channel, errors_to)
            continue
        except EOFError:
            os._exit(0)
        if handshake.is_for_monitor(raw):
            ready = spare or _fork_monitor(channel, errors_to)
            spare = None
            # A spare that is gone (somebody killed it) takes the request with it: the daemon sees its socket close.
            with contextlib.suppress(PykerError):
                handshake.send_raw(ready, raw, fds)
            ready.close()
        else:
            _fork_answer(channel, spare, raw, fds)
        for received in fds:
            os.close(received)


def _fork_monitor(channel: Socket, errors_to: int) -> Socket:
    """A new monitor, waiting; returns the socket for its request. When that closes, the monitor exits."""
    ours, theirs = handshake.pair()
    # Not os.fork: its handlers touch half a megabyte of memory that would then be each child's own. What this process
    # itself touches from here on counts too: the child keeps the old pages. So it does as little as it can.
    pid, pidfd = sc.clone3(0)
    if pid == 0:
        channel.close()
        ours.close()
        monitor.main(theirs, errors_to)
    os.close(pidfd)
    theirs.close()
    return ours


def _fork_answer(channel: Socket, spare: Socket | None, raw: bytes, fds: list[int]) -> None:
    pid, pidfd = sc.clone3(0)
    if pid == 0:
        channel.close()
        if spare is not None:
            spare.close()
        os.setsid()
        _answer(raw, _socket.socket(fileno=fds[0]))
    os.close(pidfd)


def _import_the_rest() -> None:
    """Modules that are imported at their first use: no child should have to. Without cgroups there is nothing to do."""
    # A codec is a module too, and after pivot_root(2) it can't be found any more.
    for encoding in ("ascii", "latin-1", "utf-8"):
        codecs.lookup(encoding)
    with contextlib.suppress(PykerError):
        open_cgroup("/warm")
    if os.path.isdir("/sys/kernel/security/apparmor"):
        from pyker.libcontainer import apparmor

        apparmor.enabled()


def _answer(raw: bytes, reply: Socket) -> NoReturn:
    sc.set_name("pyker-netns")
    try:
        match handshake.decode_request(raw):
            case NewNetns(path):
                handshake.send(reply, Done(), (netns.new(path),))
            case OpenNetns(path):
                handshake.send(reply, Done(), (netns.open_pinned(path),))
            case DropNetns(path):
                netns.remove(path)
                handshake.send(reply, Done())
    except BaseException as error:  # noqa: BLE001 - the daemon waits for an answer, whatever happened
        handshake.send(reply, Failure.of(error, "netns"))
    os._exit(0)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        os.close(int(sys.argv[2]))
    main(int(sys.argv[1]))
