"""What the log of a test says of the requests that it made."""

from __future__ import annotations

import pytest

from tests.support.transcript import Transcript


def test_commands_and_requests_read_as_they_were_made(capsys: pytest.CaptureFixture[str]) -> None:
    told = Transcript()
    told.command(["docker", "run", "box", "sh", "-c", "exit 3"], 3, "out\n", "err\n")
    told.command(["docker", "ps"], 0, "", "")
    told.request("POST", "/containers/create?name=x", b'{"Image": "box"}', 201, b'{"Id": "f00"}\n')
    told.request("GET", "/containers/f00/export", None, 200, b"\x00\x01" * 300)
    told.request("DELETE", "/containers/f00", None, 204, b"")
    assert capsys.readouterr().out.splitlines() == [
        "$ docker run box sh -c 'exit 3'",
        "out",
        "err",
        "exit 3",
        "$ docker ps",
        'POST /containers/create?name=x {"Image": "box"}',
        '  201 {"Id": "f00"}',
        "GET /containers/f00/export",
        "  200 (600 bytes)",
        "DELETE /containers/f00",
        "  204",
    ]


def test_what_comes_again_and_again_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    told = Transcript("reference")
    for status in (404, 404, 404, 200):
        told.request("GET", "/x", None, status, b"")
    assert capsys.readouterr().out == "reference: GET /x\n  404\nreference: GET /x\n  200\n"


def test_what_is_long_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    Transcript().request("GET", "/x", None, 200, b"y" * 5000)
    assert capsys.readouterr().out == f"GET /x\n  200 {'y' * 200}… (4800 more)\n"
