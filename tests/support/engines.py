"""Engines under test, each with namespaces, a data root and a socket of its own."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support import debian
from tests.support.sandbox import Sandbox, cgroup_prefix, kill_all, terminate, wait_until
from tests.support.transcript import Transcript


class Output(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


class Reply(NamedTuple):
    """What an API request brought."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> object:
        return json.loads(self.body)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """A running daemon. Everything it keeps is under ``root``.

    ``kind`` is pyker, docker or podman; ``specification`` is what was asked for, with its release: ``docker:28``.
    """

    kind = ""
    specification = ""
    needs: Sequence[str] = ("root",)

    def __init__(self, root: Path, *, flags: Sequence[str] = (), sandbox: Sandbox | None = None) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.socket = str(root / "engine.sock")
        self.host = f"unix://{self.socket}"
        self.data_root = root / "data"
        self.log_path = root / "daemon.log"
        self.flags = list(flags)
        self.cgroup_parent = f"/{cgroup_prefix()}{root.name}"
        self.keeps: tuple[str, ...] = ()
        """What it holds on to for a while, by design, when a test is over, in the words of tests/support/residue.py."""
        self._own_sandbox = sandbox is None
        self.sandbox = sandbox or Sandbox()
        self.daemon: subprocess.Popen[bytes] | None = None
        self.transcript: Transcript | None = None

    def command(self) -> list[str]:
        """The daemon's command line."""
        raise NotImplementedError

    @staticmethod
    def mirror(url: str) -> list[str]:
        """The flags that make ``url`` the daemon's mirror of Docker Hub."""
        return ["--registry-mirror", url]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": str(self.root / "config")}

    def start(self, *, timeout: float = 120) -> None:
        """Start the daemon and wait until it answers."""
        with open(self.log_path, "ab") as log:
            self.daemon = self.sandbox.popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment()
            )

        def answers() -> bool:
            assert self.daemon is not None
            if self.daemon.poll() is not None:
                raise RuntimeError(f"the daemon ended with {self.daemon.returncode}:\n{self.log()[-4000:]}")
            # A look at a path costs nothing: the daemon may need the processor to itself.
            if not os.path.exists(self.socket):
                return False
            try:
                return self.request("GET", "/_ping").status == 200
            except OSError:
                return False

        wait_until(answers, timeout=timeout, what=f"an answer of {self.kind} on {self.socket}", every=0.02)

    @property
    def pid(self) -> int:
        """The daemon's own pid."""
        assert self.daemon is not None
        return self.daemon.pid

    def kill(self) -> None:
        """SIGKILL to the daemon alone."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()

    def stop(self) -> None:
        """Remove every container, end the daemon, and give everything back."""
        try:
            if self.daemon is not None and self.daemon.poll() is None:
                self.remove_containers()
                family = list(self._descendants())
                terminate(self.daemon)
                kill_all(family)
        finally:
            if self._own_sandbox:
                self.sandbox.close()
            remove_cgroups(self.cgroup_parent)
            remove_root(self.root)

    def _descendants(self) -> list[int]:
        from tests.support.sandbox import children

        return children(self.pid)

    def remove_containers(self) -> None:
        """Force away every container."""
        reply = self.request("GET", "/containers/json?all=1")
        if reply.status != 200:
            return
        rows = reply.json()
        assert isinstance(rows, list)
        for row in rows:
            self.request("DELETE", f"/containers/{row['Id']}?force=1&v=1")

    def log(self) -> str:
        """What the daemon has written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def docker(
        self,
        *arguments: str,
        input: str | bytes | None = None,
        timeout: float = 60,
        check: bool = False,
        env: Mapping[str, str] | None = None,
        cli: Sequence[str] = ("docker",),
    ) -> Output:
        """Run a client against this engine; ``cli`` is the stock docker CLI unless told."""
        data = input.encode() if isinstance(input, str) else input
        done = subprocess.run(
            [*cli, *arguments],
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=timeout,
            env={**self.environment(), "DOCKER_HOST": self.host, **(env or {})},
            check=False,
        )
        output = Output(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        if self.transcript is not None:
            name = "pyker" if cli[0] == sys.executable else cli[0]
            self.transcript.command([name, *arguments], *output)
        if check and output.code != 0:
            raise AssertionError(f"{cli[0]} {' '.join(arguments)} exited {output.code}\n{output.out}\n{output.err}")
        return output

    def pyker(
        self, *arguments: str, input: str | bytes | None = None, timeout: float = 60, check: bool = False
    ) -> Output:
        """Run Pyker's own client against this engine."""
        return self.docker(*arguments, input=input, timeout=timeout, check=check, cli=(sys.executable, "-m", "pyker"))

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Reply:
        """One API request. ``body`` is sent as JSON unless it is bytes."""
        connection = _UnixConnection(self.socket, timeout)
        try:
            sent = dict(headers or {})
            data: bytes | None = None
            if isinstance(body, bytes):
                data = body
            elif body is not None:
                data = json.dumps(body).encode()
                sent.setdefault("Content-Type", "application/json")
            connection.request(method, path, body=data, headers=sent)
            reply = connection.getresponse()
            answer = Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
            if self.transcript is not None:
                self.transcript.request(method, path, data, answer.status, answer.body)
            return answer
        finally:
            connection.close()

    def inspect(self, container: str) -> dict[str, object]:
        """``GET /containers/{id}/json``."""
        reply = self.request("GET", f"/containers/{container}/json")
        assert reply.status == 200, reply
        value = reply.json()
        assert isinstance(value, dict)
        return value

    def state(self, container: str) -> dict[str, object]:
        """The ``State`` of inspect."""
        value = self.inspect(container)["State"]
        assert isinstance(value, dict)
        return value

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Dockerd(Engine):
    """The reference engine, Debian's docker.io."""

    kind = specification = "docker"
    needs: Sequence[str] = ("root", "dockerd")

    def command(self) -> list[str]:
        return [
            "dockerd",
            "--data-root", str(self.data_root),
            "--exec-root", "/run/reference/exec",
            "--pidfile", "/run/reference/pid",
            "--host", self.host,
            "--insecure-registry", "127.0.0.0/8",
            "--cgroup-parent", self.cgroup_parent,
            *self.flags,
        ]  # fmt: skip


class Pyker(Engine):
    """This project's engine."""

    kind = specification = "pyker"

    def command(self) -> list[str]:
        return [
            sys.executable, "-m", "pyker", "daemon",
            "--data-root", str(self.data_root),
            "--exec-root", "/run/pyker",
            "--pidfile", "/run/pyker.pid",
            "--host", self.host,
            "--cgroup-parent", self.cgroup_parent,
            *self.flags,
        ]  # fmt: skip


# Releases of the reference that Debian has in suites other than the machine's own.
RELEASES = {"26": "trixie", "28": "forky"}


class DockerdRelease(Dockerd):
    """A dockerd of another release, from unpacked packages laid over /usr inside its sandbox."""

    release = ""
    needs: Sequence[str] = ("root", "overlay", "apt")

    def __init__(self, root: Path, *, flags: Sequence[str] = (), sandbox: Sandbox | None = None) -> None:
        packages = dockerd_packages(self.release)
        super().__init__(root, flags=flags, sandbox=sandbox)
        # The engine's helpers are linked against a newer libc than the machine's, and find each other by /proc/self/exe
        # and by $PATH: in a mount namespace of one's own, laying a newer /usr over the old one serves them all.
        self.sandbox.run(["mount", "-t", "overlay", "-o", f"lowerdir={packages}/usr:/usr", "overlay", "/usr"])


def dockerd_packages(release: str) -> Path:
    """The unpacked packages of a release of dockerd, its client and its helpers. Raises debian.Unavailable."""
    packages = debian.unpack(
        RELEASES[release], ["docker.io", "containerd", "runc", "tini"], libraries=["libc6", "libseccomp2"]
    )
    text = subprocess.run(
        [f"{packages}/usr/sbin/dockerd", "--version"], capture_output=True, text=True, check=True
    ).stdout
    if f"version {release}." not in text:
        raise debian.Unavailable(f"Debian's {RELEASES[release]} has moved on: it has {text.strip()}")
    return packages


class Podman(Engine):
    """Debian's podman behind its Docker-compatible socket."""

    kind = specification = "podman"
    needs: Sequence[str] = ("root", "podman")

    def __init__(self, root: Path, *, flags: Sequence[str] = (), sandbox: Sandbox | None = None) -> None:
        super().__init__(root, flags=flags, sandbox=sandbox)
        self._registries = root / "registries.conf"
        self._registries.write_text(
            'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "disabled"\n'
            '[[registry]]\nprefix = "127.0.0.1"\nlocation = "127.0.0.1"\ninsecure = true\n'
        )
        # Its defaults are above what a process without CAP_SYS_RESOURCE may set; its own nproc is pid_max.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        processes = int(Path("/proc/sys/kernel/pid_max").read_text())
        self._configuration = root / "containers.conf"
        self._configuration.write_text(
            f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
            'init_path = "/usr/bin/tini-static"\n'
            '[engine]\nruntime = "runc"\ninit_path = "/usr/bin/tini-static"\n'
        )
        # The monitor of an exec stays for five minutes, so that its exit code can be asked for.
        self.keeps = ("process conmon", f"mount {self.data_root}/overlay")
        # Its runtime refuses a machine that has both versions of cgroups mounted: here it sees only the first.
        self.sandbox.run(["umount", "/sys/fs/cgroup/unified"], check=False)

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "CONTAINERS_CONF": str(self._configuration),
            "CONTAINERS_REGISTRIES_CONF": str(self._registries),
        }

    def command(self) -> list[str]:
        return [
            "podman",
            "--root", str(self.data_root),
            "--runroot", "/run/podman/storage",
            "--tmpdir", "/run/podman/tmp",
            "--network-config-dir", str(self.root / "networks"),
            "--cgroup-manager", "cgroupfs",
            "--events-backend", "file",
            *self.flags,
            "system", "service", "--time", "0", self.host,
        ]  # fmt: skip

    def stop(self) -> None:
        super().stop()
        # Podman has no flag for the parent of its containers' cgroups. Another one that is running keeps its own.
        for top in Path("/sys/fs/cgroup").glob("*/libpod_parent"):
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    continue


_KINDS: dict[str, type[Engine]] = {"pyker": Pyker, "docker": Dockerd, "podman": Podman}


class UnknownEngine(argparse.ArgumentTypeError):
    """No engine of that name; the text lists those that there are."""


def find(specification: str) -> type[Engine]:
    """The class of the engine that ``specification`` asks for: ``pyker``, ``docker``, ``docker:28``, ``podman``.

    Raises UnknownEngine, which argparse and pytest print as it is.
    """
    kind, colon, release = specification.partition(":")
    if kind == "docker" and release in RELEASES:
        members = {"release": release, "specification": specification}
        return type(f"Dockerd{release}", (DockerdRelease,), members)
    if colon or kind not in _KINDS:
        known = ", ".join([*_KINDS, *(f"docker:{release}" for release in RELEASES)])
        raise UnknownEngine(f'there is no engine "{specification}"; there are: {known}')
    return _KINDS[kind]


def specification(text: str) -> str:
    """``text`` if it asks for an engine that there is; raises UnknownEngine."""
    return find(text).specification


def remove_cgroups(parent: str) -> None:
    """Remove the empty cgroups below ``parent``, and it, in every hierarchy. The killed may take a moment to go."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup" not in line:
            continue
        top = Path(line.split()[4]) / parent.strip("/")
        deadline = time.monotonic() + 2
        while top.is_dir() and time.monotonic() < deadline:
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    time.sleep(0.01)


def remove_root(root: Path) -> None:
    """Delete an engine's folder. Its mounts went away with the sandbox's mount namespace."""
    shutil.rmtree(root, ignore_errors=True)
