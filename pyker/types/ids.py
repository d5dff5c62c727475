"""Identifiers. NewTypes over str, so that the type checker keeps an image's ID out of a container's place."""

from __future__ import annotations

from typing import NewType

ContainerId = NewType("ContainerId", str)
"""64 lower-case hex digits."""
ExecId = NewType("ExecId", str)
"""64 lower-case hex digits."""
NetworkId = NewType("NetworkId", str)
"""64 lower-case hex digits."""
EndpointId = NewType("EndpointId", str)
"""64 lower-case hex digits."""
JobId = NewType("JobId", str)
"""26 characters of Crockford base 32, sortable by time."""
Digest = NewType("Digest", str)
"""``sha256:`` and 64 lower-case hex digits, of the bytes as they travel."""
ImageId = NewType("ImageId", str)
"""Digest of the image's config bytes exactly as received. Source: OCI image-spec config.md#imageid."""
DiffId = NewType("DiffId", str)
"""Digest of a layer's uncompressed tar. Source: OCI image-spec config.md#layer-diffid."""
ChainId = NewType("ChainId", str)
"""Digest that names a layer together with all below it. Source: OCI image-spec config.md#layer-chainid."""
CacheId = NewType("CacheId", str)
"""64 lower-case hex digits: the graphdriver's own random name for a layer's folder."""


def short(identifier: str) -> str:
    """The first twelve hex digits, without any ``sha256:`` before them."""
    return identifier.rpartition(":")[2][:12]
