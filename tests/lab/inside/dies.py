"""Ends the guest that it runs in. For ``tests/lab/live``: by its name pytest collects it only when asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.inside import in_guest

pytestmark = pytest.mark.skipif(not in_guest(), reason="not in a guest of the lab")


def test_that_is_the_guests_end() -> None:
    Path("/proc/sysrq-trigger").write_text("c")
