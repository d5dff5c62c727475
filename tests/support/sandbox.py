"""A mount and network namespace of its own for every engine and registry under test."""

from __future__ import annotations

import glob
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType


class Sandbox:
    """Holds one mount and one network namespace open; loopback is up, /run is empty, nothing reaches the machine's own.

    ``run`` and ``popen`` execute a command inside. Closing ends the holder and whatever is left inside, containers that
    outlived their engine too. If the test process dies before that, the holder does it, and removes the cgroups.
    Names that would need the Internet fail at once: the namespace has no route but loopback's.
    """

    def __init__(self) -> None:
        script = (
            "mount --make-rshared / && mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up && "
            # A builtin: nothing but this shell waits for the end of the pipe that only the test process holds.
            'echo ready && read -r _; exec "$@"'
        )
        self._outside = os.readlink("/proc/thread-self/ns/mnt")
        last = [sys.executable, "-IS", os.path.abspath(__file__), cgroup_prefix(), self._outside]
        self._holder = subprocess.Popen(
            ["unshare", "-m", "-n", "--propagation", "private", "sh", "-c", script, "sh", *last],
            stdin=subprocess.PIPE,
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
        """End the holder, and whatever is left inside."""
        # Kept open: the kernel gives the number of a namespace that is gone to the next one, somebody else's.
        try:
            kept = os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            kept = -1
        namespace = os.readlink(f"/proc/self/fd/{kept}") if kept >= 0 else ""
        if self._holder.poll() is None:
            self._holder.kill()
        self._holder.wait()
        for pipe in (self._holder.stdin, self._holder.stdout):
            if pipe is not None:
                pipe.close()
        # It is not a namespace of its own yet if the holder could not make one.
        try:
            if namespace not in ("", self._outside):
                end_everything(namespace)
        finally:
            if kept >= 0:
                os.close(kept)

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
    return [each for child in own_children(pid) for each in (child, *children(child))]


def own_children(pid: int) -> list[int]:
    """The children that the threads of ``pid`` have now; none if it has ended."""
    found: list[int] = []
    for listing in glob.iglob(f"/proc/{pid}/task/*/children"):
        # Threads come and go.
        with suppress(FileNotFoundError, ProcessLookupError), open(listing) as file:
            found += map(int, file.read().split())
    return found


def kill_all(pids: Sequence[int]) -> None:
    """SIGKILL each of ``pids`` that still lives."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def cgroup_prefix() -> str:
    """How the cgroups of this test process begin, in the root of every hierarchy."""
    return f"pktest-{os.getpid()}-"


def end_everything(namespace: str, *, timeout: float = 10) -> None:
    """Kill every other process of a mount namespace, with all its children: containers have namespaces of their own."""
    deadline = time.monotonic() + timeout
    while found := [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if _lives_in(pid, namespace)]:
        if time.monotonic() > deadline:
            raise AssertionError(f"processes {found} do not end")
        kill_all([child for pid in found for child in children(pid)])
        kill_all(found)
        time.sleep(0.005)


def _lives_in(pid: int, namespace: str) -> bool:
    try:
        # A zombie has no namespaces any more.
        return pid != os.getpid() and os.readlink(f"/proc/{pid}/ns/mnt") == namespace
    except OSError:
        return False


def sweep_cgroups() -> None:
    """Remove the empty cgroups of test processes that are gone: one that was killed could not do it."""
    for top in Path("/sys/fs/cgroup").glob("*/p*test-*"):
        maker = re.fullmatch(r"(?:pktest|pykertest)-([0-9]+)(?:-.*)?", top.name)
        if maker is not None and not os.path.exists(f"/proc/{maker[1]}"):
            _remove_cgroups(top.name)


def _remove_cgroups(prefix: str) -> bool:
    """Remove the cgroups whose path in a hierarchy begins with ``prefix``; whether none is left."""
    left = False
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        for top in hierarchy.glob(f"{prefix}*"):
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    left = True
    return not left


def outlive_the_tests(prefix: str, outside: str) -> None:
    """What a holder does when the test process is gone: end everything in its own namespace, and remove the cgroups."""
    namespace = os.readlink("/proc/self/ns/mnt")
    assert namespace != outside
    end_everything(namespace)
    deadline = time.monotonic() + 5
    while not _remove_cgroups(prefix) and time.monotonic() < deadline:
        time.sleep(0.05)


if __name__ == "__main__":
    outlive_the_tests(sys.argv[1], sys.argv[2])
