"""Clones that share their caller's memory.

``clone`` takes it over: for a process that was prepared for one child, and has no more to do. A Python process that
forks has its page tables copied, and then every page that the child touches: two milliseconds for what an init does.
Here nothing is copied: the child runs in the caller's memory, on the caller's stack, where the caller was, as after
vfork(2). That is safe because the caller never runs on that stack again, which a few instructions of our own see to;
where there are none for the machine, or the system allows no new code, callers fork.

``hold`` only holds it. The last process of a memory takes it apart when it exits, some 300 microseconds of a processor
that others may need just then; with a holder that is put off until somebody kills that one.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable

from pyker.libcontainer import syscalls as sc

_CLONE = {
    "x86_64": bytes.fromhex(
        "b8b3010000"  # mov $435, %eax: clone3
        "0f05"  # syscall
        "4885c0"  # test %rax, %rax
        "7f01"  # jg 1f
        "c3"  # ret: the child, or an error
        "b822000000"  # 1: mov $34, %eax: pause
        "0f05"  # syscall
        "ebf7"  # jmp 1b
    ),
}.get(os.uname().machine, b"")

_HOLD = {
    "x86_64": bytes.fromhex(
        "b8b3010000 0f05"  # mov $435, %eax: clone3; the third argument, the parent's pid, stays in %edx
        "4885c0 7401 c3"  # the caller, or an error: ret
        "b89d000000 bf01000000 be09000000 0f05"  # prctl(PR_SET_PDEATHSIG, SIGKILL)
        "b86e000000 0f05 39d0 7509"  # getppid() != %edx: jne 2f, the parent died before that
        "b822000000 0f05 ebf7"  # 1: pause(); jmp 1b
        "b83c000000 31ff 0f05"  # 2: exit(0)
    ),
}.get(os.uname().machine, b"")

_prepared: dict[bytes, Callable[..., int]] = {}
_pages: list[mmap.mmap] = []


def prepare() -> None:
    """Lay the instructions where this process and its children will find them, if this machine allows it."""
    for code, more in ((_CLONE, ()), (_HOLD, (ctypes.c_long,))):
        if code and code not in _prepared and (laid := lay(code, *more)) is not None:
            _prepared[code] = laid


def lay(code: bytes, *more: type[ctypes.c_long]) -> Callable[..., int] | None:
    """``code`` as a function of an address, a size and ``more``, for good; None if the system allows no new code."""
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.write(code)
    address = address_of(page)
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if protect(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC) != 0:
        return None
    _pages.append(page)
    # PYFUNCTYPE: a child must have the interpreter's lock, as its caller had.
    return ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t, *more)(address)


def address_of(page: mmap.mmap) -> int:
    """Where ``page`` is; it stays there, and cannot be closed."""
    return ctypes.addressof(ctypes.c_char.from_buffer(page))


def clone(flags: int, *, cgroup_fd: int = -1) -> int:
    """Returns in the child only: its pid, as the caller numbers it.

    The caller sleeps in the kernel until the child has called execve or is gone, then in pause(2): somebody has to
    kill it. It must have one thread. Raises OSError, ENOSYS if ``prepare`` could not; then nothing has happened.
    Source: clone3(2) CLONE_VM, CLONE_VFORK, CLONE_PARENT_SETTID.
    """
    if _CLONE not in _prepared:
        raise OSError(errno.ENOSYS, f"clone3: {os.strerror(errno.ENOSYS)}")
    pid = ctypes.c_int(0)
    arguments = sc.CloneArguments(
        flags=flags | sc.CLONE_VM | sc.CLONE_VFORK | sc.CLONE_PARENT_SETTID,
        parent_tid=ctypes.addressof(pid),
        # A sibling gets the caller's own exit signal; to name one is an error.
        exit_signal=0 if flags & sc.CLONE_PARENT else 17,
    )
    if cgroup_fd >= 0:
        arguments.flags |= sc.CLONE_INTO_CGROUP
        arguments.cgroup = cgroup_fd
    result = _prepared[_CLONE](ctypes.byref(arguments), ctypes.sizeof(arguments))
    if result < 0:
        raise OSError(-result, f"clone3: {os.strerror(-result)}")
    return pid.value


def hold() -> int:
    """Clone a sibling of the caller that does nothing, in its memory and with its descriptors; returns its pid.

    It sleeps until it is killed, by its parent, who has to reap it, or with its parent. Raises OSError, ENOSYS if
    ``prepare`` could not. Source: clone3(2) CLONE_VM, CLONE_FILES, CLONE_PARENT.
    """
    if _HOLD not in _prepared:
        raise OSError(errno.ENOSYS, f"clone3: {os.strerror(errno.ENOSYS)}")
    arguments = sc.CloneArguments(flags=sc.CLONE_VM | sc.CLONE_FILES | sc.CLONE_PARENT)
    pid = _prepared[_HOLD](ctypes.byref(arguments), ctypes.sizeof(arguments), os.getppid())
    if pid < 0:
        raise OSError(-pid, f"clone3: {os.strerror(-pid)}")
    return pid
