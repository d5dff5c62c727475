"""The launcher's loop without Python: it forks a monitor, sleeps until that one is taken, and forks the next.

All children of a process share the memory that none of them has written, and so do they with their parent, as long as
it has not written either: a page that it writes between one fork and the next is from then on a copy that only the
elder child has. A loop in Python writes some fifty pages each time round, which each monitor would hold for its life.
The instructions here write none: what the kernel tells them goes to a page that is shared. They also do what each
monitor does first. Where there are none for the machine, the launcher does it all in Python.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select
import struct
from typing import Any

from pyker.libcontainer import inplace

_CODE = {
    "x86_64": bytes.fromhex(
        "53 4154 4889fb 4989f4"  # %rbx: the page; %r12: where each child finds its descriptor
        # next:
        "b825010000 4889df be00000800 0f05"  # pipe2(page.pipe, O_CLOEXEC)
        "85c0 0f88e8000000"  # js out
        "b838000000 bf11000000 31f6 31d2 4531d2 4531c0 0f05"  # clone(SIGCHLD, 0, 0, 0, 0)
        "85c0 0f88ca000000 0f8488000000"  # js out; je born
        "b803000000 8b7b04 0f05"  # close(page.pipe[1])
        # listen:
        "31c0 8b3b 488d732c ba01000000 0f05"  # read(page.pipe[0], page.said, 1)
        "83f8fc 74ec"  # interrupted: listen
        "85c0 7e3c"  # jle died
        "807b2c74 7551"  # not TAKEN: gone
        "8b03 894310"  # page.poll[1].fd = page.pipe[0]
        "b807000000 488d7b08 be02000000 baffffffff 0f05"  # poll(page.poll, 2, -1)
        "66837b0e00 7522"  # a request waits: close
        "b807000000 488d7b08 be01000000 8b5328 0f05"  # poll(page.poll, 1, page.quiet_ms)
        "eb0d"  # close
        # died:
        "b823000000 488d7b18 31f6 0f05"  # nanosleep(page.pause, NULL)
        # close:
        "b803000000 8b3b 0f05"  # close(page.pipe[0])
        "e94cffffff"  # next
        # gone:
        "b801000000 41c70424ffffffff eb3c"  # descriptor = -1; return 1
        # born:
        "8b4304 41890424"  # descriptor = page.pipe[1]
        "b870000000 0f05"  # setsid()
        "b80d000000 bf11000000 488d7330 31d2 41ba08000000 0f05"  # rt_sigaction(SIGCHLD, page.default, NULL, 8)
        "b838000000 bf11440000 31f6 31d2 4531d2 4531c0 0f05"  # clone(SIGCHLD | CLONE_FILES | CLONE_VFORK, 0, 0, 0, 0)
        # out:
        "4863c0 415c 5b c3"  # return what the last call did
    ),
}.get(os.uname().machine, b"")

_PAGE = struct.Struct("=2i ihh ihh qq i")
"""Of the shared page: pipe, poll, pause, quiet_ms. After it a byte for what was said, and from 48 on zeros: SIG_DFL."""

_prepared: list[Any] = []


def prepare() -> None:
    """As ``inplace.prepare``."""
    if _CODE and not _prepared and (laid := inplace.lay(_CODE)) is not None:
        _prepared.append(laid)


def rear(channel: int, quiet_ms: int, pause_s: float) -> tuple[int, int]:
    """Returns (tell, pid) in each child, which leads a session of its own, and 0 for pid in a child of that one. Its
    parent shares its descriptors and goes on when it has exited (CLONE_FILES, CLONE_VFORK).

    ``tell`` is the descriptor by which one of them says to the caller ``t``, that it is taken, or anything else, that
    there shall be no more: then (-1, 1) is returned in the caller. The next is forked when the last is taken, and all
    who have that descriptor have closed it, and ``quiet_ms`` are over; sooner if ``channel`` is readable. One that dies
    before is replaced after ``pause_s``. Raises OSError, ENOSYS if ``prepare`` could not.
    """
    if not _prepared:
        raise OSError(errno.ENOSYS, f"clone: {os.strerror(errno.ENOSYS)}")
    page = mmap.mmap(-1, mmap.PAGESIZE)
    seconds, rest = divmod(int(pause_s * 1e9), 10**9)
    _PAGE.pack_into(page, 0, -1, -1, channel, select.POLLIN, 0, -1, 0, 0, seconds, rest, quiet_ms)
    tell = ctypes.c_int(-1)
    pid = _prepared[0](inplace.address_of(page), ctypes.addressof(tell))
    if pid < 0:
        raise OSError(-pid, f"clone: {os.strerror(-pid)}")
    return tell.value, pid
