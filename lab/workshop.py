"""From the table to what a guest is started from: kernel, root, storage, and the saved state of one that has booted."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lab import accelerator, cache, cpio, kernels, qemu, roots
from lab.commands import Tools
from lab.machine import Machine
from lab.table import Guest, LabError, Table

Say = Callable[[str, str], None]

STATE = "state"
_HERE = Path(__file__).parent
_GUEST_FILES = ("start", "agent.py", "progress.py")
_BOOT_TIMEOUT_S = 300


class Workshop:
    """Makes what is missing, once. ``say(name, what)`` hears what takes long."""

    def __init__(self, table: Table, store: cache.Cache, tools: Tools, say: Say) -> None:
        self._table = table
        self._store = store
        self._tools = tools
        self._say = say

    def kernel(self, name: str) -> Path:
        """The folder of a kernel. Raises LabError for one that the user has not brought."""
        kernel = self._table.kernels[name]
        sources = [cache.recipe(_HERE / name) for name in ("kernels.py", "cpio.py", "debian.py")]
        if not kernel.folder:

            def from_debian(folder: Path) -> Mapping[str, object]:
                self._say(f"kernel {name}", f"fetching and unpacking {kernel.package} of {kernel.suite}")
                return kernels.build(self._tools, kernel, folder)

            return self._store.get("kernel", name, cache.key(kernel.suite, kernel.package, *sources), from_debian)
        source = brought_kernel(kernel.folder)
        files = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in sorted(source.glob("vmlinuz-*"))]

        def from_folder(folder: Path) -> Mapping[str, object]:
            self._say(f"kernel {name}", f"preparing {source}")
            return kernels.build_from_folder(self._tools, source, folder)

        return self._store.get("kernel", name, cache.key(files, *sources), from_folder)

    def root(self, name: str) -> Path:
        """The folder of a root file system."""
        root = self._table.roots[name]

        def build(folder: Path) -> Mapping[str, object]:
            self._say(f"root {name}", f"building from packages of {root.suite}, with Python {root.python}")
            return roots.build(self._tools, root, folder)

        inputs = [root.suite, root.python, root.packages, cache.recipe(_HERE / "roots.py"), roots.LOCK]
        return self._store.get("root", name, cache.key(*inputs), build)

    def hardware(self, guest: Guest) -> qemu.Hardware:
        """What ``guest`` is made of, all of it there."""
        kernel, root = self.kernel(guest.kernel), self.root(guest.root)
        storage = self._store.get(
            "storage",
            guest.storage,
            cache.key(guest.storage, cache.recipe(_HERE / "roots.py")),
            lambda folder: roots.build_storage(self._tools, guest.storage, folder),
        )
        inside = [_HERE / "guest" / name for name in ("init", *_GUEST_FILES)]
        initrd = self._store.get(
            "initrd",
            guest.kernel,
            cache.key(kernel.name, *inside),
            lambda folder: _write_initrd(kernel / kernels.INITRD, folder),
        )
        return qemu.Hardware(
            vmlinux=kernel / kernels.VMLINUX,
            initrd=initrd / kernels.INITRD,
            root=root / roots.IMAGE,
            modules=kernel / kernels.MODULES,
            storage=storage / roots.DISK,
            memory_mib=guest.memory_mib,
            cgroup=guest.cgroup,
            accelerator=accelerator.choose(self._tools, self._store, kernel / kernels.VMLINUX),
        )

    def state(self, guest: Guest, hardware: qemu.Hardware, name: str) -> Path:
        """The saved state of a guest that has booted; the agent waits in it."""
        parts: list[object] = [str(path.parent.name) for path in (hardware.vmlinux, hardware.initrd, hardware.root)]
        manifests = [path.parent / cache.MANIFEST for path in (hardware.vmlinux, hardware.initrd, hardware.root)]
        version = self._tools.run([accelerator.PROGRAM, "--version"])
        parts += [*hardware.shape(), version, accelerator.processor(), cache.recipe(_HERE / "qemu.py"), *manifests]

        def build(folder: Path) -> Mapping[str, object]:
            self._say(name, "first boot, to save its state")
            # A wire that nobody is at: whoever takes up the saved state brings its own.
            loose = tuple(
                replace(wire, socket=folder / f"wire{n}", listens=True) for n, wire in enumerate(hardware.wires)
            )
            with Machine(self._tools, replace(hardware, wires=loose), folder / "run", folder, folder) as machine:
                ready = machine.boot(_BOOT_TIMEOUT_S)
                machine.qemu.save(folder / STATE)
            return {"kernel": ready["kernel"], "uptime": ready["uptime"]}

        return self._store.get("state", name, cache.key(*parts), build) / STATE


def _write_initrd(early: Path, folder: Path) -> Mapping[str, object]:
    """The kernel's part of the initrd, and after it what the lab runs in it."""
    archive = cpio.Archive()
    archive.file("init", (_HERE / "guest/init").read_bytes(), 0o755)
    for name in _GUEST_FILES:
        archive.file(f"lab/{name}", (_HERE / "guest" / name).read_bytes())
    (folder / kernels.INITRD).write_bytes(early.read_bytes() + archive.finish())
    return {}


def brought_kernel(folder: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Where the user's kernel is. Raises LabError that says how to bring one."""
    given = environment.get("PYKER_LAB_KERNELS", "")
    if not given:
        raise LabError(
            f"the kernel {folder!r} is in no Debian suite: set PYKER_LAB_KERNELS to a folder that has "
            f"{folder}/vmlinuz-VERSION and {folder}/lib/modules/VERSION; docs/lab.md says how to get one"
        )
    path = Path(given).absolute() / folder
    if not path.is_dir():
        raise LabError(f"PYKER_LAB_KERNELS is {given!r}, and there is no folder {folder!r} in it")
    return path


def names(guests: Sequence[Guest]) -> str:
    """For people."""
    return ", ".join(guest.name for guest in guests)
