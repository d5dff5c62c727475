"""Which blob of which repository a layer came from or went to, so that it need not travel twice.

``distribution/diffid-by-digest/sha256/<digest>`` and ``distribution/v2metadata-by-diffid/sha256/<diff-id>``, as in the
reference engine. Only a cache: whatever is lost is found out again.
"""

from __future__ import annotations

import json
import os
import threading

from pyker.graph import durable
from pyker.types.ids import DiffId, Digest

_MAX = 50
"""Entries kept for a layer."""


class DistributionMetadata:
    """The records under ``root`` (``image/<driver>/distribution``). Thread-safe."""

    def __init__(self, root: str) -> None:
        self._by_digest = os.path.join(root, "diffid-by-digest", "sha256")
        self._by_diff = os.path.join(root, "v2metadata-by-diffid", "sha256")
        self._lock = threading.Lock()
        for folder in (self._by_digest, self._by_diff):
            os.makedirs(folder, 0o700, exist_ok=True)

    def diff_id(self, digest: Digest) -> DiffId | None:
        """What the blob unpacks to, if one like it was seen."""
        found = durable.read(os.path.join(self._by_digest, _hex(digest)))
        return DiffId(found) if found else None

    def origins(self, diff_id: DiffId) -> list[tuple[Digest, str]]:
        """Digest and repository (``docker.io/library/bb``) of blobs of the layer, newest first."""
        try:
            with open(os.path.join(self._by_diff, _hex(diff_id)), "rb") as file:
                entries = json.load(file)
            found = [(Digest(entry["Digest"]), str(entry["SourceRepository"])) for entry in entries]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return found[::-1]

    def add(self, diff_id: DiffId, digest: Digest, repository: str) -> None:
        """Remember that ``repository`` has the layer as the blob ``digest``."""
        with self._lock:
            entries = [entry for entry in self.origins(diff_id)[::-1] if entry != (digest, repository)]
            self._write(diff_id, [*entries, (digest, repository)][-_MAX:])
            _put(os.path.join(self._by_digest, _hex(digest)), diff_id)

    def remove(self, diff_id: DiffId, digest: Digest, repository: str) -> None:
        """``repository`` has that blob no more."""
        with self._lock:
            self._write(diff_id, [entry for entry in self.origins(diff_id)[::-1] if entry != (digest, repository)])

    def _write(self, diff_id: DiffId, entries: list[tuple[Digest, str]]) -> None:
        rows = [{"Digest": digest, "SourceRepository": repository, "HMAC": ""} for digest, repository in entries]
        _put(os.path.join(self._by_diff, _hex(diff_id)), json.dumps(rows, separators=(",", ":")))


def _hex(digest: str) -> str:
    return digest.partition(":")[2].replace("/", "")


def _put(path: str, text: str) -> None:
    """Rename only, no fsync: a lost record costs a look-up at the registry."""
    fresh = f"{path}.tmp"
    durable.write(fresh, text, mode=0o600)
    os.rename(fresh, path)
