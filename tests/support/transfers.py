"""Pull and push through the engine's jobs, with a graph in memory: what the jobs told, and how they ended."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pyker.daemon.transfer import TransferHandlers
from pyker.engine.engine import Engine
from pyker.engine.job import CancelToken, Job
from pyker.errors import PykerError
from pyker.jobs.images import Pull, PullLayer, Push, PushLayer, RegistryAuth, SearchImages
from pyker.jobs.system import Auth
from pyker.registry.cancel import Cancel
from pyker.registry.client import RegistryClient
from pyker.registry.config import RegistryConfig
from pyker.types.events import Event, Progress
from tests.support.fake_graph import FakeGraph


@dataclass
class Outcome:
    """What one job brought: its progress, and its result or its error."""

    progress: list[Progress] = field(default_factory=list)
    result: object = None
    error: PykerError | None = None

    @property
    def lines(self) -> list[str]:
        """As a client prints them into a pipe: without the lines that only move a bar."""
        return [
            f"{item.id}: {item.status}" if item.id else item.status
            for item in self.progress
            if item.status and item.status not in ("Downloading", "Extracting", "Pushing")
        ]

    def of(self, identifier: str) -> list[str]:
        """The statuses of one part, each once in a row."""
        found: list[str] = []
        for item in self.progress:
            if item.id == identifier and found[-1:] != [item.status]:
                found.append(item.status)
        return found


class Transfers:
    """Handlers with a graph in memory. No retry waits by the clock: ``waited`` counts the seconds instead."""

    def __init__(
        self, folder: Path, graph: FakeGraph | None = None, *, options: Mapping[str, object] | None = None
    ) -> None:
        self.folder = folder
        self.graph = graph or FakeGraph()
        self.events: list[Event] = []
        self.waited = 0.0
        self.on_wait: Callable[[], None] = lambda: None
        values = {"connect_timeout_s": 5.0, "stall_timeout_s": 5.0, "certs_dir": str(folder / "certs.d")}
        config = RegistryConfig(**{**values, **(options or {})})  # type: ignore[arg-type]
        self.client = RegistryClient(config)
        handlers = TransferHandlers(
            store=self.graph,
            client=self.client,
            folder=str(folder),
            publish=self.events.append,
            wait=self._wait,
        )
        self.engine = Engine()
        self.engine.register(Pull, handlers.pull)
        self.engine.register(PullLayer, handlers.pull_layer)
        self.engine.register(Push, handlers.push)
        self.engine.register(PushLayer, handlers.push_layer)
        self.engine.register(Auth, handlers.auth)
        self.engine.register(SearchImages, handlers.search)

    def _wait(self, cancel: Cancel, seconds: float) -> bool:
        self.waited += seconds
        self.on_wait()
        return cancel.cancelled

    def close(self) -> None:
        self.engine.close()
        self.client.close()

    def run(self, job: Job[object], *, cancel: CancelToken | None = None, outcome: Outcome | None = None) -> Outcome:
        outcome = outcome or Outcome()
        try:
            outcome.result = self.engine.run(job, listener=outcome.progress.append, cancel=cancel)
        except PykerError as error:
            outcome.error = error
        return outcome

    def pull(
        self,
        image: str,
        tag: str = "latest",
        *,
        platform: str = "linux/amd64",
        auth: RegistryAuth | None = None,
        cancel: CancelToken | None = None,
    ) -> Outcome:
        job = Pull(image=image, tag=tag, platform=platform, auth=auth or RegistryAuth())
        return self.run(job, cancel=cancel)

    def start_pull(self, image: str, *, cancel: CancelToken | None = None) -> Background:
        """The same in a thread."""
        return Background(self, image, cancel)

    def push(
        self, image: str, tag: str = "latest", *, auth: RegistryAuth | None = None, cancel: CancelToken | None = None
    ) -> Outcome:
        return self.run(Push(image=image, tag=tag, auth=auth or RegistryAuth()), cancel=cancel)

    def layer_jobs(self) -> int:
        """How many layers are under way."""
        return sum(record.name == "pull_layer" for record in self.engine.running())

    def partial(self) -> dict[str, int]:
        """The files of downloads that are not complete, and their sizes."""
        folder = self.folder / "partial"
        if not folder.is_dir():
            return {}
        return {name: os.stat(folder / name).st_size for name in os.listdir(folder)}


class Background:
    """A pull in a thread."""

    def __init__(self, transfers: Transfers, image: str, cancel: CancelToken | None) -> None:
        self.cancel = cancel or CancelToken()
        self._outcome = Outcome()
        job = Pull(image=image, tag="latest", platform="linux/amd64")

        def body() -> None:
            transfers.run(job, cancel=self.cancel, outcome=self._outcome)

        self._thread = threading.Thread(target=body)
        self._thread.start()

    @property
    def lines(self) -> list[str]:
        """What it told so far."""
        return self._outcome.lines

    def outcome(self, timeout_s: float = 20) -> Outcome:
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "the pull did not end"
        return self._outcome
