"""``POST /containers/{id}/attach`` and resize: the connection becomes the container's streams."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.asking import message
from tests.support.containers import Frame, Hijack, create, events, finished, frames, joined, run, said, start, wait
from tests.support.engines import Engine
from tests.support.sandbox import wait_until

pytestmark = pytest.mark.claim("POST /containers/{id}/attach")

_ALL = "stream=1&stdout=1&stderr=1"
_CAT: dict[str, Any] = {"Cmd": ["cat"], "OpenStdin": True}


def _attached(
    engine: Engine,
    image: str,
    name: str,
    command: list[str],
    query: str,
    *,
    version: str = "",
    typed: bytes = b"",
    **body: Any,
) -> bytes:
    """What comes of a command on a stream that was there before it started; input ends after ``typed``."""
    create(engine, image, name, version="", Cmd=command, **body)
    with Hijack(engine, f"{version}/containers/{name}/attach?{query}") as stream:
        # No more than that: while nobody reads what was said, the reference may let other questions wait.
        assert engine.request("POST", f"/containers/{name}/start").status == 204
        if typed:
            # A command that reads nothing may have ended already.
            with contextlib.suppress(BrokenPipeError):
                stream.send(typed)
        stream.close_input()
        return stream.rest()


@pytest.mark.claim("rule-hijack")
class TestHandshake:
    @pytest.mark.parametrize(
        ("version", "tty", "kind"),
        [("/v1.41", False, "raw-stream"), ("/v1.41", True, "raw-stream"), ("", True, "raw-stream")],
    )
    def test_upgraded(self, engine: Engine, busybox: str, name: str, version: str, tty: bool, kind: str) -> None:
        create(engine, busybox, name, Cmd=["true"], Tty=tty)
        with Hijack(engine, f"{version}/containers/{name}/attach?{_ALL}") as stream:
            assert stream.line == "HTTP/1.1 101 UPGRADED"
            assert (stream.headers["connection"], stream.headers["upgrade"]) == ("Upgrade", "tcp")
            assert stream.headers["content-type"] == f"application/vnd.docker.{kind}"
            assert "transfer-encoding" not in stream.headers and "content-length" not in stream.headers
            start(engine, name)
            assert stream.rest() == b""

    def test_not_upgraded(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name, Cmd=["echo", "plain"])
        with Hijack(engine, f"/v1.41/containers/{name}/attach?{_ALL}", upgrade=False) as stream:
            assert stream.line == "HTTP/1.1 200 OK"
            assert stream.headers["content-type"] == "application/vnd.docker.raw-stream"
            assert "transfer-encoding" not in stream.headers
            start(engine, name)
            assert frames(stream.rest()) == [Frame(1, b"plain\n")]


@pytest.mark.claim("rule-stream-frames")
class TestFrames:
    def test_both_streams(self, engine: Engine, busybox: str, name: str) -> None:
        found = frames(_attached(engine, busybox, name, ["sh", "-c", "echo o; echo e >&2"], _ALL))
        assert sorted(found) == [Frame(1, b"o\n"), Frame(2, b"e\n")]

    @pytest.mark.parametrize(
        ("query", "expected"), [("stdout=1", Frame(1, b"o\n")), ("stderr=1", Frame(2, b"e\n"))], ids=["out", "err"]
    )
    def test_one_of_them(self, engine: Engine, busybox: str, name: str, query: str, expected: Frame) -> None:
        """Framed even if there is nothing to tell apart."""
        data = _attached(engine, busybox, name, ["sh", "-c", "echo o; echo e >&2"], f"stream=1&{query}")
        assert frames(data) == [expected]

    def test_none_of_them(self, engine: Engine, busybox: str, name: str) -> None:
        assert _attached(engine, busybox, name, ["echo", "unheard"], "") == b""

    def test_a_terminal_has_one_stream_and_no_frames(self, engine: Engine, busybox: str, name: str) -> None:
        command = ["sh", "-c", "echo o; echo e >&2; tty"]
        assert _attached(engine, busybox, name, command, _ALL, Tty=True) == b"o\r\ne\r\n/dev/pts/0\r\n"

    def test_a_megabyte(self, engine: Engine, busybox: str, name: str) -> None:
        command = ["sh", "-c", "head -c 1048576 /dev/zero; head -c 1048576 /dev/zero | tr '\\0' e >&2"]
        found = frames(_attached(engine, busybox, name, command, _ALL))
        assert joined(found, 1) == b"\0" * 1048576 and joined(found, 2) == b"e" * 1048576


@pytest.mark.claim("rule-half-close", "break-attach-half-close")
class TestInput:
    def test_its_end_is_not_the_end_of_output(self, engine: Engine, busybox: str, name: str) -> None:
        command = ["sh", "-c", "cat > /tmp/in; wc -c < /tmp/in; echo after"]
        typed = b"x" * 300000
        data = _attached(engine, busybox, name, command, f"{_ALL}&stdin=1", typed=typed, OpenStdin=True, StdinOnce=True)
        assert joined(frames(data), 1) == b"300000\nafter\n"

    def test_the_next_client_may_go_on(self, engine: Engine, busybox: str, name: str) -> None:
        """Without StdinOnce, input outlives the one who typed."""
        create(engine, busybox, name, **_CAT)
        start(engine, name)
        for word in (b"one\n", b"two\n"):
            with Hijack(engine, f"/containers/{name}/attach?{_ALL}&stdin=1") as stream:
                stream.send(word)
                assert word in stream.until(word)
        assert engine.state(name)["Running"] is True

    def test_none_was_opened(self, engine: Engine, busybox: str, name: str) -> None:
        data = _attached(engine, busybox, name, ["cat"], f"{_ALL}&stdin=1", typed=b"unheard")
        assert data == b"" and wait(engine, name) == 0

    def test_a_terminal_shows_what_is_typed(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name, Cmd=["sh", "-c", "read x; echo got $x"], OpenStdin=True, Tty=True)
        with Hijack(engine, f"/containers/{name}/attach?{_ALL}&stdin=1") as stream:
            start(engine, name)
            stream.send(b"word\n")
            assert stream.rest() == b"word\r\ngot word\r\n"

    def test_control_c_is_a_signal(self, engine: Engine, busybox: str, name: str) -> None:
        command = ["sh", "-c", "trap 'echo caught; exit 4' INT; echo up; while :; do sleep 0.05; done"]
        create(engine, busybox, name, Cmd=command, OpenStdin=True, Tty=True)
        with Hijack(engine, f"/containers/{name}/attach?{_ALL}&stdin=1") as stream:
            start(engine, name)
            stream.until(b"up")
            stream.send(b"\x03")
            assert b"caught" in stream.rest()
        assert wait(engine, name) == 4


@pytest.mark.claim("rule-attach-replay")
class TestReplay:
    def test_what_was_said_and_what_is_said(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name, Cmd=["sh", "-c", "echo one; read x; echo two $x"], OpenStdin=True)
        start(engine, name)
        said(engine, name, "one")
        with Hijack(engine, f"/containers/{name}/attach?{_ALL}&stdin=1&logs=1") as stream:
            stream.send(b"w\n")
            assert frames(stream.rest()) == [Frame(1, b"one\n"), Frame(1, b"two w\n")]

    def test_only_what_was_said(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "echo o; echo e >&2"])
        with Hijack(engine, f"/containers/{name}/attach?logs=1&stdout=1&stderr=1") as stream:
            assert sorted(frames(stream.rest())) == [Frame(1, b"o\n"), Frame(2, b"e\n")]

    def test_only_what_is_said(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name, Cmd=["sh", "-c", "echo one; read x; echo two"], OpenStdin=True)
        start(engine, name)
        said(engine, name, "one")
        with Hijack(engine, f"/containers/{name}/attach?{_ALL}&stdin=1") as stream:
            stream.send(b"\n")
            assert frames(stream.rest()) == [Frame(1, b"two\n")]


def test_all_who_are_attached_hear_the_same(engine: Engine, busybox: str, name: str) -> None:
    create(engine, busybox, name, Cmd=["sh", "-c", "seq 5000"])
    heard: list[bytes] = []
    streams = [Hijack(engine, f"/containers/{name}/attach?{_ALL}") for _ in range(4)]
    threads = [threading.Thread(target=lambda each=each: heard.append(each.rest())) for each in streams]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    start(engine, name)
    for thread in threads:
        thread.join(30)
    for stream in streams:
        stream.socket.close()
    expected = b"".join(b"%d\n" % number for number in range(1, 5001))
    assert [joined(frames(each), 1) for each in heard] == [expected] * 4


def test_one_who_leaves_does_not_disturb(engine: Engine, busybox: str, name: str) -> None:
    create(engine, busybox, name, Cmd=["sh", "-c", "echo up; read x; seq 20000 | tail -1"], OpenStdin=True)
    with Hijack(engine, f"/containers/{name}/attach?{_ALL}&stdin=1") as stays:
        with Hijack(engine, f"/containers/{name}/attach?{_ALL}") as leaves:
            start(engine, name)
            leaves.until(b"up")
        stays.send(b"\n")
        assert joined(frames(stays.rest()), 1) == b"up\n20000\n"


@pytest.mark.claim("rule-detach-keys")
class TestDetachKeys:
    def test_the_usual_ones(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name, **_CAT, Tty=True)
        start(engine, name)
        with (
            events(engine, container=[name], event=["detach"]) as listened,
            Hijack(engine, f"/containers/{name}/attach?{_ALL}&stdin=1") as stream,
        ):
            stream.send(b"abc")
            stream.until(b"abc")
            stream.send(b"\x10\x11")
            assert stream.rest() == b""
            wait_until(lambda: len(listened.lines()) == 1, what="the event")
        assert engine.state(name)["Running"] is True

    def test_ones_own(self, engine: Engine, busybox: str, name: str) -> None:
        create(engine, busybox, name, **_CAT, Tty=True)
        start(engine, name)
        with Hijack(engine, f"/containers/{name}/attach?{_ALL}&stdin=1&detachKeys=ctrl-a,x") as stream:
            stream.send(b"\x10\x11k")
            stream.until(b"k")
            stream.send(b"\x01x")
            assert stream.rest() == b""
        assert engine.state(name)["Running"] is True

    def test_only_half_of_them(self, engine: Engine, busybox: str, name: str) -> None:
        """What began like the keys and was not them reaches the command."""
        create(engine, busybox, name, Cmd=["sh", "-c", "stty raw -echo; echo up; head -c 3 | od -An -tx1"],
               OpenStdin=True, Tty=True)  # fmt: skip
        with Hijack(engine, f"/containers/{name}/attach?{_ALL}&stdin=1") as stream:
            start(engine, name)
            stream.until(b"up")
            stream.send(b"\x10zz")
            assert stream.rest().split()[-3:] == [b"10", b"7a", b"7a"]

    def test_ones_that_cannot_be(self, engine: Engine, busybox: str, name: str) -> None:
        """The reference answers in plain text here."""
        create(engine, busybox, name, **_CAT, Tty=True)
        reply = engine.request("POST", f"/containers/{name}/attach?{_ALL}&detachKeys=zz")
        assert reply.status == 400 and b"keys (zz) provided" in reply.body


@pytest.mark.claim("rule-attach-errors")
def test_a_paused_container(engine: Engine, busybox: str, name: str) -> None:
    run(engine, busybox, name)
    engine.request("POST", f"/containers/{name}/pause")
    reply = engine.request("POST", f"/containers/{name}/attach?{_ALL}")
    assert reply.status == 409
    assert f"container {name} is paused, unpause the container before attach".encode() in reply.body


@pytest.mark.claim("rule-attach-errors")
def test_one_that_ended_is_waited_for(engine: Engine, busybox: str, name: str) -> None:
    """The stock client refuses; the API attaches to the next run."""
    finished(engine, busybox, name, ["echo", "again"])
    with Hijack(engine, f"/containers/{name}/attach?{_ALL}") as stream:
        assert stream.status == 101
        start(engine, name)
        assert frames(stream.rest()) == [Frame(1, b"again\n")]


@pytest.mark.claim("rule-drain")
def test_the_last_words_of_short_runs(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    """Who ends at once after a word has been heard, and its stream ends with it."""
    for _ in range(10):
        name = names()
        data = _attached(engine, busybox, name, ["sh", "-c", "echo first; echo last >&2"], _ALL,
                         HostConfig={"NetworkMode": "none"})  # fmt: skip
        assert sorted(frames(data)) == [Frame(1, b"first\n"), Frame(2, b"last\n")]


@pytest.mark.claim("POST /containers/{id}/resize", "rule-resize")
class TestResize:
    def test_of_a_terminal(self, engine: Engine, busybox: str, name: str) -> None:
        """At once after the start, when clients do it."""
        create(engine, busybox, name, Cmd=["sh", "-c", "read x; stty size"], OpenStdin=True, Tty=True)
        with Hijack(engine, f"/containers/{name}/attach?{_ALL}&stdin=1") as stream:
            start(engine, name)
            assert engine.request("POST", f"/containers/{name}/resize?h=31&w=101").status == 200
            stream.send(b"\n")
            assert stream.rest().endswith(b"31 101\r\n")

    def test_its_event(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name, Tty=True)
        with events(engine, container=[name], event=["resize"]) as stream:
            engine.request("POST", f"/containers/{name}/resize?h=20&w=70")
            wait_until(lambda: len(stream.lines()) == 1, what="the event")
        attributes = stream.lines()[0]["Actor"]["Attributes"]
        assert (attributes["height"], attributes["width"]) == ("20", "70")

    def test_of_none(self, engine: Engine, busybox: str, name: str) -> None:
        run(engine, busybox, name)
        assert engine.request("POST", f"/containers/{name}/resize?h=31&w=101").status == 200

    def test_of_one_that_does_not_run(self, engine: Engine, busybox: str, name: str) -> None:
        container = create(engine, busybox, name, Tty=True)
        reply = engine.request("POST", f"/containers/{name}/resize?h=31&w=101")
        assert (reply.status, message(reply)) == (409, f"Container {container} is not running")

    @pytest.mark.parametrize(("query", "word"), [("h=x&w=1", "x"), ("h=1&w=", ""), ("", "")])
    def test_to_what_is_no_number(self, engine: Engine, busybox: str, name: str, query: str, word: str) -> None:
        create(engine, busybox, name, Tty=True)
        reply = engine.request("POST", f"/containers/{name}/resize?{query}")
        assert (reply.status, message(reply)) == (400, f'strconv.Atoi: parsing "{word}": invalid syntax')

    def test_of_an_unknown_one(self, engine: Engine) -> None:
        reply = engine.request("POST", "/containers/no-such/resize?h=1&w=1")
        assert (reply.status, message(reply)) == (404, "No such container: no-such")
