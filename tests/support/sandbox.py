"""A mount and network namespace of its own for every engine and registry under test."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from types import TracebackType


class Sandbox:
    """Holds one mount and one network namespace open; loopback is up, /run is empty, nothing reaches the machine's own.

    ``run`` and ``popen`` execute a command inside. Closing ends the holder; what was started inside is the starter's.
    Names that would need the Internet fail at once: the namespace has no route but loopback's.
    """

    def __init__(self) -> None:
        script = (
            "mount --make-rshared / && mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up && "
            "echo ready && exec sleep infinity"
        )
        self._holder = subprocess.Popen(
            ["unshare", "-m", "-n", "--propagation", "private", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        line = self._holder.stdout.readline()
        if line != b"ready\n":
            self.close()
            raise RuntimeError("could not make a mount and network namespace: is this root with CAP_SYS_ADMIN?")

    @property
    def pid(self) -> int:
        """The holder's pid; ``/proc/<pid>/ns/net`` is the network namespace."""
        return self._holder.pid

    def argv(self, command: Sequence[str]) -> list[str]:
        """``command``, entered into the namespaces."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "--", *command]

    def run(
        self, command: Sequence[str], *, check: bool = True, input: bytes | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``command`` inside, to its end."""
        return subprocess.run(self.argv(command), capture_output=True, check=check, input=input, timeout=timeout)

    def popen(self, command: Sequence[str], **options: object) -> subprocess.Popen[bytes]:
        """Start ``command`` inside."""
        return subprocess.Popen(self.argv(command), start_new_session=True, **options)  # type: ignore[call-overload,no-any-return]

    def close(self) -> None:
        """End the holder."""
        if self._holder.poll() is None:
            self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


def wait_until(condition: object, *, timeout: float = 10, what: str = "the condition", every: float = 0.01) -> None:
    """Poll ``condition()`` until it is true; fails with ``what`` after ``timeout`` seconds."""
    assert callable(condition)
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        time.sleep(every)


def terminate(process: subprocess.Popen[bytes], *, timeout: float = 20) -> int:
    """SIGTERM, then SIGKILL after ``timeout`` seconds; returns the exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def children(pid: int) -> list[int]:
    """All living descendants of ``pid``, deepest last."""
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as listing:
                for child in listing.read().split():
                    found.append(int(child))
                    found.extend(children(int(child)))
    except OSError:
        return found
    return found


def kill_all(pids: Sequence[int]) -> None:
    """SIGKILL each of ``pids`` that still lives."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
