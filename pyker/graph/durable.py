"""Files that are either the old or the new ones, whatever happens in between."""

from __future__ import annotations

import os
import secrets
import subprocess


def sync_folder(path: str) -> None:
    """Make names that were made, renamed or removed in ``path`` survive a power cut. Source: fsync(2)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_filesystem(path: str) -> None:
    """Write out all that is pending on the file system of ``path``: cheaper than an fsync for each file of a layer.

    Source: syncfs(2), by way of sync(1).
    """
    try:
        done = subprocess.run(
            ["sync", "-f", path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        os.sync()
        return
    if done.returncode != 0:
        os.sync()


def replace(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Write ``data`` to ``path``: a new file beside it, fsync, rename, fsync of the folder."""
    fresh = f"{path}.{secrets.token_hex(6)}.tmp"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise
    sync_folder(os.path.dirname(path))


def write(path: str, text: str, *, mode: int = 0o644) -> None:
    """Write a small file whose folder will be renamed into place, or which a crash may take along."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def read(path: str) -> str:
    """A small file's text without surrounding blanks; "" if it is missing."""
    try:
        with open(path) as file:
            return file.read().strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def fields(folder: str, *names: str) -> list[str]:
    """The text of each of the small files ``names``, as ``read`` gives it."""
    return [read(os.path.join(folder, name)) for name in names]


def remove_record(path: str) -> None:
    """Delete a folder of small files; it need not be there."""
    try:
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)
    except FileNotFoundError:
        return


def leftovers(folder: str) -> list[str]:
    """Paths of files that ``replace`` did not finish."""
    return [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".tmp")]
