"""The job ``distribution``: what a registry has under a name, found out without pulling it.

Source: Docker API v1.45 GET /distribution/{name}/json.
"""

from __future__ import annotations

import json

from pyker.engine.job import JobContext
from pyker.errors import InvalidParameter, NotFound, Unauthorized
from pyker.jobs.images import DistributionView, ImagePlatform, InspectDistribution
from pyker.registry.answers import NoCredentials, Refused
from pyker.registry.auth import Credentials
from pyker.registry.client import RegistryClient, Repository
from pyker.registry.manifests import CONFIG_MAX_BYTES, Index, Manifest, parse
from pyker.types import reference

_UNKNOWN = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN"})


class DistributionHandlers:
    """Asks registries; keeps nothing."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client

    def inspect(self, job: InspectDistribution, ctx: JobContext) -> DistributionView:
        """Raises NotFound, Unauthorized, or InvalidParameter for a name that cannot be a registry's."""
        if reference.is_digest(job.image):
            raise InvalidParameter("no manifest found for full image ID", hint="name the repository too")
        name = reference.parse(job.image).default_tag()
        credentials = Credentials(
            username=job.auth.username,
            password=job.auth.password,
            identity_token=job.auth.identity_token,
            registry_token=job.auth.registry_token,
        )

        def look(repository: Repository) -> DistributionView:
            raw = repository.manifest(name.digest or name.tag)
            return DistributionView(
                media_type=raw.media_type,
                digest=raw.digest,
                size=len(raw.body),
                platforms=_platforms(repository, parse(raw)),
            )

        try:
            return self._client.first(name.domain, name.path, credentials, look, cancel=ctx.cancel)
        except NoCredentials as error:
            raise Unauthorized(error.message, hint="log in to the registry") from error
        except Refused as error:
            if error.code in _UNKNOWN:
                raise NotFound(error.message) from error
            raise


def _platforms(repository: Repository, found: Manifest | Index) -> tuple[ImagePlatform, ...]:
    """Those of an index's images in its order; of an image, what its configuration says."""
    if isinstance(found, Index):
        return tuple(
            ImagePlatform(
                os=item.platform.os,
                architecture=item.platform.architecture,
                variant=item.platform.variant,
                os_version=item.platform.os_version,
            )
            if item.platform is not None
            else ImagePlatform()
            for item in found.manifests
        )
    body = repository.blob(found.config, CONFIG_MAX_BYTES, "image config")
    try:
        config = json.loads(body)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict) or not config.get("architecture"):
        # What is no image, such as a chart, has no platform.
        return ()
    fields = {key: str(config.get(name) or "") for key, name in _FIELDS}
    return (ImagePlatform(**fields),)


_FIELDS = (("os", "os"), ("architecture", "architecture"), ("variant", "variant"), ("os_version", "os.version"))
