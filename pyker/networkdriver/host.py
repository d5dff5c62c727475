"""The host networkdriver: containers use the host's own interfaces."""

from __future__ import annotations

from pyker.networkdriver.base import NothingToMake


class HostDriver(NothingToMake):
    """Nothing to make and nothing to take down: the addresses of the host are the container's."""

    name = "host"
