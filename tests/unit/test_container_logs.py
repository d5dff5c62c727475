"""The json-file log as it is read: tails, rotation, damage, and following."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.api.gotime import format_time
from pyker.container.logs import LogReader

SECOND = 1_000_000_000


def line(number: int, stream: str = "stdout") -> str:
    time = format_time(number * SECOND)
    return json.dumps({"log": f"line {number}\n", "stream": stream, "time": time}, separators=(",", ":")) + "\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "c-json.log"
    path.write_text("".join(line(number) for number in range(10, 15)))
    return path


def texts(entries: Iterator[object]) -> list[str]:
    return [entry.log.strip() for entry in entries]  # type: ignore[attr-defined]


def test_everything_in_order_over_rotated_files(log: Path) -> None:
    (log.parent / "c-json.log.1").write_text("".join(line(number) for number in range(5, 10)))
    with gzip.open(log.parent / "c-json.log.2.gz", "wt") as file:
        file.write("".join(line(number) for number in range(5)))
    assert texts(LogReader(str(log)).read()) == [f"line {number}" for number in range(15)]


@pytest.mark.parametrize(("tail", "first"), [(0, 15), (1, 14), (5, 10), (7, 8), (100, 5)])
def test_tail_reaches_into_rotated_files(log: Path, tail: int, first: int) -> None:
    (log.parent / "c-json.log.1").write_text("".join(line(number) for number in range(5, 10)))
    assert texts(LogReader(str(log)).read(tail=tail)) == [f"line {number}" for number in range(first, 15)]


def test_tail_of_a_file_larger_than_one_block(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_text("".join(line(number) for number in range(5000)))
    assert texts(LogReader(str(path)).read(tail=3000)) == [f"line {number}" for number in range(2000, 5000)]


def test_since_and_until(log: Path) -> None:
    reader = LogReader(str(log))
    assert texts(reader.read(since_ns=12 * SECOND)) == ["line 12", "line 13", "line 14"]
    assert texts(reader.read(until_ns=11 * SECOND)) == ["line 10", "line 11"]


@pytest.mark.parametrize("rotated", [False, True])
def test_up_to_a_mark_and_no_further(log: Path, rotated: bool) -> None:
    older = log.parent / "c-json.log.1"
    older.write_text("".join(line(number) for number in range(5, 10)))
    marked = log.stat()
    with log.open("a") as file:
        file.write(line(15))
    if rotated:
        older.rename(log.parent / "c-json.log.2")
        log.rename(older)
        log.write_text(line(16))
    found = texts(LogReader(str(log)).up_to(marked.st_ino, marked.st_size))
    assert found == [f"line {number}" for number in range(5, 15)]


def test_a_damaged_line_is_passed_over(log: Path) -> None:
    with log.open("a") as file:
        file.write('{"log":"half\n' + line(15))
    assert texts(LogReader(str(log)).read()) == [f"line {number}" for number in (10, 11, 12, 13, 14, 15)]


def test_a_line_that_is_not_complete_yet_is_not_shown(log: Path) -> None:
    with log.open("a") as file:
        file.write(line(15)[:-1])
    assert texts(LogReader(str(log)).read())[-1] == "line 14"


class Follower:
    """Follows in a thread; ``seen`` grows, ``stop`` ends it."""

    def __init__(self, path: Path, tail: int = -1) -> None:
        self.seen: list[str] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._entries = LogReader(str(path)).follow(lambda: self._stopped, self._wake, tail=tail)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for entry in self._entries:
            with self._changed:
                self.seen.append(entry.log.strip())
                self._changed.notify_all()

    def wait_for(self, text: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.seen, 10), self.seen

    def stop(self) -> list[str]:
        self._stopped = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(10)
        assert not self._thread.is_alive()
        os.close(self._wake)
        return self.seen


def test_follow_shows_what_comes_and_ends_with_what_was_written_before_the_stop(log: Path) -> None:
    follower = Follower(log, tail=1)
    follower.wait_for("line 14")
    with log.open("a") as file:
        file.write(line(15))
    follower.wait_for("line 15")
    with log.open("a") as file:
        file.write(line(16))
    assert follower.stop() == ["line 14", "line 15", "line 16"]


def test_follow_goes_on_over_rotations(log: Path) -> None:
    follower = Follower(log, tail=1)
    follower.wait_for("line 14")
    for number in range(20, 26):
        os.replace(log.parent / "c-json.log.1", log.parent / "c-json.log.2") if number > 20 else None
        with log.open("a") as file:
            file.write(line(number))
        os.replace(log, log.parent / "c-json.log.1")
        log.write_text("")
        follower.wait_for(f"line {number}")
    assert follower.stop() == ["line 14", *(f"line {number}" for number in range(20, 26))]
