"""What a registry warns of: which headers count, what of them is shown, and when."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyker.errors import NotFound
from pyker.registry.answers import BadAnswer
from pyker.registry.warning import Warnings, parse
from pyker.types.events import Progress
from pyker.types.reference import parse as name
from tests.support.fault_registry import FaultRegistry, errors, make_tar
from tests.support.transfers import Transfers

pytestmark = pytest.mark.claim("registry-warnings")

OLD = '299 - "This image is old."'


def told(warned: Warnings) -> list[str]:
    shown: list[Progress] = []
    warned.tell(shown.append)
    return [each.status for each in shown]


# The headers


@pytest.mark.parametrize(
    ("field", "texts"),
    [
        (OLD, ["This image is old."]),
        ('299 - "one", 299 - "two, or three" ,299 - "four"', ["one", "two, or three", "four"]),
        (r'299 - "a \"name\" and a back\\slash"', ['a "name" and a back\\slash']),
        ('199 - "a, 299 - \\"b\\"", 299 - "c"', ["c"]),
        ('110 - "Response is Stale"', []),
        ('299 proxy.example:80 "from a proxy"', []),
        ('299 - "dated" "Sat, 25 Aug 2012 23:34:45 GMT", 299 - "not dated"', ["not dated"]),
        ("299 - without quotes", []),
        ('299 - "one", nonsense, 299 - "two"', ["one"]),
        ('299 - "without an end', []),
        (r'299 - "without an end\"', []),
        ('299 -  "two spaces"', []),
        ('299 - "" , 299 - "  \x1b "', []),
        ("", []),
    ],
)
def test_what_counts(field: str, texts: list[str]) -> None:
    assert parse([field]) == texts


def test_a_field_that_cannot_be_read_spoils_no_other() -> None:
    assert parse(['299 - "without an end', OLD]) == ["This image is old."]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("red \x1b[31m, bell \x07, back \x08\x08\x08", "red [31m, bell , back"),
        ("one\r\n\ttwo \x0b three\x85four", "one two three four"),
        ("C1 \x9b31m, right to left \u202e, no width \u200b.", "C1 31m, right to left , no width ."),
        ("naïve, 日本", "naïve, 日本"),
    ],
)
def test_what_of_a_text_is_shown(sent: str, shown: str) -> None:
    assert parse([f'299 - "{sent.encode().decode("latin-1")}"']) == [shown]


def test_bytes_that_are_no_utf_8() -> None:
    assert parse(['299 - "\xff\xfe!"']) == ["\ufffd\ufffd!"]


def test_how_long_and_how_many() -> None:
    [cut] = parse([f'299 - "{"x" * 3000}"'])
    assert len(cut) == 512 and cut.endswith("x...")
    [whole] = parse([f'299 - "{"x" * 512}"'])
    assert whole == "x" * 512
    # An answer may have 4096 bytes of them in all.
    assert parse([f'299 - "{"x" * 5000}"', OLD]) == []
    assert len(parse([f'299 - "{number:01011}"' for number in range(9)])) == 4
    warned = Warnings()
    for number in range(50):
        warned.hear("reg.example", [f'299 - "{number}"'])
    assert told(warned) == [f"Warning: {number}" for number in range(16)]


def test_each_is_told_once() -> None:
    warned = Warnings()
    warned.hear("reg.example", [OLD, OLD])
    warned.hear("reg.example", ['299 - "This  image\tis old."', '299 - "another"'])
    assert told(warned) == ["Warning: This image is old.", "Warning: another"]
    warned.hear("reg.example", [OLD, '299 - "third"'])
    assert told(warned) == ["Warning: third"]


@given(st.lists(st.text(st.characters(max_codepoint=255)) | st.from_regex(r'299 - "[^"]*"', fullmatch=True)))
def test_whatever_is_sent_is_one_printable_line_of_bounded_length(fields: list[str]) -> None:
    for text in parse(fields):
        assert text and text.isprintable() and len(text) <= 512


# Pull and push


def warnings(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("Warning:")]


def test_a_pull_tells_each_before_its_last_lines(registry: FaultRegistry, transfers: Transfers) -> None:
    image = registry.three_layers()
    registry.headers = [("Warning", OLD), ("Warning", '299 - "Go elsewhere."')]
    for news in ("Downloaded newer image", "Image is up to date"):
        outcome = transfers.pull(f"{registry.host}/team/app")
        assert outcome.error is None
        assert outcome.lines[-4:] == [
            "Warning: This image is old.",
            "Warning: Go elsewhere.",
            f"Digest: {image.digest}",
            f"Status: {news} for {registry.host}/team/app:latest",
        ]
        assert len(warnings(outcome.lines)) == 2


def test_all_tags_are_one_command(registry: FaultRegistry, transfers: Transfers) -> None:
    for tag in ("a", "b"):
        registry.add_image("many", [make_tar({"file": tag.encode()})], tag=tag)
    registry.headers = [("Warning", OLD)]
    assert warnings(transfers.pull(f"{registry.host}/many", "").lines) == ["Warning: This image is old."]


def test_a_push_tells_them_before_its_digest(registry: FaultRegistry, transfers: Transfers) -> None:
    with FaultRegistry(host="127.0.0.3") as source:
        image = source.three_layers()
        assert transfers.pull(f"{source.host}/team/app").error is None
    transfers.graph.name(name(f"{registry.host}/to:1"), image.image_id)  # type: ignore[arg-type]
    registry.headers = [("Warning", OLD)]
    outcome = transfers.push(f"{registry.host}/to", "1")
    assert outcome.error is None
    assert warnings(outcome.lines) == ["Warning: This image is old."]
    assert outcome.lines[-2] == "Warning: This image is old." and outcome.lines[-1].startswith("1: digest: ")
    registry.fault("/manifests/", method="PUT", status=403, body=errors("DENIED", "not for you"))
    outcome = transfers.push(f"{registry.host}/to", "1")
    assert outcome.error is not None and outcome.lines[-1] == "Warning: This image is old."


def test_where_a_redirect_leads_is_not_the_registry(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.three_layers()
    registry.headers = [("Warning", OLD)]
    with FaultRegistry(host="127.0.0.2") as other:
        other.three_layers()
        other.headers = [("Warning", '299 - "Of somebody else."')]
        registry.fault("/blobs/", redirect=other.url)
        outcome = transfers.pull(f"{registry.host}/team/app")
        assert outcome.error is None and len(other.asked("/blobs/")) == 4
    assert warnings(outcome.lines) == ["Warning: This image is old."]


def test_neither_are_the_token_server_and_the_urls_of_foreign_layers(
    registry: FaultRegistry, transfers: Transfers
) -> None:
    with FaultRegistry(host="127.0.0.2") as other:
        tar = make_tar({"a": b"1"})
        image = other.add_image("away", [tar])
        other.headers = [("Warning", '299 - "Of somebody else."')]
        registry.add_image("app", [tar], urls=[f"{other.url}/v2/away/blobs/{image.layers[0]}"])
        registry.fault("/token", status=200, body=b'{"token": "t"}', headers={"Warning": '299 - "Of the tokens."'})
        registry.fault("/v2/", status=401, headers={"WWW-Authenticate": f'Bearer realm="{registry.realm}"'}, times=1)
        outcome = transfers.pull(f"{registry.host}/app")
        assert outcome.error is None and other.asked("/blobs/") and registry.asked("/token")
    assert warnings(outcome.lines) == []


def test_a_mirror_that_fails_and_the_registry_warn_of_the_same(registry: FaultRegistry, tmp_path: Path) -> None:
    registry.three_layers("library/app")
    registry.headers = [("Warning", OLD)]
    with FaultRegistry(host="127.0.0.2") as first:
        image = first.three_layers("library/app")
        first.headers = [("Warning", OLD), ("Warning", '299 - "First."')]
        first.fault(image.layers[0], status=404, body=errors("BLOB_UNKNOWN", "gone"))
        transfers = Transfers(tmp_path / "mirrored", options={"mirrors": (first.url, registry.url)})
        outcome = transfers.pull("app")
        transfers.close()
    assert outcome.error is None
    assert warnings(outcome.lines) == ["Warning: This image is old.", "Warning: First."]


def test_a_pull_that_fails_tells_them_if_it_told_anything(registry: FaultRegistry, transfers: Transfers) -> None:
    """An error before the first line has a status of HTTP, which a warning must not change."""
    image = registry.three_layers()
    registry.headers = [("Warning", OLD)]
    outcome = transfers.pull(f"{registry.host}/team/app", "none")
    assert isinstance(outcome.error, NotFound) and outcome.lines == []
    registry.blobs[image.layers[1]] += b"too long"
    outcome = transfers.pull(f"{registry.host}/team/app")
    assert isinstance(outcome.error, BadAnswer) and outcome.lines[-1] == "Warning: This image is old."
