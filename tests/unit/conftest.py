"""A registry that misbehaves on demand, and the engine's transfers with a graph in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.fault_registry import FaultRegistry
from tests.support.transfers import Transfers

# How fast a busy machine draws examples says nothing about the code under test.
settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")


@pytest.fixture
def registry() -> Iterator[FaultRegistry]:
    with FaultRegistry() as registry:
        yield registry


@pytest.fixture
def transfers(tmp_path: Path) -> Iterator[Transfers]:
    transfers = Transfers(tmp_path)
    yield transfers
    transfers.close()
