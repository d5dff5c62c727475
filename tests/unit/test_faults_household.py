"""What runs under a planted fault is ended with all that it leaves behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import household

LEAVE = "import subprocess, sys; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid, flush=True); "


def run(timeout_s: float, script: str) -> subprocess.CompletedProcess[str]:
    assert household.__file__ is not None
    argv = [sys.executable, household.__file__, str(timeout_s), sys.executable, "-c", script]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("timeout_s", "then", "code"),
    [(30, "sys.exit(3)", 3), (1, "import time; time.sleep(600)", household.TIME_IS_OVER)],
    ids=["ends", "does-not-end"],
)
def test_nobody_stays(timeout_s: float, then: str, code: int) -> None:
    done = run(timeout_s, LEAVE + then)
    assert done.returncode == code, done.stderr
    assert not Path(f"/proc/{int(done.stdout)}").exists()
