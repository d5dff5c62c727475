"""A test that does not end by itself. By its name pytest collects it only when asked for."""

from __future__ import annotations

import signal


def test_something_before() -> None:
    assert signal.SIGKILL


def test_that_sleeps() -> None:
    signal.pause()
