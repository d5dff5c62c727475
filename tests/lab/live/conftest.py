"""Runs of the lab as a user starts them, and a look at what each leaves behind.

``nox -s labtests``. They skip where the lab was never built: its first run takes minutes and the network.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lab import cache
from tests.support.capabilities import has
from tests.support.sandbox import wait_until

GUEST = "6.1-v2"
TREE = Path(__file__).resolve().parents[3]
_MARK = "PYKER_LAB_LIVE"


class Lab:
    """One run of the lab, on a terminal of its own. What it wrote is in ``said``."""

    def __init__(self, argv: list[str], folder: Path, *, tree: Path, environment: dict[str, str]) -> None:
        self.results = folder / "results"
        self.cache = cache.home({**os.environ, **environment})
        self._temporary = folder / "tmp"
        self._temporary.mkdir()
        self._mark = f"{_MARK}={uuid.uuid4().hex}"
        self._cached_before = self._cached()
        name, _, value = self._mark.partition("=")
        self._terminal, theirs = pty.openpty()
        self.said = ""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *argv],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=tree,
            env={**os.environ, **environment, name: value, "TMPDIR": str(self._temporary), "PYKER_COMMIT": "none"},
        )
        os.close(theirs)

    def until(self, pattern: str, timeout_s: float = 300) -> None:
        """Wait for something that it says."""
        deadline = time.monotonic() + timeout_s
        while not re.search(pattern, self.said):
            assert time.monotonic() < deadline, f"it did not say {pattern!r}:\n{self.said}"
            if not self._hear(0.5) and self.process.poll() is not None:
                raise AssertionError(f"it ended without saying {pattern!r}:\n{self.said}")

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def end(self, timeout_s: float = 300) -> int:
        """Its exit code, when it has ended."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it did not end:\n{self.said}"
            self._hear(0.2)
        while self._hear(0.2):
            pass
        return self.process.returncode

    def _hear(self, timeout_s: float) -> bool:
        with contextlib.suppress(OSError):
            if select.select([self._terminal], [], [], timeout_s)[0]:
                self.said += os.read(self._terminal, 1 << 16).decode(errors="replace").replace("\r\n", "\n")
                return True
        return False

    def processes(self) -> dict[int, str]:
        """What it started and what that started, wherever they are now: their environment tells."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def pid_of(self, word: str) -> int:
        """The one process whose program and arguments begin so."""
        (pid,) = (pid for pid, line in self.processes().items() if line.startswith(word))
        return pid

    def assert_nothing_is_left(self) -> None:
        """No process, no mount, no file but what the cache is for."""
        wait_until(lambda: not self.processes(), what="the end of all processes")
        mounts = Path("/proc/self/mountinfo").read_text()
        assert [line for line in mounts.splitlines() if str(self.cache) in line or str(self._temporary) in line] == []
        assert list(self._temporary.rglob("*")) == []
        new = [name for name in self._cached() - self._cached_before if name.startswith("tmp-")]
        # Of another lab, which is at work beside this one, there may be some.
        assert [name for name in new if not os.path.exists(f"/proc/{name.split('-')[1]}")] == []

    def _cached(self) -> set[str]:
        return {path.name for path in self.cache.iterdir()} if self.cache.exists() else set()

    def rows(self, name: str = GUEST) -> dict[str, dict[str, Any]]:
        """What the report is told of a guest, by the test's own name."""
        value = json.loads((self.results / f"lab-{name}.json").read_text())
        assert value["environment"]["name"] == name
        return {row["test"].rpartition("::")[2]: row for row in value["runs"]}

    def suite(self, name: str = GUEST) -> ElementTree.Element:
        """The guest's junit file."""
        found = ElementTree.parse(self.results / f"lab-{name}.xml").getroot().find("testsuite")
        assert found is not None
        return found

    def close(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._terminal)


Start = Callable[..., Lab]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Start]:
    """Starts runs of the lab; ``by_nox`` as a user does, else its module alone."""
    made: list[Lab] = []

    def start(
        *options: str, tests: Sequence[str] = (), by_nox: bool = False, tree: Path = TREE, **environment: str
    ) -> Lab:
        program = ["nox", "-s", "lab", "--"] if by_nox else ["lab"]
        folder = tmp_path / f"run{len(made)}"
        folder.mkdir()
        argv = [sys.executable, "-m", *program, f"--results={folder / 'results'}", *options]
        made.append(Lab([*argv, *(["--", *tests] if tests else [])], folder, tree=tree, environment=environment))
        return made[-1]

    yield start
    for run in made:
        run.close()


@pytest.fixture(autouse=True)
def _is_built() -> None:
    """Nothing here takes the place of a first run."""
    for capability in ("root", "qemu"):
        if not has(capability):
            pytest.skip(f"needs {capability}: tools/bootstrap --lab")
    if not any(cache.home().glob(f"state-{GUEST}-*/{cache.MANIFEST}")):
        pytest.skip(f"the guest {GUEST} was never built: nox -s lab -- --guest {GUEST} --build")
