"""Where the API listens: unix sockets, TCP, TLS, sockets passed by the service manager."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.engine.job import JobContext
from pyker.errors import Conflict, InvalidParameter, KernelError, NotFound
from pyker.jobs.containers import AttachContainer, StartContainer
from pyker.server.listener import open_listeners
from tests.support.api import TIMEOUT_S, Api, Wire
from tests.support.certificates import Authority


def _open(host: str, *, group: str = "") -> None:
    for listener in open_listeners(host, tls=False, verify=False, group=group):
        listener.close()


@pytest.mark.claim("rule-socket", "client-unix")
def test_a_unix_socket_is_for_its_owner_and_group(api: Api) -> None:
    mode = os.stat(api.path).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


def test_a_stale_socket_is_replaced_and_a_served_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    (first,) = open_listeners(f"unix://{path}", tls=False, verify=False, group="")
    with pytest.raises(Conflict, match="a daemon answers there"):
        _open(f"unix://{path}")
    first.close()
    assert not os.path.exists(path)


def test_a_file_in_the_sockets_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    path.write_text("precious")
    with pytest.raises(Conflict, match="there is a file of that name"):
        _open(f"unix://{path}")
    assert path.read_text() == "precious"


def test_closing_leaves_a_successors_socket_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    (first,) = open_listeners(f"unix://{path}", tls=False, verify=False, group="")
    os.unlink(path)
    (second,) = open_listeners(f"unix://{path}", tls=False, verify=False, group="")
    first.close()
    assert os.path.exists(path)
    second.close()
    assert not os.path.exists(path)


def test_an_unknown_group_is_refused_but_no_docker_group_is_fine(tmp_path: Path) -> None:
    _open(f"unix://{tmp_path}/a.sock", group="docker")
    with pytest.raises(NotFound, match="no-such-group"):
        _open(f"unix://{tmp_path}/b.sock", group="no-such-group")


@pytest.mark.parametrize("host", ["nothing", "npipe://x", "tcp://127.0.0.1:99999", "tcp://127.0.0.1:x"])
def test_a_host_that_cannot_be_is_refused(host: str) -> None:
    with pytest.raises(InvalidParameter):
        _open(host)


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(KernelError, match="Address already in use"):
            _open(f"tcp://127.0.0.1:{taken.getsockname()[1]}")


def test_an_open_port_is_warned_of_and_loopback_is_not(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pyker.server"):
        _open("tcp://127.0.0.1:0")
        assert [record.levelname for record in caplog.records] == ["INFO"]
        caplog.clear()
        _open("tcp://0.0.0.0:0")
        assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_one_server_on_several_hosts(tmp_path: Path) -> None:
    api = Api(tmp_path, hosts=("tcp://127.0.0.1:0",))
    try:
        unix, tcp = api.server.addresses
        assert unix == f"unix://{api.path}"
        actors: list[str] = []
        api.on(StartContainer, lambda job, ctx: actors.append(ctx.actor.kind))
        api.request("POST", "/containers/x/start")
        with socket.create_connection(("127.0.0.1", int(tcp.rpartition(":")[2])), TIMEOUT_S) as sock:
            assert Wire(sock).request("POST", "/containers/x/start").status == 204
        assert actors == ["unix", "tcp"]
    finally:
        api.close()


# TLS.

needs_openssl = pytest.mark.requires("openssl")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def tls_api(tmp_path: Path, authority: Authority) -> Iterator[Api]:
    certificate, key = authority.issue("server", server=True)
    api = Api(
        tmp_path,
        hosts=("tcp://127.0.0.1:0",),
        tls=True,
        tls_verify=True,
        tls_ca_cert=str(authority.ca),
        tls_cert=str(certificate),
        tls_key=str(key),
    )
    yield api
    api.close()


def _port(api: Api) -> int:
    return int(api.server.addresses[1].rpartition(":")[2])


def _context(authority: Authority, name: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.ca))
    if name:
        certificate, key = authority.issue(name, server=False)
        context.load_cert_chain(certificate, key)
    return context


@needs_openssl
def test_a_client_with_a_certificate_is_known_by_its_name(tls_api: Api, authority: Authority) -> None:
    actors: list[str] = []
    tls_api.on(StartContainer, lambda job, ctx: actors.append(str(ctx.actor)))
    with socket.create_connection(("127.0.0.1", _port(tls_api)), TIMEOUT_S) as sock:
        with _context(authority, "alice").wrap_socket(sock, server_hostname="127.0.0.1") as secure:
            wire = Wire(secure)
            assert wire.request("GET", "/_ping").body == b"OK"
            assert wire.request("POST", "/containers/x/start").status == 204
    assert actors == ["cn=alice"]


@pytest.mark.claim("client-tls-secures", "rule-socket")
@needs_openssl
def test_a_client_without_a_certificate_gets_nothing(tls_api: Api, authority: Authority) -> None:
    with socket.create_connection(("127.0.0.1", _port(tls_api)), TIMEOUT_S) as sock:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            secure = _context(authority).wrap_socket(sock, server_hostname="127.0.0.1")
            secure.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
            if secure.recv(100) == b"":
                raise ConnectionResetError


@pytest.mark.claim("client-tls-secures")
@needs_openssl
def test_a_certificate_of_another_authority_gets_nothing(tls_api: Api, authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "other")
    certificate, key = stranger.issue("mallory", server=False)
    context = _context(authority)
    context.load_cert_chain(certificate, key)
    with socket.create_connection(("127.0.0.1", _port(tls_api)), TIMEOUT_S) as sock:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            secure = context.wrap_socket(sock, server_hostname="127.0.0.1")
            secure.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
            if secure.recv(100) == b"":
                raise ConnectionResetError


@needs_openssl
def test_plain_http_on_a_tls_port_is_told_so(tls_api: Api) -> None:
    with socket.create_connection(("127.0.0.1", _port(tls_api)), TIMEOUT_S) as sock:
        sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"Client sent an HTTP request to an HTTPS server." in Wire(sock).rest()


@needs_openssl
def test_output_goes_on_after_a_tls_half_close(tls_api: Api, authority: Authority) -> None:
    """close_notify ends input only: `docker run -i` over TLS would lose its output otherwise."""

    def echo(job: AttachContainer, ctx: JobContext) -> None:
        client = ctx.stdio.hijack(multiplexed=False)
        assert client.fileno() >= 0
        received = b""
        while data := client.recv(65536):
            received += data
        for _ in range(50):
            client.send(received)
        client.close()

    tls_api.on(AttachContainer, echo)
    payload = os.urandom(100_000)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = _context(authority, "bob").wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", _port(tls_api)), TIMEOUT_S) as sock:

        def pump(action: str, *arguments: bytes | int) -> bytes:
            while True:
                try:
                    result = getattr(client, action)(*arguments)
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    incoming.write(sock.recv(65536))
                    continue
                sock.sendall(outgoing.read())
                return result if isinstance(result, bytes) else b""

        pump("do_handshake")
        pump("write", b"POST /containers/x/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += pump("read", 1)
        assert head.startswith(b"HTTP/1.1 101")
        pump("write", payload)
        # As Go's CloseWrite does: say close_notify, and go on reading.
        with pytest.raises(ssl.SSLWantReadError):
            client.unwrap()
        sock.sendall(outgoing.read())
        received = b""
        while len(received) < 50 * len(payload):
            data = sock.recv(65536)
            if not data:
                break
            incoming.write(data)
            try:
                while piece := client.read(65536):
                    received += piece
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                continue
        assert len(received) == 50 * len(payload)
        assert received[: len(payload)] == payload


@needs_openssl
def test_both_directions_at_once_over_tls(tls_api: Api, authority: Authority) -> None:
    total = 4 << 20

    def both(job: AttachContainer, ctx: JobContext) -> None:
        client = ctx.stdio.hijack(multiplexed=False)

        def write() -> None:
            for _ in range(total >> 16):
                client.send(b"o" * 65536)

        writer = threading.Thread(target=write)
        writer.start()
        got = 0
        while got < total:
            got += len(client.recv(65536))
        writer.join(TIMEOUT_S)
        client.send(b"%d" % got)
        client.close()

    tls_api.on(AttachContainer, both)
    with socket.create_connection(("127.0.0.1", _port(tls_api)), TIMEOUT_S) as sock:
        with _context(authority, "carol").wrap_socket(sock, server_hostname="127.0.0.1") as secure:
            wire = Wire(secure)
            wire.send(b"POST /containers/x/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
            assert wire.head().status == 101
            for _ in range(total >> 16):
                wire.send(b"i" * 65536)
                assert wire.exactly(65536) == b"o" * 65536
            assert wire.rest() == b"%d" % total


def test_tls_needs_its_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="certificate and a key"):
        Api(tmp_path, tls=True)
    with pytest.raises(InvalidParameter, match="nosuch"):
        Api(tmp_path, tls=True, tls_cert="/nosuch.pem", tls_key="/nosuch.key")


# Socket activation.

_ACTIVATED = """
import os, socket, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from pyker.server.listener import open_listeners
try:
    for listener in open_listeners(sys.argv[1], tls=False, verify=False, group=""):
        connection, _ = listener.sock.accept()
        connection.sendall(listener.address.encode())
        connection.close()
except Exception as error:
    print(error)
"""


@pytest.mark.claim("client-fd", "rule-socket")
@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("fd://", ("fd://3", "fd://4")),
        ("fd://*", ("fd://3", "fd://4")),
        ("fd://4", ("", "fd://4")),
        ("fd://first", ("fd://3", "")),
        ("fd://nosuch", ("", "")),
    ],
)
def test_passed_sockets_are_served(tmp_path: Path, host: str, reached: tuple[str, str]) -> None:
    paths = [str(tmp_path / name) for name in ("one.sock", "two.sock")]
    passed = [socket.socket(socket.AF_UNIX) for _ in paths]
    for sock, path in zip(passed, paths, strict=True):
        sock.bind(path)
        sock.listen()
    saved = [os.dup(sock.fileno()) for sock in passed]
    # The child finds them at 3 and 4, as a service manager leaves them.
    script = f"exec 3<&{saved[0]} 4<&{saved[1]}; exec {sys.executable} -c \"$SCRIPT\" '{host}'"
    process = subprocess.Popen(
        ["bash", "-c", script],
        env=os.environ | {"SCRIPT": _ACTIVATED, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "first:second"},
        pass_fds=saved,
        stdout=subprocess.PIPE,
    )
    for descriptor in saved:
        os.close(descriptor)
    for sock in passed:
        sock.close()
    answers = []
    for path, expected in zip(paths, reached, strict=True):
        if expected:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(TIMEOUT_S)
                client.connect(path)
                answers.append(client.recv(100).decode())
        else:
            answers.append("")
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert tuple(answers) == reached
    assert (b"no sockets found" in out) == (reached == ("", ""))


def test_without_activation_fd_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_PID", raising=False)
    with pytest.raises(InvalidParameter, match="socket activation"):
        _open("fd://")


def test_what_was_passed_and_is_no_socket_is_named(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
        "os.dup2(os.open(sys.argv[1], os.O_RDONLY), 3)\n"
        "from pyker.server.listener import _passed_listeners\n"
        "_passed_listeners('', tls=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "file descriptor 3, which was passed, is no socket" in done.stderr.splitlines()[-1], done.stderr
