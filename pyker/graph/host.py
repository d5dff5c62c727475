"""The reserved image ``host``: a copy-on-write view of the machine's own root file system.

``pyker run --rm -it host bash`` gives a disposable clone of the machine one stands on. What the view shows is what the
file system of "/" holds, without what is mounted below it and without the engine's own data; what the container writes
goes to a layer of its own. Beware: the container can read all that is on that file system, keys and passwords too.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform

from pyker.types.ids import ChainId, DiffId, ImageId

HOST_IMAGE = ImageId("host")
"""Its name, and its ID: no digest can be told beforehand."""

_DIFF = DiffId("sha256:" + hashlib.sha256(b"pyker: the machine's own root file system").hexdigest())
HOST_CHAIN = ChainId(_DIFF)
"""Stands for "/" wherever a top layer is named."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


def architecture() -> str:
    """This machine's, in the field's spelling (``amd64``)."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


@functools.cache
def config() -> bytes:
    """The configuration of the image, as if it had been pulled."""
    shell = next((path for path in ("/bin/bash", "/bin/sh") if os.path.exists(path)), "/bin/sh")
    return json.dumps(
        {
            "architecture": architecture(),
            "comment": "the machine's own root file system",
            "config": {"Cmd": [os.path.basename(shell)], "Env": [f"PATH={_PATH}"], "WorkingDir": "/"},
            "created": "1970-01-01T00:00:00Z",
            "history": [{"created": "1970-01-01T00:00:00Z", "comment": "the machine's own root file system"}],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [_DIFF]},
        },
        separators=(",", ":"),
    ).encode()
