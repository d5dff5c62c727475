"""The pump between a process and its clients, on pipes and sockets of the test's own."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from pyker.libcontainer import streams
from pyker.libcontainer.handshake import LOG_MARK, Streams
from pyker.libcontainer.streams import STDERR, STDOUT, Poller, StreamPump


class Process:
    """The process's ends, and the pump on the other ones."""

    def __init__(self, *, tty: bool = False, stdin_once: bool = False) -> None:
        out_read, self.stdout = os.pipe()
        err_read, self.stderr = os.pipe()
        self.stdin, stdin_write = os.pipe()
        self.poller = Poller()
        self.logged: list[tuple[int, bytes]] = []
        self.pump = StreamPump(
            self.poller, {out_read: STDOUT, err_read: STDERR}, stdin_write, tty=tty, stdin_once=stdin_once, log=self
        )
        self._ends = [self.stdout, self.stderr, self.stdin]

    def write(self, stream: int, data: bytes, time_ns: int) -> None:
        """The log."""
        assert time_ns > 0
        self.logged.append((stream, data))

    def mark(self) -> tuple[int, int]:
        """Where the log is."""
        return 7, sum(len(data) for _, data in self.logged)

    def unfinished(self) -> dict[int, bytes]:
        """What the log holds back."""
        return {stream: data.rpartition(b"\n")[2] for stream, data in self.logged[-1:]}

    def client(
        self, *, stdin: bool = False, stdout: bool = True, stderr: bool = True, mark: bool = False
    ) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.pump.attach(theirs.detach(), Streams(stdin, stdout, stderr, mark))
        ours.settimeout(5)
        return ours

    def turn(self, until: Callable[[], bool] = lambda: True) -> None:
        """Let the pump work: until ``until()``, and then until nothing is ready."""
        for _ in range(10_000):
            self.poller.run_once(0)
            if until():
                return
        raise AssertionError("the pump did not get there")

    def end(self, fd: int) -> None:
        os.close(fd)
        self._ends.remove(fd)

    def close(self) -> None:
        for fd in self._ends:
            os.close(fd)


@pytest.fixture
def process() -> Iterator[Process]:
    made = Process()
    yield made
    made.pump.close()
    made.close()


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def test_output_is_framed_for_clients_and_goes_to_the_log(process: Process) -> None:
    with process.client() as client:
        os.write(process.stdout, b"out")
        process.turn()
        os.write(process.stderr, b"err")
        process.turn()
        assert client.recv(100) == frame(1, b"out") + frame(2, b"err")
    assert process.logged == [(1, b"out"), (2, b"err")]


def test_a_terminals_output_is_raw() -> None:
    process = Process(tty=True)
    with process.client() as client:
        os.write(process.stdout, b"raw")
        process.turn()
        assert client.recv(100) == b"raw"
        process.pump.close()
    process.close()


def test_input_reaches_the_process(process: Process) -> None:
    with process.client(stdin=True) as client:
        client.sendall(b"typed")
        process.turn()
        assert os.read(process.stdin, 100) == b"typed"


def test_input_of_a_client_without_that_right_is_not_read(process: Process) -> None:
    with process.client() as client:
        client.sendall(b"typed")
        process.turn()
        os.set_blocking(process.stdin, False)
        with pytest.raises(BlockingIOError):
            os.read(process.stdin, 100)


@pytest.mark.parametrize("stdin_once", [True, False])
def test_a_half_close_ends_input_only_if_once(stdin_once: bool) -> None:
    process = Process(stdin_once=stdin_once)
    with process.client(stdin=True) as client:
        client.sendall(b"last")
        client.shutdown(socket.SHUT_WR)
        process.turn()
        process.turn()
        assert os.read(process.stdin, 100) == b"last"
        os.set_blocking(process.stdin, False)
        if stdin_once:
            assert os.read(process.stdin, 100) == b""
        else:
            with pytest.raises(BlockingIOError):
                os.read(process.stdin, 100)
        os.write(process.stdout, b"still")
        process.turn()
        assert client.recv(100) == frame(1, b"still")
        process.pump.close()
    process.close()


def test_input_waits_for_a_process_that_is_slow_to_read(process: Process) -> None:
    with process.client(stdin=True) as client:
        sent = b"z" * 400_000
        client.setblocking(False)
        rest = memoryview(sent)
        received = b""
        os.set_blocking(process.stdin, False)
        while len(received) < len(sent):
            try:
                rest = rest[client.send(rest) :]
            except BlockingIOError:
                pass
            process.poller.run_once(0)
            try:
                received += os.read(process.stdin, 5000)
            except BlockingIOError:
                pass
    assert received == sent


def test_input_of_a_client_that_is_gone_waits_without_turning_in_circles(process: Process) -> None:
    client = process.client(stdin=True)
    client.setblocking(False)
    sent = 0
    for _ in range(100):
        try:
            sent += client.send(b"i" * 65536)
        except BlockingIOError:
            process.poller.run_once(0)
    client.close()
    for _ in range(10):
        process.poller.run_once(0)
    began = time.monotonic()
    process.poller.run_once(0.1)
    assert time.monotonic() - began >= 0.09, "something is ready all the time"
    os.set_blocking(process.stdin, False)
    received = 0

    def all_received() -> bool:
        nonlocal received
        try:
            received += len(os.read(process.stdin, 1 << 16))
        except BlockingIOError:
            pass
        return received == sent

    process.turn(all_received)


def test_a_slow_client_holds_output_back_and_loses_nothing(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HIGH_WATER_BYTES", 10_000)
    os.set_blocking(process.stdout, False)
    with process.client() as slow:
        written = 0
        for _ in range(500):
            try:
                written += os.write(process.stdout, b"x" * 4096)
            except BlockingIOError:
                pass
            process.poller.run_once(0)
        held_back = written
        for _ in range(50):
            process.poller.run_once(0)
            try:
                written += os.write(process.stdout, b"x" * 4096)
            except BlockingIOError:
                pass
        assert written == held_back, "output was read although the client is far behind"
        received = 0
        slow.setblocking(False)

        def all_received() -> bool:
            nonlocal received
            try:
                while piece := slow.recv(1 << 16):
                    received += piece.count(b"x")
            except BlockingIOError:
                pass
            return received == written

        process.turn(all_received)


def test_a_client_that_takes_nothing_is_dropped_in_the_end(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HIGH_WATER_BYTES", 10_000)
    monkeypatch.setattr(streams, "STALL_S", 0.0)
    os.set_blocking(process.stdout, False)
    with process.client() as dead, process.client() as good:
        good.setblocking(False)
        received = 0
        for _ in range(2000):
            try:
                os.write(process.stdout, b"x" * 4096)
            except BlockingIOError:
                pass
            process.poller.run_once(0)
            try:
                received += good.recv(1 << 20).count(b"x")
            except BlockingIOError:
                pass
            if process.pump.seconds_left() is not None:
                break
        process.pump.expire()
        assert process.pump.seconds_left() is None
        os.write(process.stderr, b"after")
        process.turn()
        seen = b""
        try:
            while True:
                seen += good.recv(1 << 20)
        except BlockingIOError:
            pass
        assert frame(2, b"after") in seen
        del dead


def test_a_client_that_hung_up_is_forgotten(process: Process) -> None:
    client = process.client()
    client.close()
    for _ in range(3):
        os.write(process.stdout, b"x")
        process.turn()
    assert len(process.logged) == 3
    assert process.pump.seconds_left() is None


def test_drained_after_the_end_of_both_outputs(process: Process) -> None:
    os.write(process.stdout, b"last")
    process.end(process.stdout)
    process.end(process.stderr)
    assert not process.pump.drained
    process.turn(lambda: process.pump.drained)
    assert process.logged == [(1, b"last")]


def test_clients_hear_the_end_after_the_last_byte(process: Process) -> None:
    with process.client() as client:
        os.write(process.stdout, b"last")
        process.turn()
        process.pump.end_clients()
        assert client.recv(100) == frame(1, b"last")
        assert client.recv(100) == b""
        client.close()
        process.pump.close()


def test_one_who_comes_later_is_told_where_the_log_is(process: Process) -> None:
    os.write(process.stdout, b"whole\npart")
    process.turn()
    with process.client(mark=True) as client:
        os.write(process.stdout, b"ly\n")
        process.turn()
        mark = client.recv(16)
        assert LOG_MARK.unpack(mark) == (7, len(b"whole\npart"))
        assert client.recv(100) == frame(1, b"part") + frame(1, b"ly\n")
    process.pump.close()


def test_read_rest_takes_what_is_there_and_does_not_wait(process: Process) -> None:
    os.write(process.stdout, b"rest")
    process.pump.read_rest()
    assert process.logged == [(1, b"rest")]
    assert process.pump.outputs_ended


def test_close_stdin_delivers_first(process: Process) -> None:
    with process.client(stdin=True) as client:
        client.sendall(b"end")
        process.turn()
        process.pump.close_stdin()
        assert os.read(process.stdin, 100) == b"end"
        assert os.read(process.stdin, 100) == b""


def test_what_is_first_is_called_before_what_became_ready_earlier() -> None:
    poller = Poller()
    called: list[str] = []
    pipes = [os.pipe() for _ in range(2)]
    poller.watch(pipes[0][0], 1, lambda _: called.append("data"))
    poller.watch(pipes[1][0], 1, lambda _: called.append("command"), first=True)
    for _, write in pipes:
        os.write(write, b"x")
    poller.run_once(0)
    assert called == ["command", "data"]
    for pair in pipes:
        for fd in pair:
            os.close(fd)
