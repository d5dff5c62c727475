"""What a test may not leave behind, seen from outside the engine."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support import capabilities
from tests.support.engines import Reply
from tests.support.sandbox import Sandbox, children

NAMESPACES = ("mnt", "uts", "ipc", "pid", "net", "user", "cgroup")
VOLUME_RECORDS = frozenset({"metadata.db", "backingFsBlockDev"})
CLONE_NEWNET, NETLINK_NETFILTER = 0x40000000, 12


@dataclass(frozen=True)
class Residue:
    """A snapshot of one mount and network namespace, and of the machine's cgroups below one parent."""

    mounts: frozenset[str]
    links: frozenset[str]
    nft: str
    cgroups: frozenset[str]

    def leaks(self, before: Residue) -> list[str]:
        """What is here now and was not before."""
        found = [f"mount {name}" for name in sorted(self.mounts - before.mounts)]
        found += [f"link {name}" for name in sorted(self.links - before.links)]
        found += [f"cgroup {name}" for name in sorted(self.cgroups - before.cgroups)]
        if self.nft != before.nft:
            found.append(f"nft ruleset:\n{self.nft}\ninstead of\n{before.nft}")
        return found


def _mounts(pid: str) -> frozenset[str]:
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return frozenset(line.split()[4] for line in lines)


def cgroups(parent: str) -> frozenset[str]:
    """Every cgroup folder below ``parent`` in every hierarchy of this machine."""
    found = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup" not in line:
            continue
        top = Path(line.split()[4]) / parent.strip("/")
        for folder, _, _ in os.walk(top):
            found.add(folder)
    return frozenset(found)


def look(sandbox: Sandbox | None = None, *, cgroup_parent: str = "/pyker") -> Residue:
    """Take a snapshot: of ``sandbox``, or of this process's own namespaces."""
    if sandbox is None:
        links = frozenset(os.listdir("/sys/class/net"))
        return Residue(_mounts("self"), links, "", cgroups(cgroup_parent))
    listed = sandbox.run(["ip", "-o", "link"]).stdout.decode()
    links = frozenset(line.split()[1].split("@")[0].rstrip(":") for line in listed.splitlines())
    nft = sandbox.run(["nft", "-s", "list", "ruleset"], check=False).stdout.decode()
    return Residue(_mounts(str(sandbox.pid)), links, nft, cgroups(cgroup_parent))


# Hex digits may be a word, so an ID is told by a decimal digit; what follows veth is one in any case.
_HEX = re.compile(r"(?<=link veth)p?[0-9a-f]{7,9}|(?=[0-9a-f]*\d)[0-9a-f]{7,64}")
_LAYERS = {"vfs": "vfs/dir", "btrfs": "btrfs/subvolumes", "aufs": "aufs/diff"}
_NFNL_NFTABLES_GETGEN = 10 << 8 | 16


def _kind(name: str) -> str:
    """``name`` without the digits that make it one of many: engines keep some of a kind ready, never the same."""
    return _HEX.sub("#", name)


class Watched(Protocol):
    """What is needed of an engine."""

    sandbox: Sandbox
    data_root: Path
    cgroup_parent: str
    keeps: Collection[str]

    def request(self, method: str, path: str) -> Reply: ...


class Watch:
    """What one engine and its sandbox hold, looked at after each test: /proc, the cgroups, folders of the data root.

    A look takes a few milliseconds. The firewall is listed only when the kernel's count of its changes has moved.
    """

    def __init__(self, engine: Watched, *, quiet_s: float = 1.5) -> None:
        self._engine = engine
        self._sandbox = engine.sandbox
        self._rules: list[str] = []
        self._generation = -1
        # Nobody can tidy up what an engine cannot remove.
        removes = engine.request("DELETE", "/volumes/no-such").status != 501
        self._kept = ("containers", "volumes") if removes else ("containers",)
        self._netfilter = _socket_inside(self._sandbox.pid)
        self._usual: Counter[str] = Counter()
        self._known: set[str] = set()
        # What an engine keeps ready for the next container may be just on its way.
        deadline = time.monotonic() + quiet_s
        while not self._known or time.monotonic() < deadline:
            self._accept(self._look())
            time.sleep(0.02)

    def _accept(self, names: list[str]) -> None:
        self._usual |= Counter(map(_kind, names))
        self._known = set(names)

    def leaks(self) -> list[str]:
        """What is here now and was not when all was quiet, each with its kind; empty if nothing is."""
        now = self._look()
        extra = Counter(map(_kind, now)) - self._usual
        found = []
        for name in sorted(now, key=lambda each: each in self._known):
            if extra[_kind(name)] > 0:
                extra[_kind(name)] -= 1
                found.append(name)
        return sorted(found)

    def settle(self, *, timeout_s: float = 10) -> list[str]:
        """Wait until nothing is left over, at most so long; what is, is not held against the next test."""
        deadline = time.monotonic() + timeout_s
        while leaks := self.leaks():
            if time.monotonic() > deadline:
                self._accept(self._look())
                return leaks
            time.sleep(0.02)
        return []

    def close(self) -> None:
        """Close what was opened in the sandbox."""
        if self._netfilter is not None:
            self._netfilter.close()

    def _look(self) -> list[str]:
        pid = self._sandbox.pid
        found = [f"mount {line.split()[4]}" for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
        found += [
            f"link {line.partition(':')[0].strip()}"
            for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
        ]
        found += [f"cgroup {path}" for path in cgroups(self._engine.cgroup_parent)]
        found += self._processes()
        found += self._files()
        found += self._firewall()
        return [name for name in found if name not in self._engine.keeps]

    def _processes(self) -> Iterator[str]:
        """The processes of the sandbox with their children, and how many namespaces they are in."""
        own = os.readlink(f"/proc/{self._sandbox.pid}/ns/mnt")
        family: set[int] = set()
        for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
            try:
                inside = os.readlink(f"/proc/{pid}/ns/mnt") == own
            except OSError:
                continue
            if inside:
                family |= {pid, *children(pid)}
        namespaces: set[str] = set()
        for pid in family:
            try:
                with open(f"/proc/{pid}/comm") as file:
                    name = file.read().strip()
                namespaces |= {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in NAMESPACES}
            except OSError:
                continue
            yield f"process {name}"
        yield from (f"namespace {name.partition(':')[0]}" for name in namespaces)

    def _files(self) -> Iterator[str]:
        root = self._engine.data_root
        for folder in self._kept:
            yield from (f"{folder[:-1]} {name}" for name in _listing(root / folder) if name not in VOLUME_RECORDS)
        for driver in _listing(root / "image"):
            folders = set(_listing(root / _LAYERS.get(driver, driver))) - {"l"}
            if not folders:
                continue
            layers = root / "image" / driver / "layerdb" / "sha256"
            of_images = {_read(layers / chain / "cache-id") for chain in _listing(layers)}
            for name in folders - of_images:
                # What every container of an image begins with may be kept beside the image.
                if not name.endswith("-init") or name.removesuffix("-init") in folders:
                    yield f"layer {name}"

    def _firewall(self) -> list[str]:
        if self._netfilter is None:
            return []
        if (generation := _generation(self._netfilter)) != self._generation:
            said = self._sandbox.run(["nft", "-s", "list", "ruleset"], check=False).stdout.decode()
            self._rules = [f"rule {line.strip()}" for line in said.splitlines() if line.strip(" \t}")]
            self._generation = generation
        return self._rules


def _listing(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _socket_inside(pid: int) -> socket.socket | None:
    """A netfilter socket in the network namespace of ``pid``; None where there is no ``nft`` to list its rules with."""
    if not capabilities.has("nft"):
        return None
    made: list[socket.socket] = []

    def enter() -> None:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
                return
            made.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER))
        finally:
            os.close(namespace)

    # The namespace is of the thread, which ends; the socket stays where it was made.
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return made[0] if made else None


def _generation(netfilter: socket.socket) -> int:
    """How often the rules of the namespace have changed: NFT_MSG_GETGEN."""
    netfilter.send(struct.pack("=IHHII BBH", 20, _NFNL_NFTABLES_GETGEN, 1, 0, 0, 0, 0, 0))
    reply = netfilter.recv(4096)
    # Header and nfgenmsg, then NFTA_GEN_ID, big endian, as the first attribute.
    return int.from_bytes(reply[24:28], "big")
