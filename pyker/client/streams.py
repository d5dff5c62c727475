"""The streams of an attached container: our terminal and signals at one end, the daemon's socket at the other.

One thread and one poll loop. Nothing blocks but poll: what the daemon does not take at once is kept, so that a
container that writes before it reads cannot lock both ends up.
"""

from __future__ import annotations

import os
import select
import sys

from pyker.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyker.client.transport import Connection

CHUNK = 64 * 1024
MAX_FRAME = 1 << 30
HIGH_WATER = 1024 * 1024
DETACH_KEYS = "ctrl-p,ctrl-q"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


def write_all(descriptor: int, data: bytes) -> None:
    """write(2) until all is written; waits where the descriptor does not block."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


class Demultiplexer:
    """Takes stdcopy frames apart, as pieces of them arrive.

    Source: Docker API v1.45 POST /containers/{id}/attach, "Stream format".
    """

    def __init__(self, stdout: Callable[[bytes], None], stderr: Callable[[bytes], None]) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._head = b""
        self._left = 0
        self._stream = 0
        self._error: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Write what ``data`` holds. Raises Failure for what is no frame, or for the daemon's own error stream."""
        position = 0
        while position < len(data):
            if self._left == 0:
                need = 8 - len(self._head)
                self._head += data[position : position + need]
                position += need
                if len(self._head) < 8:
                    return
                self._stream = self._head[0]
                self._left = int.from_bytes(self._head[4:8], "big")
                self._head = b""
                if self._stream > 3 or self._left > MAX_FRAME:
                    raise Failure(f"Unrecognized input header: {self._stream}")
                self._error = []
                continue
            piece = data[position : position + self._left]
            position += len(piece)
            self._left -= len(piece)
            self._write(piece)

    def _write(self, piece: bytes) -> None:
        if self._stream == 2:
            self._stderr(piece)
        elif self._stream == 3:
            self._error.append(piece)
            if self._left == 0:
                raise Failure(f"error from daemon in stream: {b''.join(self._error).decode('utf-8', 'replace')}")
        else:
            self._stdout(piece)


def stdout_bytes(data: bytes) -> None:
    """To our stdout."""
    write_all(1, data)


def stderr_bytes(data: bytes) -> None:
    """To our stderr."""
    write_all(2, data)


def parse_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` or ``ctrl-a,x`` as bytes. Raises Failure."""
    found = bytearray()
    for word in text.split(","):
        if len(word) == 1:
            found += word.encode("utf-8")
            continue
        key = word.lower().removeprefix("ctrl-")
        if word.lower().startswith("ctrl-") and len(key) == 1 and key in "abcdefghijklmnopqrstuvwxyz@[\\]^_":
            found.append(0 if key == "@" else ord(key.upper()) - 64)
        else:
            raise Failure(f"invalid detach keys ({text}) provided: Unknown character: '{word}'")
    return bytes(found)


class Attachment:
    """Moves bytes between us and a hijacked connection until the output ends.

    ``watch`` are further descriptors with what to do when they are readable; a watcher that returns True ends the loop.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        stdin: int = -1,
        output: bool = True,
        tty: bool = False,
        content_type: str = "",
        detach_keys: str = "",
        stdout: Callable[[bytes], None] = stdout_bytes,
        stderr: Callable[[bytes], None] = stderr_bytes,
    ) -> None:
        self._connection = connection
        self._sock = connection.sock
        self._stdin = stdin
        self._output = output
        raw = tty and content_type != MULTIPLEXED
        self._consume = stdout if raw else Demultiplexer(stdout, stderr).feed
        self._pending = b""
        self._half_closed = False
        self._watch: dict[int, Callable[[], bool]] = {}
        # TLS takes what the socket under it may refuse for now; then there is something to flush.
        self._flush: Callable[[], None] | None = getattr(self._sock, "flush", None)
        self._keys = parse_keys(detach_keys or DETACH_KEYS) if tty and stdin >= 0 else b""
        self._matched = 0
        self.detached = False

    def watch(self, descriptor: int, react: Callable[[], bool]) -> None:
        """Call ``react`` whenever ``descriptor`` is readable; a negative one never is."""
        if descriptor >= 0:
            self._watch[descriptor] = react

    def run(self) -> None:
        """Until the daemon ends the stream, or, without output, until our input ended."""
        sys.stdout.flush()
        if ahead := self._connection.take_ahead():
            self._consume(ahead)
        self._sock.setblocking(False)
        if self._stdin < 0:
            self._half_close()
        try:
            # Under TLS more may have been read with the reply's head than its last record; poll would not tell.
            if self._flush is not None and not self._receive():
                return
            while self._turn():
                continue
        finally:
            self._sock.setblocking(True)

    def _turn(self) -> bool:
        poll = select.poll()
        number = self._sock.fileno()
        poll.register(
            number, select.POLLIN | (select.POLLOUT if self._pending or getattr(self._sock, "unsent", False) else 0)
        )
        if self._stdin >= 0 and len(self._pending) < HIGH_WATER:
            poll.register(self._stdin, select.POLLIN)
        for descriptor in self._watch:
            poll.register(descriptor, select.POLLIN)
        for descriptor, events in poll.poll():
            if descriptor == number:
                if events & select.POLLOUT:
                    self._send_pending()
                if events & ~select.POLLOUT and not self._receive():
                    return False
            elif descriptor == self._stdin:
                self._read_stdin()
                if self.detached:
                    return False
            elif (react := self._watch.get(descriptor)) is not None and react():
                return False
        return self._output or not self._half_closed

    def _receive(self) -> bool:
        """Consume what is there; False at the end."""
        while True:
            try:
                data = self._sock.recv(CHUNK)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
            if not data:
                return False
            self._consume(data)
            if self._flush is None:
                return True

    def _read_stdin(self) -> None:
        try:
            data = os.read(self._stdin, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._stdin = -1
            if not self._pending:
                self._half_close()
            return
        if self._keys:
            data = self._without_keys(data)
        self._pending += data
        self._send_pending()

    def _without_keys(self, data: bytes) -> bytes:
        """``data`` up to the detach keys; what may be their beginning is held back until the next key."""
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    self.detached = True
                    break
                continue
            out += self._keys[: self._matched]
            self._matched = 0
            if byte == self._keys[0]:
                self._matched = 1
                continue
            out.append(byte)
        return bytes(out)

    def _send_pending(self) -> None:
        if self._flush is not None:
            self._flush()
        while self._pending:
            try:
                sent = self._sock.send(self._pending)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                # Nobody reads any more: drop the input, go on with the output.
                self._pending, self._stdin = b"", -1
                return
            self._pending = self._pending[sent:]
        if self._stdin < 0:
            self._half_close()

    def _half_close(self) -> None:
        """Tell the daemon that no more input comes."""
        if self._half_closed:
            return
        self._half_closed = True
        try:
            self._sock.shutdown(1)
        except OSError:
            # The daemon was faster.
            return
