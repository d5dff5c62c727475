"""Which networkdrivers there are. Drivers register as entry points, ours and others' alike."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

from pyker.errors import NotFound, NotSupported
from pyker.networkdriver.base import DriverContext, NetworkDriver

GROUP = "pyker.networkdrivers"


class Drivers:
    """The drivers by name, each made once, when it is first asked for."""

    def __init__(self, context: DriverContext) -> None:
        self._context = context
        self._found = {point.name: point for point in entry_points(group=GROUP)}
        self._made: dict[str, NetworkDriver] = {}

    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted(self._found)

    def get(self, name: str) -> NetworkDriver:
        """The driver called ``name``. Raises NotFound, or NotSupported with what its probe said."""
        made = self._made.get(name)
        if made is not None:
            return made
        point = self._found.get(name)
        if point is None:
            raise NotFound(f'plugin "{name}" not found', hint=f"network drivers here: {', '.join(self.names())}")
        factory: Callable[[DriverContext], NetworkDriver] = point.load()
        driver = factory(self._context)
        answer = driver.probe()
        if not answer.usable:
            raise NotSupported(f"networkdriver {name}: {answer.reason}")
        return self._made.setdefault(name, driver)

    def close(self) -> None:
        """Let every driver that holds something let go of it."""
        for driver in self._made.values():
            close: Callable[[], None] | None = getattr(driver, "close", None)
            if close is not None:
                close()
