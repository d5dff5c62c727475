"""Hangs the guest that it runs in. For ``tests/lab/live``: by its name pytest collects it only when asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab.inside import in_guest

pytestmark = pytest.mark.skipif(not in_guest(), reason="not in a guest of the lab")


def test_something_before() -> None:
    assert os.getpid() > 1


def test_that_hangs() -> None:
    """A busy loop above everything else that the only processor could do, the agent included."""
    Path("/dev/kmsg").write_text("<1>lab: this guest is about to hang\n")
    Path("/proc/sys/kernel/sched_rt_runtime_us").write_text("-1")
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
    while True:
        pass


def test_something_after() -> None:
    raise AssertionError("never reached")
