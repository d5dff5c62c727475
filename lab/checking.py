"""Runs ``lab/checks`` against a guest. A guest that is not what the table promises runs no test."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lab.commands import Tools
from lab.session import Session
from lab.table import LabError


class BrokenPromise(LabError):
    """A check was red."""


def check(tools: Tools, session: Session, tree: Path, timeout_s: float) -> None:
    """Raises BrokenPromise with what pytest says, and the guest's last words: it may be one that hangs."""
    environment = {
        **session.check_environment,
        "PYKER_LAB_HOSTSPEC": session.hostspec,
        "PYKER_LAB_GUEST": session.name,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout", "--timeout=300"]
    argv += ["--no-header", "--tb=short", "-x", f"--rootdir={tree}", str(tree / "lab/checks")]
    with session.checked():
        try:
            tools.run(argv, cwd=tree, environment={**os.environ, **environment}, timeout_s=timeout_s)
        except LabError as error:
            said = f"{error}\n{session.last_words()}"
            raise BrokenPromise(f"{session.name} is not what lab/machines.json promises:\n{said}") from error
