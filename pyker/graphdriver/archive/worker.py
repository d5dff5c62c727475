"""The process that does a layer's heavy work: ``python -m pyker.graphdriver.archive.worker FD``.

Requests come over a SOCK_SEQPACKET socket as JSON with descriptors; answers are ``{"progress": n}`` any number of
times, then ``{"done": {...}}`` or ``{"error": {...}}``. It ends when the socket does.

    request     descriptors                      does
    apply       blob, folder, tar-split (rw)     decompress, digest, extract, keep tar-split data
    assemble    tar-split, folder, pipe          write the layer's tar, gzip if asked
    pack        folder, pipe                     write a tar of a folder as it is now
    copy        folder, empty folder             copy all that is in it
    changes     folder, pipe                     write what it changes of folders below it, as lines of JSON
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import resource
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pyker.errors import Corrupt, PykerError
from pyker.graphdriver.archive.compression import decompressed

_PROGRESS_STEP = 1 << 20
_QUEUE = 4
Report = Callable[[int], None]


def hashed(chunks: Iterator[bytes], digest: Any) -> Iterator[bytes]:
    """The same chunks, each fed to ``digest`` first, produced ahead of use by a thread: both let go of the GIL."""
    ready: queue.Queue[bytes | BaseException | None] = queue.Queue(_QUEUE)
    stop = threading.Event()

    def put(item: bytes | BaseException | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.2)
                return

    def produce() -> None:
        try:
            for chunk in chunks:
                digest.update(chunk)
                put(chunk)
                if stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 (it is raised again in the thread that waits)
            put(error)
        else:
            put(None)

    thread = threading.Thread(target=produce, name="decompress", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def apply_layer(request: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """Extract a blob; the tar-split data is rewritten if the tar itself replaced what it had brought."""
    from pyker.graphdriver.archive import extract, tarsplit

    blob, folder, split_fd = fds
    digest = hashlib.sha256()
    split = tarsplit.SplitWriter(split_fd)
    chunks = hashed(decompressed(blob, report), digest)
    try:
        size, doubtful = extract.apply(chunks, folder, request["whiteouts"], split)
    finally:
        chunks.close()  # type: ignore[attr-defined]
    if doubtful:
        os.lseek(split_fd, 0, os.SEEK_SET)
        inline = tarsplit.lost(split_fd, folder)
        if inline:
            os.lseek(blob, 0, os.SEEK_SET)
            os.lseek(split_fd, 0, os.SEEK_SET)
            os.ftruncate(split_fd, 0)
            extract.resplit(decompressed(blob, lambda _: None), tarsplit.SplitWriter(split_fd), inline)
    return {"diff_id": "sha256:" + digest.hexdigest(), "size": size}


class _Output:
    """Counts, digests and, if asked, compresses what goes down a pipe."""

    def __init__(self, fd: int, compression: str) -> None:
        self._fd = fd
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256()
        self._compressor: Any = None
        self.size = 0
        if compression == "gzip":
            from isal import isal_zlib

            self._compressor = isal_zlib.compressobj(2, isal_zlib.DEFLATED, 31)

    def write(self, data: bytes) -> None:
        self._plain.update(data)
        if self._compressor is not None:
            data = self._compressor.compress(data)
        self._send(data)

    def _send(self, data: bytes) -> None:
        if self._compressor is not None:
            self._packed.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def done(self) -> dict[str, Any]:
        if self._compressor is not None:
            self._send(self._compressor.flush())
        diff_id = "sha256:" + self._plain.hexdigest()
        digest = diff_id if self._compressor is None else "sha256:" + self._packed.hexdigest()
        return {"diff_id": diff_id, "digest": digest, "size": self.size}


def assemble_layer(request: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """Write the layer's tar to the pipe."""
    from pyker.graphdriver.archive import tarsplit

    split_fd, folder, pipe = fds
    output = _Output(pipe, request.get("compression", ""))
    tarsplit.assemble(split_fd, folder, output.write)
    return output.done()


def pack_folder(request: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """Write a tar of a folder to the pipe."""
    from pyker.graphdriver.archive import pack

    folder, pipe = fds
    output = _Output(pipe, request.get("compression", ""))
    pack.pack(folder, output.write, whiteouts=request.get("whiteouts", "none"))
    return output.done()


def pack_changes(request: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """Write a tar of what a whole tree changes of others, ``request["lowers"]``, to the pipe."""
    from pyker.graphdriver.archive import pack

    folder, pipe = fds
    output = _Output(pipe, request.get("compression", ""))
    with contextlib.ExitStack() as stack:
        pack.pack_changes(folder, _opened(request["lowers"], stack), output.write)
    return output.done()


def _opened(folders: list[str], stack: contextlib.ExitStack) -> list[int]:
    opened = []
    for path in folders:
        opened.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        stack.callback(os.close, opened[-1])
    return opened


def copy_folder(request: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """Copy a tree."""
    from pyker.graphdriver.archive import copytree

    copytree.copy(fds[0], fds[1])
    return {}


def list_changes(request: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """Write what a folder changes of others, ``request["lowers"]``."""
    from pyker.graphdriver.archive import changes

    folder, pipe = fds
    with contextlib.ExitStack() as stack:
        lowers = _opened(request["lowers"], stack)
        output = stack.enter_context(open(pipe, "w", encoding="utf-8", closefd=False))
        for kind, path in changes.changes(folder, lowers, union=request["union"]):
            output.write(json.dumps([kind, path.decode("utf-8", "replace")]) + "\n")
    return {}


_OPERATIONS = {
    "apply": apply_layer,
    "assemble": assemble_layer,
    "pack": pack_folder,
    "diff": pack_changes,
    "copy": copy_folder,
    "changes": list_changes,
}


def _error(error: Exception) -> dict[str, Any]:
    match error:
        case Corrupt():
            return {"class": "corrupt", "message": error.message}
        case PykerError():
            return {"class": "system", "message": error.message}
        case OSError():
            where = f" {os.fsdecode(error.filename)!r}" if isinstance(error.filename, str | bytes) else ""
            text = f"{error.strerror or error}{where}"
            return {"class": "kernel", "message": text, "errno": error.errno or 0}
        case _:
            return {"class": "system", "message": f"{type(error).__name__}: {error}"}


def serve(connection: socket.socket) -> None:
    """Answer requests until the other end closes."""
    while True:
        data, fds, _, _ = socket.recv_fds(connection, 1 << 16, 8)
        if not data:
            return
        request = json.loads(data)
        told = 0

        def report(amount: int) -> None:
            nonlocal told
            if amount - told >= _PROGRESS_STEP or amount == 0:
                told = amount
                connection.send(json.dumps({"progress": amount}).encode())

        try:
            answer = {"done": _OPERATIONS[request["operation"]](request, fds, report)}
        except Exception as error:  # noqa: BLE001 (whatever it is, the daemon must hear of it)
            answer = {"error": _error(error)}
        finally:
            for fd in fds:
                os.close(fd)
        connection.send(json.dumps(answer).encode())


def main() -> None:
    """Entry point; the socket is the descriptor named by the first argument."""
    from pyker.libcontainer import syscalls

    syscalls.set_name("pyker-layer")
    # A layer may have some two thousand folders in each other, and copying holds two descriptors for each.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.setrecursionlimit(20_000)
    with socket.socket(fileno=int(sys.argv[1])) as connection, contextlib.suppress(ConnectionError):
        connection.set_inheritable(False)
        serve(connection)


if __name__ == "__main__":
    main()
