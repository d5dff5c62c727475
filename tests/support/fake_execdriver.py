"""An execdriver without a kernel: containers "run" until the test ends them, or do what their command says.

A command ``exit N`` ends at once with N; ``cat`` echoes its clients' input until that ends; ``nosuch...`` cannot be
executed; everything else runs until a signal. TERM, INT and KILL end it, with 128 and the signal's number.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Callable

from pyker.errors import Conflict, KernelError, NotFound
from pyker.execdriver.base import Attachment, ContainerProcess, Process, Watcher
from pyker.libcontainer.spec import ContainerSpec, ExitRecord, ProcessSpec, Resources
from pyker.types.probe import Probe

_PIDS = itertools.count(100_000)
_FATAL = (2, 9, 15)


class FakeProcess:
    """One process; ``signals`` are those it got."""

    def __init__(self, spec: ProcessSpec, watcher: Watcher, attachments: tuple[Attachment, ...]) -> None:
        self.spec = spec
        self.signals: list[int] = []
        self.size = (0, 0)
        self.paused = False
        self.stages: dict[str, int] = {"fork": 1_000_000, "exec": 2_000_000}
        self._pid = next(_PIDS)
        self._watcher: Watcher | None = watcher
        self._clients = [(socket.socket(fileno=each.fd), each.flags) for each in attachments]
        self._ended = threading.Event()
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        return self._pid

    def begin(self) -> None:
        """Do what the command says."""
        match self.spec.args[0], self.spec.args[1:]:
            case "exit", [code]:
                threading.Thread(target=self.end, args=(int(code),), daemon=True).start()
            case "say", [text, code]:
                self.write(text.encode())
                threading.Thread(target=self.end, args=(int(code),), daemon=True).start()
            case "cat", _:
                threading.Thread(target=self._echo, daemon=True).start()

    def write(self, data: bytes) -> None:
        """Say something on stdout."""
        framed = data if self.spec.tty else struct.pack(">BxxxL", 1, len(data)) + data
        for client, flags in self._clients:
            if flags.stdout:
                client.sendall(framed)

    def tell(self, watcher: Watcher | None) -> None:
        """From now on somebody else hears of the end; None: nobody."""
        self._watcher = watcher

    def _echo(self) -> None:
        client = next(client for client, flags in self._clients if flags.stdin)
        while data := client.recv(4096):
            self.write(data)
        if not self.spec.tty:
            self.end(0)

    def end(self, code: int) -> None:
        """The process ends; only the first call counts."""
        with self._lock:
            if self._ended.is_set():
                return
            self._ended.set()
        for client, _ in self._clients:
            client.close()
        if self._watcher is not None:
            self._watcher.on_exit(ExitRecord(exit_code=code, ended_ns=time.time_ns()))

    def signal(self, signum: int) -> None:
        if self._ended.is_set():
            raise NotFound(f"process {self._pid} is not running")
        self.signals.append(signum)
        if signum in _FATAL and not (signum != 9 and "deaf" in self.spec.args):
            threading.Thread(target=self.end, args=(128 + signum,), daemon=True).start()

    def attach(self, attachment: Attachment) -> None:
        if self._ended.is_set():
            os.close(attachment.fd)
            raise NotFound(f"process {self._pid} is not running")
        client = socket.socket(fileno=attachment.fd)
        if attachment.flags.mark:
            client.sendall(struct.pack(">QQ", 0, 0))
        self._clients.append((client, attachment.flags))

    def resize(self, height: int, width: int) -> None:
        if self.spec.tty:
            self.size = (height, width)

    def close_stdin(self) -> None:
        for client, _ in self._clients:
            client.shutdown(socket.SHUT_RD)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def update(self, resources: Resources) -> None:
        self.resources = resources

    def stats(self) -> dict[str, object]:
        return {"memory_usage_bytes": 4096}

    def pids(self) -> list[int]:
        return [self._pid]


class FakeExecDriver:
    """See ``pyker.execdriver.base.ExecDriver``. ``running`` are the containers that live; ``delay`` slows a start."""

    name = "fake"

    def __init__(self) -> None:
        self.running: dict[str, FakeProcess] = {}
        self.specs: dict[str, ContainerSpec] = {}
        self.before_run: Callable[[], None] = lambda: None
        self.records: dict[str, ExitRecord] = {}

    def probe(self) -> Probe:
        return Probe(True)

    def run(
        self,
        spec: ContainerSpec,
        watcher: Watcher,
        attachments: tuple[Attachment, ...] = (),
        on_pid: Callable[[int], None] | None = None,
    ) -> ContainerProcess:
        self.before_run()
        process = self._start(spec.process, _Keeping(self, spec.id, watcher), attachments)
        self.running[spec.id] = process
        self.specs[spec.id] = spec
        if on_pid is not None:
            on_pid(process.pid)
        process.begin()
        return process

    def exec(
        self, container_id: str, process: ProcessSpec, watcher: Watcher, attachments: tuple[Attachment, ...] = ()
    ) -> Process:
        if container_id not in self.running:
            for each in attachments:
                os.close(each.fd)
            raise Conflict(f"Container {container_id} is not running")
        started = self._start(process, watcher, attachments)
        started.begin()
        return started

    def adopt(self, container_id: str, state_dir: str, watcher: Watcher) -> ContainerProcess | ExitRecord | None:
        process = self.running.get(container_id)
        if process is None:
            return self.records.get(container_id)
        process.tell(_Keeping(self, container_id, watcher))
        return process

    def cleanup(self, container_id: str, state_dir: str) -> None:
        self.running.pop(container_id, None)

    def close(self) -> None:
        return

    def _start(self, spec: ProcessSpec, watcher: Watcher, attachments: tuple[Attachment, ...]) -> FakeProcess:
        if spec.args[0].startswith("nosuch"):
            for each in attachments:
                os.close(each.fd)
            raise KernelError("exec: not found", syscall="execve", errno=errno.ENOENT, stage="exec")
        return FakeProcess(spec, watcher, attachments)


class _Keeping:
    """Keeps the exit record, as a monitor does."""

    def __init__(self, driver: FakeExecDriver, container_id: str, watcher: Watcher) -> None:
        self._driver = driver
        self._container_id = container_id
        self._watcher = watcher

    def on_exit(self, record: ExitRecord) -> None:
        self._driver.records[self._container_id] = record
        self._driver.running.pop(self._container_id, None)
        self._watcher.on_exit(record)

    def on_oom(self) -> None:
        self._watcher.on_oom()
