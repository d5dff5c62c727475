"""A folder outside the repository for what is fetched once and used by many runs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

HALF = ".half"


def root() -> Path:
    """The cache folder: ``PYKER_CACHE``, or one of its own in ``XDG_CACHE_HOME``. XDG Base Directory."""
    chosen = os.environ.get("PYKER_CACHE")
    if chosen:
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "pyker-tests"


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock ``name`` against every other process that uses this cache."""
    locks = root() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with open(locks / name.replace("/", "-"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def filled(name: str, fill: Callable[[Path], None]) -> Path:
    """The cache's folder ``name``; ``fill(folder)`` makes it, once, however many ask at the same time.

    A folder appears under its name only when it is whole.
    """
    final = root() / name
    if final.is_dir():
        return final
    with locked(name):
        if not final.is_dir():
            half = final.with_name(final.name + HALF)
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(parents=True)
            fill(half)
            half.rename(final)
    return final


def say(line: str) -> None:
    """One line of progress, also under pytest's capture."""
    print(line, file=sys.__stderr__, flush=True)


def locked_environment(lock: Path, *, apart: tuple[str, ...] = ()) -> Path:
    """The Python of a virtual environment with exactly what the requirements file ``lock`` names, hashes checked.

    Packages named in ``apart`` are left out: who calls does something else with them.
    """
    content = lock.read_text()
    entries = [entry for entry in requirements(content) if entry.partition("==")[0] not in apart]
    key = hashlib.sha256(f"{sys.version}\n{content}\n{apart}".encode()).hexdigest()[:16]

    def fill(folder: Path) -> None:
        say(f"tests: making the environment of {lock.name}")
        wanted = folder / "requirements.txt"
        wanted.write_text("\n".join(entries) + "\n")
        # The folder is renamed when it is whole: scripts in it name the wrong one, so only its Python is used.
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip(folder / "bin" / "python", "install", "--require-hashes", "-r", str(wanted))

    return filled(f"environments/{lock.stem}-{key}", fill) / "bin" / "python"


def requirements(content: str) -> list[str]:
    """The entries of a requirements file, each with its hashes."""
    return content.replace("\\\n", " ").strip().splitlines()


def pip(python: Path, *arguments: str) -> None:
    """Run pip, quiet unless it fails."""
    command = [str(python), "-m", "pip", "-q", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"pip {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
