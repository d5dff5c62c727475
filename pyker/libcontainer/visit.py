"""A thread that makes sockets in network namespaces which are not its own.

setns(2) to a network namespace changes the calling thread and no other, and a socket stays for ever in the namespace
that it was made in. So one thread of the daemon, which does nothing else there, can have sockets in every container's
namespace without a process for each of them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from pyker.errors import KernelError
from pyker.libcontainer import syscalls as sc

_OWN = "/proc/thread-self/ns/net"


class Visitor:
    """Belongs to the thread that makes it. ``close`` lets go of the descriptor of its own namespace."""

    def __init__(self) -> None:
        self._home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """The thread stays where it is."""
        os.close(self._home)

    @contextmanager
    def inside(self, path: str) -> Iterator[None]:
        """Be in the network namespace pinned at ``path``, or at home for "".

        To be there only for as long as making a socket takes: the thread keeps the namespace alive. Where it is before
        does not matter, so that a way home which failed once is found the next time. Raises KernelError.
        """
        try:
            if path:
                place = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    sc.setns(place, sc.CLONE_NEWNET)
                finally:
                    os.close(place)
            else:
                sc.setns(self._home, sc.CLONE_NEWNET)
        except OSError as error:
            raise KernelError.from_oserror(error, syscall="setns", stage="network") from error
        try:
            yield
        finally:
            if path:
                try:
                    sc.setns(self._home, sc.CLONE_NEWNET)
                except OSError as error:
                    raise KernelError.from_oserror(error, syscall="setns", stage="network") from error

    def socket(self, path: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket in the namespace at ``path`` ("": at home), close-on-exec, non-blocking. Raises OSError."""
        with self.inside(path):
            return socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
