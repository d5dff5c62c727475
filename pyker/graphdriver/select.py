"""Which graphdriver: what was asked for, else the one whose data is there, else the first that probes.

Drivers are entry points of the group ``pyker.graphdrivers``, ours and others' alike.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from collections.abc import Mapping

from pyker.errors import NotSupported, SystemFailure
from pyker.graphdriver.base import GraphDriver

GROUP = "pyker.graphdrivers"
PREFERENCE = ("overlay2", "btrfs", "vfs")
"""Third parties' drivers come between, in order of their names."""

_OURS = {
    "btrfs": "pyker.graphdriver.btrfs:BtrfsDriver",
    "overlay2": "pyker.graphdriver.overlay2:Overlay2Driver",
    "vfs": "pyker.graphdriver.vfs:VfsDriver",
}
_GONE = {
    "aufs": "the kernel has no aufs, and overlay2 took its place",
    "overlay": "it kept layers by hard links, and overlay2 took its place",
    "devicemapper": "it was removed from the field in favour of overlay2",
    "zfs": "it is not built yet",
}


def _targets() -> dict[str, str]:
    found = dict(_OURS)
    for point in importlib.metadata.entry_points(group=GROUP):
        found[point.name] = point.value
    return found


def available() -> list[str]:
    """Names of all drivers, in order of preference."""
    return sorted(_targets(), key=lambda name: (0 if name == "overlay2" else 2 if name == "vfs" else 1, name))


def _load(name: str) -> type[GraphDriver]:
    module, _, attribute = _targets()[name].partition(":")
    driver: type[GraphDriver] = getattr(importlib.import_module(module), attribute)
    return driver


def _has_data(data_root: str, name: str) -> bool:
    """Layers of that driver are recorded, or it has more than its empty folders."""
    layers = os.path.join(data_root, "image", name, "layerdb", "sha256")
    try:
        return bool(os.listdir(layers))
    except OSError:
        return False


def asked_for(flag: str, environment: Mapping[str, str]) -> str:
    """The name that the user gave: ``--storage-driver``, else PYKER_DRIVER, else DOCKER_DRIVER; "" for none."""
    return flag or environment.get("PYKER_DRIVER", "") or environment.get("DOCKER_DRIVER", "")


def select(data_root: str, requested: str = "") -> GraphDriver:
    """The driver to use under ``data_root``.

    Raises:
        NotSupported: ``requested`` is unknown or does not work here; or nothing works, with each refusal.
        SystemFailure: several drivers have data, and none was asked for.
    """
    if requested:
        if requested not in _targets():
            why = _GONE.get(requested, "there is no such driver")
            names = ", ".join(available())
            raise NotSupported(
                f"error initializing graphdriver: driver not supported: {requested!r}: {why} (available: {names})",
                hint="leave --storage-driver, PYKER_DRIVER and DOCKER_DRIVER out, or name one that is available",
            )
        return _open(data_root, requested, _probe(data_root, requested))
    prior = [name for name in available() if _has_data(data_root, name)]
    if len(prior) > 1:
        raise SystemFailure(
            f"{data_root!r} contains several valid graphdrivers: {', '.join(prior)}; "
            "please cleanup or explicitly choose storage driver (-s <DRIVER>)",
        )
    if prior:
        return _open(data_root, prior[0], _probe(data_root, prior[0]))
    refusals = []
    for name in available():
        refusal = _probe(data_root, name)
        if not refusal:
            return _open(data_root, name, "")
        refusals.append(f"{name}: {refusal}")
    raise NotSupported("no graphdriver works here: " + "; ".join(refusals))


def _probe(data_root: str, name: str) -> str:
    """Why the driver does not work, "" if it does."""
    try:
        answer = _load(name).probe(os.path.join(data_root, name))
    except (ImportError, AttributeError) as error:
        return f"it cannot be loaded: {error}"
    return "" if answer.usable else answer.reason


def _open(data_root: str, name: str, refusal: str) -> GraphDriver:
    if refusal:
        raise NotSupported(f"error initializing graphdriver: driver not supported: {name!r}: {refusal}")
    driver: type[GraphDriver] = _load(name)
    root = os.path.join(data_root, name)
    os.makedirs(root, 0o710, exist_ok=True)
    return driver(root)
