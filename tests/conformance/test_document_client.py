"""The document's client: how it reaches the daemon, with TLS or without, and how long it lives."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.conftest import Client
from tests.support.certificates import Authority
from tests.support.engines import Engine, Output
from tests.support.recorder import Recorder

Start = Callable[..., Engine]
TCP = "tcp://127.0.0.1:2399"


def inside(engine: Engine, cli: Client, *arguments: str) -> Output:
    """A client in the engine's network, told of no other address than the arguments say."""
    command = ["env", "-u", "DOCKER_HOST", *cli.argv, *arguments]
    done = engine.sandbox.run(command, check=False)
    return Output(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.claim("client-unix", "overview-request-reaches-daemon")
def test_a_unix_socket(engine: Engine, cli: Client) -> None:
    done = inside(engine, cli, "-H", f"unix://{engine.socket}", "version", "--format", "{{.Server.Os}}")
    assert (done.code, done.out) == (0, "linux\n"), done


@pytest.mark.claim("client-tcp", "overview-ends-apart", "server-listens", "rule-socket")
def test_tcp(another: Start, cli: Client) -> None:
    own = another("--host", TCP)
    done = inside(own, cli, "-H", TCP, "version", "--format", "{{.Server.Os}}")
    assert (done.code, done.out) == (0, "linux\n"), done
    assert inside(own, cli, "-H", own.host, "ps", "-q").code == 0


@pytest.mark.claim("client-tcp", "overview-ends-apart")
def test_the_environment_names_the_address_too(another: Start, cli: Client) -> None:
    own = another("--host", TCP)
    done = own.sandbox.run(["env", f"DOCKER_HOST={TCP}", *cli.argv, "info", "--format", "{{.OSType}}"])
    assert done.stdout == b"linux\n", done


@pytest.mark.claim("client-fd", "server-listens", "rule-socket")
def test_an_inherited_socket(another: Start, cli: Client, tmp_path: Path) -> None:
    activated = str(tmp_path / "activated.sock")
    own = another("--host", "fd://", activated=activated)
    done = inside(own, cli, "-H", f"unix://{activated}", "version", "--format", "{{.Server.Os}}")
    assert (done.code, done.out) == (0, "linux\n"), done


@pytest.mark.claim("shape-daemon-down", "accept-docker-cli")
def test_where_nobody_listens(engine: Engine, cli: Client, tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/nobody.sock"
    done = inside(engine, cli, "-H", nowhere, "ps")
    assert done.code == 1
    assert f"Cannot connect to the Docker daemon at {nowhere}." in done.err.replace("Pyker daemon", "Docker daemon")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def tls_daemon(another: Start, authority: Authority) -> Engine:
    certificate, key = authority.issue("server", server=True)
    files = ("--tlscacert", str(authority.ca), "--tlscert", str(certificate), "--tlskey", str(key))
    return another("--host", TCP, "--tlsverify", *files)


def flags(authority: Authority, name: str, *, ca: Path | None = None) -> list[str]:
    certificate, key = authority.issue(name, server=False)
    files = ["--tlscacert", str(ca or authority.ca), "--tlscert", str(certificate), "--tlskey", str(key)]
    return ["-H", TCP, "--tlsverify", *files]


needs_openssl = pytest.mark.requires("openssl")


@needs_openssl
@pytest.mark.claim("client-tls-flags", "client-tls-secures", "client-tcp", "rule-socket")
def test_tls_by_flags(another: Start, authority: Authority, cli: Client) -> None:
    own = tls_daemon(another, authority)
    done = inside(own, cli, *flags(authority, "client"), "version", "--format", "{{.Server.Os}}")
    assert (done.code, done.out) == (0, "linux\n"), done


@needs_openssl
@pytest.mark.claim("client-tls-flags", "rule-socket")
def test_tls_by_the_environment(another: Start, authority: Authority, cli: Client, tmp_path: Path) -> None:
    own = tls_daemon(another, authority)
    certificate, key = authority.issue("client", server=False)
    home = tmp_path / "home"
    home.mkdir()
    for source, name in ((authority.ca, "ca.pem"), (certificate, "cert.pem"), (key, "key.pem")):
        (home / name).write_bytes(source.read_bytes())
    variables = [f"DOCKER_HOST={TCP}", "DOCKER_TLS_VERIFY=1", f"DOCKER_CERT_PATH={home}"]
    done = own.sandbox.run(["env", *variables, *cli.argv, "ps", "-q"], check=False)
    assert done.returncode == 0, done


@needs_openssl
@pytest.mark.claim("client-tls-secures", "rule-socket")
def test_a_client_without_a_certificate_is_refused(another: Start, authority: Authority, cli: Client) -> None:
    own = tls_daemon(another, authority)
    done = inside(own, cli, "-H", TCP, "--tls", "--tlscacert", str(authority.ca), "ps")
    assert (done.code, done.out) == (1, "") and "certificate" in done.err.lower(), done


@needs_openssl
@pytest.mark.claim("client-tls-secures", "rule-socket")
def test_a_client_of_another_authority_is_refused(
    another: Start, authority: Authority, cli: Client, tmp_path: Path
) -> None:
    own = tls_daemon(another, authority)
    stranger = Authority(tmp_path / "stranger")
    done = inside(own, cli, *flags(stranger, "client", ca=authority.ca), "ps")
    assert done.code == 1 and done.err, done


@needs_openssl
@pytest.mark.claim("client-tls-secures")
def test_a_daemon_of_another_authority_is_not_believed(
    another: Start, authority: Authority, cli: Client, tmp_path: Path
) -> None:
    own = tls_daemon(another, authority)
    stranger = Authority(tmp_path / "stranger")
    done = inside(own, cli, *flags(authority, "client", ca=stranger.ca), "ps")
    assert done.code == 1 and "certificate" in done.err, done


@needs_openssl
@pytest.mark.claim("client-tls-secures")
def test_without_tls_nothing_is_told_on_a_tls_port(another: Start, authority: Authority, cli: Client) -> None:
    own = tls_daemon(another, authority)
    done = inside(own, cli, "-H", TCP, "ps")
    assert done.code == 1 and "HTTP request to an HTTPS server" in done.err, done


@pytest.mark.claim("client-one-life", "client-again-for-each-request")
def test_each_command_is_a_client_of_its_own(recorder: Recorder, cli: Client) -> None:
    """Each has its own connection, asks for the daemon's version first, and has ended when its answer is shown."""
    for _ in range(3):
        assert cli("ps", "-q", host=recorder.host).code == 0
    asked = [(each.method, each.path) for each in recorder.exchanges]
    assert asked == [("HEAD", "/_ping"), ("GET", "/containers/json")] * 3


@pytest.mark.claim(
    "client-manages-containers", "overview-request-reaches-daemon", "server-route-item", "accept-docker-cli"
)
def test_the_life_of_a_container_in_requests(recorder: Recorder, cli: Client, busybox: str, name: str) -> None:
    lives = [
        (["create", "--name", name, busybox, "sleep", "100"], ("POST", "/containers/create", 201)),
        (["start", name], ("POST", f"/containers/{name}/start", 204)),
        (["pause", name], ("POST", f"/containers/{name}/pause", 204)),
        (["unpause", name], ("POST", f"/containers/{name}/unpause", 204)),
        (["restart", "-t", "0", name], ("POST", f"/containers/{name}/restart", 204)),
        (["kill", "-s", "USR1", name], ("POST", f"/containers/{name}/kill", 204)),
        (["stop", "-t", "0", name], ("POST", f"/containers/{name}/stop", 204)),
        (["wait", name], ("POST", f"/containers/{name}/wait", 200)),
        (["rename", name, f"{name}-2"], ("POST", f"/containers/{name}/rename", 204)),
        (["rename", f"{name}-2", name], ("POST", f"/containers/{name}-2/rename", 204)),
        (["inspect", "--type", "container", name], ("GET", f"/containers/{name}/json", 200)),
        (["rm", name], ("DELETE", f"/containers/{name}", 204)),
    ]
    for arguments, request in lives:
        before = len(recorder.exchanges)
        done = cli(*arguments, host=recorder.host)
        assert done.code == 0, (arguments, done)
        asked = [(e.method, e.path, e.status) for e in recorder.exchanges[before:] if e.path != "/_ping"]
        assert asked == [request], arguments


@pytest.mark.claim("shape-version", "overview-two-ends", "overview-client-and-server")
def test_version_of_both_ends(engine: Engine, cli: Client) -> None:
    lines = cli("version").out.splitlines()
    ends = [number for number, line in enumerate(lines) if not line.startswith(" ") and line]
    assert [lines[number].partition(":")[0] for number in ends] == ["Client", "Server"], lines
    client, server = lines[ends[0] : ends[1]], lines[ends[1] :]
    for words in ("Version:", "API version:", "OS/Arch:"):
        assert any(line.strip().startswith(words) for line in client), (words, client)
    for words in ("Version:", "API version:", "Git commit:", "Built:", "OS/Arch:"):
        assert any(line.strip().startswith(words) for line in server), (words, server)
    assert any(re.search(r"API version: +1\.\d+ \(minimum version 1\.\d+\)", line) for line in server), server


@pytest.mark.claim("overview-two-ends", "overview-ends-apart", "shape-daemon-down")
def test_the_client_knows_its_own_version_alone(engine: Engine, cli: Client, tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "closed.sock"))
    listener.close()
    done = inside(engine, cli, "-H", f"unix://{tmp_path}/closed.sock", "version")
    assert done.code == 1 and done.out.startswith("Client"), done
    assert "Server" not in done.out and "Cannot connect" in done.err, done
