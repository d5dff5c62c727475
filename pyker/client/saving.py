"""Answers that become files: whole, or not at all."""

from __future__ import annotations

import os

from pyker.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from pyker.client.transport import Response


def check_place(path: str, trouble: str) -> None:
    """Raises Failure, which begins with ``trouble``, where no file can be written."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise Failure(f"{trouble}: invalid output path: stat {folder}: no such file or directory")
    if os.path.isdir(path):
        raise Failure(f"{trouble}: cannot write to a directory")


def save(response: Response, path: str, trouble: str) -> None:
    """Write the body to ``path``; it has that name only when it is whole."""
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "xb") as file:
            copy(response, file)
        os.replace(part, path)
    except OSError as error:
        raise Failure(f"{trouble}: {(error.strerror or str(error)).lower()}: {path}") from error
    finally:
        if os.path.lexists(part):
            os.unlink(part)


def copy(response: Response, to: BinaryIO) -> None:
    """Write the body as it comes."""
    while data := response.read_some():
        to.write(data)
    to.flush()
