"""Fails, in every way that a test can. For ``tests/lab/live``: by its name pytest collects it only when asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def broken_afterwards() -> Iterator[None]:
    yield
    raise AssertionError("broken afterwards")


def test_that_passes() -> None:
    assert True


def test_that_fails() -> None:
    raise AssertionError("as it should")


def test_that_leaves_something(broken_afterwards: None) -> None:
    assert broken_afterwards is None
