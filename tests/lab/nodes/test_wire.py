"""The two guests of the pair reach each other, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from lab.nodes import Node


def test_each_reaches_the_other(pair: Sequence[Node]) -> None:
    one, two = pair
    for here, there in ((one, two), (two, one)):
        assert " 0% packet loss" in here.check("ping", "-c", "2", "-W", "10", there.address)


def test_they_are_two_kernels(pair: Sequence[Node]) -> None:
    releases = {node.check("uname", "-r").strip() for node in pair}
    assert len(releases) == 2


def test_a_stranger_is_not_reached(pair: Sequence[Node]) -> None:
    assert pair[0].run("ping", "-c", "1", "-W", "1", "10.77.0.77").code != 0
    assert pair[0].run("ping", "-c", "1", "-W", "1", "192.0.2.1").code != 0
