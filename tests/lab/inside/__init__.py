"""What ``tests/lab/live`` has run in a guest, to see what the lab makes of it."""

from __future__ import annotations

from pathlib import Path


def in_guest() -> bool:
    """Whether the machine is one that may be hurt."""
    return any(port.read_text() == "lab.agent\n" for port in Path("/sys/class/virtio-ports").glob("*/name"))
