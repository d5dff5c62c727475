"""Answers that become files: whole, or not at all."""

from __future__ import annotations

import os
import sys

from pyker.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from pyker.client.surroundings import Surroundings
    from pyker.client.transport import Response


def deliver(around: Surroundings, path: str, target: str, trouble: str) -> None:
    """GET ``target`` and write the body to the file ``path``, or to stdout if that is "".

    Raises Failure for a terminal, and, beginning with ``trouble``, where no file can be written.
    """
    if not path and os.isatty(1):
        raise Failure("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if path:
        _check_place(path, trouble)
    response = around.client.open("GET", target)
    if path:
        _save(response, path, trouble)
        return
    around.flush()
    _copy(response, sys.stdout.buffer)


def _check_place(path: str, trouble: str) -> None:
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise Failure(f"{trouble}: invalid output path: stat {folder}: no such file or directory")
    if os.path.isdir(path):
        raise Failure(f"{trouble}: cannot write to a directory")


def _save(response: Response, path: str, trouble: str) -> None:
    # Under its own name only when it is whole.
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "xb") as file:
            _copy(response, file)
        os.replace(part, path)
    except OSError as error:
        raise Failure(f"{trouble}: {(error.strerror or str(error)).lower()}: {path}") from error
    finally:
        if os.path.lexists(part):
            os.unlink(part)


def _copy(response: Response, to: BinaryIO) -> None:
    while data := response.read_some():
        to.write(data)
    to.flush()
