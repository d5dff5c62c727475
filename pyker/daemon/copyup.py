"""Filling a new volume with what the image has at its destination, in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from typing import Protocol

from pyker.container.record import MountPoint
from pyker.errors import SystemFailure
from pyker.graphdriver.base import RootfsSpec
from pyker.types.ids import ContainerId


class Roots(Protocol):
    """What a copy needs of the graph."""

    def rootfs(self, container_id: ContainerId, *, readonly: bool = False) -> RootfsSpec: ...


class CopyUpWorker:
    """Runs one worker for each container that needs it. Blocks until the copy is done."""

    def __init__(self, layers: Roots, folder: str) -> None:
        self._layers = layers
        self._folder = folder

    def __call__(self, container_id: ContainerId, points: list[MountPoint]) -> None:
        """Raises SystemFailure; what was copied until then stays in the volume."""
        at = os.path.join(self._folder, f"view-{container_id[:12]}")
        os.makedirs(at, mode=0o700, exist_ok=True)
        request = {
            "rootfs": dataclasses.asdict(self._layers.rootfs(container_id).mount),
            "at": at,
            "copies": [[point.destination, point.bound or point.source] for point in points],
        }
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pyker.graphdriver.copyup_main"],
                input=json.dumps(request).encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,
                cwd="/",
            )
        finally:
            os.rmdir(at)
        if done.returncode != 0:
            reason = done.stderr.decode(errors="replace").strip().splitlines()
            raise SystemFailure(f"failed to populate volume: {reason[-1] if reason else 'the copy was killed'}")
