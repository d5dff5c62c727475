"""Moves bytes between a process and those attached to it: output to the log and to every client, input to the process.

One thread, one poll(2). Output is read only while no client is far behind: a slow client holds the process back, as
with the reference engine, but not for ever: one that takes nothing for ``STALL_S`` is dropped. Clients that keep up
never lose a byte.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import struct
import time
from collections.abc import Callable
from typing import Protocol

from pyker.libcontainer.handshake import LOG_MARK, Socket, Streams

STALL_S = 60.0
"""How long a client may take nothing while bytes wait for it."""
LINGER_S = 2.0
"""How long a client may go on sending after the process ended, so that closing does not reset its connection."""
HIGH_WATER_BYTES = 1 << 20
"""A client that is behind by more holds the process back."""
CHUNK_BYTES = 1 << 16
STDOUT, STDERR = 1, 2

_HEADER = struct.Struct(">BxxxL")


class Sink(Protocol):
    """A log: ``pyker.libcontainer.logfile.JsonFileLog``, or nothing."""

    def write(self, stream: int, data: bytes, time_ns: int) -> None: ...

    def mark(self) -> tuple[int, int]: ...

    def unfinished(self) -> dict[int, bytes]: ...


class Poller:
    """Callbacks by descriptor over one poll object."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._first: set[int] = set()

    def watch(self, fd: int, events: int, callback: Callable[[int], None], *, first: bool = False) -> None:
        """Call ``callback(revents)`` when ``fd`` is ready; again to change ``events``.

        Those that are ``first`` are called before others that became ready meanwhile: an attach that was sent before
        a line of input takes effect before it.
        """
        self._callbacks[fd] = callback
        if first:
            self._first.add(fd)
        self._poll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching; unknown descriptors are fine."""
        if self._callbacks.pop(fd, None) is not None:
            self._poll.unregister(fd)
            self._first.discard(fd)

    @property
    def watched(self) -> tuple[int, ...]:
        """The descriptors that are watched."""
        return tuple(self._callbacks)

    def run_once(self, timeout_s: float | None) -> bool:
        """Wait for readiness, or the time, and call back; returns whether there was anything."""
        ready = self._poll.poll(None if timeout_s is None else max(0, timeout_s) * 1000)
        if len(ready) > 1:
            ready.sort(key=lambda each: each[0] not in self._first)
        for fd, events in ready:
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback(events)
        return bool(ready)


class Client:
    """One attached client. ``pending`` are bytes that it has not taken yet."""

    __slots__ = ("input_ended", "pending", "socket", "stalled_since", "streams")

    def __init__(self, socket: Socket, streams: Streams) -> None:
        self.socket = socket
        self.streams = streams
        self.pending = bytearray()
        self.stalled_since = 0.0
        self.input_ended = not streams.stdin

    def wants(self, stream: int) -> bool:
        return self.streams.stderr if stream == STDERR else self.streams.stdout


class StreamPump:
    """The streams of one process. Owns the descriptors it is given and closes them.

    ``outputs`` maps a readable descriptor to its stream number; ``stdin`` is -1 for none. With a terminal both are
    descriptors of its master.
    """

    def __init__(
        self, poller: Poller, outputs: dict[int, int], stdin: int, *, tty: bool, stdin_once: bool, log: Sink | None
    ) -> None:
        self._poller = poller
        self._outputs = dict(outputs)
        self._stdin = stdin
        self._stdin_ending = False
        self._input = bytearray()
        self._tty = tty
        self._stdin_once = stdin_once
        self._log = log
        self._clients: dict[int, Client] = {}
        self._reading = False
        self.behind = False
        """Whether a client may have bytes waiting for it; ``seconds_left`` finds out."""
        for fd in outputs:
            os.set_blocking(fd, False)
        if stdin >= 0:
            os.set_blocking(stdin, False)
        self._resume_output()

    @property
    def drained(self) -> bool:
        """Whether every output stream has ended and every client has taken all of it."""
        return not self._outputs and not any(client.pending for client in self._clients.values())

    @property
    def outputs_ended(self) -> bool:
        return not self._outputs

    @property
    def resting(self) -> bool:
        """Whether nobody is attached and no input waits for the process: ``outputs`` and ``stdin`` are all there is."""
        return not (self._clients or self._input)

    @property
    def outputs(self) -> dict[int, int]:
        """The outputs that have not ended: their descriptors, and which stream each is."""
        return dict(self._outputs)

    @property
    def stdin(self) -> int:
        """The descriptor of the process's input, -1 for none."""
        return self._stdin

    def attach(self, fd: int, streams: Streams) -> None:
        """Add a client; ``fd`` is a connected stream socket and belongs to the pump."""
        client = Client(_socket.socket(fileno=fd), streams)
        self._clients[fd] = client
        self._watch_client(client)
        if streams.mark and self._log is not None:
            self._push(client, LOG_MARK.pack(*self._log.mark()))
            for stream, data in self._log.unfinished().items():
                if client.wants(stream):
                    self._push(client, self._framed(stream, data))

    def close_stdin(self) -> None:
        """End the process's input once it has been given what clients have sent so far."""
        self._stdin_ending = True
        if not self._input:
            self._drop_stdin()

    def seconds_left(self) -> float | None:
        """How long until ``expire`` has something to do, if nothing happens; None while no client is behind."""
        stalls = [client.stalled_since for client in self._clients.values() if client.pending]
        if not stalls:
            self.behind = False
            return None
        return max(0.0, min(stalls) + STALL_S - time.monotonic())

    def expire(self) -> None:
        """Drop clients that have taken nothing for too long."""
        now = time.monotonic()
        for client in list(self._clients.values()):
            if client.pending and now - client.stalled_since >= STALL_S:
                self._drop(client)

    def read_rest(self) -> None:
        """Take what is left in the outputs without waiting, and end them: the process is gone."""
        for fd in list(self._outputs):
            while fd in self._outputs and self._read_output(fd):
                pass
            if fd in self._outputs:
                self._end_output(fd)

    def end_clients(self) -> None:
        """End the streams of clients that have taken all that the process said; those that are behind go on."""
        for client in self._clients.values():
            if client.pending:
                continue
            try:
                client.socket.shutdown(_socket.SHUT_WR)
            except OSError:
                continue

    def close(self) -> None:
        """Let go of everything, after waiting up to LINGER_S for clients to hang up.

        Bytes that a client sent and nobody read would turn close(2) into a reset, which takes output that was
        delivered to the other end's kernel, but not read there yet, along with it.
        """
        for fd in list(self._outputs):
            self._end_output(fd)
        self._drop_stdin()
        deadline = time.monotonic() + LINGER_S
        waiting = select.poll()
        for fd in self._clients:
            self._poller.forget(fd)
            waiting.register(fd, select.POLLIN)
        left = len(self._clients)
        while left and (seconds := deadline - time.monotonic()) > 0:
            for fd, _ in waiting.poll(seconds * 1000):
                try:
                    if self._clients[fd].socket.recv(CHUNK_BYTES, _socket.MSG_DONTWAIT):
                        continue
                except BlockingIOError:
                    continue
                except OSError:
                    pass
                waiting.unregister(fd)
                left -= 1
        for client in self._clients.values():
            client.socket.close()
        self._clients.clear()

    # Output

    def _resume_output(self) -> None:
        self._reading = True
        for fd in self._outputs:
            self._poller.watch(fd, select.POLLIN, lambda _, fd=fd: self._output_ready(fd))  # type: ignore[misc]

    def _pause_output(self) -> None:
        self._reading = False
        for fd in self._outputs:
            self._poller.forget(fd)

    def _output_ready(self, fd: int) -> None:
        if fd in self._outputs:
            self._read_output(fd)

    def _read_output(self, fd: int) -> bool:
        """Read once and pass it on; returns whether there may be more."""
        try:
            data = os.read(fd, CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            # A pty's master says EIO when nobody has the other end open any more.
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            self._end_output(fd)
            return False
        stream = self._outputs[fd]
        if self._log is not None:
            self._log.write(stream, data, time.time_ns())
        if self._clients:
            frame = self._framed(stream, data)
            for client in list(self._clients.values()):
                if client.wants(stream):
                    self._push(client, frame)
        return True

    def _framed(self, stream: int, data: bytes) -> bytes:
        return data if self._tty else _HEADER.pack(stream, len(data)) + data

    def _end_output(self, fd: int) -> None:
        del self._outputs[fd]
        self._poller.forget(fd)
        os.close(fd)

    def _push(self, client: Client, data: bytes) -> None:
        if not client.pending:
            try:
                sent = client.socket.send(data, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop(client)
                return
            if sent == len(data):
                return
            data = data[sent:]
            client.stalled_since = time.monotonic()
            self.behind = True
        client.pending += data
        self._watch_client(client)
        if self._reading and len(client.pending) > HIGH_WATER_BYTES:
            self._pause_output()

    def _flush(self, client: Client) -> None:
        try:
            sent = client.socket.send(client.pending, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        if sent:
            del client.pending[:sent]
            client.stalled_since = time.monotonic()
        if not client.pending:
            self._watch_client(client)
        self._maybe_resume()

    def _maybe_resume(self) -> None:
        if not self._reading and all(len(c.pending) <= HIGH_WATER_BYTES // 2 for c in self._clients.values()):
            self._resume_output()

    # Clients and input

    def _watch_client(self, client: Client) -> None:
        events = 0
        if client.pending:
            events |= select.POLLOUT
        if not client.input_ended and len(self._input) < CHUNK_BYTES:
            events |= select.POLLIN
        fd = client.socket.fileno()
        self._poller.watch(fd, events, lambda ready: self._client_ready(client, ready))

    def _client_ready(self, client: Client, ready: int) -> None:
        if ready & select.POLLIN and not client.input_ended:
            self._read_client(client)
        if client.socket.fileno() < 0:
            return
        if ready & select.POLLOUT and client.pending:
            self._flush(client)
        if client.socket.fileno() >= 0 and ready & (select.POLLHUP | select.POLLERR):
            if client.input_ended:
                self._drop(client)
            elif not ready & select.POLLIN:
                # It hung up, but what it sent must wait for the process to read: watched again when there is room.
                self._poller.forget(client.socket.fileno())

    def _read_client(self, client: Client) -> None:
        try:
            data = client.socket.recv(CHUNK_BYTES, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        if not data:
            client.input_ended = True
            self._watch_client(client)
            self._input_of_one_ended()
        elif self._stdin >= 0:
            self._input += data
            self._write_stdin(0)

    def _input_of_one_ended(self) -> None:
        if self._stdin_once and not self._tty:
            self.close_stdin()

    def _drop(self, client: Client) -> None:
        fd = client.socket.fileno()
        if self._clients.pop(fd, None) is None:
            return
        self._poller.forget(fd)
        try:
            client.socket.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass
        client.socket.close()
        if not client.input_ended:
            client.input_ended = True
            self._input_of_one_ended()
        self._maybe_resume()

    def _write_stdin(self, _ready: int) -> None:
        full_before = len(self._input) >= CHUNK_BYTES
        try:
            while self._input:
                del self._input[: os.write(self._stdin, self._input)]
        except BlockingIOError:
            self._poller.watch(self._stdin, select.POLLOUT, self._write_stdin)
        except OSError:
            # Nobody reads any more: what clients still send is read and let go, so that their hang-up is seen.
            self._drop_stdin()
        else:
            self._poller.forget(self._stdin)
            if self._stdin_ending:
                self._drop_stdin()
        if full_before != (len(self._input) >= CHUNK_BYTES):
            for client in list(self._clients.values()):
                self._watch_client(client)

    def _drop_stdin(self) -> None:
        self._input.clear()
        if self._stdin >= 0:
            self._poller.forget(self._stdin)
            os.close(self._stdin)
            self._stdin = -1
