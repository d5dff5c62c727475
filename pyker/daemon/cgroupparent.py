"""The cgroup above all containers: made with the first of them, given back at shutdown if it was not there before."""

from __future__ import annotations

import os
from contextlib import suppress

from pyker.daemon.options import Options
from pyker.errors import NotSupported
from pyker.libcontainer.cgroups import open_cgroup
from pyker.libcontainer.cgroups.layout import layout

_MARK = "cgroup-parent"
"""Lies in the exec root, which a reboot clears as it clears cgroups: the parent in it is ours to remove."""


def cgroup_parent(options: Options) -> str:
    """Where containers go that name no parent of their own."""
    return options.cgroup_parent or "/pyker"


class CgroupParent:
    """Remembers, over daemons that were killed, whether the parent was made by Pyker or by an administrator."""

    def __init__(self, path: str, exec_root: str) -> None:
        self._path = "/" + path.strip("/")
        self._mark = os.path.join(exec_root, _MARK)
        if not _exists(self._path.split("/")[1]):
            with open(self._mark, "w", encoding="utf-8") as file:
                file.write(self._path)

    def give_back(self) -> None:
        """Remove it, and what is above it, where no container is left in it."""
        with suppress(FileNotFoundError, NotSupported):
            with open(self._mark, encoding="utf-8") as file:
                if file.read() != self._path:
                    return
            open_cgroup(f"{self._path}/any").remove_parent()
            if not _exists(self._path.split("/")[1]):
                os.unlink(self._mark)


def _exists(top: str) -> bool:
    """Whether some hierarchy has that cgroup right below its root."""
    try:
        found = layout()
    except NotSupported:
        return False
    return any(
        os.path.isdir(os.path.join(mountpoint, top))
        for mountpoint in filter(None, (*found.mountpoints(), found.unified))
    )
