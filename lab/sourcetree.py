"""The tree under test as one archive for a guest, with the bytecode that earlier guests made of it.

A file's date in the archive is made from its content: bytecode is valid exactly for the text it was made from,
whichever working tree, branch or checkout that came from.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

ARCHIVE = "source.tar"
BYTECODE = "bytecode.tar"
_NOT_SOURCE = frozenset(
    {".git", ".venv", ".nox", "__pycache__", "build", "dist", ".mypy_cache", ".ruff_cache", ".hypothesis"}
)
_BYTECODE = re.compile(r"(?:[\w-]+/)*__pycache__/([\w.-]+?)\.cpython-\d+[\w.-]*\.pyc")


def files(tree: Path) -> Iterator[str]:
    """The names of what belongs to the tree: what git knows or would take up, else whatever looks like source."""
    listed = subprocess.run(
        ["git", "-C", str(tree), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        yield from sorted({os.fsdecode(name) for name in listed.stdout.split(b"\0") if name})
        return
    for folder, folders, names in os.walk(tree):
        folders[:] = sorted(name for name in folders if name not in _NOT_SOURCE)
        for name in sorted(names):
            yield os.path.relpath(os.path.join(folder, name), tree)


def pack(tree: Path, bytecode: Path, archive: Path) -> int:
    """Write the tree, and what fits to it of the ``bytecode`` folder, to ``archive``; how many files."""
    count = 0
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in files(tree):
            path = tree / name
            if path.is_symlink():
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
                tar.addfile(info)
            elif path.is_file():
                data = path.read_bytes()
                _add(tar, name, data, path.stat().st_mode & 0o777)
            else:
                continue
            count += 1
            if name.endswith(".py"):
                compiled = bytecode / os.path.dirname(name) / "__pycache__"
                for made in sorted(compiled.glob(f"{path.stem}.cpython-*.pyc")):
                    _add(tar, f"{os.path.dirname(name)}/__pycache__/{made.name}", made.read_bytes(), 0o644)
    return count


def absorb(archive: Path, bytecode: Path) -> int:
    """Keep the bytecode that a guest sent back; how many files. Anything else in the archive is not looked at."""
    count = 0
    with tarfile.open(archive) as tar:
        for info in tar:
            if not info.isreg() or not _BYTECODE.fullmatch(info.name.removeprefix("./")):
                continue
            content = tar.extractfile(info)
            assert content is not None
            target = bytecode / info.name.removeprefix("./")
            target.parent.mkdir(parents=True, exist_ok=True)
            made = target.with_name(f"{target.name}.{os.getpid()}")
            made.write_bytes(content.read())
            made.rename(target)
            count += 1
    return count


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    info.mtime = 1_000_000_000 + zlib.crc32(data) % 700_000_000
    tar.addfile(info, io.BytesIO(data))
