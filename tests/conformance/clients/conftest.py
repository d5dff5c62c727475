"""Clients that are more than a command line."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from tests.support import debian
from tests.support.engines import Engine, Output

_projects = itertools.count()


@pytest.fixture
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    """docker-py, speaking the newest version that both know."""
    made = docker.DockerClient(base_url=engine.host, version="auto", timeout=60)
    yield made
    made.close()


@pytest.fixture
def sleeper(client: docker.DockerClient, busybox: str, name: str) -> Container:
    """A running container."""
    return client.containers.run(busybox, ["sleep", "600"], name=name, detach=True)


def packed(files: Mapping[str, bytes]) -> bytes:
    """A tar with ``files`` in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o640
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Project:
    """A compose project: a folder with its file, and the compose command that works on it."""

    def __init__(self, engine: Engine, folder: Path, command: tuple[str, ...], name: str) -> None:
        self.name = name
        self._engine, self._folder, self._command = engine, folder, command
        (folder / "home").mkdir()
        # Compose v1 reads of an image what the API leaves out since 1.45; its users choose a version by this.
        self.environment = {"HOME": str(folder / "home"), "COMPOSE_API_VERSION": "1.41"}

    def write(self, text: str) -> None:
        """The project's file."""
        (self._folder / "docker-compose.yml").write_text(text)

    def add(self, name: str, content: str) -> Path:
        """Another file of the project."""
        path = self._folder / name
        path.write_text(content)
        return path

    def __call__(self, *arguments: str, check: bool = True, timeout: float = 120) -> Output:
        return self._engine.docker(
            "-p", self.name, "-f", str(self._folder / "docker-compose.yml"), *arguments,
            cli=self._command, check=check, timeout=timeout, env=self.environment,
        )  # fmt: skip

    def end(self) -> None:
        """Take it down, with what a failed test left."""
        self("down", "-v", "-t", "0", check=False)


@pytest.fixture(scope="session")
def compose_v2() -> Path:
    """The executable of compose v2, unpacked from a newer suite of Debian: fetched when first needed."""
    try:
        folder = debian.unpack("trixie", ["docker-compose"])
    except debian.Unavailable as error:
        pytest.skip(f"needs compose v2: {error}")
    return folder / "usr/libexec/docker/cli-plugins/docker-compose"


@pytest.fixture
def project(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Iterator[Project]:
    """A project of the test's own, taken down afterwards. The test module's ``COMPOSE`` says which compose it is."""
    command = request.module.COMPOSE or (str(request.getfixturevalue("compose_v2")),)
    made = Project(engine, tmp_path, command, f"p{next(_projects)}")
    yield made
    made.end()
