"""Tests that run on the host and speak to guests: ``nox -s lab -- --guest two-nodes``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest

from lab import cache, nodes
from lab.progress import Progress
from lab.runner import TREE
from lab.table import table

PAIR = "two-nodes"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test waits until both guests are built, if they never were."""
    for item in items:
        if "tests/lab/nodes/" in item.nodeid:
            item.add_marker(pytest.mark.timeout(1500))


@pytest.fixture(scope="session")
def pair() -> Iterator[Sequence[nodes.Node]]:
    """Two guests on one virtual L2. Only in ``nox -s lab``: the first run builds them."""
    if os.environ.get("PYKER_ENVIRONMENT") != PAIR:
        pytest.skip("runs in nox -s lab -- --guest two-nodes")
    with nodes.by_name(PAIR, table(), cache.home(), TREE, Progress()) as made:
        yield made
