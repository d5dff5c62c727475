"""Guests' root file systems: Debian packages and the project's Python dependencies, squashed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from lab import debian
from lab.commands import CONTAINED, Tools
from lab.table import Root, Storage
from pyker.libcontainer.syscalls import remove_tree

IMAGE = "root.squashfs"
DISK = "storage.img"
LOCK = Path(__file__).parent.parent / "requirements/dev.txt"

# What Pyker needs, what its tests start, and what somebody who looks around wants.
PACKAGES = (
    "python3", "libnftables1", "libseccomp2", "busybox-static", "tini", "procps", "ca-certificates", "kmod", "iproute2",
    "nftables", "attr", "apache2-utils", "strace", "openssl", "apparmor", "e2fsprogs", "btrfs-progs", "ipvsadm",
    "iputils-ping", "docker-registry", "skopeo", "umoci", "less",
)  # fmt: skip
# They check the tree, on the host.
NOT_IN_GUESTS = frozenset(
    {"ruff", "mypy", "mypy-extensions", "ast-serialize", "librt", "nox", "virtualenv", "grimp", "import-linter"}
)
_LEFT_OUT = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/bash-completion/*",
)
_DISK_BYTES = 8 << 30


def requirements(lock: str) -> Iterator[str]:
    """The entries of a pip lock that guests get, each with its hashes."""
    for entry in lock.replace("\\\n", " ").splitlines():
        if re.match(r"[A-Za-z0-9]", entry) and re.split(r"[=\[ ;]", entry, maxsplit=1)[0].lower() not in NOT_IN_GUESTS:
            yield " ".join(entry.split())


def build(tools: Tools, root: Root, folder: Path) -> Mapping[str, object]:
    """Fill ``folder`` with the squashed root; the versions of what is in it."""
    tree = folder / "tree"
    mirror = debian.mirror(tools)
    settings = debian.carried(tools.run(["apt-config", "dump", "Acquire"]))
    settings += [
        'Acquire::Languages "none";',
        'Acquire::Check-Valid-Until "false";',
        'APT::Install-Recommends "false";',
    ]
    argv = [*CONTAINED, "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"]
    argv += [f"--aptopt={setting}" for setting in settings]
    argv += ["--dpkgopt=force-unsafe-io", *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT)]
    argv += [f"--include={','.join((*PACKAGES, *root.packages))}", root.suite, str(tree)]
    argv += [debian.source_line(mirror, root.suite)]
    tools.run(argv, log=folder / "mmdebstrap.log", environment={"TMPDIR": str(folder)})
    packages = tree / f"usr/local/lib/python{root.python}/dist-packages"
    wanted = folder / "requirements.txt"
    wanted.write_text("\n".join(requirements(LOCK.read_text())) + "\n")
    # pip has the machine's own settings, so it finds packages where the machine finds them.
    argv = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-compile",
    ]
    argv += ["--require-hashes", "--only-binary=:all:", f"--python-version={root.python}", f"--target={packages}"]
    tools.run([*argv, "--requirement", str(wanted)], log=folder / "pip.log")
    inside = [*CONTAINED, "chroot", str(tree)]
    argv = [*inside, "python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    tools.run([*argv, f"/{packages.relative_to(tree)}"], environment={"PYTHONDONTWRITEBYTECODE": ""})
    installed = tools.run([*inside, "dpkg-query", "-W", "-f", "${Package} ${Version}\n"])
    argv = ["mksquashfs", str(tree), str(folder / IMAGE), "-quiet", "-no-progress", "-noappend", "-comp", "lz4"]
    tools.run([*argv, "-e", "var/lib/apt/lists", "var/cache/apt"])
    remove_tree(os.fspath(tree))
    return {"packages": dict(line.split() for line in installed.splitlines())}


def build_storage(tools: Tools, storage: Storage, folder: Path) -> Mapping[str, object]:
    """An empty file system that every start of a guest gets a copy-on-write view of."""
    disk = folder / DISK
    disk.touch()
    os.truncate(disk, _DISK_BYTES)
    match storage:
        case "ext4":
            # No journal: a power cut takes the whole disk anyway.
            argv = ["mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=0", "-N", "262144"]
        case "btrfs":
            argv = ["mkfs.btrfs", "-q"]
        case "xfs":
            argv = ["mkfs.xfs", "-q"]
    tools.run([*argv, str(disk)])
    return {"bytes": _DISK_BYTES}
