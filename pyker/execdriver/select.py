"""Which execdriver: the one asked for, else the first that can run here. All refusals go into the message."""

from __future__ import annotations

from importlib.metadata import entry_points

from pyker.errors import InvalidParameter, NotSupported
from pyker.execdriver.base import ExecDriver
from pyker.libcontainer.launcher import Launcher

GROUP = "pyker.execdrivers"
PREFERENCE = ("native",)


def select(name: str, launcher: Launcher, exec_root: str) -> ExecDriver:
    """Make the execdriver ``name``, or with "" the first of PREFERENCE that probes.

    Raises: InvalidParameter for an unknown name, NotSupported if the driver, or none of them, can run here.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name and name not in found:
        known = ", ".join(sorted(found))
        raise InvalidParameter(f"unknown execdriver {name!r}", hint=f"installed: {known}")
    refusals = []
    for candidate in (name,) if name else PREFERENCE:
        point = found.get(candidate)
        if point is None:
            refusals.append(f"{candidate}: not installed")
            continue
        driver: ExecDriver = point.load()(launcher, exec_root)
        probe = driver.probe()
        if probe.usable:
            return driver
        driver.close()
        refusals.append(f"{candidate}: {probe.reason}")
    raise NotSupported(f"no execdriver can run here: {'; '.join(refusals)}")
