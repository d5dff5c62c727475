"""Mounts as values: a driver describes one, ``libcontainer.mounts`` performs it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount(2), not yet performed.

    ``target`` is absolute inside the container's root ("/" is the root itself). ``fstype`` is "bind" for a bind
    mount, whose ``source`` is then a path on the host. ``options`` are mount(8) words: flags (ro, nosuid, nodev,
    noexec, strictatime, rbind, rslave, ...) and the file system's own data (``size=65536k``, ``lowerdir=...``).
    ``create`` says what to make at a missing target: "dir", "file" or "" for neither. ``workdir`` is the folder on the
    host to be in during the call, for options that hold relative paths (overlayfs data is limited to one page); "" for
    wherever one is. ``idmap`` shows the owners of a bind's files, or of an overlay's layers, as the container's user
    namespace numbers them.
    """

    target: str
    fstype: str
    source: str = ""
    options: tuple[str, ...] = ()
    create: str = "dir"
    workdir: str = ""
    idmap: bool = False
