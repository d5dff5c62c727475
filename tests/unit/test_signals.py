"""Signals by name and number."""

from __future__ import annotations

import signal

import pytest

from pyker.errors import InvalidParameter
from pyker.types import signals


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("term", 15),
        ("15", 15),
        ("sigkill", 9),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX-14", 50),
        ("RTMAX", 64),
        ("64", 64),
        ("CLD", 17),
        ("POLL", 29),
    ],
)
def test_parse(text: str, number: int) -> None:
    assert signals.parse(text) == number


@pytest.mark.parametrize("text", ["SIGFOO", "0", "65", "-1", "", "RTMIN+16", "RTMAX-15", "SIG", "9x"])
def test_refused(text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        signals.parse(text)
    assert caught.value.message == f"Invalid signal: {text}"


def test_names_are_the_kernels_own() -> None:
    """Python's signal module takes its names from the C library."""
    for number in range(1, 32):
        theirs = signal.Signals(number).name
        assert signals.parse(theirs) == number
        assert signals.parse(signals.name(number)) == number


def test_name_is_parsed_back() -> None:
    assert [signals.parse(signals.name(number)) for number in range(1, 32)] == list(range(1, 32))
    assert signals.name(34) == "SIGRTMIN"
    assert signals.name(37) == "SIGRTMIN+3"
