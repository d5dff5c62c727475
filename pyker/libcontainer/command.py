"""From a process's arguments to execve: where the executable is, from which folder, in which environment.

To be called inside the container's root, as the user that the process will have. Messages have the words that docker
clients look for: they decide between the exit codes 125, 126 and 127.
"""

from __future__ import annotations

import errno
import os
import stat

from pyker.errors import KernelError

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(name: str, path: str) -> str:
    """The file that ``name`` means: itself if it has a slash, else the first executable of that name in ``path``.

    Raises: KernelError, stage "exec", errno ENOENT, EACCES or EISDIR.
    """
    if "/" in name:
        try:
            _check(name)
        except IsADirectoryError:
            raise _failure(f'exec: "{name}": is a directory', errno.EISDIR) from None
        except PermissionError:
            raise _failure(f'exec: "{name}": permission denied', errno.EACCES) from None
        except OSError as error:
            raise _failure(f'exec: "{name}": stat {name}: {_words(error)}', error.errno or errno.ENOENT) from None
        return name
    for folder in path.split(":") if name else ():
        candidate = f"{folder or '.'}/{name}"
        try:
            _check(candidate)
        except OSError:
            continue
        return candidate
    raise _failure(f'exec: "{name}": executable file not found in $PATH', errno.ENOENT)


def _check(path: str) -> None:
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory", path)
    if not mode & 0o111 or not os.access(path, os.X_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, "permission denied", path)


def _failure(message: str, number: int) -> KernelError:
    return KernelError(message, syscall="execve", errno=number, stage="exec")


def _words(error: OSError) -> str:
    """The kernel's words for an errno, as Go prints them."""
    words = os.strerror(error.errno or 0)
    return words[:1].lower() + words[1:]


def execve_failure(path: str, error: OSError) -> KernelError:
    """The error for an execve that failed after the file was found, such as ``exec /x: exec format error``."""
    return _failure(f"exec {path}: {_words(error)}", error.errno or 0)


def environment(env: tuple[str, ...], home: str) -> dict[str, str]:
    """``KEY=value`` words as a mapping, the last one winning, with HOME unless it is there and not empty."""
    mapping: dict[str, str] = {}
    for word in env:
        key, equals, value = word.partition("=")
        if key and equals:
            mapping[key] = value
    if not mapping.get("HOME"):
        mapping["HOME"] = home
    return mapping


def enter(cwd: str) -> None:
    """Go to the working directory, and make sure that it lies inside the root.

    Raises: KernelError. A descriptor of the host that leaked would make a directory above the root reachable
    (CVE-2024-21626): the kernel then shows it as "(unreachable)".
    """
    try:
        os.chdir(cwd)
        inside = os.getcwd().startswith("/")
    except OSError as error:
        raise KernelError(
            f'chdir to cwd ("{cwd}") set in config.json failed: {_words(error)}',
            syscall="chdir",
            errno=error.errno or 0,
            stage="cwd",
        ) from error
    if not inside:
        raise KernelError(
            f'current working directory "{cwd}" is outside of the container', syscall="getcwd", stage="cwd"
        )


def read_small(path: str, limit_bytes: int = 4 << 20) -> bytes:
    """A regular file's content, b"" if there is none: what an image puts there may be a pipe that never ends."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        pieces = []
        while limit_bytes > 0 and (piece := os.read(fd, min(limit_bytes, 1 << 16))):
            pieces.append(piece)
            limit_bytes -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)
