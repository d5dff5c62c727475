"""Images for tests, made on the spot from Debian's busybox-static, as OCI layouts.

``make(folder, name, ...)`` writes a layout that skopeo can copy anywhere; nothing here uses the engine's own code, so
that it can judge it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Build = Callable[[tarfile.TarFile], None]
EPOCH = 1_700_000_000


def add_file(tar: tarfile.TarFile, name: str, content: bytes = b"", mode: int = 0o644, **fields: object) -> None:
    """One regular file; ``fields`` are attributes of its TarInfo."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = mode
    info.mtime = EPOCH
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(content))


def add_dir(tar: tarfile.TarFile, name: str, mode: int = 0o755, **fields: object) -> None:
    """One folder."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    info.mode = mode
    info.mtime = EPOCH
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info)


def add_link(tar: tarfile.TarFile, name: str, target: str, *, hard: bool = False) -> None:
    """A symbolic or hard link."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.LNKTYPE if hard else tarfile.SYMTYPE
    info.linkname = target
    info.mode = 0o777
    info.mtime = EPOCH
    tar.addfile(info)


def add_device(tar: tarfile.TarFile, name: str, major: int, minor: int) -> None:
    """A character device."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.CHRTYPE
    info.devmajor, info.devminor = major, minor
    info.mode = 0o600
    info.mtime = EPOCH
    tar.addfile(info)


def busybox_layer(tar: tarfile.TarFile) -> None:
    """A root file system with every applet as a hard link."""
    binary = Path("/bin/busybox").read_bytes()
    for folder in ("bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var", "var/tmp"):
        add_dir(tar, folder, 0o1777 if folder.endswith("tmp") else 0o755)
    add_file(tar, "bin/busybox", binary, 0o755)
    for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            add_link(tar, f"bin/{applet}", "bin/busybox", hard=True)
    add_file(
        tar,
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nwww:x:33:33:www:/var/www:/bin/sh\n",
    )
    add_file(tar, "etc/group", b"root:x:0:\ndaemon:x:1:\nwww:x:33:\nwheel:x:10:root,www\n")


def tar_of(build: Build) -> bytes:
    """The uncompressed tar that ``build`` fills."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        build(tar)
    return buffer.getvalue()


def digest(data: bytes) -> str:
    """sha256 of ``data``, as a digest."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def make(
    folder: Path,
    *,
    layers: Sequence[Build] = (busybox_layer,),
    config: Mapping[str, object] | None = None,
    label: str = "",
    created: str = "2023-11-14T22:13:20Z",
) -> Path:
    """Write an OCI layout with tag ``latest`` to ``folder``.

    ``label`` or ``created`` gives the image an ID of its own.
    """
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes) -> str:
        name = digest(data)
        (blobs / name.removeprefix("sha256:")).write_bytes(data)
        return name

    diff_ids = []
    descriptors = []
    for build in layers:
        plain = tar_of(build)
        packed = gzip.compress(plain, 6, mtime=0)
        diff_ids.append(digest(plain))
        descriptors.append(
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": blob(packed), "size": len(packed)}
        )
    settings: dict[str, object] = {
        "Cmd": ["sh"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    }
    settings.update(config or {})
    if label:
        settings["Labels"] = {"test": label}
    image = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": created,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created": "2023-11-14T22:13:20Z", "created_by": f"layer {n}"} for n in range(len(diff_ids))],
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": blob(image),
                "size": len(image),
            },
            "layers": descriptors,
        }
    ).encode()
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": blob(manifest),
                "size": len(manifest),
                "annotations": {"org.opencontainers.image.ref.name": "latest"},
            }
        ],
    }
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps(index))
    return folder
