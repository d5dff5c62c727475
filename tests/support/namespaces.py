"""A NamespaceMaker for tests: it does by fork what the launcher does in the real engine."""

from __future__ import annotations

import ctypes
import os
import socket

from pyker.networkdriver.base import NamespaceMaker

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MNT_DETACH = 0x1000, 2


class ForkingNamespaceMaker(NamespaceMaker):
    """Each call forks a child that unshares or enters the namespace and sends a socket back."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def new_netns(self, path: str) -> int:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

        def enter() -> None:
            self._check(self._libc.unshare(_CLONE_NEWNET))
            self._check(self._libc.mount(b"/proc/self/ns/net", path.encode(), b"none", _MS_BIND, None))
            _loopback_up()

        return self._in_child(enter)

    def open_netns(self, path: str) -> int:
        def enter() -> None:
            descriptor = os.open(path, os.O_RDONLY)
            self._check(self._libc.setns(descriptor, _CLONE_NEWNET))

        return self._in_child(enter)

    def remove_netns(self, path: str) -> None:
        self._libc.umount2(path.encode(), _MNT_DETACH)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass

    def _check(self, result: int) -> None:
        if result:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def _in_child(self, enter: object) -> int:
        assert callable(enter)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        child = os.fork()
        if child == 0:
            try:
                enter()
                inside = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
                socket.send_fds(theirs, [b"k"], [inside.fileno()])
                os._exit(0)
            except OSError as error:
                theirs.send(repr(error).encode()[:200])
                os._exit(1)
        theirs.close()
        message, descriptors, _, _ = socket.recv_fds(ours, 256, 1)
        ours.close()
        os.waitpid(child, 0)
        if not descriptors:
            raise OSError(message.decode())
        os.set_inheritable(descriptors[0], False)
        return descriptors[0]


def _loopback_up() -> None:
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", b"lo", 0x1))  # SIOCSIFFLAGS, IFF_UP
