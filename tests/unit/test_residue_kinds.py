"""Names that engines choose differ in an ID alone; what is left of two of a kind is the same."""

from __future__ import annotations

import pytest

from tests.support.residue import _kind


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("link vethp0123abcde", "link vethpabdccacde"),
        ("link veth12ab34c", "link vethabcdefa"),
        ("cgroup /pyker/" + "0a" * 32, "cgroup /pyker/" + "b1" * 32),
        ("mount /run/netns/0123456789ab", "mount /run/netns/ab0123456789"),
    ],
    ids=["pyker", "docker", "cgroup", "namespace"],
)
def test_one_of_many(one: str, other: str) -> None:
    assert _kind(one) == _kind(other) != one


def test_words_stay() -> None:
    assert _kind("mount /defaced") == "mount /defaced"
