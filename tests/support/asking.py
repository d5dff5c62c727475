"""Requests that tests make again and again, on any engine."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from tests.support.engines import Engine, Reply
from tests.support.images import tar_of


def get(engine: Engine, path: str) -> Any:
    """The value of a GET that must succeed."""
    reply = engine.request("GET", path)
    assert reply.status == 200, reply
    return reply.json()


def post(engine: Engine, path: str, body: object = None, *, status: int = 200) -> Any:
    """The value of a POST that must end with ``status``."""
    reply = engine.request("POST", path, body)
    assert reply.status == status, reply
    return reply.json() if reply.body else None


def message(reply: Reply) -> str:
    """What a refusal says."""
    value = json.loads(reply.body)
    assert isinstance(value, dict) and set(value) == {"message"}, value
    text = value["message"]
    assert isinstance(text, str)
    return text


def filters(**wanted: Sequence[str]) -> str:
    """``filters=...`` for a query; underscores in a key stand for hyphens, a last one for an exclamation mark."""
    keys = {}
    for key, values in wanted.items():
        name = f"{key[:-1]}!" if key.endswith("_") else key.replace("_", "-")
        keys[name] = list(values)
    return f"filters={quote(json.dumps(keys))}"


def records(reply: Reply) -> list[dict[str, Any]]:
    """The records of a progress stream."""
    return [json.loads(line) for line in reply.body.splitlines() if line.strip()]


def image_id(engine: Engine, reference: str) -> str:
    """The ID of an image that the engine has."""
    found = get(engine, f"/images/{reference}/json")["Id"]
    assert isinstance(found, str)
    return found


def import_image(engine: Engine, reference: str, build: Callable[[tarfile.TarFile], None], *changes: str) -> str:
    """Make a one-layer image without a registry; returns its ID."""
    repository, _, tag = reference.partition(":")
    query = f"fromSrc=-&repo={repository}&tag={tag}" + "".join(f"&changes={quote(change)}" for change in changes)
    reply = engine.request("POST", f"/images/create?{query}", tar_of(build))
    assert reply.status == 200, reply
    found = records(reply)[-1]["status"]
    assert isinstance(found, str) and found.startswith("sha256:"), reply
    return found


def files_of(archive: bytes) -> Mapping[str, tarfile.TarInfo]:
    """The entries of a tar, by name."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {entry.name: entry for entry in tar}


def content(archive: bytes, name: str) -> bytes:
    """One file out of a tar."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile(name)
        assert file is not None, name
        return file.read()
