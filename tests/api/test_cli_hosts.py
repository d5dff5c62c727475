"""Ways to a daemon: TCP, TLS with client certificates, an inherited socket, and one started in the background."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.client.autostart import start_once
from pyker.client.failure import Failure
from pyker.client.hosts import parse_host
from pyker.client.session import Client
from pyker.client.surroundings import Surroundings
from tests.support.cli import environment, run_client
from tests.support.fake_daemon import FakeDaemon, Stream, answer, lay_down_container


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    for name in ("ca", "other"):
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", f"{folder}/{name}-key.pem", "-out", f"{folder}/{name}.pem",
        )  # fmt: skip
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")):
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{folder}/{name}-key.pem", "-out", f"{folder}/{name}.csr",
        )  # fmt: skip
        (folder / "ext").write_text(extension)
        openssl(
            "x509", "-req", "-in", f"{folder}/{name}.csr", "-CA", f"{folder}/ca.pem", "-CAkey",
            f"{folder}/ca-key.pem", "-CAcreateserial", "-days", "2", "-extfile", f"{folder}/ext",
            "-out", f"{folder}/{name}.pem",
        )  # fmt: skip
    home = folder / "home"
    home.mkdir()
    for source, target in (("ca.pem", "ca.pem"), ("client.pem", "cert.pem"), ("client-key.pem", "key.pem")):
        (home / target).write_bytes((folder / source).read_bytes())
    return folder


@pytest.fixture
def secure(certificates: Path) -> Iterator[FakeDaemon]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server-key.pem")
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with FakeDaemon(context=context) as fake:
        fake.on("GET", "/containers/json", answer([]))
        yield fake


BOTH = ["pyker", pytest.param("docker", marks=pytest.mark.requires("docker-cli"))]


@pytest.mark.claim("client-tls-flags", "client-tls-secures")
@pytest.mark.requires("openssl")
@pytest.mark.parametrize("client", BOTH)
def test_tls_with_certificates_from_the_environment_or_from_flags(
    secure: FakeDaemon, certificates: Path, client: str
) -> None:
    home = str(certificates / "home")
    by_environment = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": home}
    assert run_client(client, secure.host, ["ps", "-q"], env=by_environment).code == 0
    files = [f"--tlscacert={home}/ca.pem", f"--tlscert={home}/cert.pem", f"--tlskey={home}/key.pem"]
    assert run_client(client, secure.host, ["--tlsverify", *files, "ps", "-q"]).code == 0
    assert run_client(client, secure.host, ["--tlsverify", "ps", "-q"], config=home).code == 0
    assert len([line for line in secure.lines() if "/containers/json" in line]) == 3


@pytest.mark.requires("openssl")
@pytest.mark.parametrize("client", BOTH)
def test_the_wrong_certificates_are_refused(secure: FakeDaemon, certificates: Path, client: str) -> None:
    home = certificates / "home"
    own = [f"--tlscert={home}/cert.pem", f"--tlskey={home}/key.pem"]
    strange = run_client(client, secure.host, ["--tlsverify", f"--tlscacert={certificates}/other.pem", *own, "ps"])
    assert strange.code == 1 and strange.err
    unchecked = run_client(client, secure.host, ["--tls", f"--tlscacert={certificates}/other.pem", *own, "ps", "-q"])
    assert unchecked.code == 0
    nobody = run_client(client, secure.host, ["--tls", "ps"])
    assert nobody.code == 1 and nobody.err
    plain = run_client(client, secure.host, ["ps"])
    assert plain.code == 1 and plain.err
    assert "Traceback" not in strange.err + nobody.err + plain.err


@pytest.mark.requires("openssl")
@pytest.mark.parametrize("client", BOTH)
def test_a_stream_over_tls_survives_the_end_of_its_input(secure: FakeDaemon, certificates: Path, client: str) -> None:
    received = []

    def output(stream: Stream) -> None:
        received.append(stream.read_all())
        for _ in range(32):
            stream.frame(1, b"x" * 65536)

    lay_down_container(secure, output=output, exit_code=3)
    env = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates / "home")}
    sent = os.urandom(500_000)
    told = run_client(client, secure.host, ["run", "-i", "img"], stdin=sent, env=env)
    assert (told.code, len(told.out), told.err) == (3, 32 * 65536, "") and received == [sent]


@pytest.mark.claim("client-tcp")
def test_tcp_without_tls() -> None:
    with FakeDaemon(tcp=True) as fake:
        fake.on("GET", "/containers/json", answer([]))
        assert run_client("pyker", fake.host, ["ps", "-q"]).code == 0
        assert run_client("pyker", "", ["-H", fake.host.removeprefix("tcp://"), "ps", "-q"]).code == 0


@pytest.mark.claim("client-fd")
def test_an_inherited_socket(tmp_path: Path) -> None:
    with FakeDaemon(str(tmp_path / "s")) as fake:
        fake.on("GET", "/containers/json", answer([]))
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(tmp_path / "s"))
            done = subprocess.run(
                [sys.executable, "-m", "pyker", "-H", f"fd://{sock.fileno()}", "ps", "-q"],
                env=environment(),
                pass_fds=(sock.fileno(),),
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            lay_down_container(fake)
            several = subprocess.run(
                [sys.executable, "-m", "pyker", "-H", f"fd://{sock.fileno()}", "run", "img"],
                env=environment(),
                pass_fds=(sock.fileno(),),
                capture_output=True,
                check=False,
                timeout=30,
            )
    assert {item.connection for item in fake.requests} == {1}
    assert several.returncode != 0 and b"fd:// is one connection" in several.stderr


def test_a_host_with_colons_is_named_in_brackets() -> None:
    endpoint = parse_host("tcp://[::1]:2375")
    assert (endpoint.address, Client(endpoint)._host) == ("::1", "[::1]:2375")


def test_an_api_version_from_the_environment_is_not_negotiated(tmp_path: Path) -> None:
    with FakeDaemon(str(tmp_path / "s")) as fake:
        fake.on("GET", "/containers/json", answer([]))
        assert run_client("pyker", fake.host, ["ps", "-q"], env={"DOCKER_API_VERSION": "1.41"}).code == 0
        (only,) = fake.requests
    assert (only.version, only.path) == ("1.41", "/containers/json")


@pytest.mark.parametrize(("server", "spoken"), [("1.41", "1.41"), ("1.50", "1.50"), ("1.99", "1.50"), ("1.9", "1.9")])
def test_the_older_of_two_versions_is_spoken(tmp_path: Path, server: str, spoken: str) -> None:
    with FakeDaemon(str(tmp_path / "s"), api_version=server) as fake:
        fake.on("GET", "/containers/json", answer([]))
        run_client("pyker", fake.host, ["ps", "-q"])
        assert fake.only("GET", "/containers/json").version == spoken


# A daemon that counts how often it was started, answers pings, and writes to its log.
STARTED = """
import os, socket, sys
with open(sys.argv[2], "a") as counter:
    counter.write("x")
print("daemon speaking", flush=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(8)
listener.settimeout(60)
assert os.getsid(0) == os.getpid()
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    head = b"HTTP/1.1 200 OK\\r\\nApi-Version: 1.45\\r\\nContent-Length: 0\\r\\n"
    connection.sendall(head + b"Connection: close\\r\\n\\r\\n")
    connection.close()
"""


def test_two_at_once_start_one_daemon_which_outlives_them(tmp_path: Path) -> None:
    path, counter, folder = str(tmp_path / "s"), tmp_path / "count", str(tmp_path / "run")
    command = (sys.executable, "-c", STARTED, path, str(counter))
    pids: list[int] = []

    def start() -> None:
        pids.append(start_once(Surroundings(parse_host(f"unix://{path}"), "/nonexistent"), command, folder))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    (pid,) = [pid for pid in pids if pid]
    try:
        assert counter.read_text() == "x" and len(pids) == 4
        assert "daemon speaking" in (tmp_path / "run" / "daemon.log").read_text()
        assert Client(parse_host(f"unix://{path}")).negotiate() == "1.45"
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_daemon_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    around = Surroundings(parse_host(f"unix://{tmp_path}/s"), "/nonexistent")
    command = (sys.executable, "-c", "print('the disk is on fire'); raise SystemExit(3)")
    with pytest.raises(Failure, match=r"(?s)status 3.*the disk is on fire"):
        start_once(around, command, str(tmp_path / "run"))


def test_nothing_is_started_for_a_host_that_was_named(tmp_path: Path) -> None:
    host = f"unix://{tmp_path}/s"
    assert run_client("pyker", host, ["run", "img"]).code == 125
    assert run_client("pyker", host, ["pull", "img"]).code == 1
    assert os.listdir(tmp_path) == []
