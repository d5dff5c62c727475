"""Network namespaces for tests: one of its own for each test, and a NamespaceMaker that forks.

A thread can enter a network namespace by itself, so a test that needs a socket in a container's namespace makes it in a
thread that entered there; the socket stays in that namespace wherever it is used.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

from pyker.networkdriver.base import NamespaceMaker

_CLONE_NEWNET, _CLONE_NEWNS = 0x40000000, 0x00020000
_SERVERS: list[socket.socket] = []
_MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 0x1000, 0x4000, 1 << 18, 2


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Run the calling thread, and all that it starts, in a network and a mount namespace of its own, with lo up."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = [os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("net", "mnt")]
    directory = os.getcwd()
    try:
        if libc.unshare(_CLONE_NEWNET | _CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
                raise OSError(ctypes.get_errno(), "mount")
            _loopback_up()
            yield
        finally:
            stop_all()
            for descriptor in before:
                _return_to(libc, descriptor)
            os.chdir(directory)
    finally:
        for descriptor in before:
            os.close(descriptor)


def _return_to(libc: ctypes.CDLL, descriptor: int) -> None:
    """setns(2) to a mount namespace fails while a thread that was joined already has not quite ended."""
    deadline = time.monotonic() + 5
    while libc.setns(descriptor, 0):
        number = ctypes.get_errno()
        if number != errno.EINVAL or time.monotonic() > deadline:
            raise OSError(number, "setns")
        time.sleep(0.001)


def socket_in(netns_path: str, family: int, kind: int) -> socket.socket:
    """A socket that lives in the namespace pinned at ``netns_path``."""
    made: list[socket.socket | int] = []

    def make() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(netns_path) as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                made.append(ctypes.get_errno())
                return
        made.append(socket.socket(family, kind))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(made[0], int):
        raise OSError(made[0], "setns")
    return made[0]


def ip_json(*arguments: str, netns_path: str = "") -> list[dict[str, Any]]:
    """What ``ip -j`` says, here or in a pinned namespace."""
    enter = ["nsenter", f"--net={netns_path}"] if netns_path else []
    done = subprocess.run([*enter, "ip", "-j", "-d", *arguments], capture_output=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
    return found


def nft_json() -> list[dict[str, Any]]:
    """The whole ruleset of the current namespace, as the nft program lists it."""
    done = subprocess.run(["nft", "-j", "list", "ruleset"], capture_output=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
    return found


class ForkingNamespaceMaker(NamespaceMaker):
    """Each call forks a child that unshares or enters the namespace and sends a socket back."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def new_netns(self, path: str) -> int:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

        def enter() -> None:
            self._check(self._libc.unshare(_CLONE_NEWNET))
            self._check(self._libc.mount(b"/proc/self/ns/net", path.encode(), b"none", _MS_BIND, None))
            _loopback_up()

        return self._in_child(enter)

    def open_netns(self, path: str) -> int:
        def enter() -> None:
            descriptor = os.open(path, os.O_RDONLY)
            self._check(self._libc.setns(descriptor, _CLONE_NEWNET))

        return self._in_child(enter)

    def remove_netns(self, path: str) -> None:
        self._libc.umount2(path.encode(), _MNT_DETACH)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass

    def _check(self, result: int) -> None:
        if result:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def _in_child(self, enter: object) -> int:
        assert callable(enter)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        child = os.fork()
        if child == 0:
            try:
                enter()
                inside = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
                socket.send_fds(theirs, [b"k"], [inside.fileno()])
                os._exit(0)
            except OSError as error:
                theirs.send(repr(error).encode()[:200])
                os._exit(1)
        theirs.close()
        message, descriptors, _, _ = socket.recv_fds(ours, 256, 1)
        ours.close()
        os.waitpid(child, 0)
        if not descriptors:
            raise OSError(message.decode())
        os.set_inheritable(descriptors[0], False)
        return descriptors[0]


def _loopback_up() -> None:
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", b"lo", 0x1))  # SIOCSIFFLAGS, IFF_UP


def serve(netns_path: str, answer: bytes, port: int) -> socket.socket:
    """A TCP server in a pinned namespace that says ``answer`` to everybody.

    It ends with ``stop``, with ``stop_all``, or with ``isolated``.
    """
    listener = socket_in(netns_path, socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen(64)

    def work() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(10)
                    connection.sendall(answer)

    threading.Thread(target=work, daemon=True).start()
    _SERVERS.append(listener)
    return listener


def stop(listener: socket.socket) -> None:
    """End ``serve``."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def stop_all() -> None:
    """End all that ``serve`` started."""
    while _SERVERS:
        stop(_SERVERS.pop())


def ask(address: str, port: int, *, netns_path: str = "", source: str = "", timeout_s: float = 2) -> bytes:
    """All that a TCP server says, asked from here or from a pinned namespace. Raises OSError if nobody answers."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM
    client = socket_in(netns_path, family, kind) if netns_path else socket.socket(family, kind)
    with client:
        client.settimeout(timeout_s)
        if source:
            client.bind((source, 0))
        client.connect((address, port))
        said = b""
        while data := client.recv(65536):
            said += data
        return said
