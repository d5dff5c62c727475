"""Run a function in a child process of one thread, as libcontainer's own code runs, and get its answer back."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class ChildFailed(AssertionError):
    """The child raised, or ended by a signal."""


def in_child(function: Callable[[], T]) -> T:
    """What ``function`` returns in a fork of this process. Raises: ChildFailed with the child's traceback."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            os.close(reader)
            answer = pickle.dumps((True, function()))
        except BaseException:  # noqa: BLE001 - whatever it is, the parent must hear of it
            answer = pickle.dumps((False, traceback.format_exc()))
            code = 1
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(answer)
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        raise ChildFailed(f"the child ended with status {status:#x}")
    good, answer = pickle.loads(data)
    if not good:
        raise ChildFailed(str(answer))
    value: T = answer
    return value


class Sleeper:
    """A child that does nothing until it is told to end; ``before`` runs in it first. A context manager."""

    def __init__(self, before: Callable[[], object] | None = None) -> None:
        ready, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                # PR_SET_PDEATHSIG: it does not outlive a test process that is killed.
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)
                if before is not None:
                    before()
                os.write(tell, b"r")
                while True:
                    signal.pause()
            finally:
                os._exit(1)
        os.close(tell)
        self.ready = os.read(ready, 1) == b"r"
        os.close(ready)
        self.status: int | None = None

    def __enter__(self) -> Sleeper:
        if not self.ready:
            self.end()
            raise ChildFailed("the child failed before it was ready")
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> int:
        """Kill and reap it; its wait status."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            _, self.status = os.waitpid(self.pid, 0)
        return self.status

    def wait(self) -> int:
        """Reap it once it has ended by itself; its wait status."""
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)
        return self.status
