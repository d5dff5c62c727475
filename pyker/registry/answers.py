"""What a registry answers when it refuses, and what the network says when there is no answer.

The words are those that users of the reference engine know, because they search for them.
Source: OCI distribution-spec spec.md#error-codes.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from pyker.errors import SystemFailure
from pyker.registry.challenge import parse_challenges

ERROR_BODY_MAX_BYTES = 8192

_CODES = {401: "UNAUTHORIZED", 429: "TOOMANYREQUESTS"}


class Refused(SystemFailure):
    """The registry answered, and said no. ``code`` is the registry's, upper case; ``status`` is HTTP's."""

    reference = "registry-refused"

    def __init__(self, message: str, *, code: str = "", status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def passing(self) -> bool:
        """True if the same request may succeed a little later."""
        return self.status in (408, 425, 429) or self.status >= 500


class NoCredentials(Refused):
    """The registry wants a name and a password, and the user gave none. ``what`` is the request."""

    reference = "registry-no-credentials"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: {self.words}", code="UNAUTHORIZED")

    words = "no basic auth credentials"


class Unreachable(SystemFailure):
    """No answer: no such host, refused, reset, cut, timed out, or TLS failed."""

    reference = "registry-unreachable"
    default_hint = "check the name, the network and the proxy settings"

    def __init__(self, message: str, *, broken: bool = False) -> None:
        super().__init__(message)
        self.broken = broken
        """The connection ended before an answer came: on one that was used before, that may mean nothing."""


class BadAnswer(SystemFailure):
    """An answer that is no registry's: too long, no JSON, of an unknown type, or against the specification."""

    reference = "registry-bad-answer"


def refusal(status: int, body: bytes, headers: dict[str, str]) -> Refused:
    """The error for an answer with ``status`` of 400 or more; ``body`` may be cut at ERROR_BODY_MAX_BYTES."""
    retry_after_s = _retry_after(headers.get("retry-after", ""))
    if status >= 500:
        return Refused(
            f"received unexpected HTTP status: {status_line(status)}", status=status, retry_after_s=retry_after_s
        )
    if status == 401 and (oauth := _oauth_error(headers.get("www-authenticate", ""))) is not None:
        code, message = oauth
        return Refused(f"{_spoken(code)}: {message}", code=code, status=status)
    code, message, problem = _first_error(status, body)
    if code:
        return Refused(f"{_spoken(code)}: {message}", code=code, status=status, retry_after_s=retry_after_s)
    if status == 401:
        return Refused("unauthorized: authentication required", code="UNAUTHORIZED", status=status)
    text = json.dumps(body[:512].decode("utf-8", "replace"), ensure_ascii=False)
    message = f"error parsing HTTP {status} response body: {problem}: {text}"
    return Refused(message, status=status, retry_after_s=retry_after_s)


def status_line(status: int) -> str:
    """``404 Not Found``."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _oauth_error(header: str) -> tuple[str, str] | None:
    """What a Bearer challenge says is wrong: so Docker Hub tells that a repository is not there, or not for this user.

    Source: RFC 6750 section 3.1.
    """
    known = {
        "insufficient_scope": ("DENIED", "requested access to the resource is denied"),
        "invalid_token": ("UNAUTHORIZED", "authentication required"),
    }
    for challenge in parse_challenges(header):
        if challenge.scheme == "bearer" and (found := known.get(challenge.parameters.get("error", ""))):
            return found[0], challenge.parameters.get("error_description", "") or found[1]
    return None


def _first_error(status: int, body: bytes) -> tuple[str, str, str]:
    """The code and message of the first error, or two empty strings and why there is none."""
    if not body.strip():
        return "", "", "unexpected end of JSON input"
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        first = body.strip()[:1].decode("latin-1")
        return "", "", f"invalid character '{first}' looking for beginning of value"
    problem = "no error details found in HTTP response body"
    if not isinstance(parsed, dict):
        return "", "", problem
    details = parsed.get("details")
    if isinstance(details, str) and details:
        return _CODES.get(status, "UNKNOWN"), details, ""
    errors = parsed.get("errors")
    if not isinstance(errors, list) or not errors or not isinstance(errors[0], dict):
        return "", "", problem
    code = str(errors[0].get("code", "")) or "UNKNOWN"
    message = str(errors[0].get("message", ""))
    return code.upper()[:64], (message or _spoken(code))[:1024], ""


def _spoken(code: str) -> str:
    return code.replace("_", " ").lower()


def _retry_after(value: str) -> float:
    """Seconds, at most a minute; an HTTP date counts as absent."""
    return min(float(value), 60.0) if value.isdigit() else 0.0
