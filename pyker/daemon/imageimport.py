"""Making an image of one tar. Source: Docker API v1.45 POST /images/create ``fromSrc``."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyker.api import gotime
from pyker.daemon import imagechanges
from pyker.engine.job import JobContext
from pyker.errors import InvalidParameter, KernelError
from pyker.graph import host
from pyker.graph.graph import Graph
from pyker.jobs.images import ImportImage
from pyker.types.ids import ImageId

_CHUNK = 1 << 18
_EMPTY_CONFIG: dict[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


class Importer:
    """Reads the body to a file first: a worker process then does the rest."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    @contextmanager
    def received(self, ctx: JobContext) -> Iterator[str]:
        """The body as a file, which is gone afterwards.

        It is read to its end whatever is wrong with the request: a client that is still sending hears no answer.
        """
        with tempfile.NamedTemporaryFile(dir=self._graph.root, prefix=".import-", suffix=".tmp") as blob:
            self._receive(ctx, blob.fileno())
            yield blob.name

    def make(self, job: ImportImage, ctx: JobContext, blob: str) -> ImageId:
        """Raises InvalidParameter for a bad change or platform, Corrupt for a bad tar; nothing stays then."""
        config = dict(_EMPTY_CONFIG)
        imagechanges.apply(config, job.changes)
        system, _, rest = job.platform.partition("/")
        if system not in ("", "linux"):
            raise InvalidParameter(f'"{job.platform}": unsupported operating system')
        architecture = rest.partition("/")[0] or host.architecture()
        with self._graph.layers.hold():
            layer = self._graph.layers.add(blob, None, cancel=lambda: ctx.cancel.cancelled)
            now = gotime.now()
            comment = job.message or "Imported from -"
            raw = json.dumps(
                {
                    "architecture": architecture,
                    "comment": comment,
                    "config": config,
                    "container_config": _EMPTY_CONFIG,
                    "created": now,
                    "history": [{"created": now, "comment": comment}],
                    "os": "linux",
                    "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
                },
                separators=(",", ":"),
                ensure_ascii=False,
            ).encode()
            return self._graph.create_image(raw)

    @staticmethod
    def _receive(ctx: JobContext, fd: int) -> None:
        body = ctx.stdio.stdin()
        try:
            while data := body.read(_CHUNK):
                ctx.cancel.raise_if_cancelled()
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
        except OSError as error:
            raise KernelError.from_oserror(error, syscall="write", stage="import") from error
