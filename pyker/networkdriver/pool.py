"""Sandboxes made ahead, and sandboxes taken down behind the caller's back.

Making a network namespace and a veth pair takes some milliseconds, deleting them more; a start needs neither to wait
for. One thread keeps a few sandboxes ready and refills them a little after a start, when that start no longer needs the
processor; another takes released ones down.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pyker.errors import PykerError
from pyker.libcontainer.netlink import Netlink
from pyker.networkdriver.base import NamespaceMaker, Sandbox
from pyker.types.ids import EndpointId

_QUIET_S = 0.02
"""How long no sandbox may have been taken before the pool is refilled."""
_RETRY_S = 5.0
_REAP_QUIET_S, _PATIENCE_S, _BATCH = 0.05, 0.5, 32
"""Released sandboxes go when nobody started a container for this long, but at the latest after that, or so many."""
_LOG = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class RawSandbox:
    """A pinned namespace. ``netlink`` is a socket inside; whoever has the sandbox closes it.

    When a driver has put an interface in ahead of time, ``link`` is its name on the host, ``index`` its number inside,
    and ``bridge`` the number of the bridge that it is in.
    """

    id: str
    endpoint_id: EndpointId
    path: str
    netlink: Netlink
    link: str = ""
    index: int = 0
    bridge: int = 0


def new_id() -> str:
    """64 random hex digits."""
    return os.urandom(32).hex()


class SandboxPool:
    """Ready namespaces, some of them with an interface. Thread-safe."""

    def __init__(self, namespaces: NamespaceMaker, folder: str, *, size: int) -> None:
        self._namespaces = namespaces
        self._folder = folder
        self._size = size
        self._attach: Callable[[RawSandbox], None] | None = None
        self._detach: Callable[[RawSandbox], None] | None = None
        self._condition = threading.Condition()
        self._bare: deque[RawSandbox] = deque()
        self._attached: deque[RawSandbox] = deque()
        self._taken_s = 0.0
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self, attach: Callable[[RawSandbox], None] | None, detach: Callable[[RawSandbox], None] | None) -> None:
        """Begin to fill. ``attach`` gives a sandbox an interface on the default network, ``detach`` takes it away."""
        self._attach, self._detach = attach, detach
        if self._size and self._thread is None:
            self._thread = threading.Thread(target=self._fill, name="pyker-sandboxes", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Take down what nobody took."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for sandbox in (*self._attached, *self._bare):
            self._destroy(sandbox)
        self._attached.clear()
        self._bare.clear()

    def take(self, *, attached: bool) -> RawSandbox:
        """A sandbox, ready or else made now. ``attached`` prefers one with an interface, but may get one without."""
        with self._condition:
            self._taken_s = time.monotonic()
            sandbox = None
            if attached and self._attached:
                sandbox = self._attached.popleft()
            elif self._bare:
                sandbox = self._bare.popleft()
            self._condition.notify_all()
        return sandbox or self.make()

    def make(self) -> RawSandbox:
        """Make a sandbox with nothing but lo. Raises KernelError."""
        identifier = new_id()
        path = os.path.join(self._folder, identifier[:12])
        netlink = Netlink(self._namespaces.new_netns(path))
        return RawSandbox(identifier, EndpointId(new_id()), path, netlink)

    def quiet_s(self) -> float:
        """How long ago the last sandbox was taken."""
        return time.monotonic() - self._taken_s

    def wait_full(self, timeout_s: float) -> bool:
        """Block until the pool is full; for measurements and tests."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._lacks(), timeout_s)

    def _lacks(self) -> str:
        if not self._size:
            return ""
        if self._attach is not None and len(self._attached) < self._size:
            return "attached"
        return "bare" if len(self._bare) < max(1, self._size // 2) else ""

    def _fill(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._closing or bool(self._lacks()))
                while not self._closing:
                    quiet_s = self.quiet_s()
                    if quiet_s >= _QUIET_S or not (self._attached or self._bare):
                        break
                    self._condition.wait(_QUIET_S - quiet_s)
                if self._closing:
                    return
                kind = self._lacks()
            try:
                sandbox = self.make()
                if kind == "attached" and self._attach is not None:
                    try:
                        self._attach(sandbox)
                    except BaseException:
                        self._destroy(sandbox)
                        raise
            except (PykerError, OSError) as error:
                _LOG.warning("a sandbox cannot be made ahead: %s", error)
                with self._condition:
                    self._condition.wait_for(lambda: self._closing, _RETRY_S)
                continue
            with self._condition:
                (self._attached if kind == "attached" else self._bare).append(sandbox)
                self._condition.notify_all()

    def _destroy(self, sandbox: RawSandbox) -> None:
        sandbox.netlink.close()
        if sandbox.link and self._detach is not None:
            with contextlib.suppress(PykerError):
                self._detach(sandbox)
        with contextlib.suppress(PykerError, OSError):
            self._namespaces.remove_netns(sandbox.path)


class Reaper:
    """Takes released sandboxes down in a thread of its own, several at once, when nobody is starting a container.

    Deleting an interface holds the kernel's one network lock (RTNL) for some 20 ms, so that a start just then would
    wait as long; deleting many at once holds it hardly longer. ``demolish`` gets each batch. Thread-safe.
    """

    def __init__(self, demolish: Callable[[list[Sandbox]], None], quiet_s: Callable[[], float]) -> None:
        self._demolish = demolish
        self._quiet_s = quiet_s
        self._condition = threading.Condition()
        self._waiting: list[Sandbox] = []
        self._since_s = 0.0
        self._working = False
        self._urgent = 0
        self._closing = False
        self._thread: threading.Thread | None = None

    def submit(self, sandbox: Sandbox) -> None:
        """Take ``sandbox`` down soon."""
        with self._condition:
            if not self._waiting:
                self._since_s = time.monotonic()
            self._waiting.append(sandbox)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="pyker-reaper", daemon=True)
                self._thread.start()
            self._condition.notify_all()

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Block until all that was submitted before is gone; it is taken down at once."""
        with self._condition:
            self._urgent += 1
            self._condition.notify_all()
            try:
                return self._condition.wait_for(lambda: not self._waiting and not self._working, timeout_s)
            finally:
                self._urgent -= 1

    def close(self) -> None:
        """Take down what is left, and end the thread."""
        with self._condition:
            self._closing = True
            thread, self._thread = self._thread, None
            self._condition.notify_all()
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._condition:
                self._working = False
                self._condition.notify_all()
                self._condition.wait_for(lambda: bool(self._waiting) or self._closing)
                while (delay_s := self._delay_s()) > 0:
                    self._condition.wait(delay_s)
                batch, self._waiting = self._waiting, []
                self._working = True
                if not batch:
                    return
            try:
                self._demolish(batch)
            except (PykerError, OSError) as error:
                _LOG.warning("taking sandboxes down: %s", error)

    def _delay_s(self) -> float:
        """How long the batch should still wait."""
        if self._urgent or self._closing or len(self._waiting) >= _BATCH:
            return 0.0
        patience_s = self._since_s + _PATIENCE_S - time.monotonic()
        return min(patience_s, _REAP_QUIET_S - self._quiet_s())
