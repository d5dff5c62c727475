"""Deleting a cgroup directory, which can be busy for some milliseconds after its last process has died."""

from __future__ import annotations

import errno
import os
import select
import time

from pyker.errors import KernelError

TIMEOUT_S = 2.0


def remove_directory(directory: str, timeout_s: float = TIMEOUT_S) -> None:
    """rmdir, cgroups below included; already gone is fine.

    EBUSY is retried with growing pauses: a process that was reaped still leaves its cgroup a little later.
    Raises: KernelError past ``timeout_s``, naming the processes that are left. Source: cgroups(7).
    """
    deadline = time.monotonic() + timeout_s
    pause_s = 0.0002
    while True:
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY) or time.monotonic() >= deadline:
                raise _failed(directory, error) from error
            _remove_below(directory, deadline)
            select.select([], [], [], pause_s)
            pause_s = min(pause_s * 2, 0.05)
        else:
            return


def _remove_below(directory: str, deadline: float) -> None:
    """A container may have made cgroups of its own below."""
    try:
        children = [entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for child in children:
        remove_directory(child, max(0.0, deadline - time.monotonic()))


def _failed(directory: str, error: OSError) -> KernelError:
    left = ""
    try:
        with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
            pids = file.read().split()
            left = f", processes left: {', '.join(pids[:8])}" if pids else ""
    except OSError:
        left = ""
    return KernelError(
        f"cgroup: rmdir {directory}: {os.strerror(error.errno or 0)}{left}",
        syscall="rmdir",
        errno=error.errno or 0,
        stage="cgroup",
    )
