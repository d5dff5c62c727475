"""The registry inside the engine: read-only, over real HTTP on a loopback port, started at its first use.

It exists so that a first ``pyker run`` goes the whole way of a pull on a machine without a network.

Source: OCI distribution-spec spec.md, the pull category.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from pyker.registry.embedded.images import BUSYBOX_PATHS, SHIPPED, assemble, find_busybox
from pyker.registry.manifests import OCI_MANIFEST
from pyker.types.ids import Digest
from pyker.types.reference import is_digest

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

log = logging.getLogger("pyker.registry.embedded")

_ROUTE = re.compile(r"/v2/([a-z0-9._/-]{1,255})/(manifests|blobs|tags)/([A-Za-z0-9._:-]{1,255})")
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
_TAGS = ("latest",)
_IDLE_S = 30
_PIECE = 1 << 18


class EmbeddedRegistry:
    """Serves the images that ship with Pyker. Thread-safe.

    ``folder`` keeps the assembled blobs, so that the daemon's memory does not. ``busybox_paths`` is where to look for
    the program that they are made of.
    """

    def __init__(self, folder: str, *, busybox_paths: Sequence[str] = BUSYBOX_PATHS) -> None:
        self._folder = folder
        self._busybox_paths = busybox_paths
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._url = ""
        self._manifests: dict[str, Digest] = {}

    def url(self) -> str:
        """Where it listens; starts it if need be. Raises Unavailable if there is no static busybox."""
        with self._lock:
            if self._server is None:
                self._store()
                self._server = _listen(self)
                host, port = self._server.server_address[:2]
                self._url = f"http://{host!s}:{port}"
                self._thread = threading.Thread(target=self._serve, args=(self._server,), name="registry", daemon=True)
                self._thread.start()
                log.info("the embedded registry listens on %s", self._url)
            return self._url

    def close(self) -> None:
        """Stop listening."""
        with self._lock:
            server, self._server = self._server, None
            thread, self._thread = self._thread, None
        if server is None or thread is None:
            return
        with socket.create_connection(("127.0.0.1", server.server_port)):
            thread.join()
        server.server_close()

    def _serve(self, server: ThreadingHTTPServer) -> None:
        """Accept until ``close`` connects for the last time. It sleeps without a timeout: idle, it wakes nobody."""
        while self._server is server:
            server.handle_request()

    @property
    def listening(self) -> bool:
        """True until closed."""
        return self._server is not None

    @property
    def manifests(self) -> Mapping[str, Digest]:
        """The digest of each image's manifest, once started."""
        return self._manifests

    def blob_path(self, digest: str) -> str:
        """The file of a blob; the caller has checked that ``digest`` is one."""
        return os.path.join(self._folder, digest.replace(":", "-"))

    def _store(self) -> None:
        """Assemble the images and write what is not there yet."""
        blobs = assemble(find_busybox(self._busybox_paths))
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        wanted = {os.path.basename(self.blob_path(digest)) for digest in blobs.content}
        for name in set(os.listdir(self._folder)) - wanted:
            os.unlink(os.path.join(self._folder, name))
        for digest, content in blobs.content.items():
            path = self.blob_path(digest)
            new = path + ".new"
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(file, "wb") as stream:
                stream.write(content)
            os.rename(new, path)
        self._manifests = dict(blobs.manifests)


def _listen(registry: EmbeddedRegistry) -> ThreadingHTTPServer:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "pyker-registry"
        sys_version = ""
        timeout = _IDLE_S
        disable_nagle_algorithm = True  # headers and body are two writes: without it each answer waits for an ACK

        def do_GET(self) -> None:
            _answer(registry, self)

        def do_HEAD(self) -> None:
            _answer(registry, self)

        def log_message(self, format: str, *args: object) -> None:
            log.debug("%s " + format, self.address_string(), *args)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = False

        def verify_request(self, request: object, client_address: object) -> bool:
            return registry.listening

    return Server(("127.0.0.1", 0), Handler)


def _answer(registry: EmbeddedRegistry, request: BaseHTTPRequestHandler) -> None:
    path = request.path.partition("?")[0]
    if path in ("/v2/", "/v2"):
        _send(request, 200, b"{}", "application/json")
        return
    if path == "/v2/_catalog":
        _send_json(request, {"repositories": sorted(registry.manifests)})
        return
    if path == "/v1/search":
        _send_json(request, _search(request.path))
        return
    match = _ROUTE.fullmatch(path)
    if match is None:
        _refuse(request, 404, "UNSUPPORTED", "the operation is unsupported")
        return
    name, kind, what = match.groups()
    own = registry.manifests.get(name)
    if own is None:
        code = "MANIFEST_UNKNOWN" if kind == "manifests" else "NAME_UNKNOWN"
        message = "manifest unknown" if kind == "manifests" else "repository name not known to registry"
        _refuse(request, 404, code, message)
        return
    match kind:
        case "tags":
            _send_json(request, {"name": name, "tags": list(_TAGS)})
        case "manifests":
            if what != own and what not in _TAGS:
                _refuse(request, 404, "MANIFEST_UNKNOWN", "manifest unknown")
                return
            _send_blob(registry, request, own, OCI_MANIFEST)
        case _:
            if not is_digest(what) or not os.path.isfile(registry.blob_path(what)):
                _refuse(request, 404, "BLOB_UNKNOWN", "blob unknown to registry")
                return
            _send_blob(registry, request, Digest(what), "application/octet-stream")


def _search(target: str) -> dict[str, object]:
    """What Docker Hub would answer, for the shipped images."""
    words = parse_qs(urlsplit(target).query).get("q", [""])[0].lower()
    results = [
        {"name": name, "description": text, "star_count": 0, "is_official": True, "is_automated": False}
        for name, text in SHIPPED.items()
        if words in name or words in text.lower()
    ]
    return {"query": words, "num_results": len(results), "results": results}


def _send_blob(registry: EmbeddedRegistry, request: BaseHTTPRequestHandler, digest: Digest, media_type: str) -> None:
    with open(registry.blob_path(digest), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start, end, status = 0, size, 200
        wanted = _RANGE.fullmatch(request.headers.get("Range", ""))
        if wanted is not None:
            start = int(wanted.group(1))
            end = min(int(wanted.group(2)) + 1, size) if wanted.group(2) else size
            status = 206
            if start >= end:
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{size}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
        request.send_response(status)
        request.send_header("Content-Type", media_type)
        request.send_header("Content-Length", str(end - start))
        request.send_header("Docker-Content-Digest", digest)
        request.send_header("Accept-Ranges", "bytes")
        if status == 206:
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        request.end_headers()
        if request.command == "HEAD":
            return
        file.seek(start)
        while start < end and (piece := file.read(min(_PIECE, end - start))):
            request.wfile.write(piece)
            start += len(piece)


def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, media_type: str) -> None:
    request.send_response(status)
    request.send_header("Content-Type", media_type)
    request.send_header("Content-Length", str(len(body)))
    request.send_header("Docker-Distribution-Api-Version", "registry/2.0")
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


def _send_json(request: BaseHTTPRequestHandler, value: object) -> None:
    _send(request, 200, json.dumps(value).encode() + b"\n", "application/json")


def _refuse(request: BaseHTTPRequestHandler, status: int, code: str, message: str) -> None:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode() + b"\n"
    _send(request, status, body, "application/json")
