"""Running ``pyker`` and the stock docker CLI against a scripted daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

CLIENTS = {"docker": ["docker"], "pyker": [sys.executable, "-m", "pyker"]}


class Told(NamedTuple):
    """What a client said, and how it ended."""

    code: int
    out: str
    err: str


def environment(host: str = "", config: str = "/nonexistent", **more: str) -> dict[str, str]:
    """Ours, without what names a daemon."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "PYKER_"))}
    plain.update(DOCKER_CONFIG=config, TZ="UTC", **more)
    if host:
        plain["DOCKER_HOST"] = host
    return plain


def run_client(
    client: str,
    host: str,
    arguments: Sequence[str],
    *,
    stdin: bytes | None = None,
    config: str = "/nonexistent",
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> Told:
    """Run to the end. Without ``stdin`` there is no input."""
    done = subprocess.run(
        [*CLIENTS[client], *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=timeout,
        env={**environment(host, config), **(env or {})},
        check=False,
    )
    return Told(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def in_our_name(text: str) -> str:
    """What the stock CLI says, as Pyker says it."""
    return text.replace("docker", "pyker").replace("Docker", "Pyker")
