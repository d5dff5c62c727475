"""Packages of any Debian suite, by an apt state of our own with the machine's own mirror and keyring."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lab.commands import Tools
from lab.table import LabError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# What of the machine's apt settings leads to the mirror: proxies, certificates, dates that are not to be believed.
_CARRIED = re.compile(r"^Acquire::(?!IndexTargets|Languages|GzipIndexes|CompressionTypes|cdrom|Changelogs|Send-)")


class Package(NamedTuple):
    """A version of a package and what it depends on, without alternatives' later words."""

    name: str
    version: str
    depends: tuple[str, ...]


def mirror(tools: Tools) -> str:
    """The address from which this machine's apt gets its own release. Raises LabError where there is none."""
    listed = tools.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    )
    codename = release()
    for line in listed.splitlines():
        uri, name, component = (*line.split(), "", "", "")[:3]
        if name == codename and component == "main":
            return uri.rstrip("/")
    raise LabError(
        f"apt of this machine has no source for main of {codename!r}, and guests are built from Debian's packages: "
        "add one to /etc/apt, or run the lab on Debian"
    )


def release(path: Path = Path("/etc/os-release")) -> str:
    """The codename of this machine's Debian."""
    for line in path.read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip('"')
    return ""


def carried(dump: str) -> list[str]:
    """The lines of ``apt-config dump`` that a private apt needs to reach the mirror as this machine does."""
    return [line for line in dump.splitlines() if _CARRIED.match(line) and not line.endswith(' "";')]


class Suite:
    """One suite of the mirror, with lists and cache below ``folder``."""

    def __init__(self, tools: Tools, folder: Path, name: str) -> None:
        self._tools = tools
        self._folder = folder
        self.name = name
        for part in ("state/lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text(source_line(mirror(tools), name) + "\n")
        # Old suites are past their date; a private list has nobody to tell after an update.
        (folder / "apt.conf").write_text(
            f'Dir::State "{folder}/state";\nDir::State::status "{folder}/status";\nDir::Cache "{folder}/cache";\n'
            f'Dir::Etc::sourcelist "{folder}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
            "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n"
            'APT::Sandbox::User "root";\nAcquire::Languages "none";\nAcquire::Check-Valid-Until "false";\n'
        )
        self._apt("apt-get", "-qq", "update")

    def package(self, name: str) -> Package:
        """The newest version of ``name``. Raises LabError if the suite has none."""
        text = self._apt("apt-cache", "show", "--no-all-versions", name)
        fields = dict(line.partition(": ")[::2] for line in text.splitlines() if not line.startswith(" "))
        if "Version" not in fields:
            raise LabError(f"the suite {self.name!r} has no package {name!r}")
        return Package(name, fields["Version"], tuple(depends(fields.get("Depends", ""))))

    def download(self, packages: Sequence[Package], folder: Path) -> list[Path]:
        """Fetch the packages' files into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        self._apt("apt-get", "-qq", "download", *(f"{p.name}={p.version}" for p in packages), cwd=folder)
        return sorted(folder.glob("*.deb"))

    def _apt(self, tool: str, *arguments: str, cwd: Path | None = None) -> str:
        return self._tools.run([tool, "-c", str(self._folder / "apt.conf"), *arguments], cwd=cwd)


def source_line(uri: str, suite: str) -> str:
    """The line of a sources.list."""
    signed = f" [signed-by={KEYRING}]" if KEYRING.exists() else ""
    return f"deb{signed} {uri} {suite} main"


def depends(field: str) -> Iterator[str]:
    """The names in a Depends field: of alternatives the first, without versions."""
    for clause in field.split(","):
        if name := re.split(r"[\s(|:]", clause.strip(), maxsplit=1)[0]:
            yield name


def kernel_packages(suite: Suite, meta: str) -> list[Package]:
    """The packages of the kernel that ``meta`` stands for: one, or image, binary and modules where they are split."""
    found: dict[str, Package] = {}
    wanted = [meta]
    while wanted:
        package = suite.package(wanted.pop())
        found[package.name] = package
        wanted += [
            name
            for name in package.depends
            if name.startswith(("linux-image-", "linux-binary-", "linux-modules-")) and name not in found
        ]
    del found[meta]
    if not found:
        raise LabError(f"the package {meta!r} of {suite.name!r} leads to no kernel")
    return sorted(found.values())
