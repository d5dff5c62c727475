"""Where the API listens: ``unix://``, ``tcp://`` (with or without TLS) and ``fd://`` (socket activation).

Source: dockerd(8) ``--host``; sd_listen_fds(3).
"""

from __future__ import annotations

import errno
import grp
import ipaddress
import logging
import os
import socket
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass

from pyker.engine.job import Actor
from pyker.errors import Conflict, InvalidParameter, KernelError, NotFound

log = logging.getLogger("pyker.server")

BACKLOG = 1024
PLAIN_PORT, TLS_PORT = 2375, 2376
_FIRST_PASSED_FD = 3
_CREDENTIALS = struct.Struct("3i")


@dataclass(slots=True)
class Listener:
    """A socket that listens, and what to do about it at the end."""

    sock: socket.socket
    address: str
    tls: bool = False
    path: str = ""
    inode: tuple[int, int] = (0, 0)

    def actor(self, connection: socket.socket, peer: object) -> Actor:
        """Who is at the other end, as far as the kernel knows."""
        if connection.family == socket.AF_UNIX:
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid, uid, _ = _CREDENTIALS.unpack(raw)
            return Actor(kind="unix", uid=uid, pid=pid)
        host, port = peer[:2] if isinstance(peer, tuple) else ("", 0)
        return Actor(kind="tcp", name=f"{host}:{port}")

    def close(self) -> None:
        """Let go of the socket, and remove its file if it still is ours."""
        self.sock.close()
        if self.path:
            with suppress(OSError):
                found = os.lstat(self.path)
                if (found.st_dev, found.st_ino) == self.inode:
                    os.unlink(self.path)


def open_listeners(host: str, *, tls: bool, verify: bool, group: str) -> list[Listener]:
    """Listen on ``host``. Raises InvalidParameter for a host that can't be, KernelError if the kernel refuses."""
    scheme, separator, rest = host.partition("://")
    if not separator:
        raise InvalidParameter(
            f"unable to parse docker host `{host}`", hint="unix:///path, tcp://address:port or fd://"
        )
    match scheme:
        case "unix":
            return [_open_unix(rest or "/run/pyker.sock", group)]
        case "tcp":
            return _open_tcp(rest, tls=tls, verify=verify)
        case "fd":
            return _passed_listeners(rest, tls=tls)
        case _:
            raise InvalidParameter(f"invalid bind address format: {host}", hint="use unix://, tcp:// or fd://")


def _open_unix(path: str, group: str) -> Listener:
    if not path.startswith("/"):
        path = os.path.abspath(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            sock.bind(path)
        os.chmod(path, 0o660)
        _give_to_group(path, group)
        sock.listen(BACKLOG)
        found = os.lstat(path)
    except OSError as error:
        sock.close()
        raise KernelError(
            f"can't listen on unix://{path}: {error.strerror}", syscall="bind", errno=error.errno or 0
        ) from error
    except BaseException:
        sock.close()
        raise
    return Listener(sock, f"unix://{path}", path=path, inode=(found.st_dev, found.st_ino))


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody serves any more. Raises Conflict if somebody does, or if it is no socket."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise Conflict(f"can't listen on unix://{path}: there is a file of that name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        except OSError as error:
            raise Conflict(f"can't listen on unix://{path}: {error.strerror}") from error
    raise Conflict(
        f"can't listen on unix://{path}: a daemon answers there already", hint="stop it, or use another --host"
    )


def _give_to_group(path: str, group: str) -> None:
    if not group:
        return
    try:
        gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        if group != "docker":
            raise NotFound(f"group {group} not found", hint="make it, or choose another with --group") from None
        log.debug("no group docker: only root may use %s", path)
        return
    try:
        os.chown(path, -1, gid)
    except PermissionError:
        log.warning("can't give %s to the group %s: only this user may use it", path, group)


def _open_tcp(rest: str, *, tls: bool, verify: bool) -> list[Listener]:
    address = rest.partition("/")[0]
    host, port = _split_address(address, TLS_PORT if tls else PLAIN_PORT)
    if not (tls and verify):
        _warn_of_exposure(host, port, tls=tls)
    listeners: list[Listener] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, where in found if host else found[:1]:
            sock = socket.socket(family, kind, protocol)
            listeners.append(Listener(sock, "", tls=tls))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
            sock.bind(where)
            sock.listen(BACKLOG)
            bound = sock.getsockname()
            shown = f"[{bound[0]}]" if family == socket.AF_INET6 else bound[0]
            listeners[-1].address = f"tcp://{shown}:{bound[1]}"
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise KernelError(
            f"can't listen on tcp://{address}: {error.strerror}", syscall="bind", errno=error.errno or 0
        ) from error
    return listeners


def _split_address(address: str, default_port: int) -> tuple[str, int]:
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = address.partition(":")
    if port and not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise InvalidParameter(f"invalid bind address format: tcp://{address}")
    return host, int(port) if port else default_port


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _warn_of_exposure(host: str, port: int, *, tls: bool) -> None:
    what = "without checking who its clients are (--tlsverify)" if tls else "without encryption"
    if is_loopback(host):
        log.info("the API is open to this machine on tcp://%s:%d %s", host, port, what)
    else:
        log.warning(
            "DANGER: the API listens on tcp://%s:%d %s. Whoever can reach it is root on this machine.", host, port, what
        )


def _passed_listeners(which: str, *, tls: bool) -> list[Listener]:
    """The sockets that the service manager passed: all of them, one by number, or those of one name."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise InvalidParameter("no sockets found via socket activation: make sure the service was started by systemd")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    passed = {
        fd: names[at] if at < len(names) else ""
        for at, fd in enumerate(range(_FIRST_PASSED_FD, _FIRST_PASSED_FD + count))
    }
    if which in ("", "*"):
        chosen = list(passed)
    elif which.isdecimal():
        chosen = [fd for fd in passed if fd == int(which)]
    else:
        chosen = [fd for fd, name in passed.items() if name == which]
    if not chosen:
        raise InvalidParameter(f"no sockets found via socket activation for fd://{which}")
    listeners = []
    for fd in chosen:
        try:
            os.set_inheritable(fd, False)
            sock = socket.socket(fileno=fd)
        except OSError as error:
            raise InvalidParameter(f"file descriptor {fd}, which was passed, is no socket: {error.strerror}") from error
        sock.setblocking(True)
        is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        listeners.append(Listener(sock, f"fd://{fd}", tls=tls and is_tcp))
    return listeners
