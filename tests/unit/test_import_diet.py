"""What a start may not import.

The client because a command takes milliseconds, the launcher because every container is a copy of it, the daemon
because a client may be waiting for it. Every test starts an interpreter of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_daemon import FakeDaemon, answer, lay_down_container

TREE = Path(__file__).parents[2]

CLIENT_BANNED = {"requests", "msgspec", "pyroute2", "asyncio", "sqlite3", "ctypes", "ssl", "subprocess"} | {
    "rich",
    "httptools",
    "threading",
    "logging",
    "argparse",
    "email",
    "http",
    "socket",
}
LAUNCHER_ALLOWED = ("pyker.libcontainer", "pyker.errors", "pyker.types")
LAUNCHER_BANNED = {"asyncio", "requests", "pyroute2", "sqlite3", "ssl", "subprocess", "threading", "logging", "json"}
DAEMON_BANNED = {"requests", "urllib3", "pyroute2", "asyncio", "rich", "ssl", "argparse", "http.client", "isal"}


def start(*arguments: str, env: dict[str, str] | None = None) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run Python without site, as ``bin/pyker`` does; also the names of all modules that it imported."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "PYKER_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-S", "-X", "importtime", *arguments],
        env={**plain, "DOCKER_CONFIG": "/nonexistent", "PYTHONPATH": str(TREE), **(env or {})},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    rows = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return done, {row.rpartition("|")[2].strip() for row in rows}


def modules_of(program: str, *flags: str) -> set[str]:
    """What is loaded after ``program``."""
    done = subprocess.run(
        [
            sys.executable,
            *flags,
            "-c",
            f"import sys; sys.path.insert(0, {str(TREE)!r})\n{program}\nprint(*sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    return set(done.stdout.split())


def roots(modules: set[str]) -> set[str]:
    return modules | {name.partition(".")[0] for name in modules}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(str(tmp_path / "s")) as fake:
        yield fake


@pytest.mark.parametrize(
    "command",
    [
        ["ps", "-a"],
        ["version"],
        ["run", "-d", "image"],
        ["run", "--rm", "image", "true"],
        ["run", "-p", "80:80", "image"],
    ],
    ids=" ".join,
)
def test_a_whole_command_of_the_client(daemon: FakeDaemon, command: list[str]) -> None:
    lay_down_container(daemon)
    daemon.on("GET", "/containers/json", answer([]))
    daemon.on("GET", "/version", answer({"Version": "1", "ApiVersion": "1.45"}))
    done, imported = start("-m", "pyker", *command, env={"DOCKER_HOST": daemon.host})
    assert done.returncode == 0, done.stderr
    assert daemon.requests
    assert "pyker.client.session" in imported
    assert CLIENT_BANNED & imported == set()
    assert not [name for name in imported if name.startswith(("pyker.daemon", "pyker.engine", "pyker.libcontainer"))]


@pytest.mark.parametrize("module", ["main", "session", "commands.ps", "commands.run", "commands.version"])
def test_a_module_of_the_client(module: str) -> None:
    loaded = modules_of(f"import pyker.client.{module}", "-I", "-S")
    assert f"pyker.client.{module}" in loaded
    assert CLIENT_BANNED & loaded == set()


def test_the_launcher_has_only_what_containers_need() -> None:
    loaded = modules_of("import pyker.libcontainer.launcher_main")
    own = {name for name in loaded if name.startswith("pyker.")}
    assert "pyker.libcontainer.init" in own
    assert {name for name in own if not name.startswith(LAUNCHER_ALLOWED)} == set()
    assert LAUNCHER_BANNED & loaded == set()
    outside = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"pyker", "__main__"}
    assert outside - set(modules_of("pass")) <= {"msgspec", "typing_extensions"}


def test_the_daemon_does_not_wait_for_what_only_some_jobs_need() -> None:
    loaded = modules_of("import pyker.daemon.main, pyker.daemon.compose")
    assert "pyker.daemon.start" in loaded
    assert DAEMON_BANNED & roots(loaded) == set()


def test_help_and_version_of_the_daemon_need_no_engine() -> None:
    done, imported = start("-m", "pyker", "daemon", "--help")
    assert done.returncode == 0
    assert "--data-root" in done.stdout
    assert "pyker.daemon.main" in imported
    assert DAEMON_BANNED & roots(imported) == set()
    assert not [name for name in imported if name.startswith(("pyker.server", "pyker.graph", "pyker.daemon.compose"))]
