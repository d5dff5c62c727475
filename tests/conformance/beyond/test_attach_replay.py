"""Attaching with the log in the middle of a flow of lines: the reference engine may lose some, Pyker none."""

from __future__ import annotations

import pytest

from tests.support.containers import Hijack, create, frames, joined, said, start
from tests.support.engines import Engine

pytestmark = pytest.mark.only_pyker


@pytest.mark.claim("POST /containers/{id}/attach", "rule-attach-replay")
def test_nothing_twice_and_nothing_missing(engine: Engine, busybox: str, name: str) -> None:
    command = ["sh", "-c", "i=0; while [ $i -lt 4000 ]; do echo $i; i=$((i+1)); done; read x"]
    create(engine, busybox, name, Cmd=command, OpenStdin=True)
    start(engine, name)
    said(engine, name, "100\n")
    with Hijack(engine, f"/containers/{name}/attach?stream=1&stdout=1&stderr=1&stdin=1&logs=1") as stream:
        stream.send(b"\n")
        lines = joined(frames(stream.rest()), 1).split()
    assert lines == [b"%d" % number for number in range(4000)]
