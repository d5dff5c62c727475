"""An engine that does nothing: it answers what the client asks at once. What is left is the client's own time."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
import threading
from pathlib import Path
from typing import Self

_API_VERSION = "1.45"
_ID = "0" * 64


class IdleEngine:
    """Listens on idle.sock in ``folder``, which is there, until it is closed. For one client at a time.

    Source: docker CLI 28, the requests of a run in the foreground (ping, create, attach, wait, start), and of an exec
    (ping, the container, create, start, its end).
    """

    def __init__(self, folder: Path) -> None:
        self.socket = os.fspath(folder / "idle.sock")
        self.started = threading.Event()
        self._server = _Server(self.socket, _Handler)
        self._server.engine = self
        threading.Thread(target=self._server.serve_forever, args=(0.01,), name="idle-engine", daemon=True).start()

    @property
    def host(self) -> str:
        """For DOCKER_HOST."""
        return f"unix://{self.socket}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    engine: IdleEngine


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def do_GET(self) -> None:
        match self.path.partition("?")[0].split("/")[2:]:
            case ["containers", name, "json"]:
                state = {"Status": "running", "Running": True, "Pid": 1}
                self._answer(200, json.dumps({"Id": _ID, "Name": f"/{name}", "State": state, "Config": {}}).encode())
            case ["exec", _, "json"]:
                self._answer(200, json.dumps({"ID": _ID, "ContainerID": _ID, "Running": False, "ExitCode": 0}).encode())
            case _:
                self._refuse()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        started = self.server.engine.started
        match self.path.partition("?")[0].split("/")[2:]:
            case ["containers", _, "exec"]:
                self._answer(201, json.dumps({"Id": _ID}).encode())
            case ["exec", _, "start"]:
                self._upgrade()
            case ["containers", "create"]:
                started.clear()
                self._answer(201, json.dumps({"Id": _ID, "Warnings": []}).encode())
            case ["containers", _, "attach"]:
                self._upgrade()
                started.wait()
            case ["containers", _, "wait"]:
                self.send_response_only(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                started.wait()
                self.wfile.write(b'11\r\n{"StatusCode":0}\n\r\n0\r\n\r\n')
            case ["containers", _, "start"]:
                self._answer(204, b"")
                started.set()
            case _:
                self._refuse()

    def _upgrade(self) -> None:
        """The connection ends after this request."""
        self.send_response_only(101, "UPGRADED")
        self.send_header("Content-Type", "application/vnd.docker.raw-stream")
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "tcp")
        self.end_headers()
        self.close_connection = True

    def _refuse(self) -> None:
        self._answer(404, b'{"message":"this engine does nothing"}')

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Api-Version", _API_VERSION)
        self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is noted."""
