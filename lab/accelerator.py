"""KVM or emulation, decided by a trial: a /dev/kvm that exists may still be one that can't start this kernel."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lab import cache
from lab.commands import DIES_WITH_US, Tools
from lab.table import LabError

PROGRAM = "qemu-system-x86_64"
KVM = "kvm"
TCG = "tcg,thread=multi,tb-size=256"
_TRIAL_S = 10


def processor() -> str:
    """What this machine's processor is: a state that was saved on another one may use what this one lacks."""
    wanted = ("model name", "flags")
    lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    return "\n".join(line for line in lines if line.startswith(wanted))


def choose(tools: Tools, store: cache.Cache, vmlinux: Path, environment: Mapping[str, str] = os.environ) -> str:
    """The value of QEMU's -accel. ``PYKER_LAB_ACCEL`` decides; "auto" asks for a trial, whose end is kept."""
    match environment.get("PYKER_LAB_ACCEL", "auto"):
        case "kvm":
            return KVM
        case "tcg":
            return TCG
        case "auto":
            if not os.access("/dev/kvm", os.R_OK | os.W_OK):
                return TCG
        case other:
            raise LabError(f"PYKER_LAB_ACCEL is {other!r}; it may be auto, kvm or tcg")

    def trial(folder: Path) -> Mapping[str, object]:
        return {"kvm": starts(tools, vmlinux)}

    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
    entry = store.get("accelerator", "kvm", cache.key(processor(), boot_id, cache.recipe(Path(__file__))), trial)
    return KVM if '"kvm": true' in (entry / cache.MANIFEST).read_text() else TCG


def starts(tools: Tools, vmlinux: Path) -> bool:
    """Whether the kernel says its first words under KVM within ten seconds."""
    with tempfile.TemporaryDirectory(prefix="pyker-lab-") as folder:
        console = Path(folder) / "console"
        argv = [
            *DIES_WITH_US,
            "timeout",
            str(_TRIAL_S),
            PROGRAM,
            "-machine",
            "q35",
            "-accel",
            KVM,
            "-cpu",
            "max",
        ]
        argv += ["-m", "256", "-nodefaults", "-display", "none", "-no-reboot", "-kernel", str(vmlinux)]
        # Without an initrd it panics at the end, which -no-reboot turns into an end of QEMU.
        argv += ["-append", "console=ttyS0 panic=-1", "-serial", f"file:{console}"]
        try:
            tools.run(argv, timeout_s=_TRIAL_S + 20)
        except LabError:
            return False
        return console.exists() and "Linux version" in console.read_text(errors="replace")
