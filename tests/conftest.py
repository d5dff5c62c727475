"""Marks and fixtures that every level shares."""

from __future__ import annotations

import pytest

from tests.support import capabilities, sandbox

pytest_plugins = ["tests.support.claims", "tests.support.results"]


def pytest_sessionstart() -> None:
    """Begin without what a killed run left."""
    sandbox.sweep_cgroups()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail where it was promised, what this machine cannot do."""
    for mark in item.iter_markers("requires"):
        for capability in mark.args:
            if capabilities.has(capability):
                continue
            if capability in capabilities.promised():
                pytest.fail(f"this environment promised {capability!r}, and lacks it")
            pytest.skip(f"needs {capability}")
