"""A driver, a root file system made of busybox, and the means to watch what runs in it, for tests of containers."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyker.execdriver.base import Attachment, ContainerProcess, StreamFlags
from pyker.execdriver.native import NativeDriver
from pyker.libcontainer import capabilities
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import open_cgroup
from pyker.libcontainer.launcher import Launcher
from pyker.libcontainer.spec import (
    Capabilities,
    ContainerSpec,
    DeviceNode,
    DeviceRule,
    ExitRecord,
    LogSpec,
    ProcessSpec,
    Resources,
)
from pyker.types.mount import Mount
from tests.support.namespaces import isolated

APPLETS = "sh true false cat echo sleep ls id ps env stty pwd touch tty grep mount head yes test kill stat dd printf wc"
QUIET = ("nosuid", "noexec", "nodev")
MOUNTS = (
    Mount(target="/proc", fstype="proc", source="proc", options=QUIET),
    Mount(target="/dev", fstype="tmpfs", source="tmpfs", options=("nosuid", "strictatime", "mode=755", "size=65536k")),
    Mount(
        target="/dev/pts",
        fstype="devpts",
        source="devpts",
        options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    Mount(target="/sys", fstype="sysfs", source="sysfs", options=(*QUIET, "ro")),
    Mount(target="/sys/fs/cgroup", fstype="cgroup", source="cgroup", options=(*QUIET, "ro")),
    Mount(target="/dev/shm", fstype="tmpfs", source="shm", options=(*QUIET, "mode=1777", "size=65536k")),
)
NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
DEVICES = tuple(DeviceNode(path=f"/dev/{name}", kind="c", major=a, minor=b) for name, a, b in NODES)
RULES = (
    DeviceRule(allow=False),
    *(DeviceRule(allow=True, kind="c", major=a, minor=b, access="rwm") for _, a, b in NODES),
    DeviceRule(allow=True, kind="c", major=5, minor=2, access="rwm"),
    DeviceRule(allow=True, kind="c", major=136, access="rwm"),
    DeviceRule(allow=True, kind="c", access="m"),
)
NAMESPACES = ("mnt", "uts", "ipc", "pid", "net")
DEFAULT_CAPS = Capabilities(
    bounding=capabilities.DEFAULT, effective=capabilities.DEFAULT, permitted=capabilities.DEFAULT
)
ROOTLESS_PATH = "PATH=/bin"
WAIT_S = 60.0


@dataclass
class Recorder:
    """A Watcher that keeps what it is told."""

    record: ExitRecord | None = None
    ooms: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def on_exit(self, record: ExitRecord) -> None:
        self.record = record
        self.ended.set()

    def on_oom(self) -> None:
        self.ooms += 1

    def wait(self) -> ExitRecord:
        assert self.ended.wait(WAIT_S), "the process did not end in time"
        assert self.record is not None
        return self.record


@dataclass
class Ran:
    """What a container that has ended left behind."""

    record: ExitRecord
    stdout: bytes
    stderr: bytes

    @property
    def lines(self) -> list[str]:
        return self.stdout.decode().splitlines()


def demultiplex(raw: bytes) -> tuple[bytes, bytes]:
    """The two streams of stdcopy frames."""
    streams = {1: b"", 2: b""}
    while raw:
        length = int.from_bytes(raw[4:8], "big")
        streams[raw[0]] += raw[8 : 8 + length]
        assert len(raw) >= 8 + length, "a frame was cut"
        raw = raw[8 + length :]
    return streams[1], streams[2]


def read_all(client: socket.socket) -> bytes:
    """Until the other end closes."""
    client.settimeout(WAIT_S)
    pieces = []
    while piece := client.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Wait for something that nothing announces."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout_s} s"
        time.sleep(0.005)


class Bench:
    """One driver on a folder of its own. Whatever it started is gone when it is closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parent = f"/pykertest-{os.getpid()}"
        self.lower = folder / "lower"
        self.exec_root = folder / "exec"
        self.exec_root.mkdir()
        self._make_lower()
        self._count = 0
        self._mounts = host_mounts()
        self.launcher = Launcher.spawn(str(self.exec_root))
        self.driver = NativeDriver(self.launcher, str(self.exec_root))
        self.started: list[ContainerProcess] = []

    def _make_lower(self) -> None:
        for name in ("bin", "proc", "dev", "sys", "etc", "tmp", "root"):
            (self.lower / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", self.lower / "bin/busybox")
        for name in APPLETS.split():
            (self.lower / "bin" / name).symlink_to("busybox")
        (self.lower / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1001::/home/bob:/bin/sh\n")
        (self.lower / "etc/group").write_text("root:x:0:\nbob:x:1001:\nstaff:x:50:bob\n")

    def spec(self, *args: str, process: dict[str, Any] | None = None, **changes: Any) -> ContainerSpec:
        """A container that runs ``args`` with a default container's isolation."""
        self._count += 1
        container_id = f"{os.getpid():x}{self._count:x}".rjust(64, "0")
        folder = self.folder / f"c{self._count}"
        for name in ("state", "upper", "work"):
            (folder / name).mkdir(parents=True)
        options = {"args": args, "env": (ROOTLESS_PATH,), "capabilities": DEFAULT_CAPS} | (process or {})
        overlay = (f"lowerdir={self.lower}", f"upperdir={folder}/upper", f"workdir={folder}/work")
        values: dict[str, Any] = {
            "id": container_id,
            "state_dir": str(folder / "state"),
            "rootfs": Mount(target="/", fstype="overlay", source="overlay", options=overlay),
            "mounts": MOUNTS,
            "process": ProcessSpec(**options),
            "namespaces": dict.fromkeys(NAMESPACES, ""),
            "hostname": "bench",
            "devices": DEVICES,
            "cgroup_path": f"{self.parent}/{container_id}",
            "resources": Resources(devices=RULES),
            "log": LogSpec(path=str(folder / "log")),
        }
        return ContainerSpec(**(values | changes))

    def start(
        self, spec: ContainerSpec, *clients: socket.socket, stdin: bool = False
    ) -> tuple[ContainerProcess, Recorder]:
        """Start a container with ``clients`` attached; their sockets are given away."""
        watcher = Recorder()
        attachments = tuple(Attachment(client.detach(), StreamFlags(stdin=stdin)) for client in clients)
        process = self.driver.run(spec, watcher, attachments)
        self.started.append(process)
        return process, watcher

    def run(self, *args: str, stdin: bytes | None = None, **changes: Any) -> Ran:
        """Run a container to its end."""
        return self.run_spec(self.spec(*args, **changes), stdin=stdin)

    def run_spec(self, spec: ContainerSpec, *, stdin: bytes | None = None) -> Ran:
        ours, theirs = socket.socketpair()
        with ours:
            _, watcher = self.start(spec, theirs, stdin=stdin is not None)
            if stdin is not None:
                ours.sendall(stdin)
                ours.shutdown(socket.SHUT_WR)
            raw = read_all(ours)
            if spec.process.tty:
                return Ran(watcher.wait(), raw, b"")
            return Ran(watcher.wait(), *demultiplex(raw))

    def exec(self, container: ContainerProcess, *args: str, stdin: bytes | None = None, **changes: Any) -> Ran:
        """Run one more process in a container, to its end."""
        options = {"args": args, "env": (ROOTLESS_PATH,), "capabilities": DEFAULT_CAPS} | changes
        process = ProcessSpec(**options)
        watcher = Recorder()
        ours, theirs = socket.socketpair()
        with ours:
            attachment = Attachment(theirs.detach(), StreamFlags(stdin=stdin is not None))
            self.driver.exec(container.container_id, process, watcher, (attachment,))  # type: ignore[attr-defined]
            if stdin is not None:
                ours.sendall(stdin)
                ours.shutdown(socket.SHUT_WR)
            raw = read_all(ours)
            if process.tty:
                return Ran(watcher.wait(), raw, b"")
            return Ran(watcher.wait(), *demultiplex(raw))

    def log_of(self, spec: ContainerSpec) -> str:
        return Path(spec.log.path).read_text()

    def restart_driver(self) -> None:
        """What a daemon that was killed and started again has: a new launcher and a driver that knows nothing."""
        self.driver.close()
        self.launcher = Launcher.spawn(str(self.exec_root))
        self.driver = NativeDriver(self.launcher, str(self.exec_root))

    def monitor_of(self, process: ContainerProcess) -> int:
        """The pid of the monitor: the parent of the container's init."""
        return parent_of(process.pid)

    def cgroup_exists(self, spec: ContainerSpec) -> bool:
        return any(os.path.isdir(path) for path in open_cgroup(spec.cgroup_path).paths().values())

    def renew(self) -> None:
        """As it was at first, for the next test, with a launcher that is warm. What a test left fails."""
        self._end_all()
        for folder in self.folder.iterdir():
            if folder != self.exec_root:
                sc.remove_tree(str(folder))
        self._make_lower()
        assert host_mounts() == self._mounts
        eventually(lambda: self._cgroups() == [], "the end of the containers' cgroups")

    def _cgroups(self) -> list[str]:
        """The containers' cgroups that are there, in any hierarchy."""
        tops = {os.path.dirname(path) for path in open_cgroup(f"{self.parent}/x").paths().values()}
        return [entry.path for top in tops if os.path.isdir(top) for entry in os.scandir(top) if entry.is_dir()]

    def _end_all(self) -> None:
        for process in self.started:
            with contextlib.suppress(Exception):
                process.signal(9)
        for folder in self.folder.glob("c*/state"):
            eventually(lambda folder=folder: not (folder / "state.json").exists(), "the end of a container")  # type: ignore[misc]
        self.started.clear()

    def close(self) -> None:
        self._end_all()
        self.driver.close()
        open_cgroup(f"{self.parent}/x").remove_parent()
        sc.remove_tree(str(self.folder))


def parent_of(pid: int) -> int:
    """Source: proc_pid_stat(5) ppid."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def alive(pid: int) -> bool:
    """Whether ``pid`` runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def host_mounts() -> set[str]:
    """Mount points of this mount namespace."""
    return {line.split()[4] for line in Path("/proc/thread-self/mountinfo").read_text().splitlines()}


def namespace_of(pid: int | str, kind: str) -> str:
    """As ``net:[4026531840]``."""
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def children_of(pid: int) -> list[int]:
    """Source: proc_pid_task(5) children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def run_command(*argv: str) -> str:
    """A command of the host, to its end."""
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@contextlib.contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """A bench in a mount and a network namespace of its own."""
    with isolated():
        root = folder / "bench"
        root.mkdir()
        made = Bench(root)
        try:
            yield made
        finally:
            made.close()
