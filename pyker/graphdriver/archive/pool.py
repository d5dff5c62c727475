"""The daemon's side of the layer workers: at most as many processes as cores, started on demand, gone when idle."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from pyker.errors import Cancelled, Corrupt, KernelError, SystemFailure

_MODULE = "pyker.graphdriver.archive.worker"
_IDLE_S = 10.0
_POLL_MS = 100


class _Worker:
    """One process and its socket."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self.idle_since = time.monotonic()

    def end(self, *, kill: bool = False) -> None:
        """Close its socket, which ends it; ``kill`` if it is in the middle of something."""
        self.connection.close()
        if kill:
            self.process.kill()
        self.process.wait()


class WorkerPool:
    """Runs requests in worker processes. Thread-safe; ``run`` blocks, also while all workers are busy."""

    def __init__(self, size: int = 0) -> None:
        self._size = size or os.cpu_count() or 1
        self._condition = threading.Condition()
        self._idle: list[_Worker] = []
        self._busy = 0
        self._closed = False
        self._janitor: threading.Thread | None = None

    def run(
        self,
        request: dict[str, Any],
        fds: Sequence[int],
        *,
        cancel: Callable[[], bool] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, Any]:
        """Do ``request`` (see ``worker``) with ``fds``, which stay the caller's.

        Raises:
            Cancelled: ``cancel()`` became true; the worker is gone, what it wrote is the caller's to remove.
            Corrupt: the data is not what it should be.
            KernelError: a system call failed, such as for want of space.
        """
        worker = self._take(cancel)
        whole = False
        try:
            try:
                socket.send_fds(worker.connection, [json.dumps(request).encode()], list(fds))
            except ConnectionError:
                worker.end(kill=True)
                worker = _Worker()
                socket.send_fds(worker.connection, [json.dumps(request).encode()], list(fds))
            answer = self._answer(worker, cancel, progress)
            whole = True
        finally:
            self._give_back(worker, whole=whole)
        error = answer.get("error")
        if error is None:
            done: dict[str, Any] = answer["done"]
            return done
        match error["class"]:
            case "corrupt":
                raise Corrupt(error["message"])
            case "kernel":
                stage = str(request["operation"])
                raise KernelError(f"{stage} layer: {error['message']}", errno=error["errno"], stage=stage)
            case _:
                raise SystemFailure(f"{request['operation']} layer: {error['message']}")

    def close(self) -> None:
        """End the idle workers, and each busy one when it is done."""
        with self._condition:
            self._closed = True
            idle, self._idle = self._idle, []
            self._condition.notify_all()
        for worker in idle:
            worker.end()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, cancel: Callable[[], bool] | None) -> _Worker:
        with self._condition:
            while self._busy >= self._size and not self._closed:
                self._condition.wait(_POLL_MS / 1000)
                if cancel is not None and cancel():
                    raise Cancelled("the job was cancelled")
            if self._closed:
                raise Cancelled("the engine is shutting down")
            self._busy += 1
            worker = self._idle.pop() if self._idle else None
        if worker is not None:
            return worker
        try:
            return _Worker()
        except BaseException:
            with self._condition:
                self._busy -= 1
            raise

    def _give_back(self, worker: _Worker, *, whole: bool) -> None:
        with self._condition:
            self._busy -= 1
            kept = whole and not self._closed
            if kept:
                worker.idle_since = time.monotonic()
                self._idle.append(worker)
                if self._janitor is None:
                    self._janitor = threading.Thread(target=self._tidy, name="layer-workers", daemon=True)
                    self._janitor.start()
            self._condition.notify_all()
        if not kept:
            worker.end(kill=True)

    def _tidy(self) -> None:
        """End workers that nobody has used for a while; the thread ends with the last of them."""
        while True:
            with self._condition:
                if not self._idle:
                    self._janitor = None
                    return
                left = self._idle[0].idle_since + _IDLE_S - time.monotonic()
                if left > 0:
                    self._condition.wait(left)
                    continue
                worker = self._idle.pop(0)
            worker.end()

    @staticmethod
    def _answer(
        worker: _Worker, cancel: Callable[[], bool] | None, progress: Callable[[int], None] | None
    ) -> dict[str, Any]:
        poller = select.poll()
        poller.register(worker.connection, select.POLLIN)
        while True:
            if not poller.poll(_POLL_MS):
                if cancel is not None and cancel():
                    raise Cancelled("the job was cancelled")
                continue
            data = worker.connection.recv(1 << 16)
            if not data:
                status = worker.process.wait()
                raise SystemFailure(f"a layer worker died with status {status}")
            message: dict[str, Any] = json.loads(data)
            if "progress" not in message:
                return message
            if progress is not None:
                progress(message["progress"])
            if cancel is not None and cancel():
                raise Cancelled("the job was cancelled")
