"""The null networkdriver: containers have loopback and nothing else."""

from __future__ import annotations

from pyker.networkdriver.base import NothingToMake


class NullDriver(NothingToMake):
    """Nothing to make and nothing to take down."""

    name = "null"
