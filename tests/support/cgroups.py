"""Where a process is accounted for, whichever version of cgroups this machine has."""

from __future__ import annotations

from pathlib import Path


def cgroup(pid: int, controller: str) -> Path:
    """The folder of the controller's hierarchy, or of the one of version 2, that a process is in."""
    unified = ""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return Path("/sys/fs/cgroup") / controller / path.lstrip("/")
        if not names:
            unified = path
    return Path("/sys/fs/cgroup") / unified.lstrip("/")
