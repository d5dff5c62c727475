"""Times and durations as Go has them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyker.api import gotime
from pyker.errors import InvalidParameter

S = gotime.SECOND


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_795_465_351_153_836_561, "2026-11-23T20:22:31.153836561Z"),
        (1_795_465_351_130_000_000, "2026-11-23T20:22:31.13Z"),
        (1_795_465_351_000_000_001, "2026-11-23T20:22:31.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (gotime.ZERO_NS, "0001-01-01T00:00:00Z"),
    ],
)
def test_times_travel_both_ways(moment: int, text: str) -> None:
    assert gotime.format_time(moment) == text
    assert gotime.parse_time(text) == moment


@given(st.integers(-(10**18), 4 * 10**18))
def test_every_moment_survives(moment: int) -> None:
    text = gotime.format_time(moment)
    assert gotime.parse_time(text) == moment
    assert not text.endswith("0Z") or "." not in text
    assert datetime.fromisoformat(text[:19] + "+00:00") == datetime.fromtimestamp(moment // S, UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23T20:22:31+01:00", 1_795_461_751 * S),
        ("2026-11-23T20:22:31-0130", 1_795_470_751 * S),
        ("2026-11-23 20:22:31z", 1_795_465_351 * S),
    ],
)
def test_zones(text: str, moment: int) -> None:
    assert gotime.parse_time(text) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-11-23T20:22", "2026-11-23T20:22:31Zx"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        gotime.parse_time(text)


def test_log_times_have_nine_digits() -> None:
    assert gotime.format_time_fixed(1_795_465_351_130_000_000) == "2026-11-23T20:22:31.130000000Z"


@pytest.mark.parametrize(
    ("text", "nanoseconds", "printed"),
    [
        ("0", 0, "0s"),
        ("1h", 3600 * S, "1h0m0s"),
        ("1h2m3.5s", 3723 * S + S // 2, "1h2m3.5s"),
        ("90m", 5400 * S, "1h30m0s"),
        ("-1.5s", -3 * S // 2, "-1.5s"),
        ("300ms", 300_000_000, "300ms"),
        ("1us", 1000, "1µs"),
        ("1µs", 1000, "1µs"),
        ("5ns", 5, "5ns"),
        (".5s", S // 2, "500ms"),
        ("1m0.001s", 60 * S + 1_000_000, "1m0.001s"),
    ],
)
def test_durations(text: str, nanoseconds: int, printed: str) -> None:
    assert gotime.parse_duration(text) == nanoseconds
    assert gotime.format_duration(nanoseconds) == printed


@given(st.integers(-(10**15), 10**15))
def test_every_duration_survives(nanoseconds: int) -> None:
    assert gotime.parse_duration(gotime.format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize("text", ["", "1", "h", "1x", "1h 2m", ".s", "--1s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid duration"):
        gotime.parse_duration(text)


def test_unix_parameters() -> None:
    assert gotime.parse_unix("") == 0
    assert gotime.parse_unix("12") == 12 * S
    assert gotime.parse_unix("12.5") == 12 * S + S // 2
    assert gotime.parse_unix("12.000000001") == 12 * S + 1
    for text in ("abc", "1.x", "1e5", "٣"):
        with pytest.raises(InvalidParameter, match=r"strconv\.ParseInt"):
            gotime.parse_unix(text)


def test_what_users_type_after_since() -> None:
    now = 1_795_465_351 * S
    assert gotime.to_unix("10m", now) == "1795464751.000000000"
    assert gotime.to_unix("1795453094") == "1795453094"
    assert gotime.to_unix("1795453094.5") == "1795453094.5"
    assert gotime.to_unix("2026-11-23T20:22:31.5Z") == "1795465351.500000000"
    assert gotime.to_unix("2026-11-23Z") == "1795392000.000000000"
    with pytest.raises(InvalidParameter):
        gotime.to_unix("long ago")
