"""Running the tools that build and drive guests, so that none outlives the lab."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.table import LabError

# Ends with the thread that started it, however that ends; nothing that it mounts is seen outside.
CONTAINED = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")


class Tools:
    """The commands that are running now; ``stop`` ends them all and refuses new ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def start(self, argv: Sequence[str], **options: object) -> subprocess.Popen[bytes]:
        """Start ``argv`` in a session of its own. Raises LabError after ``stop``, and when there is no such tool."""
        with self._lock:
            if self._stopped:
                raise LabError("interrupted")
            try:
                process: subprocess.Popen[bytes] = subprocess.Popen(argv, start_new_session=True, **options)  # type: ignore[call-overload]
            except FileNotFoundError as error:
                raise LabError(f"{error.filename} is missing; run tools/bootstrap --lab") from error
            self._running.add(process)
            return process

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopped

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        """Forget a process that was waited for."""
        with self._lock:
            self._running.discard(process)

    def run(
        self,
        argv: Sequence[str],
        *,
        log: Path | None = None,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 900,
    ) -> str:
        """Run to the end; what it wrote to standard output. Raises LabError with the end of what it said."""
        environment = {**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})}
        process = self.start(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if log is None else subprocess.STDOUT,
            cwd=cwd,
            env=environment,
        )
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._kill(process)
            process.communicate()
            raise LabError(f"{_shown(argv)} did not end within {timeout_s:g} s") from None
        except BaseException:
            self._kill(process)
            process.communicate()
            raise
        finally:
            self.ended(process)
        if log is not None:
            log.write_bytes(out)
        if process.returncode != 0:
            if self._stopped:
                raise LabError("interrupted")
            said = (out + (err or b"")).decode(errors="replace").strip()[-2000:]
            raise LabError(f"{_shown(argv)} exited {process.returncode}:\n{said}")
        return out.decode(errors="replace")

    def stop(self) -> None:
        """Kill everything that runs."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                self._kill(process)

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return


def _shown(argv: Sequence[str]) -> str:
    inner = list(argv)
    for wrapper in (CONTAINED, DIES_WITH_US):
        if tuple(inner[: len(wrapper)]) == wrapper:
            inner = inner[len(wrapper) :]
    return " ".join(inner[:4]) + (" ..." if len(inner) > 4 else "")
