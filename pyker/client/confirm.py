"""Asking before something is deleted."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.surroundings import Surroundings


def confirmed(around: Surroundings, warning: str) -> bool:
    """Show ``warning`` and read an answer; only a line that begins with y or Y is a yes, and no input is a no."""
    around.write(f"{warning} [y/N] ")
    around.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
