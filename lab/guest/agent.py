"""The lab's hand in a guest: reads requests, a JSON object a line, from a virtio port, and answers on it.

pytest and what tests import are loaded before the guest's state is saved, and every run of tests is a fork of that:
under emulation the imports alone take long. Nothing of Pyker is loaded here; that comes from the tree under test.

Requests have ``id`` and ``op``; the answer has the same id and ``done``. Between the two may come events.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import importlib
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time
import tomllib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

PORT = "lab.agent"
WARM = (
    "pytest", "_pytest.junitxml", "_pytest.pytester", "_pytest.fixtures", "msgspec", "httptools",
    "requests", "isal.igzip_threaded", "isal.isal_zlib", "backports.zstd", "fastcrc", "ctypes", "sqlite3",
    "http.client", "subprocess", "concurrent.futures.thread", "tarfile", "ssl", "ipaddress", "hashlib",
    "xml.etree.ElementTree", "pyroute2", "unittest.mock", "logging.handlers", "resource",
)  # fmt: skip
PACKAGES = Path(f"/usr/local/lib/python{sys.version_info[0]}.{sys.version_info[1]}/dist-packages")
RNDRESEEDCRNG = 0x5207
MOUNT_9P = "trans=virtio,version=9p2000.L,msize=512000"


def find_port(name: str) -> str:
    """The device of the virtio port called ``name``."""
    for port in Path("/sys/class/virtio-ports").iterdir():
        if (port / "name").exists() and (port / "name").read_text().strip() == name:
            return f"/dev/{port.name}"
    raise FileNotFoundError(name)


class Agent:
    """One request after the other."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = b""
        self._operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "begin": self.begin,
            "end": self.end,
            "run": self.run,
            "pytest": self.pytest,
            "shell": self.shell,
        }

    def send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._fd, data) :]

    def receive(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            data = os.read(self._fd, 1 << 16)
            if not data:
                # Nobody holds the other end; there is no event for its return.
                self._buffer = b""
                time.sleep(0.02)
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def serve(self) -> None:
        while True:
            message: dict[str, Any] = {}
            try:
                message = self.receive()
                answer = self._operations[message["op"]](message)
                self.send({"id": message["id"], "done": True, **answer})
            except Exception:  # noqa: BLE001 - whatever went wrong is the caller's to read
                self.send({"id": message.get("id"), "done": True, "error": traceback.format_exc()})

    def begin(self, message: dict[str, Any]) -> dict[str, Any]:
        """After boot or restore: the time, fresh randomness, the shares and the storage."""
        time.clock_settime(time.CLOCK_REALTIME, message["time"])
        with open("/dev/urandom", "wb") as random:
            random.write(base64.b64decode(message["entropy"]))
            fcntl.ioctl(random, RNDRESEEDCRNG)
        for tag, options in message["shares"].items():
            self._mount("9p", tag, f"/{tag}", f"{MOUNT_9P},{options}")
        self._mount(message["storage"], "/dev/vdc", "/storage", "noatime")
        os.makedirs("/storage/tmp", exist_ok=True)
        os.chmod("/storage/tmp", 0o1777)
        self._unpack(Path("/out/source.tar"), Path("/src"))
        os.environ.update(message["environment"])
        return {"kernel": os.uname().release, "python": sys.version.split()[0]}

    def end(self, message: dict[str, Any]) -> dict[str, Any]:
        """Give back what is only in this guest: bytecode, which the next one need not make again."""
        find = "find . -path '*/__pycache__/*.pyc' -newer /run/lab/begun -print0"
        subprocess.run(
            ["sh", "-c", f"{find} | tar --null --files-from=- --create --file=/out/bytecode.tar"],
            cwd="/src",
            check=True,
        )
        os.sync()
        return {}

    def run(self, message: dict[str, Any]) -> dict[str, Any]:
        """A command to its end, with its input; all that it started in its session ends with it at the time limit."""
        started = time.monotonic()
        environment = {**os.environ, **message.get("environment", {})}
        process = subprocess.Popen(
            message["argv"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=message.get("cwd", "/"),
            env=environment,
            start_new_session=True,
        )
        ended = True
        try:
            given = base64.b64decode(message.get("stdin", ""))
            out, err = process.communicate(given, timeout=message["limit_s"])
        except subprocess.TimeoutExpired:
            ended = False
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
        return {
            "code": process.returncode,
            "ended": ended,
            "stdout": base64.b64encode(out).decode(),
            "stderr": base64.b64encode(err).decode(),
            "seconds": round(time.monotonic() - started, 3),
        }

    def pytest(self, message: dict[str, Any]) -> dict[str, Any]:
        """A fork of this process runs pytest. Events tell how far it is; the answer has exit code and output."""
        started = time.monotonic()
        ours, theirs = os.pipe()
        log = os.open("/storage/pytest.log", os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o644)
        pid = os.fork()
        if pid == 0:
            os.close(self._fd)
            os.close(ours)
            run_pytest(message, theirs, log)
        os.close(theirs)
        with open(ours, "rb") as events:
            for line in events:
                self.send({"id": message["id"], "event": json.loads(line)})
        _, status = os.waitpid(pid, 0)
        size = os.lseek(log, 0, os.SEEK_END)
        tail = os.pread(log, 1 << 18, max(0, size - (1 << 18)))
        os.close(log)
        return {
            "code": os.waitstatus_to_exitcode(status),
            "output": tail.decode(errors="replace"),
            "seconds": round(time.monotonic() - started, 3),
        }

    def shell(self, message: dict[str, Any]) -> dict[str, Any]:
        """A shell on the console, until it exits."""
        console = os.open("/dev/hvc0", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(console, termios.TIOCSWINSZ, struct.pack("HHHH", message["rows"], message["columns"], 0, 0))
        lines = termios.tcgetattr(console)
        lines[3] = lines[3] | termios.ECHO if message["echo"] else lines[3] & ~termios.ECHO
        termios.tcsetattr(console, termios.TCSANOW, lines)
        environment = {**os.environ, "TERM": message["term"]}
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *message["argv"]],
            stdin=console,
            stdout=console,
            stderr=console,
            cwd="/src",
            env=environment,
        )
        code = process.wait()
        with contextlib.suppress(termios.error):
            termios.tcdrain(console)
        os.close(console)
        return {"code": code}

    @staticmethod
    def _unpack(archive: Path, where: Path) -> None:
        """The tree under test, on the storage: a share answers too slowly to import from."""
        if not archive.exists() or os.path.ismount(where):
            return
        os.makedirs("/storage/src", exist_ok=True)
        subprocess.run(["mount", "--bind", "/storage/src", str(where)], check=True, capture_output=True)
        subprocess.run(
            ["tar", "--extract", f"--file={archive}", f"--directory={where}"], check=True, capture_output=True
        )
        Path("/run/lab/begun").touch()
        install(where, PACKAGES)

    @staticmethod
    def _mount(kind: str, what: str, where: str, options: str) -> None:
        if not os.path.ismount(where):
            os.makedirs(where, exist_ok=True)
            subprocess.run(["mount", "-t", kind, "-o", options, what, where], check=True, capture_output=True)


def install(source: Path, packages: Path) -> None:
    """Make the tree under test importable as an installed package, with its entry points."""
    if not (source / "pyproject.toml").exists():
        return
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    name = f"{project['name']}-{project['version']}.dist-info"
    (packages / name).mkdir(parents=True, exist_ok=True)
    (packages / name / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = project.get("entry-points", {})
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups.items()]
    (packages / name / "entry_points.txt").write_text("\n".join(lines))
    (packages / f"__editable__.{name.removesuffix('.dist-info')}.pth").write_text(f"{source}\n")


def run_pytest(message: dict[str, Any], events: int, log: int) -> None:
    """The forked side of ``Agent.pytest``; does not return."""
    code = 99
    try:
        os.setsid()
        os.set_inheritable(events, False)
        for fd, onto in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
            os.dup2(fd, onto)
        os.chdir(message["cwd"])
        os.environ.update(message.get("environment", {}))
        sys.path.insert(0, message["cwd"])
        sys.stdout = open(1, "w", buffering=1, closefd=False)
        sys.stderr = open(2, "w", buffering=1, closefd=False)
        import pytest

        progress = importlib.import_module("progress").Progress(events)
        code = int(pytest.main(message["arguments"], plugins=[progress]))
    except BaseException:  # noqa: BLE001 - the fork must not go on as a second agent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def warm() -> None:
    """Load what every run loads, and run one test, so that a snapshot has it all in memory."""
    for name in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    folder = Path("/tmp/warm")
    folder.mkdir()
    (folder / "test_warm.py").write_text("def test_warm(tmp_path):\n    assert tmp_path\n")
    log = os.open("/dev/null", os.O_RDWR)
    pid = os.fork()
    if pid == 0:
        run_pytest(
            {"cwd": str(folder), "arguments": ["-p", "no:cacheprovider", "-q"]}, os.open("/dev/null", os.O_WRONLY), log
        )
    os.waitpid(pid, 0)
    os.close(log)
    # The interpreter and the tools that tests start most often.
    for argv in (["python3", "-c", "import json, socket"], ["ip", "link"], ["nsenter", "--version"], ["mount"]):
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=False)


def main() -> None:
    sys.path.insert(0, "/run/lab")
    fd = os.open(find_port(PORT), os.O_RDWR | os.O_CLOEXEC)
    warm()
    agent = Agent(fd)
    uptime = Path("/proc/uptime").read_text().split()[0]
    agent.send({"ready": True, "uptime": float(uptime), "kernel": os.uname().release})
    agent.serve()


if __name__ == "__main__":
    main()
