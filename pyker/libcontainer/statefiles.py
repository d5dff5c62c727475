"""What a monitor leaves in its container's state folder for daemons to come.

state.json    who runs: written once execve has succeeded
monitor.sock  where the monitor listens, for as long as it has something to tell
exit.json     how the container ended; on disk before anybody hears of it

Paths of state folders may be longer than a socket's address allows: sockets are reached through /proc/self/fd.
"""

from __future__ import annotations

import _socket
import os

import msgspec
from msgspec import Struct

from pyker.libcontainer.handshake import Socket
from pyker.libcontainer.spec import ExitRecord

STATE, SOCKET, EXIT = "state.json", "monitor.sock", "exit.json"


class State(Struct, frozen=True, kw_only=True):
    """``start_time`` tells ``pid`` from a later process of the same number. ``tty`` is whether there is a terminal."""

    id: str
    pid: int
    start_time: int
    monitor_pid: int
    cgroup_path: str
    namespaces: tuple[str, ...]
    tty: bool


_encoder = msgspec.json.Encoder()
_state_decoder = msgspec.json.Decoder(State)
_exit_decoder = msgspec.json.Decoder(ExitRecord)


def start_time_of(pid: int) -> int:
    """When ``pid`` started, in clock ticks since boot; 0 if it is gone. Source: proc_pid_stat(5) starttime."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    try:
        # The name, in parentheses, may hold anything: count from its end.
        fields = os.read(fd, 4096).rpartition(b")")[2].split()
    except ProcessLookupError:
        return 0
    finally:
        os.close(fd)
    # A zombie has ended, even if nobody has waited for it yet.
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def write_state(state_dir: str, state: State) -> None:
    """Not forced to the disk: after a crash of the machine nothing runs that it could tell of."""
    _replace(state_dir, STATE, _encoder.encode(state), durable=False)


def read_state(state_dir: str) -> State | None:
    """None if there is none, or it is from a crash in the midst of writing."""
    raw = _read(f"{state_dir}/{STATE}")
    try:
        return None if raw is None else _state_decoder.decode(raw)
    except msgspec.DecodeError:
        return None


def write_exit(state_dir: str, record: ExitRecord) -> None:
    """Whole or not at all, and on the disk when this returns."""
    _replace(state_dir, EXIT, _encoder.encode(record), durable=True)


def read_exit(state_dir: str) -> ExitRecord | None:
    """None if there is none."""
    raw = _read(f"{state_dir}/{EXIT}")
    try:
        return None if raw is None else _exit_decoder.decode(raw)
    except msgspec.DecodeError:
        return None


def forget_exit(state_dir: str) -> None:
    """Remove the record of an earlier run."""
    _unlink(f"{state_dir}/{EXIT}")


def forget(state_dir: str, *, state: bool = True) -> None:
    """Remove what says that something runs; with ``state`` False only the socket."""
    _unlink(f"{state_dir}/{SOCKET}")
    if state:
        _unlink(f"{state_dir}/{STATE}")


def listen(state_dir: str) -> Socket:
    """The monitor's socket; only the owner may connect."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    folder = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _unlink(f"{state_dir}/{SOCKET}")
        # Before bind the mode is that of the socket itself: nobody can connect in between.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(f"/proc/self/fd/{folder}/{SOCKET}")
    finally:
        os.close(folder)
    listener.listen(8)
    return listener


def connect(state_dir: str) -> Socket | None:
    """A connection to the monitor, or None if no monitor listens there."""
    try:
        folder = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        channel.connect(f"/proc/self/fd/{folder}/{SOCKET}")
    except (FileNotFoundError, ConnectionRefusedError):
        channel.close()
        return None
    finally:
        os.close(folder)
    return channel


def _replace(folder: str, name: str, raw: bytes, *, durable: bool) -> None:
    temporary = f"{folder}/.{name}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, raw)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, f"{folder}/{name}")
    if durable:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _read(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.read(fd, 1 << 20)
    finally:
        os.close(fd)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
