"""The json-file format: escapes, cuts, times, rotation."""

from __future__ import annotations

import gzip
import json
import resource
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyker.libcontainer.logfile import MAX_LINE_BYTES, JsonFileLog, compress_file, escape, timestamp
from pyker.libcontainer.spec import LogSpec

NOON_NS = int(datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()) * 10**9


def entries(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        (b"plain", "plain"),
        (b'"\\', '\\"\\\\'),
        (b"\n\r", "\\n\\r"),
        (b"\t\x00\x1b\x1f", "\\u0009\\u0000\\u001b\\u001f"),
        (b"\x7f", "\x7f"),
        (b"<&>", "\\u003c\\u0026\\u003e"),
        ("\u2028\u2029".encode(), "\\u2028\\u2029"),
        ("äß€😀".encode(), "äß€😀"),
        (b"\xff", "\\ufffd"),
        (b"\xe2\x82", "\\ufffd\\ufffd"),
        (b"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"),
        ("\ufffd".encode(), "\ufffd"),
    ],
)
def test_escapes(raw: bytes, escaped: str) -> None:
    assert escape(raw) == escaped


@given(st.binary(max_size=200))
def test_every_escape_is_json_for_the_same_text(raw: bytes) -> None:
    # One replacement for each byte that is not UTF-8, as Go does it; Python's own "replace" is coarser.
    text = "".join("\ufffd" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in raw.decode("utf-8", "surrogateescape"))
    assert json.loads(f'"{escape(raw)}"') == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "2026-11-23T12:00:00Z"),
        (1, "2026-11-23T12:00:00.000000001Z"),
        (500_000_000, "2026-11-23T12:00:00.5Z"),
        (120_000, "2026-11-23T12:00:00.00012Z"),
    ],
)
def test_times_have_no_trailing_zeros(nanoseconds: int, text: str) -> None:
    assert timestamp(NOON_NS + nanoseconds) == text


def test_a_line_in_pieces_is_one_entry_with_the_time_it_began(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonFileLog(LogSpec(path=str(path)))
    log.write(1, b"hel", NOON_NS)
    log.write(2, b"other\n", NOON_NS + 1)
    log.write(1, b"lo\nnext\n", NOON_NS + 5)
    log.close()
    assert [(entry["log"], entry["stream"]) for entry in entries(path)] == [
        ("other\n", "stderr"),
        ("hello\n", "stdout"),
        ("next\n", "stdout"),
    ]
    assert entries(path)[1]["time"] == timestamp(NOON_NS)


def test_what_is_left_at_the_end_is_written_without_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonFileLog(LogSpec(path=str(path)))
    log.write(1, b"no newline", NOON_NS)
    assert entries(path) == []
    log.close()
    assert [entry["log"] for entry in entries(path)] == ["no newline"]


@given(st.lists(st.binary(min_size=1, max_size=9000), max_size=8))
def test_nothing_is_lost_however_it_arrives(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = JsonFileLog(LogSpec(path=str(path)))
    ascii_pieces = [bytes(byte & 0x7F for byte in piece) for piece in pieces]
    for number, piece in enumerate(ascii_pieces):
        log.write(1, piece, NOON_NS + number)
    log.close()
    found = entries(path)
    assert "".join(entry["log"] for entry in found).encode() == b"".join(ascii_pieces)
    assert all(len(entry["log"]) <= MAX_LINE_BYTES for entry in found)
    assert all("\n" not in entry["log"][:-1] for entry in found)


def test_a_long_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonFileLog(LogSpec(path=str(path)))
    log.write(1, b"x" * MAX_LINE_BYTES + b"\n" + b"y" * (MAX_LINE_BYTES - 1) + b"\n", NOON_NS)
    log.close()
    assert [len(entry["log"]) for entry in entries(path)] == [MAX_LINE_BYTES, 1, MAX_LINE_BYTES]


def test_attributes_are_sorted_and_come_before_the_time(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonFileLog(LogSpec(path=str(path), attributes={"b": '"2"', "a": "1"}))
    log.write(1, b"x\n", NOON_NS)
    log.close()
    assert path.read_text() == (
        '{"log":"x\\n","stream":"stdout","attrs":{"a":"1","b":"\\"2\\""},"time":"2026-11-23T12:00:00Z"}\n'
    )


def test_lines_that_come_together_have_times_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonFileLog(LogSpec(path=str(path)))
    log.write(1, b"a\nb\nc\n", NOON_NS)
    log.close()
    assert [entry["time"] for entry in entries(path)] == [timestamp(NOON_NS + number) for number in range(3)]


def test_appends_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in (b"one\n", b"two\n"):
        log = JsonFileLog(LogSpec(path=str(path)))
        log.write(1, text, NOON_NS)
        log.close()
    assert [entry["log"] for entry in entries(path)] == ["one\n", "two\n"]


def test_a_file_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "log"
    log = JsonFileLog(LogSpec(path=str(path)))
    assert log.mark() == (0, 0)
    log.write(1, b"lost\n", NOON_NS)
    path.parent.mkdir()
    log.write(1, b"kept\n", NOON_NS)
    assert log.mark() == (path.stat().st_ino, path.stat().st_size)
    log.close()
    assert ([entry["log"] for entry in entries(path)], log.lost) == (["kept\n"], 1)


def test_a_line_that_was_written_in_part_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonFileLog(LogSpec(path=str(path)))
    log.write(1, b"one\n", NOON_NS)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # The kernel writes up to the limit, and refuses the rest, as a disk that fills up does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))
        log.write(1, b"two\n", NOON_NS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    log.write(1, b"three\n", NOON_NS)
    log.close()
    assert ([entry["log"] for entry in entries(path)], log.lost) == (["one\n", "three\n"], 1)


def test_what_one_leaves_another_goes_on_with(tmp_path: Path) -> None:
    path = tmp_path / "log"
    first = JsonFileLog(LogSpec(path=str(path)))
    first.write(1, b"whole\nhalf", NOON_NS)
    first.write(2, b"other", NOON_NS + 5)
    held = first.leave()
    second = JsonFileLog(LogSpec(path=str(path)), held)
    second.write(1, b" done\n", NOON_NS + 9)
    second.close()
    assert [(entry["log"], entry["stream"], entry["time"]) for entry in entries(path)] == [
        ("whole\n", "stdout", timestamp(NOON_NS)),
        ("half done\n", "stdout", timestamp(NOON_NS + 1)),
        ("other", "stderr", timestamp(NOON_NS + 5)),
    ]


def test_rotation_shifts_and_forgets(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonFileLog(LogSpec(path=str(path), max_size_bytes=200, max_files=3))
    for number in range(30):
        log.write(1, f"{number:03}\n".encode(), NOON_NS)
    log.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    order = [entry["log"] for name in ("log.2", "log.1", "log") for entry in entries(tmp_path / name)]
    assert order == [f"{number:03}\n" for number in range(30 - len(order), 30)]


def test_one_file_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonFileLog(LogSpec(path=str(path), max_size_bytes=200, max_files=1))
    for number in range(30):
        log.write(1, f"{number:03}\n".encode(), NOON_NS)
    log.close()
    assert [each.name for each in tmp_path.iterdir()] == ["log"]
    assert entries(path)[-1]["log"] == "029\n"
    assert len(entries(path)) < 5


def test_compression_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log.1"
    path.write_bytes(b"content\n" * 1000)
    compress_file(str(path))
    assert [each.name for each in tmp_path.iterdir()] == ["log.1.gz"]
    assert gzip.decompress((tmp_path / "log.1.gz").read_bytes()) == b"content\n" * 1000
