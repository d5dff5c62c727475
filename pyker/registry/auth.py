"""Credentials, and what becomes of them: Basic, or a Bearer token from the registry's token server.

Source: distribution token authentication specification (token.md, oauth.md).
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from pyker.registry.answers import BadAnswer, NoCredentials, Refused
from pyker.registry.cancel import Cancel
from pyker.registry.challenge import Challenge
from pyker.registry.config import RegistryConfig
from pyker.registry.endpoints import Endpoint

if TYPE_CHECKING:
    from pyker.registry.session import Sessions

_TOKEN_MAX_BYTES = 1 << 20
_DEFAULT_LIFE_S = 60.0
_LIFE_MAX_S = 86400.0
_SAFETY_S = 5.0
_CACHE_MAX = 1000
_CLIENT_ID = "pyker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What the user gave for one registry. ``repr`` shows no secret."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r})"

    @property
    def given(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        """The value of an Authorization header, or "" without a name."""
        if not self.username:
            return ""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()

    def mark(self) -> str:
        """Tells cached tokens of different users apart, without keeping a secret."""
        parts = (self.username, self.password, self.identity_token)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


NO_CREDENTIALS = Credentials()


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    ends: float


class TokenCache:
    """Tokens by (realm, service, scopes, user), until shortly before they expire. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[tuple[str, ...], _Token] = {}

    def get(self, key: tuple[str, ...]) -> str:
        """The token, or ""."""
        with self._lock:
            token = self._tokens.get(key)
            if token is None or token.ends <= monotonic():
                return ""
            return token.value

    def put(self, key: tuple[str, ...], value: str, life_s: float) -> None:
        """Keep ``value`` for ``life_s`` seconds, less a margin."""
        with self._lock:
            if len(self._tokens) >= _CACHE_MAX:
                self._tokens.clear()
            self._tokens[key] = _Token(value, monotonic() + max(life_s - _SAFETY_S, 1.0))

    def drop(self, value: str) -> None:
        """Forget a token that the registry did not take."""
        with self._lock:
            self._tokens = {key: token for key, token in self._tokens.items() if token.value != value}


class Authorizer:
    """Answers one endpoint's challenges for one user. Thread-safe."""

    def __init__(
        self,
        sessions: Sessions,
        config: RegistryConfig,
        endpoint: Endpoint,
        credentials: Credentials,
        tokens: TokenCache,
    ) -> None:
        self._sessions = sessions
        self._config = config
        self._endpoint = endpoint
        self._credentials = credentials
        self._tokens = tokens
        self.challenges: tuple[Challenge, ...] = ()
        """What the registry asked for last; empty: nothing."""

    def header(self, scopes: tuple[str, ...], what: str, cancel: Cancel) -> str:
        """The Authorization header for ``scopes``, or "" if the registry wants none.

        ``what`` is the request as messages name it. Raises Refused if the registry wants what was not given.
        """
        bearer = next((item for item in self.challenges if item.scheme == "bearer"), None)
        if bearer is not None:
            if self._credentials.registry_token:
                return "Bearer " + self._credentials.registry_token
            return "Bearer " + self._bearer(bearer, scopes, what, cancel)
        if any(item.scheme == "basic" for item in self.challenges):
            basic = self._credentials.basic
            if not basic:
                raise NoCredentials(what)
            return basic
        return ""

    def refuse(self, header: str) -> None:
        """Forget the token in ``header``: the registry did not take it."""
        scheme, _, value = header.partition(" ")
        if scheme == "Bearer":
            self._tokens.drop(value)

    def _bearer(self, challenge: Challenge, scopes: tuple[str, ...], what: str, cancel: Cancel) -> str:
        realm = challenge.parameters.get("realm", "")
        service = challenge.parameters.get("service", "")
        asked = tuple(dict.fromkeys((*scopes, *challenge.parameters.get("scope", "").split(" ")[:8])))
        wanted = tuple(scope for scope in asked if scope)
        key = (realm, service, *sorted(wanted), self._credentials.mark())
        token = self._tokens.get(key)
        if token:
            return token
        self._check_realm(realm)
        try:
            token, life_s = self._fetch(realm, service, wanted, cancel)
        except Refused as error:
            raise Refused(f"{what}: {error.message}", code=error.code) from error
        self._tokens.put(key, token, life_s)
        return token

    def _check_realm(self, realm: str) -> None:
        """A registry spoken to by TLS must not make us send a password in clear text elsewhere."""
        parts = urlsplit(realm)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise BadAnswer(f"the registry names {realm[:200]!r} as its token server, which is no place to go")
        in_clear = parts.scheme == "http" and self._endpoint.scheme == "https"
        if in_clear and self._credentials.given and not self._config.insecure(parts.netloc):
            raise BadAnswer(f"refused to send credentials in clear text to the token server {realm[:200]!r}")

    def _fetch(self, realm: str, service: str, scopes: tuple[str, ...], cancel: Cancel) -> tuple[str, float]:
        from pyker.registry.session import accept

        if self._credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": self._credentials.identity_token,
                "service": service,
                "client_id": _CLIENT_ID,
                "scope": " ".join(scopes),
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(form).encode()
            answer = self._sessions.send("POST", realm, headers=headers, body=body, cancel=cancel)
        else:
            query = [("service", service)] if service else []
            query += [("scope", scope) for scope in scopes]
            if self._credentials.username:
                query.append(("account", self._credentials.username))
            url = realm + ("&" if "?" in realm else "?") + urlencode(query)
            basic = self._credentials.basic
            private = {"Authorization": basic} if basic else {}
            answer = self._sessions.send("GET", url, private=private, cancel=cancel)
        with accept(answer, 200):
            return _read_token(answer.read(_TOKEN_MAX_BYTES, "the token"))


def _read_token(body: bytes) -> tuple[str, float]:
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise BadAnswer("the token server's answer is not JSON") from None
    if not isinstance(parsed, dict):
        raise BadAnswer("the token server's answer is not a JSON object")
    token = parsed.get("token") or parsed.get("access_token")
    if not isinstance(token, str) or not token:
        raise BadAnswer("authorization server did not include a token in the response")
    if not token.isascii() or not token.isprintable():
        raise BadAnswer("the token server's token has characters that no header may carry")
    life = parsed.get("expires_in")
    life_s = float(life) if isinstance(life, (int, float)) and not isinstance(life, bool) else _DEFAULT_LIFE_S
    return token, min(max(life_s, _DEFAULT_LIFE_S), _LIFE_MAX_S)
