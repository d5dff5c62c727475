"""Filters, stream frames, progress records, statuses, versions, sizes."""

from __future__ import annotations

import json
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyker.api import filters, frames, jsonmessage, status, units, versions
from pyker.errors import Conflict, Corrupt, InvalidParameter, KernelError, NotFound, PykerError, SystemFailure
from pyker.server.reply import http_date
from pyker.types.events import Progress


def test_both_dialects_mean_the_same() -> None:
    go = filters.parse('{"label":{"a=b":true,"c":true,"off":false},"name":{}}')
    assert go == filters.parse('{"label":["a=b","c"],"name":null}') == {"label": ("a=b", "c"), "name": ()}
    assert filters.parse("") == filters.parse("null") == filters.parse("{}") == {}
    assert filters.parse(filters.encode({"label": ["a=b", "ü"]})) == {"label": ("a=b", "ü")}
    assert filters.encode({}) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"foo":["a"]}', "Invalid filter 'foo'"),
        ("xx", "invalid character 'x' looking for beginning of value"),
        ('{"a"', "unexpected EOF"),
        ("[1]", "json: cannot unmarshal array into Go value of type map[string]map[string]bool"),
        ('{"label":5}', "json: cannot unmarshal number into Go value of type map[string]bool"),
        ('{"label":[1]}', "json: cannot unmarshal array into Go value of type map[string]bool"),
    ],
)
def test_bad_filters(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        filters.parse(text, filters.CONTAINERS)
    assert caught.value.message == message


def test_matching() -> None:
    labels = {"a": "b", "c": ""}
    assert filters.matches_labels(("a=b", "c"), labels)
    assert not filters.matches_labels(("a=b", "d"), labels)
    assert not filters.matches_labels(("a=x",), labels)
    assert filters.matches_labels(None, None)
    assert not filters.matches_labels(("a",), None)
    assert filters.matches_pattern(("^/we",), "/web", "web")
    assert filters.matches_pattern(("eb",), "web")
    assert filters.matches_pattern(("[",), "x[y")
    assert not filters.matches_pattern(("^b",), "web")
    assert filters.matches_exactly((), "x")
    assert not filters.matches_exactly(("y",), "x")
    assert filters.truth({"dangling": ("true",)}, "dangling") is True
    assert filters.truth({"dangling": ("0",)}, "dangling") is False
    assert filters.truth({}, "dangling") is None
    assert filters.truth({"dangling": ("maybe", "true")}, "dangling") is True
    with pytest.raises(InvalidParameter, match=r"^Invalid filter 'dangling=\[maybe no\]'$"):
        filters.truth({"dangling": ("maybe", "no")}, "dangling")


@given(
    st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=300)), max_size=8),
    st.lists(st.integers(1, 50), min_size=1, max_size=8),
)
def test_frames_survive_being_cut_anywhere(payloads: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(frames.frame(stream, payload) for stream, payload in payloads)
    demultiplexer = frames.Demultiplexer()
    got = dict.fromkeys(range(4), b"")
    at = turn = 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        for stream, piece in demultiplexer.feed(data[at : at + size]):
            got[stream] += piece
        at += size
        turn += 1
    assert demultiplexer.complete
    for stream in range(4):
        assert got[stream] == b"".join(payload for other, payload in payloads if other == stream)


def test_a_frame_on_the_wire() -> None:
    assert frames.frame(frames.STDERR, b"oops") == b"\x02\x00\x00\x00\x00\x00\x00\x04oops"
    demultiplexer = frames.Demultiplexer()
    assert list(demultiplexer.feed(b"\x01\x00\x00\x00\x00\x00\x00\x05he")) == [(1, b"he")]
    assert not demultiplexer.complete


@pytest.mark.parametrize("data", [b"HTTP/1.1", b"\x04\0\0\0\0\0\0\1", b"\1\0\0\0\xff\xff\xff\xff"])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="frame"):
        list(frames.Demultiplexer().feed(data))


LAYER = "209f9f88587e"


@pytest.mark.parametrize(
    ("progress", "record"),
    [
        (Progress(status="Pulling from library/x", id="latest"), '{"status":"Pulling from library/x","id":"latest"}'),
        (
            Progress(status="Pulling fs layer", id=LAYER),
            '{"status":"Pulling fs layer","progressDetail":{},"id":"209f9f88587e"}',
        ),
        (Progress(status="Digest: sha256:00"), '{"status":"Digest: sha256:00"}'),
        (
            Progress(status="Downloading", id=LAYER, current=1_200_000, total=3_400_000),
            '{"status":"Downloading","progressDetail":{"current":1200000,"total":3400000},"progress":"['
            + "=" * 17
            + ">"
            + " " * 33
            + ']    1.2MB/3.4MB","id":"209f9f88587e"}',
        ),
        (
            Progress(status="Extracting", id=LAYER, current=10, total=10),
            '{"status":"Extracting","progressDetail":{"current":10,"total":10},"progress":"['
            + "=" * 50
            + '>]      10B/10B","id":"209f9f88587e"}',
        ),
        (
            Progress(aux={"Tag": "1", "Digest": "sha256:00", "Size": 527}),
            '{"progressDetail":{},"aux":{"Tag":"1","Digest":"sha256:00","Size":527}}',
        ),
        (
            Progress(error="manifest unknown"),
            '{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}',
        ),
        (Progress(stream="Loaded image: bb:1\n"), '{"stream":"Loaded image: bb:1\\n"}'),
    ],
)
def test_progress_records_on_the_wire(progress: Progress, record: str) -> None:
    line = jsonmessage.encode(progress)
    assert line == record.encode() + b"\r\n"
    assert jsonmessage.from_record(json.loads(line)) == progress


def test_every_error_class_has_a_status_and_comes_back_as_itself() -> None:
    def subclasses(kind: type[PykerError]) -> set[type[PykerError]]:
        return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))

    from pyker import errors

    own = {kind for kind in subclasses(PykerError) if kind.__module__ == errors.__name__} - {PykerError}
    for kind in own:
        code = status.status_of(kind("x"))
        assert issubclass(kind, type(status.error_for(code, "x")))
        assert code in status.REASONS
    assert status.status_of(KernelError("x")) == status.status_of(Corrupt("x")) == status.status_of(OSError()) == 500
    assert isinstance(status.error_for(404, "x"), NotFound)
    assert isinstance(status.error_for(409, "x"), Conflict)
    assert isinstance(status.error_for(418, "x"), InvalidParameter)
    assert isinstance(status.error_for(502, "x"), SystemFailure)


def test_versions_compare_as_numbers() -> None:
    assert versions.parse("1.9") < versions.parse("1.24") < versions.parse("1.100") < versions.parse("2.0")
    assert versions.negotiate("1.41") == "1.41"
    assert versions.negotiate("1.51") == versions.API_VERSION
    assert versions.negotiate("") == versions.MIN_API_VERSION


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1_982_256, "1.982MB"), (5_000_000_000, "5GB"), (1_234_567, "1.235MB")],
)
def test_decimal_sizes(size: int, text: str) -> None:
    assert units.human_size(size) == text


def test_binary_sizes() -> None:
    assert units.bytes_size(25_276_502_016) == "23.54GiB"
    assert units.bytes_size(64 << 20) == "64MiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (2 * 3600, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_spans_of_time(seconds: float, text: str) -> None:
    assert units.human_duration(seconds) == text


@given(st.integers(0, 4_000_000_000))
def test_dates_are_those_of_the_standard_library(second: int) -> None:
    assert http_date(second) == formatdate(second, usegmt=True)
