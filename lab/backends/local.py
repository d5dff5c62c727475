"""This host, with the Python that runs the lab."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab.agentlink import Done, Event
from lab.backends.following import follow
from lab.commands import Tools
from lab.session import FETCHED, Tested


class LocalSession:
    """Nothing is started, and nothing is promised."""

    hostspec = "local://"

    def __init__(self, name: str, tools: Tools, tree: Path, environment: Mapping[str, str], scratch: Path) -> None:
        self.name = name
        self.check_environment: Mapping[str, str] = {}
        self._tools = tools
        self._tree = tree
        self._environment = {**os.environ, **environment}
        self._scratch = scratch

    def checked(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Done:
        started = time.monotonic()
        done = subprocess.run(
            argv, cwd=self._tree, env=self._environment, capture_output=True, check=False, timeout=timeout_s
        )
        return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def pytest(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_event: Callable[[Event], None],
        deadline_s: float,
    ) -> Tested:
        argv = [sys.executable, "-m", "pytest", "-p", "progress", f"--junitxml={self._scratch}/junit.xml"]
        argv += [f"--results={self._scratch}/results.json", *arguments]
        command = f"cd {shlex.quote(str(self._tree))} && exec {shlex.join(argv)} 3>&1 >&2"
        return follow(
            self._tools,
            ["sh", "-c", command],
            environment={
                **self._environment,
                **environment,
                "PYKER_LAB_EVENTS": "3",
                "PYTHONPATH": str(self._tree / "lab/guest"),
            },
            log=self._scratch / "pytest.log",
            on_event=on_event,
            deadline_s=deadline_s,
        )

    def interact(self) -> int:
        return subprocess.run([os.environ.get("SHELL", "sh")], cwd=self._tree, check=False).returncode

    def last_words(self) -> str:
        log = self._scratch / "pytest.log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else ""

    def fetch(self, folder: Path) -> None:
        for name in FETCHED:
            if (self._scratch / name).exists():
                shutil.copyfile(self._scratch / name, folder / name)
