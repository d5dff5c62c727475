"""The launcher: a process of one thread that waits for requests and forks a child for each.

``python -m pyker.libcontainer.launcher_main FD``: FD is its end of the socket pair to the daemon; when the other end
closes, it exits. Whatever a child will need is imported here, once; what is imported is frozen out of the garbage
collector, so that children share its memory. The launcher itself does not even decode requests: it never waits.
"""

from __future__ import annotations

import _socket
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
from pyker.libcontainer.handshake import Done, DropNetns, Exec, Failure, NewNetns, OpenNetns, Run, Socket


def main(fd: int) -> NoReturn:
    """Serve requests from ``fd`` until the daemon is gone. Never returns."""
    sc.set_name("pyker-launcher")
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
    while True:
        try:
            raw, fds = handshake.receive_raw(channel)
        except EOFError:
            os._exit(0)
        # Not os.fork: its handlers touch half a megabyte of memory that would then be each child's own.
        pid, pidfd = sc.clone3(0)
        if pid == 0:
            channel.close()
            _child(raw, fds, errors_to)
        os.close(pidfd)
        for received in fds:
            os.close(received)


def _import_the_rest() -> None:
    """Modules that are imported at their first use: no child should have to. Without cgroups there is nothing to do."""
    with contextlib.suppress(PykerError):
        open_cgroup("/warm")


def _child(raw: bytes, fds: list[int], errors_to: int) -> NoReturn:
    os.setsid()
    if handshake.is_for_monitor(raw):
        monitor.main(raw, fds, errors_to)
    try:
        request = handshake.decode_request(raw)
    except ValueError:
        os._exit(2)
    assert not isinstance(request, (Run, Exec))
    _answer(request, _socket.socket(fileno=fds[0]))


def _answer(request: NewNetns | OpenNetns | DropNetns, reply: Socket) -> NoReturn:
    sc.set_name("pyker-netns")
    try:
        match request:
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
    main(int(sys.argv[1]))
