"""A layer's tar as a stream that a worker process fills."""

from __future__ import annotations

import io
import os
import threading
from typing import Any

from pyker.errors import Cancelled, PykerError
from pyker.graphdriver.archive.pool import WorkerPool


class TarStream(io.RawIOBase):
    """Read it like a file, and close it. An early close stops the worker.

    At the end ``result`` has ``diff_id`` (of the plain tar), and ``digest`` and ``size`` of the bytes that came out.
    A read raises what went wrong in the worker.
    """

    def __init__(self, workers: WorkerPool, request: dict[str, Any], fds: list[int]) -> None:
        super().__init__()
        self.result: dict[str, Any] = {}
        self._error: PykerError | None = None
        self._fd, theirs = os.pipe()
        self._thread = threading.Thread(
            target=self._run, args=(workers, request, [*fds, theirs]), name="tar-stream", daemon=True
        )
        self._thread.start()

    def _run(self, workers: WorkerPool, request: dict[str, Any], fds: list[int]) -> None:
        try:
            # The pipe's write end is closed here as soon as the worker is done: that ends the read.
            self.result = workers.run(request, fds, cancel=lambda: self.closed)
        except Cancelled:
            return
        except PykerError as error:
            self._error = error
        finally:
            for fd in fds:
                os.close(fd)

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``; 0 at the end. Raises what the worker ran into."""
        data = os.read(self._fd, len(buffer))
        if not data:
            self._thread.join()
            if self._error is not None:
                raise self._error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Give the pipe back; the worker then stops if it was not done."""
        if not self.closed:
            super().close()
            os.close(self._fd)
            self._thread.join()
