"""Packages of other Debian suites, unpacked into the cache: never installed, so that the machine stays what it is.

The mirror and the keyring are the machine's own, read from its apt configuration at run time; apt's state for the other
suite is a folder of the cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support import cache


class Unavailable(Exception):
    """The packages cannot be had here; the text says what was tried and why it failed."""


class Mirror(NamedTuple):
    """Where this machine gets Debian's packages from, and whose signature it trusts."""

    uri: str
    keyring: str


def own_mirror(folder: Path = Path("/etc/apt")) -> Mirror:
    """The machine's own mirror: the first source that offers component main of this machine's own suite."""
    suite = own_suite()
    for source in _sources(folder):
        if suite in source.get("suites", "").split() and "main" in source.get("components", "").split():
            return Mirror(source["uris"].split()[0], source.get("signed-by", ""))
    raise Unavailable(f"no source of {suite}/main among apt's sources in {folder}")


def own_suite() -> str:
    """The code name of the running distribution's release. os-release(5)."""
    found = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', Path("/etc/os-release").read_text(), re.MULTILINE)
    return found[1] if found else ""


def _sources(folder: Path) -> Iterable[dict[str, str]]:
    """Every source of binary packages, whichever of the two formats it is written in. sources.list(5)."""
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if not path.is_file():
            continue
        if path.suffix == ".sources":
            for stanza in re.split(r"\n\s*\n", path.read_text()):
                fields = re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t]+.*)*)$", stanza, re.MULTILINE)
                source = {name.lower(): value for name, value in fields}
                if "deb" in source.get("types", "").split() and source.get("enabled", "yes") != "no":
                    yield source
        elif path.suffix == ".list":
            for line in path.read_text().splitlines():
                found = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)", line)
                if found:
                    options = dict(word.split("=", 1) for word in (found[1] or "").split() if "=" in word)
                    yield {**options, "uris": found[2], "suites": found[3], "components": found[4]}


def _configuration(suite: str) -> Path:
    """An apt configuration whose state is in the cache and whose only source is ``suite`` on the machine's mirror."""
    mirror = own_mirror()
    trust = f"signed-by={mirror.keyring} " if mirror.keyring else ""
    key = hashlib.sha256(repr(mirror).encode()).hexdigest()[:8]
    folder = cache.root() / "apt" / f"{suite}-{key}"
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(f"deb [{trust}check-valid-until=no] {mirror.uri} {suite} main\n")
    (folder / "status").touch()
    configuration = folder / "apt.conf"
    configuration.write_text(
        f'Dir::State "{folder}/state";\nDir::State::status "{folder}/status";\nDir::Cache "{folder}/cache";\n'
        f'Dir::Etc::SourceList "{folder}/sources.list";\nDir::Etc::SourceParts "/dev/null";\n'
        # Pins of the machine are about its own suites. The cache may be in a home that user _apt cannot read.
        'Dir::Etc::PreferencesParts "/dev/null";\nDir::Etc::Preferences "/dev/null";\nAPT::Sandbox::User "root";\n'
    )
    return configuration


def _run(command: Sequence[str], *, configuration: Path, folder: Path) -> str:
    environment = {**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


def unpack(suite: str, packages: Sequence[str], *, libraries: Sequence[str] = ()) -> Path:
    """A folder with the contents of ``packages`` of ``suite``, fetched at the first call.

    ``libraries`` are unpacked too, but only those that are newer than this machine's own. The folder's name says which
    version of the first package it has; delete the cache to get newer ones.
    Raises Unavailable with the reason.
    """
    wanted = hashlib.sha256(repr((sorted(packages), sorted(libraries))).encode()).hexdigest()[:8]
    stem = f"{suite}-{packages[0]}-{wanted}-"
    if made := sorted(path for path in (cache.root() / "packages").glob(f"{stem}*") if path.suffix != cache.HALF):
        return made[-1]
    try:
        configuration = _configuration(suite)
        cache.say(f"tests: asking Debian's {suite} for {packages[0]}")
        # Two that ask at once would fail on apt's lock.
        with cache.locked(f"apt-{suite}"):
            _run(["apt-get", "-qq", "update"], configuration=configuration, folder=configuration.parent)
        versions = {name: _candidate(name, configuration) for name in [*packages, *libraries]}
    except (OSError, IndexError) as error:
        raise Unavailable(f"Debian's {suite}: {error}") from error
    chosen = [*packages, *(name for name in libraries if _newer(versions[name], name))]

    def fill(folder: Path) -> None:
        archives = folder / "archives"
        archives.mkdir()
        cache.say(f"tests: fetching {', '.join(f'{name} {versions[name]}' for name in chosen)}")
        _run(
            ["apt-get", "-qq", "download", *(f"{name}={versions[name]}" for name in chosen)],
            configuration=configuration,
            folder=archives,
        )
        for archive in sorted(archives.iterdir()):
            _run(["dpkg-deb", "-x", str(archive), str(folder)], configuration=configuration, folder=folder)
            archive.unlink()
        archives.rmdir()

    version = versions[packages[0]].replace(":", "_")
    return cache.filled(f"packages/{stem}{version}", fill)


def _candidate(package: str, configuration: Path) -> str:
    text = _run(["apt-cache", "policy", package], configuration=configuration, folder=configuration.parent)
    found = re.search(r"Candidate: (\S+)", text)
    if found is None or found[1] == "(none)":
        raise Unavailable(f"there is no package {package} in {configuration.parent.name}")
    return found[1]


def _newer(version: str, package: str) -> bool:
    """Whether ``version`` is newer than the one installed on this machine."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=False
    )
    return done.returncode != 0 or (
        subprocess.run(["dpkg", "--compare-versions", version, "gt", done.stdout], check=False).returncode == 0
    )
