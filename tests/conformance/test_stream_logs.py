"""``GET /containers/{id}/logs``: every query, following, and the file that the logs are in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.asking import message
from tests.support.containers import (
    Frame,
    Hijack,
    Waiting,
    create,
    finished,
    frames,
    joined,
    output,
    run,
    said,
    start,
    wait,
)
from tests.support.engines import Engine
from tests.support.sandbox import wait_until

pytestmark = pytest.mark.claim("GET /containers/{id}/logs")

_SCRIPT = ["sh", "-c", "echo 1; echo 2 >&2; echo 3; printf tail"]
_STAMP = re.compile(rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ")


def _log(engine: Engine, name: str) -> list[dict[str, Any]]:
    """The lines of the file, as they are."""
    path = Path(str(engine.inspect(name)["LogPath"]))
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.claim("rule-logs")
class TestQueries:
    """One container says four things on two streams."""

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("stdout=1", [(1, b"1\n"), (1, b"3\n"), (1, b"tail")]),
            ("stderr=1", [(2, b"2\n")]),
            ("stderr=True&stdout=False", [(2, b"2\n")]),
            ("stdout=1&tail=1", [(1, b"tail")]),
            ("stdout=1&tail=0", []),
            ("stdout=1&tail=all", [(1, b"1\n"), (1, b"3\n"), (1, b"tail")]),
            ("stdout=1&tail=bogus", [(1, b"1\n"), (1, b"3\n"), (1, b"tail")]),
            ("stdout=1&tail=-3", [(1, b"1\n"), (1, b"3\n"), (1, b"tail")]),
            ("stdout=1&tail=1000000", [(1, b"1\n"), (1, b"3\n"), (1, b"tail")]),
            ("stdout=1&since=99999999999", []),
            ("stdout=1&since=1.5", [(1, b"1\n"), (1, b"3\n"), (1, b"tail")]),
            ("stdout=1&until=1", []),
            ("stdout=1&until=99999999999.000000001", [(1, b"1\n"), (1, b"3\n"), (1, b"tail")]),
            ("stdout=1&follow=1", [(1, b"1\n"), (1, b"3\n"), (1, b"tail")]),
            ("stdout=1&details=1", [(1, b" 1\n"), (1, b" 3\n"), (1, b" tail")]),
        ],
    )
    def test_what_comes(
        self, engine: Engine, busybox: str, name: str, query: str, expected: list[tuple[int, bytes]]
    ) -> None:
        finished(engine, busybox, name, _SCRIPT)
        assert output(engine, name, query) == [Frame(*each) for each in expected]

    def test_both_streams(self, engine: Engine, busybox: str, name: str) -> None:
        """Each in its own order; between two pipes there is none."""
        finished(engine, busybox, name, _SCRIPT)
        found = output(engine, name, "stdout=1&stderr=1")
        assert (joined(found, 1), joined(found, 2)) == (b"1\n3\ntail", b"2\n")

    def test_stamps_are_those_of_the_file(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, _SCRIPT)
        found = output(engine, name, "stdout=1&timestamps=1")
        assert all(_STAMP.match(frame.data) for frame in found), found
        written = [line["time"].rstrip("Z") for line in _log(engine, name) if line["stream"] == "stdout"]
        assert [frame.data[:29].decode().startswith(at) for frame, at in zip(found, written, strict=True)] == [True] * 3

    def test_from_one_line_on(self, engine: Engine, busybox: str, name: str) -> None:
        """``since`` and ``until`` with the stamp of a line, as clients do it who read on."""
        from datetime import datetime

        finished(engine, busybox, name, ["sh", "-c", "for i in 1 2 3 4 5; do echo $i; usleep 20000; done"])
        stamps = [frame.data.split()[0].decode() for frame in output(engine, name, "stdout=1&timestamps=1")]
        whole, fraction = stamps[2].rstrip("Z").split(".")
        moment = f"{int(datetime.fromisoformat(whole + '+00:00').timestamp())}.{fraction}"
        assert joined(output(engine, name, f"stdout=1&since={moment}"), 1) == b"3\n4\n5\n"
        assert joined(output(engine, name, f"stdout=1&until={moment}"), 1) == b"1\n2\n3\n"
        assert joined(output(engine, name, f"stdout=1&since={moment}&until={moment}"), 1) == b"3\n"
        assert joined(output(engine, name, f"stdout=1&since={moment}&tail=2"), 1) == b"4\n5\n"

    def test_details_are_what_was_asked_to_be_kept(self, engine: Engine, busybox: str, name: str) -> None:
        log = {"Type": "json-file", "Config": {"env": "A", "labels": "l"}}
        body: dict[str, Any] = {"Env": ["A=1", "B=2"], "Labels": {"l": "v w"}, "HostConfig": {"LogConfig": log}}
        finished(engine, busybox, name, ["echo", "x"], **body)
        assert output(engine, name, "stdout=1&details=1") == [Frame(1, b"A=1,l=v+w x\n")]
        assert _log(engine, name)[0]["attrs"] == {"A": "1", "l": "v w"}

    def test_a_terminal_has_no_frames(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "echo a; echo b >&2"], Tty=True)
        reply = engine.request("GET", f"/containers/{name}/logs?stdout=1")
        assert reply.body == b"a\r\nb\r\n"
        stamped = engine.request("GET", f"/containers/{name}/logs?stdout=1&timestamps=1").body
        assert [_STAMP.sub(b"", line) for line in stamped.splitlines()] == [b"a", b"b"]

    def test_of_a_container_that_never_ran(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name)
        assert output(engine, name, "stdout=1") == []

    def test_times_that_are_none(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name)
        reply = engine.request("GET", f"/containers/{name}/logs?stdout=1&since=soon")
        assert reply.status in {400, 500} and message(reply) == 'strconv.ParseInt: parsing "soon": invalid syntax'

    def test_of_a_driver_that_keeps_nothing(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["echo", "x"], HostConfig={"LogConfig": {"Type": "none"}})
        reply = engine.request("GET", f"/containers/{name}/logs?stdout=1")
        assert (reply.status, message(reply)) == (501, "configured logging driver does not support reading")
        assert engine.inspect(name)["LogPath"] == ""


@pytest.mark.claim("rule-logs-follow", "break-logs")
class TestFollowing:
    def test_lines_come_when_they_are_said(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name, Cmd=["sh", "-c", "while read x; do echo got $x; done"], OpenStdin=True)
        start(engine, name)
        with (
            Waiting(engine, "GET", f"/containers/{name}/logs?stdout=1&follow=1") as stream,
            Hijack(engine, f"/containers/{name}/attach?stream=1&stdin=1") as typist,
        ):
            for word in (b"one", b"two"):
                typist.send(word + b"\n")
                wait_until(lambda word=word: b"got " + word in stream.body, what="the line")  # type: ignore[misc]
                assert stream.pending

    def test_only_the_last_and_what_comes(self, engine: Engine, busybox: str, name: str) -> None:
        command = ["sh", "-c", "trap 'echo bye; exit' TERM; seq 100; echo up; while :; do sleep 0.05; done"]
        run(engine, busybox, name, command)
        said(engine, name, "up")
        with Waiting(engine, "GET", f"/containers/{name}/logs?stdout=1&follow=1&tail=2") as stream:
            wait_until(lambda: b"up" in stream.body, what="the last line")
            engine.request("POST", f"/containers/{name}/stop")
            assert joined(frames(stream.result()), 1) == b"100\nup\nbye\n"

    def test_it_ends_with_the_run_not_with_the_container(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        with Waiting(engine, "GET", f"/containers/{name}/logs?stdout=1&follow=1") as stream:
            engine.request("POST", f"/containers/{name}/kill")
            assert stream.result() == b""
        assert engine.state(name)["Status"] == "exited"

    def test_the_output_of_short_runs(self, engine: Engine, busybox: str, names: Callable[[], str]) -> None:
        """docker-py's way to run: start, follow, wait."""
        for _ in range(6):
            name = names()
            run(engine, busybox, name, ["sh", "-c", "echo only"], HostConfig={"NetworkMode": "none"})
            with Waiting(engine, "GET", f"/containers/{name}/logs?stdout=1&follow=1") as stream:
                assert joined(frames(stream.result()), 1) == b"only\n"
            assert wait(engine, name) == 0


@pytest.mark.claim("rule-log-file")
class TestFile:
    def test_its_lines(self, engine: Engine, busybox: str, name: str) -> None:
        container = create(
            engine, busybox, name, Cmd=["sh", "-c", "printf 'a\"b\\\\\\tc\\001\\303\\244\\n'; printf end"]
        )
        start(engine, name)
        wait(engine, name)
        path = Path(str(engine.inspect(name)["LogPath"]))
        assert path == engine.data_root / "containers" / container / f"{container}-json.log"
        assert path.stat().st_mode & 0o777 == 0o640
        found = _log(engine, name)
        assert [line["log"] for line in found] == ['a"b\\\tc\x01ä\n', "end"]
        assert list(found[0]) == ["log", "stream", "time"] and found[0]["stream"] == "stdout"
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", found[0]["time"])

    def test_bytes_that_are_no_text(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["printf", "a\\377b\\n"])
        assert _log(engine, name)[0]["log"] == "a\ufffdb\n"

    def test_long_lines_are_cut_at_16_kib(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo"])
        assert [len(line["log"]) for line in _log(engine, name)] == [16384, 16384, 7233]
        found = output(engine, name)
        assert [len(frame.data) for frame in found] == [16384, 16384, 7233]

    @pytest.mark.parametrize("compress", ["false", "true"])
    def test_rotation(self, engine: Engine, busybox: str, name: str, compress: str) -> None:
        log = {"Type": "json-file", "Config": {"max-size": "10k", "max-file": "3", "compress": compress}}
        command = ["sh", "-c", "i=0; while [ $i -lt 1200 ]; do i=$((i+1)); echo $i; done"]
        finished(engine, busybox, name, command, HostConfig={"LogConfig": log})
        path = Path(str(engine.inspect(name)["LogPath"]))
        ending = ".gz" if compress == "true" else ""
        expected = {path.name, f"{path.name}.1{ending}", f"{path.name}.2{ending}"}
        wait_until(lambda: {each.name for each in path.parent.glob(f"{path.name}*")} == expected, what="three files")
        lines = joined(output(engine, name), 1).split()
        assert lines == [b"%d" % number for number in range(1200 - len(lines) + 1, 1201)]
        assert 200 < len(lines) < 1200
        assert joined(output(engine, name, "stdout=1&tail=150"), 1).split() == lines[-150:]

    def test_the_options_are_shown(self, engine: Engine, busybox: str, name: str) -> None:
        log = {"Type": "json-file", "Config": {"max-size": "10k", "max-file": "3"}}
        create(engine, busybox, name, HostConfig={"LogConfig": log})
        host: Any = engine.inspect(name)["HostConfig"]
        assert host["LogConfig"] == log
