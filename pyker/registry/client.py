"""The registry client: repositories at endpoints, and the requests that pull and push are made of.

Source: OCI distribution-spec spec.md; distribution HTTP API V2.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

from pyker.errors import Corrupt
from pyker.registry.answers import BadAnswer, Refused, Unreachable, status_line
from pyker.registry.auth import NO_CREDENTIALS, Authorizer, Credentials, TokenCache
from pyker.registry.cancel import NEVER, Cancel
from pyker.registry.challenge import parse_challenges
from pyker.registry.config import RegistryConfig
from pyker.registry.endpoints import Endpoint, pull_endpoints, push_endpoints
from pyker.registry.manifests import ACCEPT, MANIFEST_MAX_BYTES, Descriptor, Raw, digest_of, verify
from pyker.registry.warning import Warnings
from pyker.types.ids import Digest
from pyker.types.reference import is_digest

if TYPE_CHECKING:
    from pyker.registry.session import Answer, Sessions

T = TypeVar("T")

log = logging.getLogger("pyker.registry")

_TAGS_MAX = 100_000
_TAG_PAGE_MAX_BYTES = 8 << 20


class RegistryClient:
    """Connections, tokens and what is known of registries, shared by all pulls and pushes. Thread-safe."""

    def __init__(self, config: RegistryConfig) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._sessions: Sessions | None = None
        self._tokens = TokenCache()
        self._tls_seen: set[str] = set()

    def close(self) -> None:
        """Drop every connection."""
        with self._lock:
            sessions, self._sessions = self._sessions, None
        if sessions is not None:
            sessions.close()

    @property
    def sessions(self) -> Sessions:
        """The HTTP side, loaded at its first use."""
        with self._lock:
            if self._sessions is None:
                from pyker.registry.session import Sessions

                self._sessions = Sessions(self.config)
            return self._sessions

    def connect(
        self,
        endpoint: Endpoint,
        path: str,
        credentials: Credentials = NO_CREDENTIALS,
        *,
        meta_headers: Mapping[str, str] = MappingProxyType({}),
        cancel: Cancel = NEVER,
        warned: Warnings | None = None,
    ) -> Repository:
        """Ask ``endpoint`` whether it is there and what it wants to see. A mirror never gets credentials.

        ``meta_headers`` are sent to the endpoint, and nowhere else, with each request.
        """
        given = NO_CREDENTIALS if endpoint.mirror else credentials
        authorizer = Authorizer(self.sessions, self.config, endpoint, given, self._tokens)
        heard = Warnings() if warned is None else warned
        repository = Repository(self.sessions, endpoint, path, authorizer, dict(meta_headers), cancel, heard)
        repository.ping()
        if endpoint.scheme == "https":
            self._tls_seen.add(endpoint.host)
        return repository

    def first(
        self,
        domain: str,
        path: str,
        credentials: Credentials,
        action: Callable[[Repository], T],
        *,
        push: bool = False,
        meta_headers: Mapping[str, str] = MappingProxyType({}),
        cancel: Cancel = NEVER,
    ) -> T:
        """Do ``action`` at the first endpoint that is able to.

        Any failure of a mirror goes on to the next endpoint. Plain HTTP is tried only if the registry is insecure and
        has never answered by TLS. Raises what went wrong last.
        """
        endpoints = push_endpoints(domain, self.config) if push else pull_endpoints(domain, self.config)
        failure: Exception | None = None
        warned = Warnings()
        for endpoint in endpoints:
            if endpoint.scheme == "http" and not endpoint.mirror and endpoint.host in self._tls_seen:
                continue
            try:
                repository = self.connect(
                    endpoint, path, credentials, meta_headers=meta_headers, cancel=cancel, warned=warned
                )
            except (Unreachable, Refused, BadAnswer) as error:
                log.info("%s does not serve %s: %s", endpoint.url, path, error)
                failure = error
                continue
            try:
                return action(repository)
            except (Unreachable, Refused, BadAnswer, Corrupt) as error:
                if not endpoint.mirror:
                    raise
                log.warning("mirror %s failed for %s: %s", endpoint.url, path, error)
                failure = error
        if failure is None:
            raise Unreachable(f"no endpoint serves {domain}")
        raise failure


class Repository:
    """One repository at one endpoint, as one user sees it. Usable from several threads."""

    def __init__(
        self,
        sessions: Sessions,
        endpoint: Endpoint,
        path: str,
        authorizer: Authorizer,
        meta_headers: dict[str, str],
        cancel: Cancel,
        warned: Warnings,
    ) -> None:
        self._sessions = sessions
        self.endpoint = endpoint
        self.path = path
        self._authorizer = authorizer
        self._meta_headers = meta_headers
        self._cancel = cancel
        self.warned = warned
        """What the endpoint warned of, and those that were asked before it for the same command."""

    def ping(self) -> None:
        """``GET /v2/``: learn the challenges. Any answer will do; whether it is a registry shows later."""
        url = f"{self.endpoint.url}/v2/"
        with self._sessions.send("GET", url, cancel=self._cancel, warned=self.warned) as answer:
            if answer.status == 401:
                self._authorizer.challenges = parse_challenges(answer.headers.get("www-authenticate", ""))
            answer.read_cut(_PING_MAX_BYTES)

    def login(self) -> None:
        """``GET /v2/`` with the credentials. Raises Refused if they are wrong."""
        url = f"{self.endpoint.url}/v2/"
        try:
            with self.request("GET", url, (200,), ()):
                return
        except Refused as error:
            if not error.status:
                raise
            reason = f"login attempt to {url} failed with status: {status_line(error.status)}"
            raise Refused(reason, code=error.code, status=error.status) from error

    def url(self, suffix: str) -> str:
        """``suffix`` is what follows the repository's name, such as ``manifests/latest``."""
        return f"{self.endpoint.url}/v2/{self.path}/{suffix}"

    def request(
        self,
        method: str,
        url: str,
        statuses: tuple[int, ...],
        scopes: tuple[str, ...],
        *,
        headers: dict[str, str] | None = None,
        body: Callable[[], Any] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        """Send one request as this user; a token that has expired is renewed once.

        ``body`` is called anew for each attempt. Raises Refused unless the status is one of ``statuses``.
        """
        from pyker.registry.session import accept

        token = self._cancel if cancel is None else cancel
        what = f'{method.capitalize()} "{url}"'
        ours = urlsplit(url)[:2] == urlsplit(self.endpoint.url)[:2]
        for attempt in (1, 2):
            authorization = self._authorizer.header(scopes, what, token) if ours else ""
            content = body() if body is not None else None
            private = dict(self._meta_headers) if ours else {}
            if authorization:
                private["Authorization"] = authorization
            answer = self._sessions.send(
                method,
                url,
                headers=headers,
                private=private,
                body=content,
                cancel=token,
                warned=self.warned if ours else None,
            )
            challenges = parse_challenges(answer.headers.get("www-authenticate", ""))
            again = attempt == 1 and ours and answer.status == 401 and challenges and self._may_retry(authorization)
            if not again:
                break
            answer.close()
            self._authorizer.challenges = challenges
            self._authorizer.refuse(authorization)
        return accept(answer, *statuses)

    @staticmethod
    def _may_retry(authorization: str) -> bool:
        """A password that was refused stays refused; a token may only be old."""
        return not authorization.startswith("Basic ")

    @property
    def _pull(self) -> tuple[str, ...]:
        return (f"repository:{self.path}:pull",)

    @property
    def push_scope(self) -> tuple[str, ...]:
        """The right to push here."""
        return (f"repository:{self.path}:pull,push",)

    def resolve(self, tag: str) -> str:
        """The digest that ``tag`` stands for now, or "" if the registry does not tell without sending the manifest.

        It costs nothing where pulls are counted.
        """
        try:
            url = self.url(f"manifests/{tag}")
            with self.request("HEAD", url, (200,), self._pull, headers={"Accept": ACCEPT}) as answer:
                digest = answer.headers.get("docker-content-digest", "")
        except Refused as error:
            if error.status:
                return ""  # a HEAD's refusal has no body: let the GET say why
            raise
        return digest if is_digest(digest) else ""

    def manifest(self, reference: str) -> Raw:
        """Fetch a manifest or index by tag or digest; its bytes are checked against every digest that is known."""
        url = self.url(f"manifests/{reference}")
        with self.request("GET", url, (200,), self._pull, headers={"Accept": ACCEPT}) as answer:
            body = answer.read(MANIFEST_MAX_BYTES, f"the manifest of {self.path}:{reference}")
            media_type = answer.headers.get("content-type", "")
            claimed = answer.headers.get("docker-content-digest", "")
        if is_digest(reference):
            verify(body, reference, "manifest")
            return Raw(media_type=media_type, digest=Digest(reference), body=body)
        if is_digest(claimed):
            verify(body, claimed, "manifest")
        return Raw(media_type=media_type, digest=digest_of(body), body=body)

    def blob(self, descriptor: Descriptor, limit: int, what: str) -> bytes:
        """A small blob, whole and verified. Raises BadAnswer over ``limit`` bytes, Corrupt if it is another one."""
        if descriptor.size > limit:
            raise BadAnswer(f"{what} of {descriptor.size} bytes is longer than the {limit} that are allowed")
        with self.open_blob(descriptor, 0) as answer:
            body = answer.read(limit, what)
        verify(body, descriptor.digest, what)
        return body

    def open_blob(self, descriptor: Descriptor, offset: int, *, cancel: Cancel | None = None) -> Answer:
        """Begin to fetch a blob at byte ``offset``: status 206 from there, 200 from the start.

        A foreign layer is asked for at its own ``urls`` first. Raises Refused with status 416 if the blob ends before.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        failure: Exception | None = None
        for url in (*(item for item in descriptor.urls if urlsplit(item).scheme in ("http", "https")), ""):
            target = url or self.url(f"blobs/{descriptor.digest}")
            try:
                return self.request("GET", target, (200, 206), self._pull, headers=headers, cancel=cancel)
            except (Refused, Unreachable) as error:
                if not url:
                    raise failure or error from error
                failure = error
        raise AssertionError("the registry's own URL comes last")

    def blob_size(self, digest: str) -> int:
        """The size of a blob that is there, or -1 if it is not (or its size is not told)."""
        try:
            with self.request("HEAD", self.url(f"blobs/{digest}"), (200,), self.push_scope) as answer:
                return answer.length
        except Refused as error:
            if error.status == 404:
                return -1
            raise

    def put_manifest(self, tag: str, media_type: str, body: bytes) -> Digest:
        """Store a manifest under ``tag``; returns its digest. Raises Corrupt if the registry took it for another."""
        digest = digest_of(body)
        headers = {"Content-Type": media_type}
        url = self.url(f"manifests/{quote(tag, safe=':')}")
        with self.request("PUT", url, (200, 201, 202), self.push_scope, headers=headers, body=lambda: body) as answer:
            claimed = answer.headers.get("docker-content-digest", "")
            answer.read_cut(_PING_MAX_BYTES)
        if is_digest(claimed) and claimed.startswith("sha256:") and claimed != digest:
            raise Corrupt(f"the registry stored the manifest as {claimed}, and it is {digest}")
        return digest

    def tags(self) -> list[str]:
        """Every tag, page by page. Source: OCI distribution-spec spec.md#listing-tags."""
        found: list[str] = []
        url = self.url("tags/list")
        while url:
            with self.request("GET", url, (200,), self._pull) as answer:
                body = answer.read(_TAG_PAGE_MAX_BYTES, "the list of tags")
                link = answer.headers.get("link", "")
            found += _read_tags(body)
            if len(found) > _TAGS_MAX:
                raise BadAnswer(f"the registry lists more than {_TAGS_MAX} tags")
            following = _next_page(link, url)
            if following == url or urlsplit(following or url)[:2] != urlsplit(url)[:2]:
                break
            url = following
        return found


_PING_MAX_BYTES = 8192


def _read_tags(body: bytes) -> list[str]:
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise BadAnswer("the list of tags is not JSON") from None
    tags = parsed.get("tags") if isinstance(parsed, dict) else None
    if tags is None:
        return []
    if not isinstance(tags, list) or not all(isinstance(item, str) for item in tags):
        raise BadAnswer("the list of tags is no list of strings")
    return tags


def _next_page(link: str, url: str) -> str:
    """The target of ``Link: <...>; rel="next"``, or ""."""
    start, end = link.find("<"), link.find(">")
    if start < 0 or end < start or "next" not in link[end:]:
        return ""
    return urljoin(url, link[start + 1 : end])
