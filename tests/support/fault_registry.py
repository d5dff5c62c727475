"""A scripted registry that misbehaves on demand, in this process.

It is a small but honest OCI registry (pull, push, mount, Basic and Bearer) to which a test adds faults: each is for the
requests whose path contains a text, and counts down how often it still strikes. Every request is recorded with its
headers, so that a test can prove what was sent where.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import random
import re
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Self
from urllib.parse import parse_qs, urlsplit

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"

_ROUTE = re.compile(r"/v2/(.+?)/(manifests|blobs|tags)/(.+)")


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def make_tar(files: Mapping[str, bytes]) -> bytes:
    """A tar with regular files, the same each time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o755
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that no compressor makes smaller, the same each time."""
    return random.Random(seed).randbytes(size)


def errors(code: str, message: str) -> bytes:
    """The body of a refusal."""
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


@dataclass
class Recorded:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body_bytes: int = 0


@dataclass
class Fault:
    """What happens to matching requests, ``times`` times (-1: always).

    ``cut``: the connection breaks after so many bytes of the body. ``status`` and ``body``: this is the answer.
    ``corrupt``: one byte is another one. ``no_range``: Range is ignored. ``redirect``: 307 to there (the path is
    appended). ``hold``: after ``hold_after`` bytes, wait until the event is set. ``lie_range``: the 206 is of another
    range. ``drop``: the connection ends without an answer; ``silent``: after ``hold``. ``chunked``: the body comes in
    chunks, of no known length.
    """

    part: str
    method: str = ""
    times: int = -1
    cut: int = -1
    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    corrupt: bool = False
    no_range: bool = False
    redirect: str = ""
    hold: threading.Event | None = None
    hold_after: int = 0
    lie_range: bool = False
    drop: bool = False
    silent: bool = False
    chunked: bool = False
    reached: threading.Event = field(default_factory=threading.Event)
    """Set when the fault strikes (for ``hold``: when it waits)."""


@dataclass
class Image:
    """What ``add_image`` made. ``layers`` are digests of blobs, base first."""

    name: str
    digest: str
    config: bytes
    manifest: bytes
    layers: list[str]
    diff_ids: list[str]

    @property
    def image_id(self) -> str:
        return digest_of(self.config)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks off is what tests are about."""
        return


class FaultRegistry:
    """Listens on a loopback port until ``close``. ``host`` may be a second address, such as 127.0.0.2."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, tls: tuple[Path, Path] | None = None) -> None:
        self.blobs: dict[str, bytes] = {}
        self.owners: dict[str, set[str]] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.faults: list[Fault] = []
        self.requests: list[Recorded] = []
        self.basic: tuple[str, str] | None = None
        self.bearer: tuple[str, str] | None = None
        self.realm = ""
        self.refresh_token = ""
        self.token_life_s = 300
        self.relative_locations = True
        self.mounts = True
        self.tag_page = 0
        self.headers: list[tuple[str, str]] = []
        """What every answer has besides its own headers; a character stands for a byte."""
        self.concurrent = 0
        self.most_concurrent = 0
        self._tokens: dict[str, str] = {}
        self._lock = threading.Lock()
        self._step = threading.Event()
        self._server = _Server((host, port), _handler(self))
        self._server.daemon_threads = True
        self.host = f"{host}:{self._server.server_address[1]}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.realm = f"{self.url}/token"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        for fault in self.faults:
            if fault.hold is not None:
                fault.hold.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What is in it

    def add_blob(self, data: bytes, repository: str = "") -> str:
        digest = digest_of(data)
        self.blobs[digest] = data
        if repository:
            self.owners.setdefault(repository, set()).add(digest)
        return digest

    def add_image(
        self,
        name: str,
        tars: Sequence[bytes],
        *,
        tag: str = "latest",
        oci: bool = False,
        compression: str = "gzip",
        config: Mapping[str, object] | None = None,
        diff_ids: Sequence[str] | None = None,
        architecture: str = "amd64",
        urls: Sequence[str] = (),
    ) -> Image:
        """Store an image of these layers; ``diff_ids`` overrides what its configuration claims."""
        own = list(diff_ids) if diff_ids is not None else [digest_of(tar) for tar in tars]
        body = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": own},
            **(config or {}),
        }
        config_bytes = json.dumps(body).encode()
        packed = [_compress(tar, compression) for tar in tars]
        layers = [self.add_blob(blob, name) for blob in packed]
        kind = {"gzip": "+gzip", "zstd": "+zstd", "plain": ""}[compression]
        layer_type = "application/vnd.docker.image.rootfs.diff.tar.gzip"
        if oci or compression != "gzip":
            layer_type = f"application/vnd.oci.image.layer.v1.tar{kind}"
        if urls:
            layer_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        config_type = "application/vnd.docker.container.image.v1+json"
        if oci:
            config_type = "application/vnd.oci.image.config.v1+json"
        manifest_type = OCI_MANIFEST if oci else DOCKER_MANIFEST
        manifest = {
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": {
                "mediaType": config_type,
                "digest": self.add_blob(config_bytes, name),
                "size": len(config_bytes),
            },
            "layers": [
                {"mediaType": layer_type, "digest": digest, "size": len(blob), **({"urls": list(urls)} if urls else {})}
                for digest, blob in zip(layers, packed, strict=True)
            ],
        }
        raw = json.dumps(manifest).encode()
        digest = self.add_manifest(name, tag, manifest_type, raw)
        return Image(name, digest, config_bytes, raw, layers, own)

    def three_layers(self, name: str = "team/app", *, oci: bool = False, compression: str = "gzip") -> Image:
        """A small image."""
        tars = [make_tar({f"file{number}": bytes([number]) * 1000}) for number in range(3)]
        return self.add_image(name, tars, oci=oci, compression=compression)

    def one_layer(self, size: int = 500_000, name: str = "team/app") -> Image:
        """An image of one layer that takes ``size`` bytes on the way."""
        return self.add_image(name, [make_tar({"data": noise(size)})])

    def add_manifest(self, name: str, tag: str, media_type: str, raw: bytes) -> str:
        digest = digest_of(raw)
        self.manifests[name, tag] = self.manifests[name, digest] = (media_type, raw)
        return digest

    def add_index(
        self, name: str, entries: Sequence[Mapping[str, object]], *, tag: str = "latest", oci: bool = True
    ) -> str:
        """Store an index. An entry has ``digest``, ``size``, ``mediaType`` and perhaps ``platform``."""
        media_type = OCI_INDEX if oci else DOCKER_LIST
        raw = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": list(entries)}).encode()
        return self.add_manifest(name, tag, media_type, raw)

    def entry(self, image: Image, architecture: str, variant: str = "", **more: object) -> dict[str, object]:
        """An index's entry for ``image``."""
        platform = {"os": "linux", "architecture": architecture, **({"variant": variant} if variant else {})}
        media_type = self.manifests[image.name, image.digest][0]
        return {
            "mediaType": media_type,
            "digest": image.digest,
            "size": len(image.manifest),
            "platform": platform,
            **more,
        }

    # What goes wrong

    def fault(self, part: str, **how: object) -> Fault:
        """Add a fault for requests whose path contains ``part``; see Fault."""
        fault = Fault(part, **how)  # type: ignore[arg-type]
        self.faults.append(fault)
        return fault

    def strike(self, method: str, path: str) -> Fault | None:
        """The fault for this request, counted."""
        with self._lock:
            for fault in self.faults:
                if fault.part in path and fault.times and fault.method in ("", method):
                    fault.times -= 1
                    return fault
        return None

    # What was asked

    def asked(self, part: str, method: str = "") -> list[Recorded]:
        """The requests so far whose path contains ``part``."""
        return [item for item in self.requests if part in item.path and method in ("", item.method)]

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 10) -> bool:
        """Wait until ``condition`` holds, asking again after each step of a request; False after the time."""
        deadline = monotonic() + timeout_s
        while not condition():
            if monotonic() > deadline:
                return False
            self._step.wait(0.02)
            self._step.clear()
        return True

    # Authorization

    def allowed(self, header: str, path: str) -> bool:
        if self.basic is not None:
            return header == "Basic " + base64.b64encode(":".join(self.basic).encode()).decode()
        if self.bearer is not None:
            scope = self._tokens.get(header.removeprefix("Bearer "))
            if scope is None:
                return False
            match = _ROUTE.match(path)
            return match is None or f"repository:{match.group(1)}:" in scope
        return True

    def challenge(self, path: str) -> str:
        if self.basic is not None:
            return 'Basic realm="test"'
        match = _ROUTE.match(path)
        scope = f',scope="repository:{match.group(1)}:pull"' if match else ""
        return f'Bearer realm="{self.realm}",service="test.service"{scope}'

    def token(self, scope: str) -> str:
        token = uuid.uuid4().hex
        self._tokens[token] = scope
        return token

    def forget_tokens(self) -> None:
        """Let every token be out of date."""
        self._tokens.clear()

    def entered(self, step: int) -> None:
        with self._lock:
            self.concurrent += step
            self.most_concurrent = max(self.most_concurrent, self.concurrent)
        self._step.set()


def _compress(tar: bytes, compression: str) -> bytes:
    match compression:
        case "gzip":
            return gzip.compress(tar, mtime=0)
        case "zstd":
            from backports import zstd

            return zstd.compress(tar)
        case _:
            return tar


def _handler(registry: FaultRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.registry = registry
    return Handler


class _Handler(BaseHTTPRequestHandler):
    registry: FaultRegistry
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _serve(self) -> None:
        registry = self.registry
        headers = {name.lower(): value for name, value in self.headers.items()}
        recorded = Recorded(self.command, self.path, headers)
        registry.requests.append(recorded)
        fault = registry.strike(self.command, self.path)
        if fault is not None and fault.cut >= 0 and self.command in ("PATCH", "PUT"):
            upload = registry.uploads.get(urlsplit(self.path).path.rpartition("/")[2])
            arrived = self.rfile.read(fault.cut)
            if upload is not None:
                upload += arrived
            self._break()
            fault.reached.set()
            return
        body = self._body()
        recorded.body_bytes = len(body)
        path = urlsplit(self.path).path
        if fault is not None and fault.silent and fault.hold is not None:
            fault.reached.set()
            fault.hold.wait(30)
            self._break()
            return
        if fault is not None and fault.drop:
            self._break()
            return
        if path == "/token" and fault is None:
            self._token(body)
            return
        if fault is not None and fault.redirect:
            self._reply(307, b"", {"Location": fault.redirect + self.path})
            return
        if fault is not None and fault.status:
            self._reply(fault.status, fault.body, fault.headers)
            fault.reached.set()
            return
        if not registry.allowed(headers.get("authorization", ""), path):
            errors = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required", "detail": None}]}
            self._reply(401, json.dumps(errors).encode(), {"WWW-Authenticate": registry.challenge(path)})
            return
        if path == "/v2/":
            self._reply(200, b"{}", {})
            return
        match = _ROUTE.fullmatch(path)
        if match is None:
            self._error(404, "UNSUPPORTED", "no such route")
            return
        name, kind, what = match.groups()
        if kind == "manifests":
            self._manifest(name, what, body, fault)
        elif kind == "tags":
            self._tags(name)
        elif what.startswith("uploads/"):
            self._upload(name, what.removeprefix("uploads/"), body)
        else:
            self._blob(name, what, fault)

    def end_headers(self) -> None:
        for name, value in self.registry.headers:
            self.send_header(name, value)
        super().end_headers()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self._pour(body, None)

    def _error(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message, "detail": None}]}).encode()
        self._reply(status, body, {"Content-Type": "application/json"})

    def _pour(self, body: bytes, fault: Fault | None) -> None:
        try:
            if fault is not None and fault.hold is not None:
                self.wfile.write(body[: fault.hold_after])
                self.wfile.flush()
                fault.reached.set()
                fault.hold.wait(30)
                body = body[fault.hold_after :]
            if fault is not None and 0 <= fault.cut < len(body):
                self.wfile.write(body[: fault.cut])
                self.wfile.flush()
                self._break()
                fault.reached.set()
                return
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def _break(self) -> None:
        """End the connection in the middle."""
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def _token(self, body: bytes) -> None:
        registry = self.registry
        if self.command == "POST":
            form = parse_qs(body.decode())
            if not registry.refresh_token or form.get("refresh_token") != [registry.refresh_token]:
                self._error(401, "UNAUTHORIZED", "incorrect refresh token")
                return
            scope = form.get("scope", [""])[0]
        else:
            header = self.headers.get("Authorization", "")
            if registry.bearer is not None and registry.bearer != ("", ""):
                good = "Basic " + base64.b64encode(":".join(registry.bearer).encode()).decode()
                if header != good:
                    self._error(401, "UNAUTHORIZED", "incorrect username or password")
                    return
            scope = " ".join(parse_qs(urlsplit(self.path).query).get("scope", []))
        answer = {"token": registry.token(scope), "expires_in": registry.token_life_s}
        self._reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _manifest(self, name: str, what: str, body: bytes, fault: Fault | None) -> None:
        registry = self.registry
        if self.command == "PUT":
            digest = registry.add_manifest(name, what, self.headers.get("Content-Type", ""), body)
            self._reply(201, b"", {"Docker-Content-Digest": digest, "Location": self.path})
            return
        found = registry.manifests.get((name, what))
        if found is None:
            self._error(404, "MANIFEST_UNKNOWN", "manifest unknown")
            return
        media_type, raw = found
        digest = digest_of(raw)
        if fault is not None and fault.corrupt:
            raw = raw[:-1] + b" "
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Docker-Content-Digest", digest)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self._pour(raw, fault)

    def _tags(self, name: str) -> None:
        registry = self.registry
        tags = sorted(tag for own, tag in registry.manifests if own == name and not tag.startswith("sha256:"))
        query = parse_qs(urlsplit(self.path).query)
        headers = {"Content-Type": "application/json"}
        if registry.tag_page:
            last = query.get("last", [""])[0]
            rest = [tag for tag in tags if tag > last]
            tags = rest[: registry.tag_page]
            if len(rest) > len(tags):
                headers["Link"] = f'</v2/{name}/tags/list?n={registry.tag_page}&last={tags[-1]}>; rel="next"'
        self._reply(200, json.dumps({"name": name, "tags": tags}).encode(), headers)

    def _blob(self, name: str, digest: str, fault: Fault | None) -> None:
        registry = self.registry
        data = registry.blobs.get(digest)
        if data is None or (digest not in registry.owners.get(name, set())):
            self._error(404, "BLOB_UNKNOWN", "blob unknown to registry")
            return
        if fault is not None and fault.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted.group(1)) if wanted and not (fault is not None and fault.no_range) else 0
        if start and start >= len(data):
            self._reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        if fault is not None and fault.lie_range and start:
            start -= 1
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "application/octet-stream")
        chunked = fault is not None and fault.chunked
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        registry.entered(1)
        body = data[start:]
        if chunked:
            body = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (5, body[:5], len(body) - 5, body[5:])
        try:
            self._pour(body, fault)
        finally:
            registry.entered(-1)

    def _upload(self, name: str, identifier: str, body: bytes) -> None:
        registry = self.registry
        query = parse_qs(urlsplit(self.path).query)
        where = f"/v2/{name}/blobs/uploads/"
        base = "" if registry.relative_locations else registry.url
        if self.command == "POST":
            digest, source = query.get("mount", [""])[0], query.get("from", [""])[0]
            if registry.mounts and digest in registry.owners.get(source, set()):
                registry.owners.setdefault(name, set()).add(digest)
                self._reply(201, b"", {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})
                return
            identifier = uuid.uuid4().hex
            registry.uploads[identifier] = bytearray()
            self._reply(202, b"", {"Location": f"{base}{where}{identifier}?_state=a%3Db", "Range": "0-0"})
            return
        upload = registry.uploads.get(identifier)
        if upload is None or query.get("_state") != ["a=b"]:
            self._error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
            return
        location = {"Location": f"{base}{where}{identifier}?_state=a%3Db", "Range": f"0-{max(len(upload) - 1, 0)}"}
        match self.command:
            case "GET":
                self._reply(204, b"", location)
            case "PATCH":
                span = re.fullmatch(r"(\d+)-(\d+)", self.headers.get("Content-Range", ""))
                if span and int(span.group(1)) != len(upload):
                    self._reply(416, b"", location)
                    return
                upload += body
                location["Range"] = f"0-{max(len(upload) - 1, 0)}"
                self._reply(202, b"", location)
            case "PUT":
                upload += body
                digest = query.get("digest", [""])[0]
                if digest_of(bytes(upload)) != digest:
                    self._error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
                    return
                del registry.uploads[identifier]
                registry.add_blob(bytes(upload), name)
                self._reply(201, b"", {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})
            case _:
                del registry.uploads[identifier]
                self._reply(204, b"", {})


class Apart:
    """A FaultRegistry in a process of its own, such as inside a sandbox's network namespace. ``script`` is run there
    with the name ``registry`` bound; ``ask`` evaluates an expression there."""

    def __init__(self, popen: Callable[..., subprocess.Popen[bytes]], script: str, *, port: int) -> None:
        root = str(Path(__file__).parents[2])
        code = (
            f"import sys; sys.path.insert(0, {root!r}); from tests.support import fault_registry as f; f.serve({port})"
        )
        self.host = f"127.0.0.1:{port}"
        self._process = popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ask(script, run=True)

    def ask(self, text: str, *, run: bool = False) -> object:
        """The value of an expression, as JSON brings it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"run" if run else "value": text}).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the registry ended"
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(port: int) -> None:
    """The other end of ``Apart``: one JSON object a line on standard input, one answer a line."""
    with FaultRegistry(port=port) as registry:
        names: dict[str, object] = {**globals(), "registry": registry}
        for line in sys.stdin:
            wish = json.loads(line)
            value = None
            if "run" in wish:
                exec(wish["run"], names)
            else:
                value = eval(wish["value"], names)
            print(json.dumps(value), flush=True)
