"""A box by Vagrant, on a machine that can run boxes: brought up, used by ssh, halted. See the Vagrantfile."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from lab.agentlink import Done, Event, GuestLost
from lab.backends.following import follow
from lab.commands import Tools
from lab.session import FETCHED, Tested
from lab.table import Box, LabError

# Where lab/provision.sh puts a Python that is new enough, with the project's dependencies.
_PYTHON = "/opt/pyker/bin/python"
_UP_TIMEOUT_S = 1800.0
_RESULTS = "/var/tmp/pyker-lab"


class VagrantSession:
    """A box that is up."""

    def __init__(self, tools: Tools, tree: Path, box: Box, environment: Mapping[str, str], scratch: Path) -> None:
        self.name = box.name
        self._tools = tools
        self._tree = tree
        self._environment = environment
        self._scratch = scratch
        config = scratch / "ssh-config"
        config.write_text(tools.run(["vagrant", "ssh-config", box.name], cwd=tree))
        self._ssh = ["ssh", "-F", str(config), box.name]
        self.hostspec = f"ssh://{box.name}?ssh_config={config}&sudo=true"
        self.check_environment: Mapping[str, str] = {}

    def checked(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Done:
        try:
            done = subprocess.run(
                [*self._ssh, self._as_root(argv)], capture_output=True, check=False, timeout=timeout_s, cwd=self._tree
            )
        except subprocess.TimeoutExpired as error:
            raise GuestLost(f"{' '.join(argv)} did not end within {timeout_s:.3g} s") from error
        return Done(done.returncode, done.stdout, done.stderr, 0.0)

    def pytest(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_event: Callable[[Event], None],
        deadline_s: float,
    ) -> Tested:
        argv = [_PYTHON, "-m", "pytest", "-p", "progress", f"--junitxml={_RESULTS}/junit.xml"]
        argv += [f"--results={_RESULTS}/results.json", *arguments]
        # ssh brings the events on its standard output and what pytest writes on its standard error.
        inner = f"rm -rf {_RESULTS} && mkdir {_RESULTS} && cd /src && exec {shlex.join(argv)} 3>&1 >&2"
        extra = {**environment, "PYKER_LAB_EVENTS": "3", "PYTHONPATH": "/src/lab/guest"}
        return follow(
            self._tools,
            [*self._ssh, self._as_root(["sh", "-c", inner], extra)],
            environment=dict(os.environ),
            log=self._scratch / "pytest.log",
            on_event=on_event,
            deadline_s=deadline_s,
        )

    def interact(self) -> int:
        return subprocess.run([*self._ssh, "-t", "cd /src && exec sudo -s"], check=False).returncode

    def last_words(self) -> str:
        log = self._scratch / "pytest.log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else ""

    def fetch(self, folder: Path) -> None:
        for name in FETCHED:
            done = self.run(["cat", f"{_RESULTS}/{name}"], timeout_s=120)
            if done.code == 0:
                (folder / name).write_bytes(done.stdout)

    def _as_root(self, argv: Sequence[str], extra: Mapping[str, str] | None = None) -> str:
        words = [f"{name}={value}" for name, value in {**self._environment, **(extra or {})}.items()]
        return shlex.join(["sudo", "env", "-C", "/src", *words, *argv])


@contextlib.contextmanager
def session(
    box: Box, tree: Path, environment: Mapping[str, str], scratch: Path, tools: Tools, *, keep: bool
) -> Iterator[VagrantSession]:
    """``box``, up and provisioned, with the tree in /src; halted afterwards unless it is to be kept."""
    if shutil.which("vagrant") is None:
        raise LabError("vagrant is not installed; see docs/lab.md, or leave --backend vagrant out")
    try:
        tools.run(["vagrant", "up", box.name, "--provision"], cwd=tree, timeout_s=_UP_TIMEOUT_S)
        tools.run(["vagrant", "rsync", box.name], cwd=tree, timeout_s=300)
        yield VagrantSession(tools, tree, box, environment, scratch)
    finally:
        if not keep:
            # Not by the tools: when those were stopped, this is what is left to do.
            subprocess.run(["vagrant", "halt", "--force", box.name], cwd=tree, capture_output=True, check=False)
