"""Which iptables a machine has, and what it works through. Pyker writes nftables only; this is for telling people why.

Two programs go by the name: one translates to nf_tables, the other speaks to the kernel's older ip_tables. Rules of
either are in force side by side, and each program shows its own only. Source: xtables-nft(8), iptables(8).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyker.types.probe import Probe

Run = Callable[[Sequence[str]], str]
"""Runs a command and returns what it prints; raises OSError if that cannot be."""

NF_TABLES, LEGACY = "nf_tables", "legacy"
_IPT_SO_GET_INFO, _IPT_GETINFO_BYTES = 64, 84
_NAMES_FILE = "/proc/net/ip_tables_names"
_VERSION = re.compile(r"v(\d[\d.]*)(?: \((\w+)\))?")
_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Iptables:
    """One program. ``backend`` is ``nf_tables`` or ``legacy``."""

    path: str
    version: str
    backend: str

    def __str__(self) -> str:
        return f"{self.path} {self.version} ({self.backend})"


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except subprocess.SubprocessError as error:
        raise OSError(errno.EIO, str(error)) from error
    return done.stdout


def find(name: str = "iptables", *, run: Run = _run) -> Iptables | None:
    """The program called ``name``; None if there is none, or it does not say what it is."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        return None
    try:
        found = _VERSION.search(run([path, "--version"]))
    except OSError:
        return None
    if found is None:
        return None
    # Before 1.8 there was one kind, and it did not name itself.
    return Iptables(path, found[1], found[2] or LEGACY)


def legacy_in_kernel() -> bool:
    """Whether the kernel has ip_tables, loaded or built in. Asks for a table that cannot be, so that none is made."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as probe:
            probe.getsockopt(socket.SOL_IP, _IPT_SO_GET_INFO, _IPT_GETINFO_BYTES)
    except OSError as error:
        return error.errno not in (errno.ENOPROTOOPT, errno.EPERM)
    return True


def probe(name: str = "iptables", *, run: Run = _run, legacy: Callable[[], bool] = legacy_in_kernel) -> Probe:
    """Whether rules could be written by iptables where nftables is refused, and the reason in either case."""
    program = find(name, run=run)
    if program is None:
        return Probe(False, "no iptables program is installed")
    if program.backend == NF_TABLES:
        return Probe(False, f"{program} goes through nf_tables as well")
    if not legacy():
        return Probe(False, f"{program} needs ip_tables, which this kernel has not loaded: modprobe ip_tables")
    return Probe(True, f"{program} works with this kernel")


def legacy_tables() -> frozenset[str]:
    """The old tables that somebody uses in this network namespace. Looking makes none."""
    try:
        with open(_NAMES_FILE, encoding="ascii") as file:
            return frozenset(file.read().split())
    except OSError:
        return frozenset()


def legacy_forward_drops(*, run: Run = _run, tables: Callable[[], frozenset[str]] = legacy_tables) -> bool:
    """Whether the old filter table drops by policy what is forwarded, which no listing of nftables shows."""
    if "filter" not in tables():
        return False
    for name in ("iptables-legacy", "iptables"):
        program = find(name, run=run)
        if program is not None and program.backend == LEGACY:
            try:
                return "-P FORWARD DROP" in run([program.path, "-w", "-S", "FORWARD"]).splitlines()
            except OSError:
                return False
    return False
