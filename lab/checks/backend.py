"""testinfra's way to a guest: its commands are requests to the guest's agent."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult

from lab.agentlink import AgentLink
from lab.backends.direct import AGENT_VARIABLE

_TIMEOUT_S = 120.0


@functools.cache
def link(path: str) -> AgentLink:
    """One connection a process."""
    made = AgentLink(Path(path))
    made.connect(10)
    return made


class AgentBackend(BaseBackend):  # type: ignore[misc]
    """``lab://NAME``; the agent's socket is in ``PYKER_LAB_AGENT``."""

    NAME = "lab"

    def run(self, command: str, *args: str, **_: Any) -> CommandResult:
        """One command by the guest's shell."""
        text = self.get_command(command, *args)
        done = link(os.environ[AGENT_VARIABLE]).run(["sh", "-c", text], timeout_s=_TIMEOUT_S)
        return self.result(done.code, self.encode(text), done.stdout, done.stderr)
