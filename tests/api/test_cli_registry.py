"""``login``, ``logout``, ``import``, and the bars that a person sees while pulling."""

from __future__ import annotations

import base64
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.test_cli_run import Terminal
from tests.support.cli import CLIENTS, run_client
from tests.support.fake_daemon import FakeDaemon, Reply, answer, refusal


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(str(tmp_path / "s")) as fake:
        yield fake


def test_login_keeps_what_the_registry_accepted_and_logout_forgets_it(daemon: FakeDaemon, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.mkdir()
    (config / "config.json").write_text('{"psFormat": "{{.ID}}", "unknown": [1]}')
    daemon.on("POST", "/auth", answer({"Status": "Login Succeeded", "IdentityToken": ""}))
    told = run_client(
        "pyker", daemon.host, ["login", "-u", "me", "--password-stdin", "h:5000"], stdin=b"pa:ss\n", config=str(config)
    )
    assert (told.code, told.out) == (0, "Login Succeeded\n") and "unencrypted" in told.err
    assert daemon.only("POST", "/auth").json == {"username": "me", "password": "pa:ss", "serveraddress": "h:5000"}
    kept = json.loads((config / "config.json").read_text())
    assert kept == {
        "psFormat": "{{.ID}}",
        "unknown": [1],
        "auths": {"h:5000": {"auth": base64.b64encode(b"me:pa:ss").decode()}},
    }
    assert stat.S_IMODE((config / "config.json").stat().st_mode) == 0o600
    assert run_client("pyker", daemon.host, ["logout", "h:5000"], config=str(config)).code == 0
    assert json.loads((config / "config.json").read_text())["auths"] == {}
    assert run_client("pyker", daemon.host, ["logout", "h:5000"], config=str(config)).out == "Not logged in to h:5000\n"


def test_a_refused_login_keeps_nothing(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.on("POST", "/auth", refusal(401, "unauthorized: incorrect username or password"))
    told = run_client("pyker", daemon.host, ["login", "-u", "a", "-p", "b"], config=str(tmp_path / "c"))
    assert told.code == 1 and "Error response from daemon: unauthorized" in told.err
    assert not (tmp_path / "c").exists()


def test_an_identity_token_takes_the_password_s_place(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.on("POST", "/auth", answer({"Status": "Login Succeeded", "IdentityToken": "tok"}))
    told = run_client("pyker", daemon.host, ["login", "-u", "a", "-p", "b", "h:1"], config=str(tmp_path / "c"))
    assert told.code == 0
    entry = json.loads((tmp_path / "c" / "config.json").read_text())["auths"]["h:1"]
    assert entry["identitytoken"] == "tok" and base64.b64decode(entry["auth"]) == b"a:"


def test_login_uses_the_credential_helper(daemon: FakeDaemon, tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-keep"
    helper.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/said\ncat >> {tmp_path}/said\n')
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text('{"credsStore": "keep"}')
    daemon.on("POST", "/auth", answer({"Status": "Login Succeeded"}))
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    told = run_client(
        "pyker",
        daemon.host,
        ["login", "-u", "me", "--password-stdin", "h:1"],
        stdin=b"pw",
        config=str(tmp_path),
        env=env,
    )
    assert told.code == 0 and "unencrypted" not in told.err
    verb, _, sent = (tmp_path / "said").read_text().partition("\n")
    assert (verb, json.loads(sent)) == ("store", {"ServerURL": "h:1", "Username": "me", "Secret": "pw"})
    assert "pw" not in (tmp_path / "config.json").read_text()


def test_a_broken_configuration_file_is_told(daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    told = run_client("pyker", daemon.host, ["ps"], config=str(tmp_path))
    assert told.code == 1 and "config.json" in told.err and "Traceback" not in told.err


@pytest.mark.parametrize("client", ["pyker", pytest.param("docker", marks=pytest.mark.requires("docker-cli"))])
def test_import_sends_the_archive_and_prints_the_id(daemon: FakeDaemon, client: str, tmp_path: Path) -> None:
    daemon.on("POST", "/images/create", Reply(chunks=[b'{"status":"sha256:00"}\r\n']))
    path = tmp_path / "fs.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("file")
        info.size = 300_000
        with open("/dev/urandom", "rb") as noise:
            archive.addfile(info, noise)
    flags = ["-c", "CMD sh", "-c", "ENV A=1", "-m", "note"]
    for stdin, source in ((None, str(path)), (path.read_bytes(), "-")):
        told = run_client(client, daemon.host, ["import", *flags, source, "a:b"], stdin=stdin)
        assert told == (0, "sha256:00\n", "")
    for request in (item for item in daemon.requests if item.path == "/images/create"):
        assert request.body == path.read_bytes()
        assert (request.query["fromSrc"], request.query["repo"], request.query["message"]) == ("-", "a:b", "note")


def test_a_person_sees_bars(daemon: FakeDaemon) -> None:
    records = [
        {"status": "Pulling from library/img", "id": "latest"},
        {"status": "Pulling fs layer", "progressDetail": {}, "id": "28252775b295"},
        {"status": "Downloading", "progressDetail": {"current": 500, "total": 1000}, "id": "28252775b295"},
        {"status": "Pull complete", "progressDetail": {}, "id": "28252775b295"},
        {"status": "Status: Downloaded [bold]newer[/bold] image"},
    ]
    daemon.on("POST", "/images/create", Reply(chunks=[json.dumps(item).encode() + b"\r\n" for item in records]))
    terminal = Terminal([*CLIENTS["pyker"], "pull", "img"], daemon.host)
    seen = terminal.until(b"docker.io/library/img:latest").decode()
    assert terminal.close() == 0
    assert "latest: Pulling from library/img" in seen
    assert "28252775b295:" in seen and "Pull complete" in seen
    assert "\u2501" in seen and "[bold]newer[/bold]" in seen
