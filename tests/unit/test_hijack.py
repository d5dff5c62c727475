"""A connection that was taken over, without a server around it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from pyker.server.hijack import SocketStream

HEAD = b"HTTP/1.1 101 UPGRADED\r\n\r\n"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(30)
    with ours, theirs:
        yield ours, theirs


def test_output_waits_until_the_head_was_read(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    ours.sendall(HEAD)
    stream = SocketStream(ours, patience_s=60)
    sender = threading.Thread(target=lambda: [stream.send(b"one"), stream.send(b"two")])
    sender.start()
    # One read of whatever is there, as a buffered reader makes it, brings the head and nothing else.
    assert theirs.recv(4096, socket.MSG_PEEK) == HEAD
    assert theirs.recv(4096) == HEAD
    assert theirs.recv(3) + theirs.recv(3) == b"onetwo"
    sender.join(30)
    assert not sender.is_alive()


def test_who_never_reads_gets_it_all_the_same(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    ours.sendall(HEAD)
    SocketStream(ours, patience_s=0.01).send(b"one")
    assert theirs.recv(4096) == HEAD + b"one"
