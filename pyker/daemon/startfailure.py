"""Why a command could not be run, in the words and with the exit codes that clients rely on.

The stock client turns the text into its own exit code: 127 for a command that is not found, 126 for one that may not
be executed, else 125. Source: Docker API v1.45 POST /containers/{id}/start.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from pyker.errors import InvalidParameter, KernelError, PykerError, SystemFailure

NOT_FOUND = 127
NOT_EXECUTABLE = 126
OTHER = 128


@dataclass(frozen=True, slots=True)
class StartFailure:
    """``error`` is what the caller gets, ``exit_code`` what the container's state shows, ``reason`` the short text."""

    exit_code: int
    reason: str
    error: PykerError


def describe(error: PykerError | OSError, command: str, working_dir: str) -> StartFailure:
    """Translate what the exec driver raised."""
    if isinstance(error, OSError):
        return StartFailure(OTHER, str(error), SystemFailure(str(error)))
    if not isinstance(error, KernelError):
        return StartFailure(OTHER, error.message, error)
    if error.stage == "exec":
        reason, code = _exec_reason(command, error.errno)
    elif error.stage in ("cwd", "chdir") and error.errno:
        text = os.strerror(error.errno).lower()
        reason = f'chdir to cwd ("{working_dir}") set in config.json failed: {text}'
        code = {errno.ENOENT: NOT_FOUND, errno.EACCES: NOT_EXECUTABLE}.get(error.errno, OTHER)
    else:
        return StartFailure(OTHER, error.message, SystemFailure(_full(error.message), hint=error.hint))
    kind = InvalidParameter if code in (NOT_FOUND, NOT_EXECUTABLE) else SystemFailure
    return StartFailure(code, reason, kind(_full(reason), hint=error.hint))


def _exec_reason(command: str, number: int) -> tuple[str, int]:
    quoted = '"' + command.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if number == errno.ENOENT:
        if "/" in command:
            return f"exec: {quoted}: stat {command}: no such file or directory", NOT_FOUND
        return f"exec: {quoted}: executable file not found in $PATH", NOT_FOUND
    if number in (errno.EACCES, errno.EISDIR):
        return f"exec: {quoted}: permission denied", NOT_EXECUTABLE
    return f"exec: {quoted}: {os.strerror(number).lower()}", NOT_EXECUTABLE


def _full(reason: str) -> str:
    return (
        "failed to create shim task: OCI runtime create failed: runc create failed: "
        f"unable to start container process: {reason}: unknown"
    )
