"""What a test may not leave behind, seen from outside the engine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.support.sandbox import Sandbox


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
