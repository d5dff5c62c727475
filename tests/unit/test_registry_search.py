"""Search: what a registry is asked, and what its answer becomes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyker.errors import InvalidParameter
from pyker.jobs.images import SearchImages, SearchResult
from pyker.registry.answers import BadAnswer, Refused, Unreachable
from pyker.registry.embedded import EmbeddedRegistry
from tests.support.fault_registry import FaultRegistry
from tests.support.transfers import Transfers

ANSWER = {
    "num_results": 2,
    "results": [
        {"name": "bb", "description": "small", "star_count": 7, "is_official": True, "is_automated": False},
        {"name": "a/bb", "description": None, "star_count": 1},
    ],
}


def search(transfers: Transfers, term: str, **options: object) -> object:
    outcome = transfers.run(SearchImages(term=term, **options))  # type: ignore[arg-type]
    return outcome.error or outcome.result


def test_what_is_asked_and_found(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.fault("/v1/search", status=200, body=json.dumps(ANSWER).encode())
    first = SearchResult(name="bb", description="small", star_count=7, is_official=True, is_automated=False)
    second = SearchResult(name="a/bb", description="", star_count=1, is_official=False, is_automated=False)
    assert search(transfers, f"{registry.host}/b b") == (first, second)
    assert registry.requests[0].path == "/v1/search?q=b+b&n=25"
    for filters, want in (
        ({"stars": ("2",)}, (first,)),
        ({"is-official": ("true",)}, (first,)),
        ({"is-official": ("false",), "stars": ("1",)}, (second,)),
    ):
        assert search(transfers, f"{registry.host}/bb", filters=filters) == want


@pytest.mark.parametrize("limit", [-1, 101])
def test_limits(registry: FaultRegistry, transfers: Transfers, limit: int) -> None:
    error = search(transfers, f"{registry.host}/bb", limit=limit)
    assert isinstance(error, InvalidParameter)
    assert str(error) == f"Limit {limit} is outside the range of [1, 100]"


@pytest.mark.parametrize("filters", [{"what": ("1",)}, {"stars": ("many",)}, {"is-official": ("perhaps",)}])
def test_filters_that_are_none(
    registry: FaultRegistry, transfers: Transfers, filters: dict[str, tuple[str, ...]]
) -> None:
    assert isinstance(search(transfers, f"{registry.host}/bb", filters=filters), InvalidParameter)
    assert registry.requests == []


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [(404, b"", Refused), (200, b"<html>", BadAnswer), (200, b"[]", BadAnswer), (200, b'{"results": 7}', BadAnswer)],
)
def test_answers_that_are_none(
    registry: FaultRegistry, transfers: Transfers, status: int, body: bytes, kind: type
) -> None:
    registry.fault("/v1/search", status=status, body=body)
    assert isinstance(search(transfers, f"{registry.host}/bb"), kind)


def test_nobody_there(transfers: Transfers) -> None:
    assert isinstance(search(transfers, "127.0.0.1:1/bb"), Unreachable)
    assert isinstance(search(transfers, "http://127.0.0.1:1/bb"), InvalidParameter)


@pytest.mark.requires("busybox")
def test_the_shipped_images_are_found(tmp_path: Path) -> None:
    embedded = EmbeddedRegistry(str(tmp_path / "registry"))
    transfers = Transfers(tmp_path, options={"local": {"pyker.local": embedded.url}})
    found = search(transfers, "pyker.local/server")
    assert isinstance(found, tuple)
    assert [item.name for item in found] == ["web"]
    transfers.close()
    embedded.close()
