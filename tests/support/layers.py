"""Applying tars to folders the way a layer worker does, without the worker."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyker.graphdriver.archive import extract, tarsplit
from pyker.graphdriver.archive.compression import decompressed


def apply_file(blob: Path, folder: Path, whiteouts: str = "overlay") -> bytes:
    """Extract the file ``blob`` into ``folder``; returns the tar-split data."""
    folder.mkdir(exist_ok=True)
    split_path = folder.parent / (folder.name + ".split")
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    source = os.open(blob, os.O_RDONLY)
    split = os.open(split_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        _, doubtful = extract.apply(decompressed(source, lambda _: None), root, whiteouts, tarsplit.SplitWriter(split))
        if doubtful:
            os.lseek(split, 0, os.SEEK_SET)
            inline = tarsplit.lost(split, root)
            os.lseek(source, 0, os.SEEK_SET)
            os.lseek(split, 0, os.SEEK_SET)
            os.ftruncate(split, 0)
            extract.resplit(decompressed(source, lambda _: None), tarsplit.SplitWriter(split), inline)
    finally:
        for fd in (root, source, split):
            os.close(fd)
    return split_path.read_bytes()


def apply_bytes(tar: bytes, folder: Path, whiteouts: str = "overlay") -> bytes:
    """The same for a tar in memory."""
    blob = folder.parent / (folder.name + ".tar")
    blob.write_bytes(tar)
    return apply_file(blob, folder, whiteouts)


def assemble(folder: Path) -> bytes:
    """The tar that ``folder`` and its tar-split data give."""
    split = os.open(folder.parent / (folder.name + ".split"), os.O_RDONLY)
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    output: list[bytes] = []
    try:
        tarsplit.assemble(split, root, output.append)
    finally:
        os.close(split)
        os.close(root)
    return b"".join(output)


def members(*infos: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], fmt: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of ``infos``, some with data."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=fmt) as tar:
        for item in infos:
            info, data = item if isinstance(item, tuple) else (item, b"")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644, **fields: Any
) -> tarfile.TarInfo:
    """One member; ``fields`` are attributes of its TarInfo."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    info.mode = mode
    info.mtime = 1_700_000_000
    info.uid, info.gid = os.getuid(), os.getgid()
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def file(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A regular file."""
    return entry(name, **fields), data


def folder(name: str, mode: int = 0o755, **fields: Any) -> tarfile.TarInfo:
    """A folder."""
    return entry(name, tarfile.DIRTYPE, mode=mode, **fields)


def symlink(name: str, target: str) -> tarfile.TarInfo:
    """A symbolic link."""
    return entry(name, tarfile.SYMTYPE, link=target, mode=0o777)


def hardlink(name: str, target: str, **fields: Any) -> tarfile.TarInfo:
    """A hard link."""
    return entry(name, tarfile.LNKTYPE, link=target, **fields)


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """All that is below ``folder``: path to kind, mode, owner, time, and content or target."""
    found: dict[str, tuple[object, ...]] = {}
    for path in _walk(folder):
        info = path.lstat()
        extra: object = ""
        if path.is_symlink():
            extra = os.readlink(path)
        elif path.is_file():
            extra = path.read_bytes()
        xattrs = tuple(
            sorted(
                (name, os.getxattr(path, name, follow_symlinks=False))
                for name in os.listxattr(path, follow_symlinks=False)
            )
        )
        nlink = info.st_nlink if not path.is_dir() else 0
        found[str(path.relative_to(folder))] = (
            oct(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns, info.st_rdev, nlink, xattrs, extra,
        )  # fmt: skip
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
