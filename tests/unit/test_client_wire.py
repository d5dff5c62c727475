"""JSON, stdcopy frames, detach keys, hosts: what the client reads from others."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyker.client.commands.inspect import indent_json
from pyker.client.failure import Failure
from pyker.client.hosts import parse_host, resolve
from pyker.client.streams import Demultiplexer, parse_keys
from pyker.client.wirejson import dumps, dumps_go, loads

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_json_reads_and_writes_what_the_library_does(value: object) -> None:
    assert loads(json.dumps(value)) == value
    assert json.loads(dumps(value)) == value
    assert json.loads(dumps_go(value)) == value


@given(VALUES)
def test_indenting_changes_nothing_but_spaces(value: object) -> None:
    compact = json.dumps(value)
    assert json.loads(indent_json(compact)) == value
    assert indent_json(compact) == json.dumps(value, indent=4)


@pytest.mark.parametrize("text", ["", " ", "{", "[1,]", "{} {}", "nul", '"\\x"', "[" * 100_000, "\x00", b"\xff\xfe"])
def test_what_is_not_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        loads(text)


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=300)), max_size=8), st.integers(0, 2**32))
def test_frames_come_apart_however_they_are_cut(frames: list[tuple[int, bytes]], seed: int) -> None:
    wire = b"".join(bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for kind, data in frames)
    out, err = bytearray(), bytearray()
    demultiplexer = Demultiplexer(out.extend, err.extend)
    cuts = random.Random(seed)
    while wire:
        size = cuts.randint(1, 40)
        demultiplexer.feed(wire[:size])
        wire = wire[size:]
    assert bytes(out) == b"".join(data for kind, data in frames if kind == 1)
    assert bytes(err) == b"".join(data for kind, data in frames if kind == 2)


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"\x09\x00\x00\x00\x00\x00\x00\x01x", "Unrecognized input header: 9"),
        (b"\x01\x00\x00\x00\xff\xff\xff\xff", "Unrecognized input header: 1"),
        (b"\x03\x00\x00\x00\x00\x00\x00\x04boom", "error from daemon in stream: boom"),
    ],
)
def test_frames_that_cannot_be_are_refused(wire: bytes, reason: str) -> None:
    demultiplexer = Demultiplexer(lambda _data: None, lambda _data: None)
    with pytest.raises(Failure, match=reason):
        demultiplexer.feed(wire)


def test_detach_keys() -> None:
    assert parse_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_keys("ctrl-@,a,ctrl-[") == b"\x00a\x1b"
    for bad in ("ctrl-", "ctrl-1", "ab", "ctrl-p,,"):
        with pytest.raises(Failure, match="invalid detach keys"):
            parse_keys(bad)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("unix:///a/b.sock", "unix:///a/b.sock"),
        ("unix://", "unix:///run/pyker.sock"),
        ("tcp://h:1", "tcp://h:1"),
        ("tcp://h", "tcp://h:2375"),
        ("h:99", "tcp://h:99"),
        ("tcp://[::1]:5/x", "tcp://[::1]:5"),
        ("tcp://", "tcp://localhost:2375"),
        ("fd://7", "fd://7"),
    ],
)
def test_hosts(text: str, shown: str) -> None:
    assert parse_host(text).text == shown


@pytest.mark.parametrize("text", ["foo://x", "tcp://h:port", "tcp://h:99999", "fd://x", "ssh://h", "unix:/x://y"])
def test_hosts_that_cannot_be(text: str) -> None:
    with pytest.raises(Failure):
        parse_host(text)


def test_who_decides_the_host() -> None:
    none: dict[str, str | bool | None] = {"tls": False, "tlsverify": None, "tlscacert": "", "tlscert": "", "tlskey": ""}
    assert resolve([], none, {}, "/c").text == "unix:///run/pyker.sock"
    assert not resolve([], none, {}, "/c").explicit
    both = {"PYKER_HOST": "unix:///p", "DOCKER_HOST": "unix:///d"}
    assert resolve([], none, both, "/c").text == "unix:///p"
    assert resolve([], none, {"DOCKER_HOST": "unix:///d"}, "/c").text == "unix:///d"
    assert resolve(["unix:///f"], none, both, "/c").text == "unix:///f"
    verified = resolve(["tcp://h"], none, {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}, "/c")
    assert (verified.text, verified.tls, verified.verify, verified.ca) == ("tcp://h:2376", True, True, "/certs/ca.pem")
    assert not resolve(["tcp://h"], {**none, "tlsverify": False}, {"DOCKER_TLS_VERIFY": "1"}, "/c").tls
    with pytest.raises(Failure, match="only one -H"):
        resolve(["unix:///a", "unix:///b"], none, {}, "/c")


def test_ps_imports_next_to_nothing() -> None:
    program = (
        "import sys; before = set(sys.modules)\n"
        "import pyker.client.main, pyker.client.session, pyker.client.surroundings, pyker.client.commands.ps\n"
        "print(' '.join(sorted(sys.modules.keys() - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {os.getcwd()!r})\n{program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"re", "json", "socket", "ssl", "subprocess", "typing", "dataclasses", "enum", "argparse", "pathlib"}
    heavy |= {"requests", "msgspec", "rich", "asyncio", "threading", "datetime", "logging", "urllib.parse", "selectors"}
    assert not heavy & set(done.stdout.split())
