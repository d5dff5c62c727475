"""Pseudo-terminals of containers: made from the container's own devpts, used by a process, sized."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from pyker.errors import KernelError
from pyker.libcontainer import syscalls as sc

_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_PTMX_DEVICE = os.makedev(5, 2)


def open_pty(ptmx: int) -> tuple[int, int]:
    """Unlock a freshly opened ptmx and open its other end; returns (master, slave). ``ptmx`` becomes the master.

    Raises: KernelError if it is not a devpts ptmx: an image may have put something else there. Source: pts(4),
    ioctl_tty(2) TIOCGPTPEER.
    """
    if sc.fstatfs_type(ptmx) != sc.DEVPTS_SUPER_MAGIC or os.fstat(ptmx).st_rdev != _PTMX_DEVICE:
        raise KernelError("console: /dev/pts/ptmx is not a pseudo-terminal multiplexer", stage="console")
    fcntl.ioctl(ptmx, _TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(ptmx, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    return ptmx, slave


def set_size(fd: int, height: int, width: int) -> None:
    """Set the terminal's size in characters; its foreground processes get SIGWINCH. Source: ioctl_tty(2) TIOCSWINSZ."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", height & 0xFFFF, width & 0xFFFF, 0, 0))


def make_controlling(slave: int) -> None:
    """Make ``slave`` the controlling terminal of the caller, a session leader without one. ioctl_tty(2) TIOCSCTTY."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
