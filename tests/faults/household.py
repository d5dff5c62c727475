"""``python household.py SECONDS COMMAND...``: run a command, and end whatever it leaves.

A planted fault may leave containers whose monitors outlive everybody, as they should. They become children of this
process (prctl(2), PR_SET_CHILD_SUBREAPER) and go with it. Exits as the command does, with 124 when its time is over.
It uses nothing else of the tree, which has the fault.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
TIME_IS_OVER = 124


def main(timeout_s: float, command: list[str]) -> int:
    """Returns the exit code."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with subprocess.Popen(command) as child:
            try:
                return child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return TIME_IS_OVER
            finally:
                child.kill()
    finally:
        end_all()


def end_all() -> None:
    """End the children, and theirs as they become ours."""
    while True:
        children = [
            int(pid)
            for task in Path("/proc/self/task").iterdir()
            for pid in (task / "children").read_text(encoding="ascii").split()
        ]
        if not children:
            return
        for pid in children:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
