"""How much a folder holds."""

from __future__ import annotations

import os
import stat

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def content_size(folder: str | int) -> int:
    """Bytes of everything below ``folder`` (a path, or a descriptor that stays the caller's) but folders.

    Each inode counts once. A container may have made its folders deeper than any path is long: only the lowest one is
    open, and ".." leads back up. What goes away meanwhile is not counted.
    """
    fd = os.open(folder, _OPEN_DIR) if isinstance(folder, str) else os.dup(folder)
    top = os.fstat(fd)
    total = 0
    seen: set[int] = set()
    pending: list[list[str]] = [os.listdir(fd)]
    try:
        while True:
            if not pending[-1]:
                pending.pop()
                if not pending:
                    return total
                upper = os.open("..", _OPEN_DIR, dir_fd=fd)
                os.close(fd)
                fd = upper
                continue
            name = pending[-1].pop()
            try:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    if found.st_dev == top.st_dev:
                        lower = os.open(name, _OPEN_DIR, dir_fd=fd)
                        os.close(fd)
                        fd = lower
                        pending.append(os.listdir(fd))
                    continue
            except FileNotFoundError:
                continue
            if found.st_nlink > 1:
                if found.st_ino in seen:
                    continue
                seen.add(found.st_ino)
            total += found.st_size
    finally:
        os.close(fd)
