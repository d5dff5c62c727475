"""Search: which images a registry has for a word. Docker Hub answers it; few others do.

Source: Docker Registry HTTP API V1, GET /v1/search; Docker API v1.45 GET /images/search.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from pyker.errors import InvalidParameter
from pyker.registry.answers import BadAnswer, Refused, Unreachable
from pyker.registry.auth import NO_CREDENTIALS, Credentials
from pyker.registry.cancel import NEVER, Cancel
from pyker.registry.client import RegistryClient
from pyker.registry.config import HUB_HOST
from pyker.registry.endpoints import push_endpoints
from pyker.types.reference import DEFAULT_DOMAIN, is_domain

DEFAULT_LIMIT = 25

_ANSWER_MAX_BYTES = 4 << 20
_LIMIT_MAX = 100
_INDEX_HOST = "index.docker.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One image that a registry names."""

    name: str
    description: str
    stars: int
    official: bool
    automated: bool


def search(
    client: RegistryClient,
    term: str,
    limit: int = DEFAULT_LIMIT,
    credentials: Credentials = NO_CREDENTIALS,
    *,
    cancel: Cancel = NEVER,
) -> tuple[Found, ...]:
    """Ask the registry that ``term`` begins with, or Docker Hub, for images that match the rest.

    Raises InvalidParameter for a limit out of range or a term that is a URL; Refused, Unreachable, BadAnswer.
    """
    if not 0 <= limit <= _LIMIT_MAX:
        raise InvalidParameter(f"Limit {limit} is outside the range of [1, {_LIMIT_MAX}]")
    if "://" in term:
        raise InvalidParameter(f'invalid repository name "{term}": it is no URL')
    domain, words = _split(term)
    query = urlencode({"q": words, "n": str(limit or DEFAULT_LIMIT)})
    failure: Exception | None = None
    for endpoint in push_endpoints(domain, client.config):
        base = endpoint.url.replace(HUB_HOST, _INDEX_HOST)
        headers = {"X-Docker-Token": "true"}
        private = {"Authorization": credentials.basic} if credentials.basic else {}
        try:
            url = f"{base}/v1/search?{query}"
            return _ask(client, url, headers, private, cancel)
        except Unreachable as error:
            failure = error
    raise failure or Unreachable(f"no endpoint serves {domain}")


def _ask(
    client: RegistryClient, url: str, headers: dict[str, str], private: dict[str, str], cancel: Cancel
) -> tuple[Found, ...]:
    with client.sessions.send("GET", url, headers=headers, private=private, cancel=cancel) as answer:
        if answer.status != 200:
            raise Refused(f"Unexpected status code {answer.status}", status=answer.status)
        body = answer.read(_ANSWER_MAX_BYTES, "the answer to a search")
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise BadAnswer("the answer to a search is not JSON") from None
    results = parsed.get("results") if isinstance(parsed, dict) else None
    if not isinstance(results, list):
        raise BadAnswer("the answer to a search has no results")
    return tuple(_found(item) for item in results[:_LIMIT_MAX] if isinstance(item, dict))


def _found(item: dict[str, Any]) -> Found:
    stars = item.get("star_count")
    return Found(
        name=str(item.get("name") or ""),
        description=str(item.get("description") or ""),
        stars=stars if isinstance(stars, int) else 0,
        official=item.get("is_official") is True,
        automated=item.get("is_automated") is True,
    )


def _split(term: str) -> tuple[str, str]:
    first, slash, rest = term.partition("/")
    if slash and is_domain(first):
        return first, rest
    return DEFAULT_DOMAIN, term.removeprefix("library/")
