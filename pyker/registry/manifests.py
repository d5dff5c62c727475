"""Manifests and indexes: what a registry's JSON says about an image.

Everything here is hostile input: sizes, digests and shapes are checked before they are believed.

Source: OCI image-spec manifest.md, image-index.md; Docker image manifest version 2, schema 2.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pyker.errors import Corrupt, InvalidParameter, NotSupported, SystemFailure
from pyker.registry.answers import BadAnswer
from pyker.types.ids import Digest
from pyker.types.reference import is_digest

MANIFEST_MAX_BYTES = 4 << 20
CONFIG_MAX_BYTES = 8 << 20

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

ACCEPT = ", ".join((DOCKER_MANIFEST, DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, "*/*"))

_LAYER_TYPES = frozenset(
    {
        DOCKER_LAYER,
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        OCI_LAYER,
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    }
)
_CONFIG_TYPES = frozenset({DOCKER_CONFIG, OCI_CONFIG, "application/octet-stream", ""})
_PLUGIN_CONFIG = "application/vnd.docker.plugin.v1+json"
_ENTRIES_MAX = 2048
_SIZE_MAX = 1 << 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """``os/architecture[/variant]``."""

    os: str = "linux"
    architecture: str = ""
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What is at the end of a digest. ``size`` is bytes; ``urls`` are places outside the registry (foreign layers)."""

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    platform: Platform | None = None
    attestation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A manifest as it came: its bytes are what its digest is of."""

    media_type: str
    digest: Digest
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image: its configuration and its layers, base first."""

    digest: Digest
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Several images, each for a platform."""

    digest: Digest
    media_type: str
    manifests: tuple[Descriptor, ...]


def digest_of(data: bytes) -> Digest:
    """``sha256:`` of ``data``."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def verify(data: bytes, digest: str, what: str) -> None:
    """Raise Corrupt unless ``data`` is what ``digest`` says."""
    algorithm, _, expected = digest.partition(":")
    if hashlib.new(algorithm, data).hexdigest() != expected:
        raise Corrupt(f"{what} verification failed for digest {digest}")


def parse(raw: Raw) -> Manifest | Index:
    """Read a manifest or an index.

    Raises:
        NotSupported: it is of schema 1, or of a type nobody knows.
        SystemFailure: it is not an image (a chart, a plugin, an artifact).
        BadAnswer: it is malformed, or could be read as two different things (CVE-2021-41190).
    """
    try:
        parsed: Any = json.loads(raw.body)
    except (ValueError, RecursionError):
        raise BadAnswer(f"the manifest {raw.digest} is not JSON, or is cut short") from None
    if not isinstance(parsed, dict):
        raise BadAnswer(f"the manifest {raw.digest} is not a JSON object")
    media_type = _media_type(raw, parsed)
    if media_type in (OCI_INDEX, DOCKER_LIST):
        entries = _entries(parsed.get("manifests"), raw.digest)
        return Index(digest=raw.digest, media_type=media_type, manifests=entries)
    config = _descriptor(parsed.get("config"), raw.digest)
    if config.media_type not in _CONFIG_TYPES:
        kind = "plugin" if config.media_type == _PLUGIN_CONFIG else "unknown"
        raise SystemFailure(
            f'Encountered remote "{config.media_type}"({kind}) when fetching',
            hint="this name holds something else than a container image",
        )
    layers = _entries(parsed.get("layers"), raw.digest)
    for layer in layers:
        if layer.media_type not in _LAYER_TYPES:
            raise NotSupported(f"layer {layer.digest} is of the type {layer.media_type!r}, which cannot be applied")
    return Manifest(digest=raw.digest, media_type=media_type, config=config, layers=layers)


def _media_type(raw: Raw, parsed: dict[str, Any]) -> str:
    header = raw.media_type.partition(";")[0].strip().lower()
    own = parsed.get("mediaType") or ""
    if not isinstance(own, str):
        raise BadAnswer(f"the manifest {raw.digest} has a media type that is no string")
    if header in (SCHEMA1, SCHEMA1_SIGNED) or parsed.get("schemaVersion") == 1:
        raise NotSupported(
            "the registry has this image only in the format of Docker image manifest version 2, schema 1, "
            "which is no longer supported",
            hint="push the image again with a current engine",
        )
    known = (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX)
    if header in known and own and own != header:
        raise BadAnswer(f"the manifest {raw.digest} came as {header!r} but calls itself {own!r}")
    has_entries, has_layers = "manifests" in parsed, "layers" in parsed or "config" in parsed
    if has_entries and has_layers:
        raise BadAnswer(f"the manifest {raw.digest} is a manifest and an index at the same time")
    media_type = header if header in known else own
    if not media_type and has_entries:
        media_type = OCI_INDEX
    if not media_type and has_layers:
        media_type = OCI_MANIFEST
    if media_type not in known:
        raise NotSupported(f"unsupported manifest media type {media_type or header!r}")
    if (media_type in (OCI_INDEX, DOCKER_LIST)) != has_entries:
        raise BadAnswer(f"the manifest {raw.digest} of type {media_type!r} lacks what that type needs")
    return media_type


def _entries(value: Any, digest: str) -> tuple[Descriptor, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadAnswer(f"the manifest {digest} has no list where one is needed")
    if len(value) > _ENTRIES_MAX:
        raise BadAnswer(f"the manifest {digest} has {len(value)} entries; at most {_ENTRIES_MAX} are read")
    return tuple(_descriptor(item, digest) for item in value)


def _descriptor(value: Any, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise BadAnswer(f"the manifest {where} has no descriptor where one is needed")
    media_type, digest, size = value.get("mediaType", ""), value.get("digest", ""), value.get("size", 0)
    if not isinstance(media_type, str) or not isinstance(digest, str) or not is_digest(digest):
        raise BadAnswer(f"the manifest {where} has a descriptor with a bad type or digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _SIZE_MAX:
        raise BadAnswer(f"the manifest {where} gives {digest} an impossible size")
    urls = value.get("urls") or []
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise BadAnswer(f"the manifest {where} has urls that are no strings")
    annotations = value.get("annotations")
    kind = annotations.get("vnd.docker.reference.type") if isinstance(annotations, dict) else None
    return Descriptor(
        media_type=media_type,
        digest=Digest(digest),
        size=size,
        urls=tuple(urls[:16]),
        platform=_platform(value.get("platform")),
        attestation=kind == "attestation-manifest",
    )


def _platform(value: Any) -> Platform | None:
    if not isinstance(value, dict):
        return None

    def text(name: str) -> str:
        found = value.get(name, "")
        return found if isinstance(found, str) else ""

    return Platform(
        os=text("os"), architecture=text("architecture"), variant=text("variant"), os_version=text("os.version")
    )


def parse_config(body: bytes, layers: int) -> dict[str, Any]:
    """An image's configuration, with as many diff-IDs as the manifest has layers. Raises BadAnswer."""
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise BadAnswer("the image's configuration is not JSON") from None
    if not isinstance(parsed, dict):
        raise BadAnswer("the image's configuration is not a JSON object")
    rootfs = parsed.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if diff_ids is None and layers == 0:
        diff_ids = []
    if not isinstance(diff_ids, list) or not all(isinstance(item, str) and is_digest(item) for item in diff_ids):
        raise BadAnswer("the image's configuration has no list of diff-IDs")
    if len(diff_ids) != layers:
        reason = f"{len(diff_ids)} diff-IDs for {layers} layers"
        raise Corrupt(f"layers from manifest don't match image configuration: {reason}")
    system = parsed.get("os") or "linux"
    if system != "linux":
        raise InvalidParameter(f'image operating system "{system}" cannot be used on this platform')
    return parsed
