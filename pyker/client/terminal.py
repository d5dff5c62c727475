"""Our own terminal: its size, and keys that go to the container as they are. Source: termios(3)."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def terminal_size(descriptor: int = 1) -> tuple[int, int]:
    """(height, width); zeros where there is no terminal."""
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return 0, 0
    return size.lines, size.columns


class RawTerminal:
    """While open, every key goes to the container: no echo, no line editing, no signals. A context manager.

    Unless ``wanted``, it does nothing.
    """

    def __init__(self, descriptor: int, *, wanted: bool = True) -> None:
        self._descriptor = descriptor
        self._wanted = wanted
        self._saved: list[Any] | None = None

    def __enter__(self) -> RawTerminal:
        if not self._wanted:
            return self
        import termios

        saved = termios.tcgetattr(self._descriptor)
        mode = termios.tcgetattr(self._descriptor)
        mode[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        mode[1] &= ~termios.OPOST
        mode[2] = (mode[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN] = 1
        mode[6][termios.VTIME] = 0
        termios.tcsetattr(self._descriptor, termios.TCSANOW, mode)
        self._saved = saved
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            import termios

            termios.tcsetattr(self._descriptor, termios.TCSANOW, self._saved)
            self._saved = None
