"""Classic builds by ``POST /build``, and what they leave is removed."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.support.asking import records
from tests.support.engines import Engine, Reply
from tests.support.images import add_dir, add_file

File = bytes | tuple[bytes, int]


def context(files: Mapping[str, File]) -> bytes:
    """A build context: contents by name, or contents with a mode; a name that ends in a slash is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, given in files.items():
            content, mode = given if isinstance(given, tuple) else (given, 0o644)
            if name.endswith("/"):
                add_dir(tar, name.rstrip("/"))
            else:
                add_file(tar, name, content, mode)
    return buffer.getvalue()


class Built:
    """What one build said."""

    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        self.records = records(reply)
        self.text = "".join(record.get("stream", "") for record in self.records)
        self.ids = [record["aux"]["ID"] for record in self.records if "ID" in record.get("aux", {})]
        self.steps = re.findall(r"^Step \d+/\d+ : (.*)$", self.text, re.M)

    @property
    def id(self) -> str:
        """The image's ID."""
        assert self.ids, (self.status, self.records)
        return str(self.ids[-1])

    @property
    def error(self) -> str:
        """Why it failed: in the stream, or before there was one."""
        return str(self.records[-1].get("error") or self.records[-1].get("message"))

    @property
    def cached(self) -> int:
        """How many steps came from the cache."""
        return self.text.count(" ---> Using cache\n")


class Builder:
    """Builds with one engine. Intermediate containers go in any case, images when it is closed."""

    def __init__(self, engine: Engine, base: str) -> None:
        self._engine = engine
        self._made: list[str] = []
        self.base = base

    def __call__(self, text: str, files: Mapping[str, File] | None = None, **query: object) -> Built:
        """Build ``text`` as Dockerfile; ``{base}`` in it is an image that is there. What is no word is sent as JSON."""
        written = text.replace("{base}", self.base)
        return self.send(context({"Dockerfile": written.encode(), **(files or {})}), **query)

    def send(self, body: bytes, **query: object) -> Built:
        """Build what ``body`` holds."""
        asked: dict[str, Any] = {"version": "1", "forcerm": "1", **query}
        asked = {key: value if isinstance(value, str) else json.dumps(value) for key, value in asked.items()}
        header = {"Content-Type": "application/x-tar", "X-Registry-Config": "e30="}
        built = Built(self._engine.request("POST", f"/build?{urlencode(asked)}", body, headers=header, timeout=90))
        self._made += re.findall(r"^ ---> ([0-9a-f]{12})$", built.text, re.M) + built.ids
        return built

    def by_docker(self, folder: Path, *flags: str) -> str:
        """``docker build`` of a folder, whose client leaves out what .dockerignore says; returns the image's ID."""
        done = self._engine.docker("build", "-q", "--force-rm", *flags, str(folder), timeout=90, check=True)
        self._made.append(done.out.strip())
        return self._made[-1]

    def adopt(self, image: str) -> None:
        """Remove one more image when this is closed."""
        self._made.append(image)

    def config(self, built: Built) -> Any:
        """The configuration of what was built."""
        reply = self._engine.request("GET", f"/images/{built.id}/json")
        value = json.loads(reply.body)
        return value["Config"]

    def run(self, built: Built | str, *command: str, flags: tuple[str, ...] = ()) -> str:
        """What a container of it prints."""
        image = built if isinstance(built, str) else built.id
        arguments = ["run", "--rm", "--network", "none", *flags, image, *command]
        return self._engine.docker(*arguments, check=True).out

    def close(self) -> None:
        """Remove every image that a build made, the newest first."""
        base = json.loads(self._engine.request("GET", f"/images/{self.base}/json").body).get("Id", "")
        for image in reversed(self._made):
            if image.removeprefix("sha256:")[:12] != base.removeprefix("sha256:")[:12]:
                self._engine.request("DELETE", f"/images/{image}?force=1")
