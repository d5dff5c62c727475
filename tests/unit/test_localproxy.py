"""The userland forwarder, on loopback: bytes, half-closes, refusals, datagrams, and an end without residue."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from pyker.networkdriver.localproxy import LocalProxy, Target, open_listener


@pytest.fixture
def proxy() -> Iterator[LocalProxy]:
    before = open_files()
    made = LocalProxy()
    yield made
    made.close()
    gc.collect()
    assert open_files() <= before


def open_files() -> set[str]:
    """What this process has open, each by a name of its own. Threads of earlier tests may still be closing theirs."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return {each for each in found if not each.startswith("/proc/")}


def server(talk: Callable[[socket.socket], None]) -> tuple[tuple[str, int], threading.Thread]:
    """Accepts one connection on loopback and talks to it."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def work() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                talk(connection)

    thread = threading.Thread(target=work)
    thread.start()
    return listener.getsockname(), thread


def served(proxy: LocalProxy, target: tuple[str, int], protocol: str = "tcp", host: str = "127.0.0.1") -> socket.socket:
    """A listener on a free port that leads to ``target``."""
    listener = open_listener(protocol, host, 0)
    proxy.add(listener, Target(protocol, target))
    return listener


def read_all(connection: socket.socket) -> bytes:
    said = bytearray()
    while data := connection.recv(65536):
        said += data
    return bytes(said)


def connect(listener: socket.socket) -> socket.socket:
    address = listener.getsockname()
    return socket.create_connection(address[:2], timeout=10)


def test_a_half_close_is_passed_on_and_the_answer_comes_after_it(proxy: LocalProxy) -> None:
    target, thread = server(lambda connection: connection.sendall(read_all(connection)[::-1]))
    with connect(served(proxy, target)) as client:
        client.sendall(b"abc")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"cba"
    thread.join()


def test_the_servers_half_close_does_not_end_the_clients_direction(proxy: LocalProxy) -> None:
    heard: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        heard.append(read_all(connection))

    target, thread = server(talk)
    with connect(served(proxy, target)) as client:
        assert read_all(client) == b"hello"
        client.sendall(b"goodbye")
    thread.join()
    assert heard == [b"goodbye"]


def test_much_data_both_ways_at_once_with_slow_readers(proxy: LocalProxy) -> None:
    much = os.urandom(4 << 20)
    heard: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        sender = threading.Thread(target=lambda: (connection.sendall(much), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        heard.append(read_all(connection))
        sender.join()

    target, thread = server(talk)
    with connect(served(proxy, target, host="::1" if socket.has_ipv6 else "127.0.0.1")) as client:
        sender = threading.Thread(target=lambda: (client.sendall(much), client.shutdown(socket.SHUT_WR)))
        sender.start()
        assert read_all(client) == much
        sender.join()
    thread.join()
    assert heard == [much]


def test_a_container_that_refuses_resets_the_client(proxy: LocalProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        target = closed.getsockname()
    with pytest.raises(ConnectionResetError), connect(served(proxy, target)) as client:
        client.recv(1)


def test_a_client_that_resets_resets_the_container(proxy: LocalProxy) -> None:
    ready = threading.Event()
    seen: list[str] = []

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"x")
        ready.wait(10)
        try:
            while connection.recv(1):
                pass
            seen.append("end")
        except ConnectionResetError:
            seen.append("reset")

    target, thread = server(talk)
    client = connect(served(proxy, target))
    assert client.recv(1) == b"x"
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    ready.set()
    thread.join()
    assert seen == ["reset"]


def test_datagrams_come_back_to_who_sent_them(proxy: LocalProxy) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as container:
        container.bind(("127.0.0.1", 0))
        container.settimeout(10)
        listener = served(proxy, container.getsockname(), "udp")
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        for number, client in enumerate(clients):
            client.settimeout(10)
            client.sendto(b"%d" % number, listener.getsockname())
        for _ in clients:
            said, peer = container.recvfrom(100)
            container.sendto(b"re " + said, peer)
        for number, client in enumerate(clients):
            assert client.recv(100) == b"re %d" % number
            client.close()


def test_a_removed_port_is_free_at_once_and_what_was_accepted_lives_on(proxy: LocalProxy) -> None:
    go = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"first ")
        go.wait(10)
        connection.sendall(b"second")

    target, thread = server(talk)
    listener = served(proxy, target)
    address = listener.getsockname()
    with connect(listener) as client:
        assert client.recv(6) == b"first "
        proxy.remove(listener)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=10)
        open_listener("tcp", "127.0.0.1", address[1]).close()
        go.set()
        assert read_all(client) == b"second"
    thread.join()


def test_a_port_that_is_only_held_refuses(proxy: LocalProxy) -> None:
    listener = open_listener("tcp", "127.0.0.1", 0, serve=False)
    address = listener.getsockname()
    proxy.add(listener, None)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=10)
    with pytest.raises(OSError, match="Address already in use"):
        open_listener("tcp", "127.0.0.1", address[1])


def test_closing_ends_connections_that_are_open() -> None:
    proxy = LocalProxy()
    heard: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"x")
        try:
            heard.append(connection.recv(1))
        except ConnectionResetError:
            heard.append(b"")

    target, thread = server(talk)
    with connect(served(proxy, target)) as client:
        assert client.recv(1) == b"x"
        proxy.close()
        thread.join(10)
        assert heard == [b""]
