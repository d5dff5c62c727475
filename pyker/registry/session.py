"""HTTP with a registry: redirects that leak nothing, bounded answers, no waiting for one whose client left.

This module and the two below it (``connections``, ``failures``) are the only ones that import requests, and they are
imported at the first use of a registry: the library costs more memory than all the rest of the client.

Source: RFC 9110 section 15.4 (redirects).
"""

from __future__ import annotations

import socket
import threading
import warnings
from collections.abc import Iterator
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import requests
import requests.utils
import urllib3
from urllib3.exceptions import InsecureRequestWarning

from pyker.registry.answers import ERROR_BODY_MAX_BYTES, BadAnswer, Unreachable, refusal
from pyker.registry.cancel import NEVER, Cancel
from pyker.registry.config import RegistryConfig, is_loopback
from pyker.registry.connections import Adapter, Waiting, this_thread, tls_context
from pyker.registry.failures import translated
from pyker.registry.warning import Warnings

_REDIRECTS_MAX = 10
_LOOKUP_TIMEOUT_S = 10.0
_PIECE = 1 << 18


class Answer:
    """A reply whose body has not been read yet. Close it; a body read to its end gives the connection back."""

    def __init__(self, response: requests.Response, cancel: Cancel) -> None:
        self._response = response
        self._cancel = cancel
        self._forget = cancel.on_cancel(self._interrupt)
        self.status: int = response.status_code
        self.url: str = response.url
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self.warnings: list[str] = response.raw.headers.getlist("warning")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection unless the whole body was read."""
        self._forget()
        self._response.close()

    def _interrupt(self) -> None:
        """Make a read in another thread return at once."""
        try:
            self._response.raw.shutdown()
        except (OSError, ValueError, RuntimeError):
            return

    @property
    def length(self) -> int:
        """``Content-Length``, or -1."""
        value = self.headers.get("content-length", "")
        return int(value) if value.isdigit() and len(value) < 19 else -1

    def read(self, limit: int, what: str) -> bytes:
        """The whole body. Raises BadAnswer if it is longer than ``limit``, Unreachable if it is cut."""
        if self.length > limit:
            raise BadAnswer(f"{what} of {self.length} bytes is longer than the {limit} that are allowed")
        pieces = bytearray()
        for piece in self.pieces():
            pieces += piece
            if len(pieces) > limit:
                raise BadAnswer(f"{what} is longer than the {limit} bytes that are allowed")
        if 0 <= self.length != len(pieces):
            raise Unreachable(f"{what} ends after {len(pieces)} of {self.length} bytes: unexpected EOF")
        return bytes(pieces)

    def read_cut(self, limit: int) -> bytes:
        """At most ``limit`` bytes of the body; whatever goes wrong ends it."""
        pieces = bytearray()
        try:
            for piece in self.pieces():
                pieces += piece
                if len(pieces) >= limit:
                    break
        except (Unreachable, BadAnswer):
            pass
        return bytes(pieces[:limit])

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives. Ends early, without an error, if the sender closes too soon: compare the length.

        Raises Unreachable when the connection breaks or stalls, Cancelled when the caller's token is set.
        """
        raw = self._response.raw
        with translated("Get", self.url):
            while True:
                try:
                    piece = raw.read1(_PIECE, decode_content=False)
                except urllib3.exceptions.IncompleteRead:
                    piece = b""
                except Exception:
                    self._cancel.raise_if_cancelled()
                    raise
                self._cancel.raise_if_cancelled()
                if not piece:
                    return
                yield piece


class Sessions:
    """One connection pool for each registry host. Thread-safe."""

    def __init__(self, config: RegistryConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._sessions: dict[tuple[str, str], requests.Session] = {}
        warnings.simplefilter("ignore", InsecureRequestWarning)

    def close(self) -> None:
        """Drop every connection."""
        with self._lock:
            sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            session.close()

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        private: dict[str, str] | None = None,
        body: Any = None,
        cancel: Cancel = NEVER,
        warned: Warnings | None = None,
    ) -> Answer:
        """Send one request and follow redirects.

        The headers in ``private`` (Authorization) go to the scheme, host and port of ``url`` and to no other. ``body``
        is bytes, or an iterable with a length. A body is never sent to a second place. ``warned`` hears what the place
        of ``url`` warns of, and no other.

        Raises: Unreachable, BadAnswer, Cancelled. Statuses are for the caller: see ``accept``.
        """
        origin = _origin(url)
        for _hop in range(_REDIRECTS_MAX):
            cancel.raise_if_cancelled()
            sent = dict(headers or {})
            if private and _origin(url) == origin:
                sent.update(private)
            try:
                answer = self._once(method, url, sent, body, cancel)
            except Unreachable as error:
                if not error.broken or body is not None:
                    raise
                # The registry closed a kept connection just when this request went out on it.
                answer = self._once(method, url, sent, body, cancel)
            if warned is not None and _origin(url) == origin:
                warned.hear(urlsplit(url).netloc, answer.warnings)
            target = answer.headers.get("location", "")
            if answer.status not in (301, 302, 303, 307, 308) or not target or body is not None:
                return answer
            answer.close()
            url = urljoin(url, target)
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
                raise BadAnswer(f"the registry redirects to {url[:200]!r}, which is no place to go")
        raise BadAnswer(f'{method.capitalize()} "{url}": stopped after {_REDIRECTS_MAX} redirects')

    def _once(self, method: str, url: str, headers: dict[str, str], body: Any, cancel: Cancel) -> Answer:
        parts = urlsplit(url)
        waiting = Waiting()
        forget = cancel.on_cancel(waiting.interrupt)
        this_thread.waiting = waiting
        try:
            with translated(method, url):
                proxies = _proxies(url, parts.hostname or "")
                if not proxies:
                    _look_up(parts.hostname or "", method, url, cancel)
                session = self._session(parts.scheme, parts.netloc)
                response = session.request(
                    method,
                    url,
                    headers=headers,
                    data=body,
                    stream=True,
                    allow_redirects=False,
                    proxies=proxies,
                    verify=not self._config.insecure(parts.netloc),
                    timeout=(self._config.connect_timeout_s, self._config.stall_timeout_s),
                )
        except Unreachable:
            cancel.raise_if_cancelled()
            raise
        finally:
            this_thread.waiting = None
            forget()
        return Answer(response, cancel)

    def _session(self, scheme: str, host: str) -> requests.Session:
        with self._lock:
            session = self._sessions.get((scheme, host))
            if session is None:
                session = requests.Session()
                session.trust_env = False  # it would take credentials from ~/.netrc
                session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
                session.headers.clear()
                session.headers.update(
                    {"User-Agent": self._config.user_agent, "Accept-Encoding": "identity", "Connection": "keep-alive"}
                )
                context = tls_context(self._config, host) if scheme == "https" else None
                session.mount(f"{scheme}://", Adapter(context))
                self._sessions[scheme, host] = session
            return session


def accept(answer: Answer, *statuses: int) -> Answer:
    """Return ``answer`` if its status is one of ``statuses``; else close it and raise Refused."""
    if answer.status in statuses:
        return answer
    with answer:
        body = answer.read_cut(ERROR_BODY_MAX_BYTES)
    if answer.status < 400:
        raise BadAnswer(f"the registry answered {answer.status} where {' or '.join(map(str, statuses))} was expected")
    raise refusal(answer.status, body, answer.headers)


def _proxies(url: str, name: str) -> dict[str, str]:
    """What the environment says, but never a proxy for this machine itself."""
    if is_loopback(name):
        return {}
    return dict(requests.utils.get_environ_proxies(url, None))


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _look_up(name: str, method: str, url: str, cancel: Cancel) -> None:
    """Resolve ``name`` within a bound of time: getaddrinfo(3) may take half a minute without a network."""
    if not name or name == "localhost" or ":" in name or name.replace(".", "").isdigit():
        return
    done = threading.Event()
    failure: list[OSError] = []

    def look_up() -> None:
        try:
            socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError as error:
            failure.append(error)
        done.set()

    threading.Thread(target=look_up, name="lookup", daemon=True).start()
    forget = cancel.on_cancel(done.set)
    try:
        answered = done.wait(_LOOKUP_TIMEOUT_S)
    finally:
        forget()
    cancel.raise_if_cancelled()
    if failure:
        raise failure[0]
    if not answered:
        raise Unreachable(f'{method.capitalize()} "{url}": dial tcp: lookup {name}: i/o timeout')
