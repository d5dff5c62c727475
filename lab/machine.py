"""A guest that runs: started by a boot or from a saved state, spoken to through its agent, gone when it is closed."""

from __future__ import annotations

import base64
import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from lab import qemu
from lab.agentlink import AgentLink, Event, GuestLost
from lab.commands import Tools
from pyker.libcontainer.syscalls import remove_tree

_CONSOLE_LINES = 40


class Machine:
    """``folder`` is the machine's own and goes with it; ``source`` is what it reads, ``results`` where it writes."""

    def __init__(self, tools: Tools, hardware: qemu.Hardware, folder: Path, source: Path, results: Path) -> None:
        self._tools = tools
        self._hardware = hardware
        self.folder = folder
        self._source = source
        self._results = results
        self._made: tuple[qemu.Qemu, AgentLink] | None = None

    @property
    def qemu(self) -> qemu.Qemu:
        assert self._made is not None, "not started"
        return self._made[0]

    @property
    def agent(self) -> AgentLink:
        assert self._made is not None, "not started"
        return self._made[1]

    def boot(self, timeout_s: float) -> Event:
        """Start from nothing; returns when the agent waits for requests. Raises GuestLost with the console."""
        self._start(None)
        with self._heard("the guest did not boot: "):
            return self.agent.wait_ready(timeout_s)

    def restore(self, state: Path, timeout_s: float = 60) -> None:
        """Go on from a saved state."""
        self._start(state)
        self.qemu.wait_running(timeout_s)

    def begin(self, *, storage: str, environment: Mapping[str, str], timeout_s: float = 60) -> Event:
        """The time, the shares, the storage and the environment of everything that is run afterwards."""
        with self._heard():
            return self.agent.call(
                "begin",
                timeout_s=timeout_s,
                time=time.time_ns() / 1e9,
                entropy=base64.b64encode(os.urandom(64)).decode(),
                shares={qemu.SOURCE: "cache=loose,ro", qemu.RESULTS: "cache=none"},
                storage=storage,
                environment=dict(environment),
            )

    def end(self, timeout_s: float = 120) -> None:
        """What the guest gives back for the next one is in ``results`` afterwards."""
        with self._heard():
            self.agent.call("end", timeout_s=timeout_s)

    @contextlib.contextmanager
    def _heard(self, before: str = "") -> Iterator[None]:
        """A guest that is lost meanwhile is reported with its last words."""
        try:
            yield
        except GuestLost as error:
            raise GuestLost(f"{before}{error}\n{self.last_words()}") from error

    def last_words(self) -> str:
        """The end of the console, and what QEMU said, for a report."""
        lines = self.qemu.console().replace("\r", "").splitlines()[-_CONSOLE_LINES:]
        said = self.qemu.said()
        return "\n".join(["console:", *lines, *([f"qemu: {said}"] if said else [])])

    def close(self) -> None:
        """End the guest; its folder goes too."""
        if self._made is not None:
            self._made[1].close()
            self._made[0].close()
            self._made = None
        if self.folder.exists():
            remove_tree(os.fspath(self.folder))

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, state: Path | None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        argv = qemu.command(self._hardware, self.folder, self._source, self._results, state)
        running = qemu.Qemu(self._tools, argv, self.folder)
        link = AgentLink(self.folder / "agent", running.alive)
        self._made = (running, link)
        with self._heard():
            link.connect(30)
