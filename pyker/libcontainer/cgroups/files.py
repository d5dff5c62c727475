"""Reading and writing the one-value files of a cgroup directory."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from pyker.errors import KernelError


def write(directory: str, name: str, value: str) -> None:
    """Write ``value`` in one write(2), as the kernel wants it. Raises: KernelError, naming the file and the value."""
    write_each(directory, name, (value,))


def write_each(directory: str, name: str, values: Iterable[str]) -> None:
    """Write several values to one file, a write(2) each, in order. Raises: KernelError, as ``write``."""
    value = ""
    try:
        fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            for value in values:
                os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise refused(error, directory, name, value) from error


def refused(error: OSError, directory: str, name: str, value: str) -> KernelError:
    """The error to raise when the kernel does not take ``value``."""
    number = error.errno or 0
    hint = ""
    if number == errno.ENOENT:
        hint = f"this kernel, or this hierarchy, has no {name}"
    return KernelError(
        f"cgroup: write {value!r} to {directory}/{name}: {os.strerror(number)}",
        syscall="write",
        errno=number,
        stage="cgroup",
        hint=hint,
    )


def read(directory: str, name: str) -> str:
    """The whole file, without the newline at its end. Raises: KernelError."""
    try:
        fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(fd, 65536)
            while chunk := os.read(fd, 65536):
                data += chunk
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(
            f"cgroup: read {directory}/{name}: {os.strerror(error.errno or 0)}",
            syscall="read",
            errno=error.errno or 0,
            stage="cgroup",
        ) from error
    return data.decode().rstrip("\n")


def exists(directory: str, name: str) -> bool:
    """Whether the cgroup has that file."""
    return os.access(f"{directory}/{name}", os.F_OK)


def number(directory: str, name: str) -> int:
    """A file of one number; ``max`` and a missing file are 0."""
    if not exists(directory, name):
        return 0
    text = read(directory, name)
    return int(text) if text.lstrip("-").isdigit() else 0


def table(directory: str, name: str) -> dict[str, int]:
    """A file of ``key number`` lines, such as memory.stat; empty if there is no such file."""
    if not exists(directory, name):
        return {}
    pairs = (line.split() for line in read(directory, name).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].lstrip("-").isdigit()}


def make(directory: str) -> None:
    """mkdir; being there already is fine. Raises: FileNotFoundError if the parent is missing, else KernelError."""
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KernelError(
            f"cgroup: mkdir {directory}: {os.strerror(error.errno or 0)}",
            syscall="mkdir",
            errno=error.errno or 0,
            stage="cgroup",
            hint="is the hierarchy mounted read-only, or not delegated to this process?",
        ) from error


def open_directory(directory: str) -> int:
    """An O_PATH descriptor, which the caller closes. Raises: KernelError."""
    try:
        return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError.from_oserror(error, syscall="open", stage="cgroup") from error
