"""pytest where there is no agent: events come as lines on standard output, what pytest writes goes to a file."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab.agentlink import Event, GuestLost
from lab.commands import DIES_WITH_US, Tools
from lab.session import Tested

_KILLED = (137, -9)
_TAIL = 1 << 18


def follow(
    tools: Tools,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    on_event: Callable[[Event], None],
    deadline_s: float,
) -> Tested:
    """Run a command whose standard output is events, a JSON object a line. Raises GuestLost at the deadline."""
    started = time.monotonic()
    with open(log, "wb") as written:
        process = tools.start(
            [*DIES_WITH_US, "timeout", "--signal=KILL", f"{deadline_s:.0f}", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=written,
            env=environment,
        )
    assert process.stdout is not None
    try:
        with process.stdout:
            for line in process.stdout:
                if line.startswith(b"{"):
                    on_event(json.loads(line))
        code = process.wait()
    finally:
        tools.ended(process)
    if code in _KILLED:
        raise GuestLost(f"pytest had not ended after {deadline_s:.0f} s")
    output = log.read_bytes()[-_TAIL:].decode(errors="replace")
    return Tested(code, output, time.monotonic() - started)
