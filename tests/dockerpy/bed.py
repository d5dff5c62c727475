"""An engine in a sandbox, and beside it what the suite would otherwise ask the Internet for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.dockerpy import suite
from tests.support import engines, images
from tests.support.registry import Registry

# Of Docker Hub, by way of a mirror. All are the same busybox, each with an ID of its own.
NAMES = ("alpine:3.10", "alpine:latest", "busybox:latest", "hello-world:latest")
TEST_TIMEOUT_S = 60
NEWEST = (1, 45)
"""The newest API that this release of docker-py was written for."""


def _what_alpine_has(tar: tarfile.TarFile) -> None:
    """What the tests use of the image that they name, and busybox lacks."""
    images.add_dir(tar, "var/opt")
    users = "root:x:0:0:root:/root:/bin/sh\npostgres:x:70:70::/var/lib/postgresql:/bin/sh\n"
    images.add_file(tar, "etc/passwd", users.encode())


class Bed:
    """A running engine, a registry that is its mirror of Docker Hub, and a process that runs the suite between them."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._suite, self._python = suite.source(), suite.environment()
        self.engine = engines.find(name)(folder / "engine", flags=engines.find(name).mirror("http://127.0.0.1:5000"))
        try:
            self._name_the_host()
            self._mirror = Registry(folder / "mirror", self.engine.sandbox)
            layers = (images.busybox_layer, _what_alpine_has)
            for number, image in enumerate(NAMES):
                config: dict[str, object] = {"Cmd": ["echo", "Hello from Docker!"]} if "hello" in image else {}
                # One that shares everything with another frees nothing when it goes.
                own = (lambda tar: images.add_file(tar, "hello", b"hello\n"),) if "hello" in image else ()
                created = f"2023-11-14T22:13:{20 + number}Z"
                layout = images.make(folder / f"image{number}", layers=(*layers, *own), config=config, created=created)
                # In this format even the oldest engine tells the platform of a remote image.
                self._mirror.push(layout, f"library/{image}", form="v2s2")
            self.engine.start()
        except BaseException:
            self.engine.stop()
            raise

    def _name_the_host(self) -> None:
        """The suite serves a file under this machine's host name."""
        hosts = self._folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost {socket.gethostname()}\n::1 localhost\n")
        self.engine.sandbox.run(["mount", "--bind", str(hosts), "/etc/hosts"])

    def facts(self) -> dict[str, str]:
        """What the results say of the engine."""
        info, version = (self.engine.request("GET", path).json() for path in ("/info", "/version"))
        assert isinstance(info, dict) and isinstance(version, dict)
        kind = self.engine.specification
        return {f"{kind} graphdriver": info["Driver"], f"{kind} version": version["Version"]}

    def api_version(self) -> str:
        """The engine's newest that the suite knows."""
        value = self.engine.request("GET", "/version").json()
        assert isinstance(value, dict)
        major, minor = map(int, value["ApiVersion"].split("."))
        return ".".join(map(str, min((major, minor), NEWEST)))

    def run(self, arguments: Sequence[str], *, version: str = "") -> tuple[int, Path]:
        """Run the suite to its end; returns pytest's exit code and the path of its report, in JUnit's XML."""
        home = self._folder / "home"
        (home / ".docker").mkdir(parents=True)
        # Without one, the library would keep its contexts in the working directory.
        (home / ".docker" / "config.json").write_text("{}")
        report = self._folder / "junit.xml"
        tests = "tests/integration"
        command = [
            # Entering a mount namespace forgets the working directory.
            "env", "-C", str(self._suite),
            str(self._python), "-P", "-m", "pytest", tests, "-q", "-p", "no:cacheprovider",
            f"--rootdir={self._suite}", f"--timeout={TEST_TIMEOUT_S}",
            f"--junitxml={report}", "-o", "junit_logging=all",
            *(f"--ignore={tests}/{name}" for name in suite.LEFT_OUT),
            *(f"--deselect={tests}/{name}" for name in suite.LEFT_OUT_TESTS),
            *arguments,
        ]  # fmt: skip
        environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "PYTHONPATH": str(self._suite),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(home),
            "DOCKER_HOST": self.engine.host,
            "DOCKER_TEST_API_VERSION": version or self.api_version(),
        }
        process = self.engine.sandbox.popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        return process.wait(), report

    def __enter__(self) -> Bed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._mirror.close()
        self.engine.stop()
