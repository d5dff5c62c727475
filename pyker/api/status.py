"""One table between error classes and HTTP statuses, read by the server and by the client.

Source: Docker API v1.45, responses; moby's mapping of error classes.
"""

from __future__ import annotations

from pyker.errors import (
    Cancelled,
    Conflict,
    Forbidden,
    InvalidParameter,
    NotFound,
    NotModified,
    NotSupported,
    PykerError,
    SystemFailure,
    Unauthorized,
    Unavailable,
)

STATUSES: dict[type[PykerError], int] = {
    NotModified: 304,
    InvalidParameter: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Cancelled: 499,
    SystemFailure: 500,
    NotSupported: 501,
    Unavailable: 503,
}

REASONS: dict[int, str] = {
    100: "Continue",
    101: "UPGRADED",
    200: "OK",
    201: "Created",
    204: "No Content",
    301: "Moved Permanently",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    413: "Request Entity Too Large",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    499: "Client Closed Request",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}

_CLASSES: dict[int, type[PykerError]] = {status: kind for kind, status in STATUSES.items()}


def status_of(error: BaseException) -> int:
    """The HTTP status for ``error``: that of its nearest class in the table, else 500."""
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
    return 500


def error_for(status: int, message: str) -> PykerError:
    """The error that an answer with ``status`` stands for, at the client's end."""
    kind = _CLASSES.get(status)
    if kind is None:
        kind = InvalidParameter if 400 <= status < 500 else SystemFailure
    return kind(message)
