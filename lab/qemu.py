"""QEMU as a process: its command line, its monitor, its end."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.accelerator import KVM, PROGRAM
from lab.commands import DIES_WITH_US, Tools
from lab.table import LabError

# The names that 9p shares have in the guest, where each is mounted on a folder of that name.
SOURCE, RESULTS = "worktree", "out"

# Saving and restoring what xsave covers costs a fifth of all time, and what needs it must go too. "Fast" string
# instructions are one step a byte: without them kernel and libc copy in words, twice as fast. Tables of pages have a
# level less.
_SLOW_WHEN_EMULATED = "-xsave,-avx,-avx2,-erms,-fsrm,-la57"
# A program that is at the same addresses each time is translated once, not at each start: two to four times as quick.
_QUICK_TO_EMULATE = "norandmaps init_on_alloc=0"


@dataclass(frozen=True, slots=True)
class Wire:
    """A network card on a virtual L2 that two guests share: one listens on ``socket``, the other connects."""

    socket: Path
    listens: bool
    mac: str


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a virtual machine is made of. Paths of files that it only reads, and of a disk it sees a private view of."""

    vmlinux: Path
    initrd: Path
    root: Path
    modules: Path
    storage: Path
    memory_mib: int
    cgroup: str
    accelerator: str
    wires: tuple[Wire, ...] = field(default=())

    def shape(self) -> list[object]:
        """What a saved state depends on beside the content of the files: all that the guest sees of its hardware."""
        return [self.memory_mib, self.cgroup, self.accelerator, len(self.wires), [wire.mac for wire in self.wires]]


def command(hardware: Hardware, folder: Path, source: Path, results: Path, incoming: Path | None = None) -> list[str]:
    """The command line. Sockets, console and log are in ``folder``, and named relative to it.

    Source: qemu(1); kernel x86/boot.rst for PVH, which is how an ELF kernel starts.
    """
    processor, append = "max", f"console=ttyS0 quiet panic=-1 mitigations=off lab.cgroup={hardware.cgroup}"
    if hardware.accelerator != KVM:
        processor, append = f"max,{_SLOW_WHEN_EMULATED}", f"{append} {_QUICK_TO_EMULATE}"
    argv = [PROGRAM, "-machine", "q35", "-accel", hardware.accelerator, "-cpu", processor, "-smp", "1"]
    argv += ["-m", str(hardware.memory_mib), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    argv += ["-kernel", str(hardware.vmlinux), "-initrd", str(hardware.initrd), "-append", append]
    argv += ["-chardev", "file,id=console,path=console.log", "-serial", "chardev:console"]
    argv += ["-qmp", "unix:qmp,server=on,wait=off"]
    argv += ["-device", "virtio-serial-pci"]
    argv += ["-chardev", "socket,id=agent,path=agent,server=on,wait=off"]
    argv += ["-device", "virtserialport,chardev=agent,name=lab.agent"]
    argv += ["-chardev", "socket,id=shell,path=shell,server=on,wait=off", "-device", "virtconsole,chardev=shell"]
    for name, path, options in (
        ("root", hardware.root, "readonly=on"),
        ("modules", hardware.modules, "readonly=on"),
        ("storage", hardware.storage, "snapshot=on,cache=unsafe"),
    ):
        argv += ["-drive", f"if=none,id={name},file={_escaped(path)},format=raw,{options}"]
        argv += ["-device", f"virtio-blk-pci,drive={name},serial={name}"]
    for tag, path, access in ((SOURCE, source, "on"), (RESULTS, results, "off")):
        argv += ["-fsdev", f"local,id={tag},path={_escaped(path)},security_model=none,readonly={access}"]
        argv += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    argv += ["-device", "virtio-rng-pci"]
    for number, wire in enumerate(hardware.wires):
        listens = "on" if wire.listens else "off"
        argv += ["-netdev", f"stream,id=net{number},server={listens},addr.type=unix,addr.path={_escaped(wire.socket)}"]
        argv += ["-device", f"virtio-net-pci,netdev=net{number},mac={wire.mac},romfile="]
    if incoming is not None:
        argv += ["-incoming", f"exec:exec cat '{incoming}'"]
    return argv


def _escaped(path: Path) -> str:
    """A path as a value of a QEMU option: a comma would end it."""
    return str(path).replace(",", ",,")


class Qemu:
    """A running QEMU. It ends with the thread that started it, with ``close``, or when the tools are stopped."""

    def __init__(self, tools: Tools, argv: Sequence[str], folder: Path) -> None:
        self._tools = tools
        self._folder = folder
        self._monitor: socket.socket | None = None
        self._buffer = b""
        with open(folder / "qemu.log", "wb") as log:
            self._process = tools.start(
                [*DIES_WITH_US, *argv],
                cwd=folder,
                stdin=-3,
                stdout=log,
                stderr=log,
                # The private view of the storage is a file without a name there.
                env={**os.environ, "TMPDIR": str(folder)},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def said(self) -> str:
        """What QEMU itself wrote."""
        return (self._folder / "qemu.log").read_text(errors="replace").strip()

    def console(self) -> str:
        """What the guest's kernel wrote so far."""
        path = self._folder / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def execute(self, name: str, **arguments: object) -> Any:
        """One monitor command. Source: QEMU Machine Protocol."""
        monitor = self._monitor or self._connect()
        request: dict[str, object] = {"execute": name}
        if arguments:
            request["arguments"] = arguments
        try:
            monitor.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise LabError(f"qemu ended: {self.said() or error}") from error
        while True:
            answer = self._line(monitor)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise LabError(f"qemu refuses {name!r}: {answer['error']['desc']}")

    def wait_running(self, timeout_s: float) -> None:
        """Go on from a saved state as soon as it is loaded."""
        deadline = time.monotonic() + timeout_s
        while (status := self.execute("query-status")["status"]) == "inmigrate":
            if time.monotonic() > deadline:
                raise LabError(f"the saved state was not loaded within {timeout_s:g} s")
            time.sleep(0.005)
        if status != "running":
            self.execute("cont")

    def save(self, path: Path, timeout_s: float = 60) -> None:
        """Stop, and write the whole state to ``path``."""
        self.execute("migrate-set-parameters", **{"max-bandwidth": 10 << 30})
        self.execute("stop")
        self.execute("migrate", uri=f"exec:exec cat > '{path}'")
        deadline = time.monotonic() + timeout_s
        while (found := self.execute("query-migrate")).get("status") not in ("completed", "failed"):
            if time.monotonic() > deadline:
                raise LabError(f"the state was not saved within {timeout_s:g} s")
            time.sleep(0.02)
        if found["status"] == "failed":
            raise LabError(f"qemu could not save the state: {found.get('error-desc', 'it says no more')}")

    def close(self) -> None:
        """End it, whatever it does."""
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._tools.ended(self._process)

    def _connect(self, timeout_s: float = 30) -> socket.socket:
        deadline = time.monotonic() + timeout_s
        monitor = socket.socket(socket.AF_UNIX)
        monitor.settimeout(timeout_s)
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            while True:
                try:
                    monitor.connect(f"/proc/self/fd/{folder}/qmp")
                    break
                except OSError as error:
                    if not self.alive() or time.monotonic() > deadline:
                        monitor.close()
                        raise LabError(f"qemu did not start: {self.said() or error}") from error
                    time.sleep(0.01)
        finally:
            os.close(folder)
        self._monitor = monitor
        self._line(monitor)
        self.execute("qmp_capabilities")
        return monitor

    def _line(self, monitor: socket.socket) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            try:
                data = monitor.recv(1 << 16)
            except TimeoutError as error:
                raise LabError("qemu's monitor does not answer") from error
            except OSError as error:
                raise LabError(f"qemu ended: {self.said() or error}") from error
            if not data:
                raise LabError(f"qemu ended: {self.said()}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found
