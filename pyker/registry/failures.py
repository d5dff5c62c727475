"""What the network says when there is no answer, in the words that users of the reference engine know."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import requests
import urllib3
import urllib3.exceptions

from pyker.errors import Cancelled
from pyker.registry.answers import BadAnswer, Unreachable
from pyker.registry.config import host_name


@contextmanager
def translated(method: str, url: str) -> Iterator[None]:
    try:
        yield
    except (Unreachable, BadAnswer, Cancelled):
        raise
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise _unreachable(error, method, url) from error


def _unreachable(error: BaseException, method: str, url: str) -> Unreachable:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    where = f"{parts.hostname}:{port or (443 if parts.scheme == 'https' else 80)}"
    start = f'{method.capitalize()} "{url}": '
    for cause in _causes(error):
        match cause:
            case socket.gaierror():
                words = "no such host" if cause.errno == socket.EAI_NONAME else (cause.strerror or "").lower()
                return Unreachable(f"{start}dial tcp: lookup {host_name(parts.netloc)}: {words}")
            case ssl.SSLCertVerificationError():
                reason = f"tls: failed to verify certificate: x509: {cause.verify_message or cause.reason}"
                return Unreachable(start + reason)
            case ssl.SSLError() if cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
                return Unreachable(f"{start}http: server gave HTTP response to HTTPS client")
            case ssl.SSLError():
                return Unreachable(f"{start}tls: {cause.reason or cause}")
            case urllib3.exceptions.ConnectTimeoutError() | requests.ConnectTimeout():
                return Unreachable(f"{start}dial tcp {where}: i/o timeout")
            case urllib3.exceptions.ReadTimeoutError() | TimeoutError():
                return Unreachable(f"{start}net/http: timeout awaiting an answer")
            case OSError() if cause.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH):
                return Unreachable(f"{start}dial tcp {where}: connect: {os.strerror(cause.errno).lower()}")
            case http.client.RemoteDisconnected():
                return Unreachable(f"{start}EOF", broken=True)
            case OSError() if cause.errno:
                broken = cause.errno in (errno.ECONNRESET, errno.EPIPE)
                return Unreachable(f"{start}read tcp {where}: {os.strerror(cause.errno).lower()}", broken=broken)
            case _:
                continue
    return Unreachable(f"{start}{type(error).__name__}: EOF")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what lies under it, innermost first; the libraries hide it in ``reason`` and ``args``."""
    seen: list[BaseException] = []
    waiting: list[BaseException] = [error]
    while waiting:
        current = waiting.pop()
        if any(current is known for known in seen):
            continue
        seen.append(current)
        candidates = [getattr(current, "reason", None), current.__cause__, current.__context__, *current.args]
        waiting += [item for item in candidates if isinstance(item, BaseException)]
    return reversed(seen)
