"""The error tree. It knows no HTTP and does no I/O.

PykerError
 +-- InvalidParameter     the caller sent something that cannot be right        (400)
 +-- Unauthorized         credentials are missing or wrong                      (401)
 +-- Forbidden            understood, and refused                               (403)
 +-- NotFound             no such container, image, network, ...                (404)
 +-- Conflict             the state of the object forbids it now                (409)
 +-- NotModified          already so                                            (304)
 +-- NotSupported         not built, or this kernel cannot                      (501)
 +-- Unavailable          a part that is needed does not answer                 (503)
 +-- Cancelled            the caller went away                                  (499)
 +-- SystemFailure        anything else that went wrong underneath              (500)
      +-- KernelError     a system call failed, in a named stage
      +-- Corrupt         stored or received bytes are not what their digest says

``pyker.api.status`` maps these classes to HTTP statuses; both ends read that one table.
"""

from __future__ import annotations

import os
from typing import ClassVar


class PykerError(Exception):
    """Base of every error that Pyker raises on purpose.

    ``message`` is what a user reads: lower case, with the value quoted, except where a client depends on the
    reference engine's exact words. ``hint`` says what to do next.
    """

    reference: ClassVar[str] = "error"
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint

    def __str__(self) -> str:
        return self.message


class InvalidParameter(PykerError):
    """The request cannot be right, whatever the state of the engine."""

    reference = "invalid-parameter"


class Unauthorized(PykerError):
    """Credentials are missing or were refused."""

    reference = "unauthorized"
    default_hint = "log in to the registry, or check the client certificate"


class Forbidden(PykerError):
    """Understood, and refused."""

    reference = "forbidden"


class NotFound(PykerError):
    """No object of that name."""

    reference = "not-found"


class Conflict(PykerError):
    """The state of the object forbids it now."""

    reference = "conflict"


class NotModified(PykerError):
    """The object is already in the state asked for."""

    reference = "not-modified"


class NotSupported(PykerError):
    """Not built yet, or this kernel cannot do it."""

    reference = "not-supported"


class Unavailable(PykerError):
    """A part that is needed does not answer."""

    reference = "unavailable"


class Cancelled(PykerError):
    """The caller went away, or cancelled the job."""

    reference = "cancelled"


class SystemFailure(PykerError):
    """Something underneath went wrong."""

    reference = "system"


class KernelError(SystemFailure):
    """A system call failed. ``stage`` names what was being done, such as ``rootfs`` or ``cgroup``."""

    reference = "kernel"

    def __init__(self, message: str, *, syscall: str = "", errno: int = 0, stage: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.syscall = syscall
        self.errno = errno
        self.stage = stage

    @classmethod
    def from_oserror(cls, error: OSError, *, syscall: str, stage: str) -> KernelError:
        """Wrap ``error`` as ``stage: syscall(path): Reason``."""
        where = f" {error.filename!r}" if error.filename is not None else ""
        reason = os.strerror(error.errno) if error.errno else str(error)
        return cls(f"{stage}: {syscall}{where}: {reason}", syscall=syscall, errno=error.errno or 0, stage=stage)


class Corrupt(SystemFailure):
    """Bytes that are not what their digest or format says."""

    reference = "corrupt"
