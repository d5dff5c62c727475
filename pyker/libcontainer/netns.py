"""Network namespaces pinned at a path: made, reached over netlink, let go. Each request gets a process of its own.

A daemon of many threads cannot enter a namespace; it does not need to: a netlink socket belongs for ever to the
namespace that it was made in, and can be passed on.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import struct

from pyker.errors import Unavailable
from pyker.libcontainer import handshake
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.handshake import Done, DropNetns, Failure, NewNetns, OpenNetns, Socket

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def answer_aside(raw: bytes, fds: list[int], errors_to: int) -> None:
    """Have a child do what ``raw`` asks for: whoever enters a namespace must not be used for anything else.

    The caller ignores SIGCHLD. ``fds`` are those that came with the request; they are closed here.
    """
    if sc.fork() == 0:
        try:
            request = handshake.decode_request(raw)
            assert isinstance(request, NewNetns | OpenNetns | DropNetns)
            answer(request, _socket.socket(fileno=fds[0]))
        except Unavailable:
            # The daemon is gone: there is nobody to tell.
            os._exit(1)
        except BaseException:  # noqa: BLE001 - a fault of ours: leave its trace where somebody looks
            import traceback

            os.write(errors_to, traceback.format_exc().encode())
            os._exit(1)
        os._exit(0)
    for fd in fds:
        os.close(fd)


def answer(request: NewNetns | OpenNetns | DropNetns, reply: Socket) -> None:
    """Do what the daemon asks for and answer on ``reply``, whatever happens: the daemon waits."""
    try:
        match request:
            case NewNetns(path):
                handshake.send(reply, Done(), (new(path),))
            case OpenNetns(path):
                handshake.send(reply, Done(), (open_pinned(path),))
            case DropNetns(path):
                remove(path)
                handshake.send(reply, Done())
    except BaseException as error:  # noqa: BLE001 - it goes to whom it concerns
        handshake.send(reply, Failure.of(error, "netns"))


def new(path: str) -> int:
    """Make a network namespace with loopback up, pin it at ``path``; returns a NETLINK_ROUTE socket in it.

    Leaves the caller inside it. Raises OSError; then nothing is left at ``path``.
    """
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    try:
        sc.unshare(sc.CLONE_NEWNET)
        sc.mount("/proc/self/ns/net", path, "", sc.MS_BIND)
    except OSError:
        os.unlink(path)
        raise
    _set_loopback_up()
    return _netlink()


def open_pinned(path: str) -> int:
    """A NETLINK_ROUTE socket in the namespace pinned at ``path``. Leaves the caller inside it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sc.setns(fd, sc.CLONE_NEWNET)
    finally:
        os.close(fd)
    return _netlink()


def remove(path: str) -> None:
    """Unpin. A path that is gone, or is no mount, is fine; the namespace lives on while a process is in it."""
    try:
        sc.umount2(path, sc.MNT_DETACH | sc.UMOUNT_NOFOLLOW)
    except OSError as error:
        # ENOENT: gone; EINVAL: not mounted.
        if error.errno not in (2, 22):
            raise
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _netlink() -> int:
    return _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, 0).detach()


def _set_loopback_up() -> None:
    # An ioctl: a fraction of what the same takes over netlink. Source: netdevice(7).
    control = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        request = bytearray(struct.pack("16sh22x", b"lo", _IFF_UP))
        fcntl.ioctl(control.fileno(), _SIOCSIFFLAGS, request)
    finally:
        control.close()
