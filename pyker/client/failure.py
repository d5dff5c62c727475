"""What ends a command early, with the text that the user reads and the status that the program exits with."""

from __future__ import annotations


class Failure(Exception):
    """A command cannot go on.

    ``message`` is printed as it is; ``exit_code`` becomes the program's status. With ``command`` set, the hint to read
    that command's help follows.
    """

    def __init__(self, message: str, exit_code: int = 1, *, command: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.command = command


class UsageFailure(Failure):
    """The command line itself is wrong. ``usage`` is the synopsis that is shown after the message."""

    def __init__(self, message: str, exit_code: int, *, usage: str, hint: str) -> None:
        super().__init__(message, exit_code)
        self.usage = usage
        self.hint = hint


class Unreachable(Failure):
    """No daemon answers at ``host``."""

    def __init__(self, host: str, reason: str = "") -> None:
        super().__init__(reason or f"Cannot connect to the Pyker daemon at {host}. Is the pyker daemon running?")
        self.host = host


class DaemonFailure(Failure):
    """The daemon refused a request; ``status`` is the reply's HTTP status, ``text`` what the daemon said."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"Error response from daemon: {text}")
        self.status = status
        self.text = text


class Exit(Exception):
    """Stop now with ``code``; everything that the user should read was written already."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
