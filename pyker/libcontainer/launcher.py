"""The daemon's handle on its launcher, the process that forks for it."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import threading

import pyker
from pyker.errors import SystemFailure, Unavailable
from pyker.libcontainer import handshake
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.handshake import (
    Done,
    DropNetns,
    Failure,
    FromMonitor,
    NewNetns,
    OpenNetns,
    Socket,
    ToLauncher,
)

CLOSE_TIMEOUT_S = 5.0
_DYING_S = 0.2


class Launcher:
    """Starts the launcher process, sends it requests, starts it again if it died. For use from any thread.

    Every request carries the socket that its answer comes back on, so answers need no order and one slow request
    holds up no other. Running containers do not depend on the launcher.
    """

    def __init__(self, exec_root: str) -> None:
        self._exec_root = exec_root
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Socket | None = None
        self._closed = False
        self._open_files = resource.getrlimit(resource.RLIMIT_NOFILE)

    @classmethod
    def spawn(cls, exec_root: str) -> Launcher:
        """Start the launcher process; to be called before the daemon's first thread, while memory is small."""
        launcher = cls(exec_root)
        launcher._live_channel()
        return launcher

    @property
    def pid(self) -> int:
        """The launcher's process ID, 0 if it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    def has_died(self, pid: int) -> bool:
        """Whether the launcher that was ``pid`` (0 for none) is dead, or dies now: its sockets close a little before.

        False while there is none, or none any more.
        """
        process = self._process
        if process is None:
            return False
        if process.pid != pid:
            return True
        try:
            process.wait(_DYING_S)
        except subprocess.TimeoutExpired:
            return False
        return True

    def send(self, request: ToLauncher, fds: tuple[int, ...]) -> None:
        """Pass a request on; its answer arrives at the first of ``fds``. Raises: Unavailable."""
        channel = self._live_channel()
        try:
            handshake.send(channel, request, fds)
        except Unavailable:
            handshake.send(self._live_channel(instead_of=channel), request, fds)

    def call(self, request: ToLauncher) -> list[int]:
        """Send a request and wait for its answer; returns the descriptors that came with it, owned by the caller.

        If the launcher is killed meanwhile, the next one is asked again. Raises: what the launcher's child raised;
        Unavailable if that one died before it could answer.
        """
        asked = self.pid
        try:
            return self._call(request)
        except Unavailable:
            if not self.has_died(asked):
                raise
        if isinstance(request, NewNetns):
            # Whether it was made already, nobody knows.
            self._call(DropNetns(request.path))
        return self._call(request)

    def _call(self, request: ToLauncher) -> list[int]:
        ours, theirs = handshake.pair()
        try:
            with contextlib.closing(theirs):
                self.send(request, (theirs.fileno(),))
            try:
                answer, fds = handshake.receive_from_monitor(ours)
            except EOFError:
                raise Unavailable("the launcher died before it answered", hint="try again") from None
        finally:
            ours.close()
        return expect_done(answer, fds)

    def new_netns(self, path: str) -> int:
        """Make a network namespace, pinned by a bind mount at ``path`` (which must not exist), loopback up.

        Returns a NETLINK_ROUTE socket that belongs to the namespace; the caller closes it. Raises: KernelError.
        """
        return self.call(NewNetns(path))[0]

    def open_netns(self, path: str) -> int:
        """The same socket for a namespace that is pinned already. Raises: KernelError."""
        return self.call(OpenNetns(path))[0]

    def remove_netns(self, path: str) -> None:
        """Unpin a namespace; one that is gone already is fine. Raises: KernelError."""
        self.call(DropNetns(path))

    def close(self) -> None:
        """Let the launcher exit. Safe to repeat."""
        with self._lock:
            self._closed = True
            self._drop()

    def _live_channel(self, *, instead_of: Socket | None = None) -> Socket:
        """The channel to the launcher, which is started if there is none, or none but ``instead_of``."""
        with self._lock:
            if self._closed:
                raise Unavailable("the launcher is closed")
            if self._channel is not None and self._process is not None:
                # One that was killed may have left a monitor ready, which would take one more request, and no second.
                if self._channel is not instead_of and self._process.poll() is None:
                    return self._channel
                self._drop()
            return self._start()

    def _start(self) -> Socket:
        ours, theirs = handshake.pair()
        with contextlib.closing(theirs), contextlib.ExitStack() as stack:
            fd = theirs.fileno()
            argv = [sys.executable, "-m", "pyker.libcontainer.launcher_main", str(fd)]
            program = _readonly_interpreter()
            pass_fds: tuple[int, ...] = (fd,)
            executable = None
            if program >= 0:
                stack.callback(os.close, program)
                argv.append(str(program))
                pass_fds = (fd, program)
                executable = f"/proc/self/fd/{program}"
            self._process = subprocess.Popen(
                argv,
                executable=executable,
                pass_fds=pass_fds,
                stdin=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,
                cwd="/",
            )
        # Containers get the limit that the daemon was started with, also when it has raised its own meanwhile.
        if resource.getrlimit(resource.RLIMIT_NOFILE) != self._open_files:
            resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, self._open_files)
        self._channel = ours
        return ours

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            try:
                self._process.wait(CLOSE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def _environment() -> dict[str, str]:
    """The daemon's own, with its pyker first on the path: the launcher must be of the same version, from anywhere."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(pyker.__file__)))
    before = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{before}" if before else root}


def _readonly_interpreter() -> int:
    """The interpreter on a read-only mount that only its descriptor leads to, or -1 where the kernel has no such thing.

    Until execve a container's process is a copy of the launcher, and /proc/<pid>/exe leads to the launcher's program:
    from inside it must not be writable (CVE-2019-5736).
    """
    try:
        program = sc.open_tree(sc.AT_FDCWD, sys.executable, sc.OPEN_TREE_CLONE)
    except OSError:
        return -1
    try:
        sc.mount_setattr(program, "", sc.AT_EMPTY_PATH, attr_set=sc.MOUNT_ATTR_RDONLY)
    except OSError:
        os.close(program)
        return -1
    return program


def expect_done(answer: FromMonitor, fds: list[int]) -> list[int]:
    """The descriptors of a Done; raises the error of a Failure."""
    match answer:
        case Done():
            return fds
        case Failure():
            raise answer.error()
        case _:
            for fd in fds:
                os.close(fd)
            raise SystemFailure(f"unexpected answer from the launcher: {type(answer).__name__}")
