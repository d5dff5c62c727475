"""The document's daemon, server and engine: one process that stays, many requests at once, router, handlers."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.compare import Comparison
from tests.support.engines import Engine
from tests.support.sandbox import wait_until


@contextmanager
def connected(engine: Engine) -> Iterator[socket.socket]:
    """A connection to the engine, byte by byte."""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(30)
        wire.connect(engine.socket)
        yield wire


def reply(wire: socket.socket, method: str = "GET") -> tuple[int, bytes]:
    """The next reply on a connection."""
    answer = http.client.HTTPResponse(wire, method=method)
    answer.begin()
    return answer.status, answer.read()


@pytest.mark.claim("daemon-stays", "daemon-serves")
def test_the_daemon_is_one_process_that_stays(engine: Engine, busybox: str) -> None:
    began = os.stat(f"/proc/{engine.pid}").st_ctime
    for _ in range(3):
        assert engine.docker("run", "--rm", busybox, "true").code == 0
        assert engine.request("GET", "/nosuch").status == 404
    assert os.stat(f"/proc/{engine.pid}").st_ctime == began


@pytest.mark.claim("daemon-stays")
def test_what_is_no_http_does_not_harm_it(engine: Engine) -> None:
    for bytes_ in (b"\x16\x03\x01\x02\x00\x01", b"NONSENSE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b""):
        with connected(engine) as wire:
            wire.sendall(bytes_)
            wire.shutdown(socket.SHUT_WR)
            while wire.recv(4096):
                continue
    assert engine.request("GET", "/_ping").status == 200


@pytest.mark.claim("server-accepts-many")
def test_others_are_served_while_one_waits(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, busybox, "sleep", "100", check=True)
    waiting = threading.Thread(target=engine.request, args=("POST", f"/containers/{name}/wait"))
    waiting.start()
    for _ in range(20):
        assert engine.request("GET", "/_ping").status == 200
    assert waiting.is_alive()
    engine.request("POST", f"/containers/{name}/kill")
    waiting.join(30)
    assert not waiting.is_alive()


@pytest.mark.claim("server-accepts-many")
def test_many_clients_at_once(engine: Engine) -> None:
    statuses: list[int] = []
    clients = [
        threading.Thread(target=lambda: statuses.append(engine.request("GET", "/containers/json").status))
        for _ in range(40)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join(60)
    assert statuses == [200] * 40


@pytest.mark.claim("rule-keep-alive", "server-listens")
def test_one_connection_serves_several_requests(engine: Engine) -> None:
    with connected(engine) as wire:
        for method, path in (("HEAD", "/_ping"), ("GET", "/version"), ("GET", "/nosuch"), ("GET", "/_ping")):
            wire.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            status, _ = reply(wire, method)
            assert status == (404 if path == "/nosuch" else 200)


@pytest.mark.claim("server-reads-and-parses", "rule-chunked-bodies")
def test_a_body_in_chunks(engine: Engine, busybox: str, name: str) -> None:
    body = json.dumps({"Image": busybox, "Cmd": ["echo", "chunks"]}).encode()
    with connected(engine) as wire:
        head = f"POST /containers/create?name={name} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        wire.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        for piece in (body[:7], body[7:30], body[30:]):
            wire.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        wire.sendall(b"0\r\n\r\n")
        assert reply(wire, "POST")[0] == 201
    assert engine.inspect(name)["Args"] == ["chunks"]


@pytest.mark.claim("rule-chunked-bodies")
def test_a_client_that_asks_before_it_sends(engine: Engine, busybox: str, name: str) -> None:
    body = json.dumps({"Image": busybox}).encode()
    with connected(engine) as wire:
        head = f"POST /containers/create?name={name} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        wire.sendall(head.encode() + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert wire.recv(4096).startswith(b"HTTP/1.1 100 ")
        wire.sendall(body)
        assert reply(wire, "POST")[0] == 201


@pytest.mark.claim("server-route-item", "server-finds-item", "server-calls-handler", "summary-router-judges-method")
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/containers/json", 200),
        ("HEAD", "/_ping", 200),
        ("POST", "/containers/nosuch/start", 404),
        ("DELETE", "/containers/nosuch", 404),
        ("PUT", "/containers/nosuch/archive?path=/", 404),
        ("PUT", "/containers/json", 404),
        ("DELETE", "/images/json/x/y/json", 404),
        ("PATCH", "/containers/json", 404),
    ],
)
def test_method_and_path_together_find_the_handler(compare: Comparison, method: str, path: str, status: int) -> None:
    said = compare.both(lambda engine: engine.request(method, f"/v1.41{path}"))
    assert [each.status for each in said] == [status, status], said
    if status == 404:
        assert said[0].body == said[1].body


@pytest.mark.claim("server-answers", "summary-server-accepts-http", "rule-errors-are-json")
def test_every_request_is_answered_with_a_status(compare: Comparison) -> None:
    for path in ("/_ping", "/version", "/containers/json", "/containers/x/json", "/networks/x"):
        compare.api("GET", path)


@pytest.mark.claim("server-router", "rule-names-in-paths")
def test_names_with_slashes_and_colons_find_their_way(engine: Engine, busybox: str) -> None:
    image: Any = engine.request("GET", f"/v1.41/images/{busybox}/json").json()
    history: Any = engine.request("GET", f"/images/{busybox}/history").json()
    assert busybox in image["RepoTags"] and history[0]["Id"] == image["Id"]
    missing = engine.request("POST", "/images/127.0.0.1:5000/no/such/push?tag=1", headers={"X-Registry-Auth": "e30="})
    assert missing.status in (200, 404) and b"127.0.0.1:5000/no/such" in missing.body


@pytest.mark.claim("engine-keeps-containers", "engine-create-handler", "job-new-container")
def test_what_was_created_is_kept_until_it_is_removed(engine: Engine, busybox: str, name: str) -> None:
    made: Any = engine.request("POST", f"/containers/create?name={name}", {"Image": busybox}).json()

    def listed() -> list[str]:
        rows: Any = engine.request("GET", "/containers/json?all=1").json()
        return [row["Id"] for row in rows]

    assert made["Id"] in listed()
    engine.request("POST", f"/containers/{name}/start")
    engine.request("POST", f"/containers/{name}/wait")
    assert made["Id"] in listed()
    engine.request("DELETE", f"/containers/{name}")
    assert made["Id"] not in listed()


@pytest.mark.claim("rule-disconnect")
def test_a_client_that_leaves_does_not_stop_a_stop(engine: Engine, busybox: str, name: str) -> None:
    engine.docker(
        "run", "-d", "--name", name, busybox, "sh", "-c", "trap '' TERM; while :; do sleep 1; done", check=True
    )
    with connected(engine) as wire:
        wire.sendall(f"POST /containers/{name}/stop?t=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    wait_until(lambda: engine.state(name)["Running"] is False, timeout=30, what="the stop")


@pytest.mark.claim("rule-disconnect")
@pytest.mark.parametrize("what", ["logs?stdout=1&follow=1", "wait"])
def test_a_client_that_leaves_a_stream_frees_it(engine: Engine, busybox: str, name: str, what: str) -> None:
    engine.docker("run", "-d", "--name", name, busybox, "sleep", "100", check=True)
    method = "GET" if what.startswith("logs") else "POST"

    def connections() -> int:
        """What the engine accepted from us is in our network namespace."""
        return sum(line.endswith(engine.socket) for line in Path("/proc/self/net/unix").read_text().splitlines())

    wait_until(lambda: connections() == 0, timeout=30, what="the end of earlier connections")
    with connected(engine) as wire:
        wire.sendall(f"{method} /containers/{name}/{what} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert wire.recv(12) == b"HTTP/1.1 200"
        assert connections() == 1
    wait_until(lambda: connections() == 0, timeout=30, what="the end of the connection")


@pytest.mark.claim("rule-path-versions", "gate-ping-by-version")
def test_without_a_version_a_path_means_the_newest(engine: Engine) -> None:
    version: Any = engine.request("GET", "/version").json()
    plain = engine.request("GET", "/images/json")
    newest = engine.request("GET", f"/v{version['ApiVersion']}/images/json")
    told = [sorted(json.loads(each.body), key=lambda row: str(row["Id"])) for each in (plain, newest)]
    assert told[0] == told[1] != []
    assert plain.headers["api-version"] == version["ApiVersion"]


@pytest.mark.claim("driver-apart-from-the-rest", "daemon-dispatches", "server-for-clients")
def test_information_needs_no_container(engine: Engine, busybox: str) -> None:
    for path in ("/info", "/version", "/images/json", "/networks", f"/images/{busybox}/json", "/containers/json"):
        assert engine.request("GET", path).status == 200
    info: Any = engine.request("GET", "/info").json()
    assert info["Driver"] and info["Images"] >= 1 and info["DockerRootDir"] == str(engine.data_root)
