"""What the lab builds, kept outside the repository and keyed by everything that went into it.

An entry is a folder ``KIND-NAME-KEY``. It is built in a folder beside it and renamed when it is whole, under a lock:
two runs that need the same thing build it once. Whoever uses an entry holds a shared lock, so that none goes in use.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pyker.libcontainer.syscalls import remove_tree

MANIFEST = "manifest.json"
_KEPT_OF_A_NAME = 3
_UNUSED_DAYS = 30


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """The lab's folder below ``PYKER_CACHE``, else the user's cache folder."""
    if own := environment.get("PYKER_CACHE"):
        return Path(own).absolute() / "lab"
    if xdg := environment.get("XDG_CACHE_HOME"):
        return Path(xdg) / "pyker/lab"
    return Path(environment.get("HOME", "/root")) / ".cache/pyker/lab"


def key(*parts: object) -> str:
    """A name for exactly these inputs. A Path stands for the content of the file."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else json.dumps(part, sort_keys=True, default=str).encode()
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:16]


def recipe(path: Path) -> str:
    """What a module does, without the words in which it says so: a better comment is no reason to build anew."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        match node:
            case ast.Module() | ast.FunctionDef() | ast.ClassDef() if ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
    return ast.dump(tree)


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)


class Cache:
    """A folder of entries."""

    def __init__(self, root: Path, *, rebuild: bool = False) -> None:
        """With ``rebuild``, nothing that earlier runs made is used; what this one made is."""
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._held: list[int] = []
        self._rebuild = rebuild
        self._made: set[str] = set()

    def find(self, kind: str, name: str, key: str) -> Path | None:
        """The entry, if it is there, whole, and not being removed. It stays until ``close``."""
        path = self._path(kind, name, key)
        if self._rebuild and path.name not in self._made:
            return None
        fd = os.open(self._lock(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            if not (path / MANIFEST).exists():
                os.close(fd)
                return None
            os.utime(path)
        except BaseException:
            os.close(fd)
            raise
        self._held.append(fd)
        return path

    def get(self, kind: str, name: str, key: str, build: Callable[[Path], Mapping[str, object]]) -> Path:
        """The entry; if it is missing, ``build`` fills a folder and returns what the manifest is to say of it."""
        if (found := self.find(kind, name, key)) is not None:
            return found
        path = self._path(kind, name, key)
        with _locked(self.root / f"{path.name}.build", fcntl.LOCK_EX):
            if (found := self.find(kind, name, key)) is not None:
                return found
            started = time.monotonic()
            with self.scratch(path.name) as folder:
                made = dict(build(folder))
                made.update(kind=kind, name=name, key=key, build_seconds=round(time.monotonic() - started, 1))
                (folder / MANIFEST).write_text(json.dumps(made, indent=1) + "\n")
                with _locked(self._lock(path), fcntl.LOCK_EX):
                    if path.exists():
                        remove_tree(os.fspath(path))
                    os.rename(folder, path)
            self._made.add(path.name)
        found = self.find(kind, name, key)
        assert found is not None, path
        self._prune(kind, name)
        return found

    @contextlib.contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A folder that is removed afterwards unless it was renamed; ``sweep`` removes those of killed runs."""
        folder = self.root / f"tmp-{os.getpid()}-{name}"
        with _locked(self.root / f"{folder.name}.lock", fcntl.LOCK_EX):
            folder.mkdir()
            try:
                yield folder
            finally:
                if folder.exists():
                    remove_tree(os.fspath(folder))
                (self.root / f"{folder.name}.lock").unlink()

    def sweep(self) -> list[str]:
        """Remove the scratch folders that nobody holds any more; their names."""
        removed = []
        for lock in self.root.glob("tmp-*.lock"):
            fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                folder = self.root / lock.name.removesuffix(".lock")
                if folder.exists():
                    remove_tree(os.fspath(folder))
                lock.unlink(missing_ok=True)
                removed.append(folder.name)
            except BlockingIOError:
                continue
            finally:
                os.close(fd)
        return removed

    def close(self) -> None:
        """Let go of the entries that were found."""
        while self._held:
            os.close(self._held.pop())

    def _path(self, kind: str, name: str, key: str) -> Path:
        return self.root / f"{kind}-{name}-{key}"

    def _lock(self, path: Path) -> Path:
        return self.root / f"{path.name}.lock"

    def _prune(self, kind: str, name: str) -> None:
        """Remove entries of this kind and name but the newest few, and those long unused; none that somebody holds."""
        entries = sorted(self.root.glob(f"{kind}-{name}-*/{MANIFEST}"), key=lambda m: -m.parent.stat().st_mtime)
        oldest_ns = time.time_ns() - _UNUSED_DAYS * 86_400_000_000_000
        for number, manifest in enumerate(entries):
            path = manifest.parent
            if number < _KEPT_OF_A_NAME and path.stat().st_mtime_ns > oldest_ns:
                continue
            with contextlib.suppress(BlockingIOError), _locked(self._lock(path), fcntl.LOCK_EX | fcntl.LOCK_NB):
                remove_tree(os.fspath(path))
