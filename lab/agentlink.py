"""The host's end of a guest's agent: requests and answers over the socket of its virtio port."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lab.table import LabError


class GuestLost(LabError):
    """The guest ended, or did not answer in time."""


class Done(NamedTuple):
    """What a command in a guest did."""

    code: int
    stdout: bytes
    stderr: bytes
    seconds: float


Event = Mapping[str, Any]


class AgentLink:
    """A connection to one agent. ``alive`` is asked while waiting: a guest that ended will not answer."""

    def __init__(self, path: Path, alive: Callable[[], bool] = lambda: True) -> None:
        self._path = path
        self._alive = alive
        self._open()
        self._numbers = itertools.count(os.getpid() * 1000)

    def _open(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._selector = selectors.DefaultSelector()
        self._buffer = b""

    def connect(self, timeout_s: float) -> None:
        """Wait for the socket. Raises GuestLost."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                # By its folder: the path of a socket may have a hundred characters, a cache's path may have more.
                folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    self._socket.connect(f"/proc/self/fd/{folder}/{self._path.name}")
                finally:
                    os.close(folder)
                break
            except OSError as error:
                if not self._alive() or time.monotonic() > deadline:
                    raise GuestLost(f"nobody listens on {self._path}: {error}") from error
                time.sleep(0.02)
        self._selector.register(self._socket, selectors.EVENT_READ)

    def wait_ready(self, timeout_s: float) -> Event:
        """The agent's first words after a boot."""
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._receive(deadline, timeout_s)
            if message.get("ready"):
                return message

    def call(
        self, op: str, *, timeout_s: float, on_event: Callable[[Event], None] | None = None, **arguments: object
    ) -> dict[str, Any]:
        """One request. Raises GuestLost, and LabError with the agent's traceback."""
        number = next(self._numbers)
        deadline = time.monotonic() + timeout_s
        try:
            self._socket.sendall(json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n")
        except OSError as error:
            raise GuestLost(f"the guest is gone: {error}") from error
        while True:
            message = self._receive(deadline, timeout_s)
            if message.get("id") != number:
                continue
            if "event" in message and on_event is not None:
                on_event(message["event"])
            if message.get("done"):
                if "error" in message:
                    raise LabError(f"the agent failed at {op!r}:\n{message['error']}")
                return message

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        cwd: str = "/",
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 120,
    ) -> Done:
        """A command in the guest, to its end. Raises LabError when it has not ended within ``timeout_s``."""
        answer = self.call(
            "run",
            # The agent ends the command; if it can't even do that, the guest is lost.
            timeout_s=timeout_s + 30,
            argv=list(argv),
            stdin=base64.b64encode(stdin).decode(),
            cwd=cwd,
            environment=dict(environment or {}),
            limit_s=timeout_s,
        )
        done = Done(
            answer["code"], base64.b64decode(answer["stdout"]), base64.b64decode(answer["stderr"]), answer["seconds"]
        )
        if not answer["ended"]:
            raise LabError(f"{' '.join(argv)} did not end within {timeout_s:g} s: {done.stderr[-2000:]!r}")
        return done

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Let another process talk to the agent: the port has one partner at a time."""
        self.close()
        try:
            yield
        finally:
            self._open()
            self.connect(10)

    def close(self) -> None:
        self._selector.close()
        self._socket.close()

    def _receive(self, deadline: float, timeout_s: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise GuestLost(f"the guest did not answer within {timeout_s:.3g} s")
            if not self._selector.select(min(left, 0.5)):
                if not self._alive():
                    raise GuestLost("the guest ended")
                continue
            try:
                data = self._socket.recv(1 << 16)
            except OSError as error:
                raise GuestLost(f"the guest is gone: {error}") from error
            if not data:
                raise GuestLost("the guest ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message
