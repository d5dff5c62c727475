"""Credentials: what is sent, to whom, and what never is."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.errors import Unauthorized
from pyker.jobs.images import RegistryAuth
from pyker.jobs.system import Auth, AuthResult
from pyker.registry.answers import BadAnswer, Refused, Unreachable
from tests.support.fault_registry import FaultRegistry, make_tar
from tests.support.transfers import Transfers

GOOD = RegistryAuth(username="user", password="geheim")
BAD = RegistryAuth(username="user", password="falsch")
BASIC = "Basic " + base64.b64encode(b"user:geheim").decode()


@pytest.fixture
def registry() -> Iterator[FaultRegistry]:
    with FaultRegistry() as registry:
        registry.add_image("app", [make_tar({"a": b"1"})])
        yield registry


def test_basic(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.basic = ("user", "geheim")
    name = f"{registry.host}/app"
    assert transfers.pull(name, auth=GOOD).error is None
    assert "authorization" not in registry.requests[0].headers
    words = f'Head "http://{name.replace("/app", "")}/v2/app/manifests/latest": no basic auth credentials'
    assert str(transfers.pull(name).error) == words
    registry.requests.clear()
    assert str(transfers.pull(name, auth=BAD).error) == "unauthorized: authentication required"
    assert len([item for item in registry.requests if "authorization" in item.headers]) <= 2


@pytest.mark.claim("registry-token")
def test_bearer(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.bearer = ("user", "geheim")
    name = f"{registry.host}/app"
    assert transfers.pull(name, auth=GOOD).error is None
    (token,) = registry.asked("/token")
    assert "service=test.service" in token.path
    assert "scope=repository%3Aapp%3Apull" in token.path
    assert "account=user" in token.path
    assert token.headers["authorization"] == BASIC
    sent = {item.headers["authorization"] for item in registry.requests if "/v2/app" in item.path}
    assert all(value.startswith("Bearer ") for value in sent)
    assert len(sent) == 1
    error = transfers.pull(name, auth=BAD).error
    assert str(error) == f'Head "{registry.url}/v2/app/manifests/latest": unauthorized: incorrect username or password'


def test_an_anonymous_token(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.bearer = ("", "")
    assert transfers.pull(f"{registry.host}/app").error is None
    assert "authorization" not in registry.asked("/token")[0].headers


def test_a_token_is_used_again_and_renewed_when_it_is_refused(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.bearer = ("user", "geheim")
    transfers.pull(f"{registry.host}/app", auth=GOOD)
    transfers.pull(f"{registry.host}/app", auth=GOOD)
    assert len(registry.asked("/token")) == 1
    registry.forget_tokens()
    assert transfers.pull(f"{registry.host}/app", auth=GOOD).error is None
    assert len(registry.asked("/token")) == 2


def test_one_users_token_is_not_anothers(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.bearer = ("user", "geheim")
    assert transfers.pull(f"{registry.host}/app", auth=GOOD).error is None
    assert isinstance(transfers.pull(f"{registry.host}/app").error, Refused)
    assert isinstance(transfers.pull(f"{registry.host}/app", auth=BAD).error, Refused)


def test_an_identity_token_is_exchanged(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.bearer = ("user", "geheim")
    registry.refresh_token = "langlebig"
    auth = RegistryAuth(username="user", identity_token="langlebig")
    assert transfers.pull(f"{registry.host}/app", auth=auth).error is None
    assert registry.asked("/token")[0].method == "POST"


def test_a_registry_token_is_passed_on(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.bearer = ("user", "geheim")
    token = registry.token("repository:app:pull")
    assert transfers.pull(f"{registry.host}/app", auth=RegistryAuth(registry_token=token)).error is None
    assert registry.asked("/token") == []


@pytest.mark.claim("registry-token")
@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_redirect_to_another_host_gets_no_authorization(
    registry: FaultRegistry, transfers: Transfers, scheme: str
) -> None:
    with FaultRegistry(host="127.0.0.2") as elsewhere:
        image = elsewhere.add_image("app", [make_tar({"a": b"1"})])
        if scheme == "basic":
            registry.basic = ("user", "geheim")
        else:
            registry.bearer = ("user", "geheim")
        registry.fault("/blobs/", redirect=elsewhere.url)
        assert transfers.pull(f"{registry.host}/app", auth=GOOD).error is None
        assert {item.path.rpartition("/")[2] for item in elsewhere.requests} == {*image.layers, image.image_id}
        assert not any("authorization" in item.headers for item in elsewhere.requests)


def test_another_port_is_another_host(registry: FaultRegistry, transfers: Transfers) -> None:
    with FaultRegistry() as elsewhere:
        elsewhere.add_image("app", [make_tar({"a": b"1"})])
        registry.basic = ("user", "geheim")
        registry.fault("/blobs/", redirect=elsewhere.url)
        assert transfers.pull(f"{registry.host}/app", auth=GOOD).error is None
        assert not any("authorization" in item.headers for item in elsewhere.requests)


def test_a_redirect_within_the_registry_keeps_it(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.basic = ("user", "geheim")
    registry.fault("/blobs/", redirect=registry.url, times=1)
    assert transfers.pull(f"{registry.host}/app", auth=GOOD).error is None


@pytest.mark.parametrize("target", ["file:///etc/passwd?", "gopher://x/", "http://user:pw@127.0.0.1/"])
def test_redirects_that_lead_nowhere(registry: FaultRegistry, transfers: Transfers, target: str) -> None:
    registry.fault("/manifests/", redirect=target)
    assert isinstance(transfers.pull(f"{registry.host}/app").error, BadAnswer)


def test_redirects_in_a_circle(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.fault("/manifests/", redirect=registry.url)
    error = transfers.pull(f"{registry.host}/app").error
    assert isinstance(error, BadAnswer)
    assert "stopped after 10 redirects" in str(error)


def test_a_token_is_bounded(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.bearer = ("", "")
    registry.fault("/token", status=200, body=b'{"token":"' + b"x" * (1 << 20) + b'"}')
    fault = registry.faults[-1]
    fault.part = "/long"
    registry.realm = f"{registry.url}/long/token"
    assert isinstance(transfers.pull(f"{registry.host}/app").error, BadAnswer)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"token": 7}', b'{"token": "a\\r\\nX-Evil: 1"}', b'{"token": "\\u00e9"}']
)
def test_tokens_that_are_none(registry: FaultRegistry, transfers: Transfers, body: bytes) -> None:
    registry.bearer = ("", "")
    registry.realm = f"{registry.url}/odd/token"
    registry.fault("/odd/token", status=200, body=body)
    assert isinstance(transfers.pull(f"{registry.host}/app").error, BadAnswer)


@pytest.mark.parametrize("realm", ["", "token", "ftp://x/", "http://user:pw@127.0.0.1/"])
def test_token_servers_that_are_no_place_to_go(registry: FaultRegistry, transfers: Transfers, realm: str) -> None:
    registry.bearer = ("user", "geheim")
    registry.realm = realm
    assert isinstance(transfers.pull(f"{registry.host}/app", auth=GOOD).error, BadAnswer)


# The job auth


def login(transfers: Transfers, registry: FaultRegistry, password: str) -> object:
    job = Auth(username="user", password=password, server_address=registry.host)
    outcome = transfers.run(job)
    return outcome.error or outcome.result


def test_login(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.basic = ("user", "geheim")
    assert login(transfers, registry, "geheim") == AuthResult(status="Login Succeeded")
    error = login(transfers, registry, "falsch")
    assert isinstance(error, Unauthorized)
    assert str(error) == f"login attempt to {registry.url}/v2/ failed with status: 401 Unauthorized"


def test_login_with_a_token_server(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.bearer = ("user", "geheim")
    assert login(transfers, registry, "geheim") == AuthResult(status="Login Succeeded")
    error = login(transfers, registry, "falsch")
    assert isinstance(error, Unauthorized)
    assert str(error) == f'Get "{registry.url}/v2/": unauthorized: incorrect username or password'


def test_login_where_nobody_is(transfers: Transfers) -> None:
    outcome = transfers.run(Auth(username="u", password="p", server_address="127.0.0.1:1"))
    assert isinstance(outcome.error, Unreachable)


def test_a_login_is_not_remembered(registry: FaultRegistry, transfers: Transfers) -> None:
    registry.basic = ("user", "geheim")
    login(transfers, registry, "geheim")
    assert isinstance(transfers.pull(f"{registry.host}/app").error, Refused)


# TLS


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key, cert = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{name}"]
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-keyout", str(key), "-out", str(cert), *subject),
        ],
        check=True,
        capture_output=True,
    )
    return key, cert


@pytest.mark.requires("openssl")
def test_a_registry_that_spoke_tls_is_never_asked_in_clear_text(tmp_path: Path) -> None:
    key, cert = certificate(tmp_path, "127.0.0.1")
    transfers = Transfers(tmp_path / "t")
    with FaultRegistry(tls=(cert, key)) as registry:
        registry.basic = ("user", "geheim")
        registry.add_image("app", [make_tar({"a": b"1"})])
        assert transfers.pull(f"{registry.host}/app", auth=GOOD).error is None
    transfers.client.close()  # no connection of before is left
    port = int(registry.host.rpartition(":")[2])
    with FaultRegistry(port=port) as impostor:
        impostor.basic = ("user", "geheim")
        outcome = transfers.pull(f"{impostor.host}/app", auth=GOOD)
        assert isinstance(outcome.error, Unreachable)
        assert impostor.requests == []
    transfers.close()


@pytest.mark.requires("openssl")
def test_a_password_does_not_leave_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, cert = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setattr("pyker.registry.config._LOOPBACK", ())
    with FaultRegistry(tls=(cert, key)) as registry, FaultRegistry(host="127.0.0.2") as clear:
        folder = tmp_path / "certs.d" / registry.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(cert.read_bytes())
        registry.add_image("app", [make_tar({"a": b"1"})])
        registry.bearer = ("user", "geheim")
        registry.realm = f"{clear.url}/token"
        transfers = Transfers(tmp_path)
        error = transfers.pull(f"{registry.host}/app", auth=GOOD).error
        assert isinstance(error, BadAnswer)
        assert clear.requests == []
        transfers.close()


@pytest.mark.claim("registry-insecure")
@pytest.mark.requires("openssl")
def test_an_unknown_certificate_is_refused_unless_certs_d_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, cert = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setattr("pyker.registry.config._LOOPBACK", ())
    with FaultRegistry(tls=(cert, key)) as registry:
        registry.add_image("app", [make_tar({"a": b"1"})])
        transfers = Transfers(tmp_path)
        error = transfers.pull(f"{registry.host}/app").error
        assert isinstance(error, Unreachable)
        assert str(error).startswith(f'Get "https://{registry.host}/v2/": tls: failed to verify certificate: x509: ')
        transfers.close()
        folder = tmp_path / "certs.d" / registry.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(cert.read_bytes())
        transfers = Transfers(tmp_path)
        assert transfers.pull(f"{registry.host}/app").error is None
        transfers.close()
