"""The guest under examination, and what the table says of it."""

from __future__ import annotations

import os

import pytest
import testinfra
import testinfra.backend
from testinfra.host import Host

from lab.table import Guest, table

testinfra.backend.BACKENDS["lab"] = "lab.checks.backend.AgentBackend"


@pytest.fixture(scope="session")
def machine() -> Host:
    """The guest, through testinfra. ``PYKER_LAB_HOSTSPEC`` says how it is reached."""
    return testinfra.get_host(os.environ["PYKER_LAB_HOSTSPEC"])


@pytest.fixture(scope="session")
def guest() -> Guest:
    """Its row of the table."""
    return table().guest(os.environ["PYKER_LAB_GUEST"])
