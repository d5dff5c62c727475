"""The images that ship with Pyker, assembled from the machine's own static busybox.

The same busybox gives the same digests on every machine. The layers that two images share are the same blob.

Source: OCI image-spec config.md, manifest.md.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from pyker.errors import Unavailable
from pyker.registry.embedded.layers import Entry, Layer, make_layer
from pyker.registry.manifests import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, digest_of
from pyker.registry.platforms import host_platform
from pyker.types.ids import Digest

BUSYBOX_PATHS = ("/bin/busybox", "/usr/bin/busybox")
STEPS_LABEL = "org.pyker.steps"
"""An image with this label wants to be told what the engine did: the label's value is where to mount that text."""
STEPS_PATH = "/run/pyker/steps.txt"

_MADE_AT = "2025-01-01T00:00:00Z"
_SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PT_INTERP = 3
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
_GROUP = b"root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"
_FOLDERS = (
    ("etc/", 0o755),
    ("home/", 0o755),
    ("root/", 0o700),
    ("tmp/", 0o1777),
    ("usr/", 0o755),
    ("usr/bin/", 0o755),
    ("usr/sbin/", 0o755),
    ("var/", 0o755),
    ("var/tmp/", 0o1777),
)

SHIPPED = {
    "hello": "Says hello, and tells what was done to get there",
    "busybox": "A shell and three hundred small commands",
    "web": "A web server; serves /www on port 80",
}
"""Name and description of each image."""


@dataclass(frozen=True, slots=True)
class Blobs:
    """Everything to serve: blobs by digest, and for each image the digest of its manifest."""

    content: dict[Digest, bytes]
    manifests: dict[str, Digest]


def find_busybox(paths: Sequence[str] = BUSYBOX_PATHS) -> str:
    """The path of a statically linked busybox.

    Raises Unavailable, naming the package to install, if there is none.
    """
    for path in paths:
        if not os.path.isfile(path):
            continue
        if is_static(path):
            return path
        raise _unavailable(path, "needs shared libraries")
    raise _unavailable(paths[0], "is missing")


def _unavailable(path: str, why: str) -> Unavailable:
    return Unavailable(
        f"the images of pyker.local are made from {path}, which {why}: install the package busybox-static"
    )


def is_static(path: str) -> bool:
    """True if ``path`` is an ELF program that asks for no dynamic linker. Source: elf(5), PT_INTERP."""
    with open(path, "rb") as file:
        head = file.read(64)
        if len(head) < 52 or head[:4] != b"\x7fELF" or head[5] != 1:
            return False
        if head[4] == 2:
            offset, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
        else:
            offset, size, count = struct.unpack_from("<I", head, 28)[0], *struct.unpack_from("<HH", head, 42)
        if offset >= os.fstat(file.fileno()).st_size:
            return False
        file.seek(offset)
        table = file.read(size * count)
    kinds = [struct.unpack_from("<I", table, position)[0] for position in range(0, len(table) - 3, size or 1)]
    return bool(kinds) and _PT_INTERP not in kinds


def assemble(busybox: str) -> Blobs:
    """Make every shipped image. Runs ``busybox --list`` once."""
    with open(busybox, "rb") as file:
        program = file.read()
    names = subprocess.run([busybox, "--list"], capture_output=True, check=True, timeout=10).stdout.decode().split()
    base = make_layer([Entry(path="bin/", mode=0o755), Entry(path="bin/busybox", mode=0o755, data=program)])
    links = [Entry(path=f"bin/{name}", target="busybox") for name in sorted(set(names) - {"busybox"})]
    system = make_layer(
        [
            *links,
            *(Entry(path=path, mode=mode) for path, mode in _FOLDERS),
            Entry(path="etc/group", data=_GROUP),
            Entry(path="etc/passwd", data=_PASSWD),
        ]
    )
    hello = make_layer([Entry(path="hello.sh", mode=0o755, data=_shipped_file("hello.sh"))])
    web = make_layer([Entry(path="www/", mode=0o755), Entry(path="www/index.html", data=_shipped_file("index.html"))])
    steps = ("busybox", "the names of its commands, and the folders of a system")
    blobs = Blobs({}, {})
    _add(blobs, "busybox", [base, system], steps, {"Cmd": ["sh"]})
    _add(
        blobs,
        "hello",
        [base, system, hello],
        (*steps, "what it says"),
        {"Cmd": ["/hello.sh"], "Labels": {STEPS_LABEL: STEPS_PATH}},
    )
    _add(
        blobs,
        "web",
        [base, system, web],
        (*steps, "one page"),
        {
            "Cmd": ["httpd", "-f", "-p", "80", "-h", "/www"],
            "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGKILL",
        },
    )
    return blobs


def _add(blobs: Blobs, name: str, layers: list[Layer], steps: tuple[str, ...], extra: dict[str, object]) -> None:
    platform = host_platform()
    config: dict[str, object] = {
        "architecture": platform.architecture,
        "config": {"Env": [_SEARCH_PATH], **extra},
        "created": _MADE_AT,
        "history": [{"created": _MADE_AT, "created_by": f"pyker: {step}"} for step in steps],
        "os": platform.os,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    if platform.variant:
        config["variant"] = platform.variant
    config_bytes = _json(config)
    for layer in layers:
        blobs.content[layer.digest] = layer.blob
    config_digest = digest_of(config_bytes)
    blobs.content[config_digest] = config_bytes
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": config_digest, "size": len(config_bytes)},
            "layers": [{"mediaType": OCI_LAYER, "digest": layer.digest, "size": len(layer.blob)} for layer in layers],
        }
    )
    digest = digest_of(manifest)
    blobs.content[digest] = manifest
    blobs.manifests[name] = digest


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _shipped_file(name: str) -> bytes:
    return files("pyker.registry.embedded").joinpath(name).read_bytes()
