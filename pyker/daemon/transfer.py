"""The jobs that talk to registries: pull, push, their layers, auth."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from pyker.daemon.transfer_pull import Puller, told
from pyker.daemon.transfer_push import Pusher
from pyker.daemon.transfer_store import TransferStore
from pyker.engine.job import JobContext
from pyker.errors import InvalidParameter, PykerError, SystemFailure, Unauthorized
from pyker.jobs.images import Pull, Pulled, PullLayer, Push, PushLayer, RegistryAuth, SearchImages, SearchResult
from pyker.jobs.system import Auth, AuthResult
from pyker.registry.answers import NoCredentials, Refused
from pyker.registry.auth import Credentials
from pyker.registry.client import RegistryClient, Repository
from pyker.registry.downloads import Downloads, Wait, wait_for
from pyker.registry.manifests import Platform
from pyker.registry.platforms import host_platform, parse_platform, suits
from pyker.registry.search import DEFAULT_LIMIT, Found, search
from pyker.registry.slots import Slots
from pyker.types.events import Event, Progress
from pyker.types.ids import Digest, ImageId
from pyker.types.reference import DEFAULT_DOMAIN, Reference, parse, with_tag_or_digest

_INDEX_SERVERS = frozenset({"", "https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io"})


class TransferHandlers:
    """One method a job. ``folder`` keeps partial downloads and spools; ``publish`` takes the events of images."""

    def __init__(
        self,
        *,
        store: TransferStore,
        client: RegistryClient,
        folder: str,
        publish: Callable[[Event], None],
        wait: Wait = wait_for,
    ) -> None:
        config = client.config
        self._store = store
        self._client = client
        self._publish = publish
        downloads = Downloads(os.path.join(folder, "partial"), max_attempts=config.max_attempts, wait=wait)
        self._puller = Puller(store, downloads, Slots(config.max_concurrent_downloads))
        self._pusher = Pusher(
            store,
            os.path.join(folder, "push"),
            Slots(config.max_concurrent_uploads),
            max_attempts=config.max_attempts,
            wait=wait,
        )
        self.pull_layer: Callable[[PullLayer, JobContext], str] = self._puller.pull_layer
        self.push_layer: Callable[[PushLayer, JobContext], Digest] = self._pusher.push_layer

    def pull(self, job: Pull, ctx: JobContext) -> Pulled:
        """Fetch one image, or without a tag every one of a repository.

        Raises:
            InvalidParameter: the reference or the platform cannot be read.
            NotFound: the registry has no such image, or does not say so to this user.
        """
        reference = with_tag_or_digest(job.image, job.tag)
        platform = parse_platform(job.platform) if job.platform else host_platform()
        credentials = _credentials(job.auth)

        def one(repository: Repository, wanted: Reference) -> tuple[Digest, ImageId, bool]:
            digest, image_id, newer = self._puller.pull(repository, wanted, platform, ctx)
            self._tell("pull", wanted, image_id)
            return digest, image_id, newer

        def wanted_ones(repository: Repository) -> Pulled:
            if not reference.name_only:
                references = [reference]
            else:
                references = [reference.with_tag(tag) for tag in repository.tags()]
            results = [one(repository, item) for item in references]
            if not results:
                raise InvalidParameter(f"repository {reference.familiar_name} has no tags")
            digest, image_id, _ = results[-1]
            newer = any(changed for _, _, changed in results)
            return Pulled(reference=reference.familiar, digest=digest, image_id=image_id, newer=newer)

        try:
            pulled = self._client.first(
                reference.domain,
                reference.path,
                credentials,
                wanted_ones,
                meta_headers=_meta_headers(job.meta_headers),
                cancel=ctx.cancel,
            )
        except PykerError as error:
            raise told(error, reference) from error
        news = "Downloaded newer image" if pulled.newer else "Image is up to date"
        ctx.emit(Progress(status=f"Status: {news} for {reference.familiar}"))
        if job.platform:
            self._warn(reference.familiar, pulled.image_id, platform, ctx)
        return pulled

    def _tell(self, action: str, name: Reference, image_id: ImageId) -> None:
        config = json.loads(self._store.image_config(image_id) or b"{}").get("config") or {}
        attributes = {**(config.get("Labels") or {}), "name": name.familiar_name}
        self._publish(Event(kind="image", action=action, actor_id=name.familiar, attributes=attributes))

    def _warn(self, name: str, image_id: ImageId, wanted: Platform, ctx: JobContext) -> None:
        """Say so if the registry's only image is one for another platform than the user asked for."""
        parsed = json.loads(self._store.image_config(image_id) or b"{}")
        actual = Platform(architecture=str(parsed.get("architecture", "")), variant=str(parsed.get("variant", "")))
        if not suits(actual, wanted):
            reason = f"does not match the specified platform: wanted {wanted}, actual: {actual}"
            ctx.emit(Progress(status=f"WARNING: image with reference {name} was found but {reason}"))

    def push(self, job: Push, ctx: JobContext) -> None:
        """Send one image, or without a tag every one of a repository."""
        reference = parse(job.image)
        if job.tag:
            reference = reference.with_tag(job.tag)
        ctx.emit(Progress(status=f"The push refers to repository [{reference.name}]"))
        if reference.digest:
            raise InvalidParameter("cannot push a digest reference")
        names = self._store.names_in(reference.trimmed())
        if not names:
            raise SystemFailure(f"An image does not exist locally with the tag: {reference.familiar_name}")
        if reference.tag:
            image_id = self._store.named(reference)
            if image_id is None:
                raise SystemFailure(f"tag does not exist: {reference.familiar}")
            names = [(reference, image_id)]

        def send(repository: Repository) -> None:
            for name, image_id in names:
                self._pusher.push(repository, name, image_id, ctx)
                self._tell("push", name, image_id)

        credentials = _credentials(job.auth)
        try:
            self._client.first(reference.domain, reference.path, credentials, send, push=True, cancel=ctx.cancel)
        except NoCredentials as error:
            raise Refused(error.words, code=error.code) from error

    def search(self, job: SearchImages, ctx: JobContext) -> tuple[SearchResult, ...]:
        """Ask a registry which images it has for a word."""
        _filter((), job.filters)
        found = search(self._client, job.term, job.limit, _credentials(job.auth), cancel=ctx.cancel)
        return tuple(
            SearchResult(
                name=item.name,
                description=item.description,
                star_count=item.stars,
                is_official=item.official,
                is_automated=item.automated,
            )
            for item in _filter(found, job.filters)[: job.limit or DEFAULT_LIMIT]
        )

    def auth(self, job: Auth, ctx: JobContext) -> AuthResult:
        """Try the credentials at the registry. Raises Unauthorized if they are wrong; nothing is kept."""
        address = job.server_address.strip()
        bare = address.removeprefix("https://").removeprefix("http://").partition("/")[0]
        domain = DEFAULT_DOMAIN if address in _INDEX_SERVERS or bare in _INDEX_SERVERS else bare
        credentials = Credentials(username=job.username, password=job.password, identity_token=job.identity_token)
        try:
            self._client.first(domain, "", credentials, Repository.login, push=True, cancel=ctx.cancel)
        except Refused as error:
            if error.status:
                raise Unauthorized(error.message) from error
            if error.code in ("UNAUTHORIZED", "DENIED"):
                raise Unauthorized(error.message) from error
            raise
        return AuthResult(status="Login Succeeded")


def _filter(found: tuple[Found, ...], filters: dict[str, tuple[str, ...]]) -> list[Found]:
    """Those that pass: ``is-official``, ``is-automated`` (true or false) and ``stars`` (at least). All must hold."""
    for key in filters:
        if key not in ("is-official", "is-automated", "stars"):
            raise InvalidParameter(f"Invalid filter '{key}'")
    for value in filters.get("stars", ()):
        if not value.isdigit():
            raise InvalidParameter(f"Invalid filter 'stars={value}'")
    for key in ("is-official", "is-automated"):
        for value in filters.get(key, ()):
            if value not in ("true", "false", "1", "0"):
                raise InvalidParameter(f"Invalid filter '{key}={value}'")

    def passes(item: Found) -> bool:
        enough = all(item.stars >= int(value) for value in filters.get("stars", ()))
        official = all(item.official == (value in ("true", "1")) for value in filters.get("is-official", ()))
        automated = all(item.automated == (value in ("true", "1")) for value in filters.get("is-automated", ()))
        return enough and official and automated

    return [item for item in found if passes(item)]


def _meta_headers(given: dict[str, str]) -> dict[str, str]:
    """Those headers of the caller that are meant for the registry."""
    wanted = {name: value for name, value in given.items() if name.lower().startswith("x-meta-")}
    return {name: value for name, value in wanted.items() if value.isprintable() and value.isascii()}


def _credentials(auth: RegistryAuth) -> Credentials:
    return Credentials(
        username=auth.username,
        password=auth.password,
        identity_token=auth.identity_token,
        registry_token=auth.registry_token,
    )
