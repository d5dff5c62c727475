"""What the daemon, the launcher, a monitor and an init say to each other: every message, in one table.

=====================  =========  ==================================================  ====================
from -> to             message    means                                               descriptors
=====================  =========  ==================================================  ====================
daemon -> launcher     Run        have a monitor run this container                     control, attachments
daemon -> launcher     Exec       have a monitor run one more process in it           control, attachments
daemon -> launcher     NewNetns   make and pin a network namespace                    reply
daemon -> launcher     OpenNetns  open a socket in a pinned one                       reply
daemon -> launcher     DropNetns  unpin it                                            reply
starter -> daemon      Done       the answer to the three above                       netlink socket or none
starter -> daemon      Created    init exists, its command does not run yet
starter -> daemon      Started    execve succeeded                                    pidfd
starter -> daemon      Failure    it did not; nothing is left; the last message
monitor -> daemon      Fault      a fault of ours, to be logged; the monitor ends
monitor -> daemon      Oom        the kernel killed something for want of memory
monitor -> daemon      Exited     the process ended, output delivered, record on disk
daemon -> monitor      Attach     one more client                                     the client's socket
daemon -> monitor      Resize     the terminal's size
daemon -> monitor      CloseStdin end of input
starter -> monitor     Begin      here is your process: a memfd, the descriptors shared
speaker -> monitor     Begin      the same again, as things are now
starter -> cradle      Run, Exec  as the daemon sent it
init -> starter        Born       it exists; from now on it speaks on a pair of       the starter's end
                                  its own
starter -> init        Mapped     uid_map and gid_map are written (user namespace)  mounts with mapped IDs
init -> starter        Pty        the terminal of the process                         the pty's master
starter -> init        Enter      the cgroup is made: enter it and go on              its streams, or none
init -> starter        Ready      all set; execve comes next
init -> starter        Failure    set-up or execve failed
init -> starter        (EOF)      execve succeeded: the socket is close-on-exec
=====================  =========  ==================================================  ====================

The launcher forks a monitor, and that a cradle and a starter, before there is a request; the starter takes the request
from the channel that all of them have from the launcher. On the start path, with the waits that order them::

    daemon                   starter                          cradle
    Run -------------------> Run ---------------------------> clone3, into its own memory:
                                                              init
                             <------------------------ Born   namespaces, root, mounts, devices
                             cgroup, socket
                             Enter -------------------------> cgroup namespace, masks, pivot_root
                             <------------------------- Pty   terminal
                             <----------------------- Ready   identity, capabilities, seccomp, execve
                             <------------------------- EOF
    <----------------------- Started
                             Begin --> monitor

The transport is AF_UNIX SOCK_SEQPACKET with SCM_RIGHTS. A message too long for a packet travels in a memfd, which is
then the last descriptor. Descriptors received belong to the receiver and are close-on-exec.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from pyker import errors
from pyker.errors import InvalidParameter, KernelError, PykerError, SystemFailure, Unavailable
from pyker.libcontainer.spec import ContainerSpec, ExitRecord, LogSpec, ProcessSpec
from pyker.libcontainer.syscalls import call_of, raw_title, title_room

Socket = _socket.socket
"""The C class itself: importing the socket module costs a megabyte in the launcher."""

PACKET_BYTES = 60_000
"""Longest message that travels in a packet; the send buffer's default holds three."""
PID_DIGITS = 10
ATTENDED = b"a"
_MAX_FDS = 64
_INLINE = b"i"
_IN_MEMFD = b"m"


class Streams(Struct, frozen=True):
    """Which streams an attached client takes part in.

    ``mark``: it is told first, as LOG_MARK, up to where the log was written when it came, and so what it has missed.
    """

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    mark: bool = False


LOG_MARK = struct.Struct(">QQ")
"""The inode of the log's file, and its size in bytes."""


class Run(Struct, frozen=True, tag=True):
    """``sent_ns`` is CLOCK_MONOTONIC when the daemon sent this; ``announce`` asks for Created."""

    spec: ContainerSpec
    attachments: tuple[Streams, ...] = ()
    sent_ns: int = 0
    announce: bool = False


class Exec(Struct, frozen=True, tag=True):
    """``pid`` and ``start_time`` name the container's init; ``namespaces`` are those it has for itself."""

    container_id: str
    pid: int
    start_time: int
    cgroup_path: str
    namespaces: tuple[str, ...]
    process: ProcessSpec
    attachments: tuple[Streams, ...] = ()
    sent_ns: int = 0


class NewNetns(Struct, frozen=True, tag=True):
    path: str


class OpenNetns(Struct, frozen=True, tag=True):
    path: str


class DropNetns(Struct, frozen=True, tag=True):
    path: str


class Done(Struct, frozen=True, tag=True):
    pass


class Created(Struct, frozen=True, tag=True):
    pid: int


class Started(Struct, frozen=True, tag=True):
    """``stages`` are nanoseconds spent, by stage, in the order they happened."""

    pid: int
    start_time: int
    stages: dict[str, int]
    warnings: tuple[str, ...] = ()


class Fault(Struct, frozen=True, tag=True):
    """``trace`` is the traceback, as text."""

    trace: str


class Oom(Struct, frozen=True, tag=True):
    pass


class Exited(Struct, frozen=True, tag=True):
    record: ExitRecord


class Attach(Struct, frozen=True, tag=True):
    streams: Streams


class Resize(Struct, frozen=True, tag=True):
    height: int
    width: int


class CloseStdin(Struct, frozen=True, tag=True):
    pass


class Born(Struct, frozen=True, tag=True):
    """``pid`` as the starter numbers it."""

    pid: int


class Mapped(Struct, frozen=True, tag=True):
    """``more`` follow: there are more mounts than descriptors fit in a message."""

    more: bool = False


class Begin(Struct, frozen=True, tag=True, kw_only=True):
    """What the starter hands to the monitor with the process: all that the monitor needs from then on.

    Descriptors are those that both have; -1 is none. ``outputs`` has the number of the stream that each carries.
    ``outlived`` says that the container's other processes would survive its first; ``mounts`` is its mount namespace,
    to be let go of when its end was told. ``name`` is for ps. The rest is what a speaker leaves to the next: how many
    ``oom_kills`` were told of, and by stream what was said since its last whole line (since when, in nanoseconds, and
    what).
    """

    name: str

    pid: int
    start_time: int
    tty: bool
    stdin_once: bool
    log: LogSpec | None = None
    cgroup_path: str = ""
    state_dir: str = ""
    outlived: bool = False
    pidfd: int = -1
    outputs: dict[int, int] = {}
    stdin: int = -1
    oom: int = -1
    listener: int = -1
    mounts: int = -1
    controls: tuple[int, ...] = ()
    clients: tuple[tuple[int, Streams], ...] = ()
    oom_kills: int = 0
    unfinished: dict[int, tuple[int, bytes]] = {}


class Enter(Struct, frozen=True, tag=True):
    pass


class Pty(Struct, frozen=True, tag=True):
    pass


class Ready(Struct, frozen=True, tag=True):
    """``stages`` as in Started; ``warnings`` are for the user."""

    stages: dict[str, int]
    warnings: tuple[str, ...] = ()


class Failure(Struct, frozen=True, tag=True):
    """An error on its way to another process; ``kind`` is the class's name in ``pyker.errors``."""

    kind: str
    message: str
    hint: str = ""
    syscall: str = ""
    errno: int = 0
    stage: str = ""

    @classmethod
    def of(cls, error: BaseException, stage: str) -> Failure:
        """``stage`` is what was being done when ``error`` was raised, unless it says so itself."""
        match error:
            case KernelError():
                return cls("KernelError", error.message, error.hint, error.syscall, error.errno, error.stage or stage)
            case PykerError():
                return cls(type(error).__name__, error.message, error.hint, stage=stage)
            case OSError():
                return cls.of(KernelError.from_oserror(error, syscall=call_of(error) or "call", stage=stage), stage)
            case _:
                return cls("SystemFailure", f"{stage}: {type(error).__name__}: {error}", stage=stage)

    def error(self) -> PykerError:
        """The same error again, of the same class."""
        if self.kind == "KernelError":
            return KernelError(self.message, syscall=self.syscall, errno=self.errno, stage=self.stage, hint=self.hint)
        kind = getattr(errors, self.kind, SystemFailure)
        if not (isinstance(kind, type) and issubclass(kind, PykerError)):
            kind = SystemFailure
        return kind(self.message, hint=self.hint)


ToLauncher = Run | Exec | NewNetns | OpenNetns | DropNetns
ToMonitor = Attach | Resize | CloseStdin
FromMonitor = Created | Started | Failure | Fault | Oom | Exited | Done
ToInit = Mapped | Enter
FromInit = Born | Pty | Ready | Failure
Message = ToLauncher | ToMonitor | FromMonitor | ToInit | FromInit | Begin

_encoder = msgspec.msgpack.Encoder()
_decoders = {side: msgspec.msgpack.Decoder(side) for side in (ToLauncher, ToMonitor, FromMonitor, ToInit, FromInit)}
_NETNS_HEADS = tuple(_encoder.encode(kind(""))[: 7 + len(kind.__name__)] for kind in (NewNetns, OpenNetns, DropNetns))
"""A map of one digit's size, its first key "type", the kind's name."""
_begin_decoder = msgspec.msgpack.Decoder(Begin)


def pair() -> tuple[Socket, Socket]:
    """Two connected ends of a channel, both close-on-exec."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def send(channel: Socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one message and duplicates of ``fds``.

    Raises: Unavailable if the other end is gone, InvalidParameter for text that is not Unicode.
    """
    try:
        raw = _encoder.encode(message)
    except UnicodeEncodeError as error:
        raise InvalidParameter(f"not text: {error.object[:80]!r}") from error
    send_raw(channel, raw, fds)


def send_raw(channel: Socket, raw: bytes, fds: Sequence[int]) -> None:
    """``send`` for a message that is encoded already."""
    memfd = -1
    try:
        if len(raw) <= PACKET_BYTES:
            packet = _INLINE + raw
        else:
            packet = _IN_MEMFD
            memfd = os.memfd_create("pyker-message", os.MFD_CLOEXEC)
            _write_all(memfd, raw)
            fds = (*fds, memfd)
        if fds:
            ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))]
            channel.sendmsg([packet], ancillary, _socket.MSG_NOSIGNAL)
        else:
            channel.send(packet, _socket.MSG_NOSIGNAL)
    except OSError as error:
        if isinstance(error, ConnectionError) or error.errno in (errno.EBADF, errno.ENOTCONN):
            raise Unavailable("the process at the other end is gone") from error
        raise
    finally:
        if memfd >= 0:
            os.close(memfd)


def receive_raw(channel: Socket, *, wait: bool = True) -> tuple[bytes, list[int]]:
    """One message, not decoded, and its descriptors. Raises EOFError at the end, BlockingIOError if not ``wait``."""
    flags = _socket.MSG_CMSG_CLOEXEC | (0 if wait else _socket.MSG_DONTWAIT)
    try:
        packet, ancillary, _, _ = channel.recvmsg(PACKET_BYTES + 16, _CMSG_SPACE, flags)
    except ConnectionResetError:
        # The other end closed with something of ours unread. The kernel says so once, before what it sent us.
        packet, ancillary, _, _ = channel.recvmsg(PACKET_BYTES + 16, _CMSG_SPACE, flags)
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
    if not packet:
        raise EOFError
    if packet[:1] == _IN_MEMFD:
        memfd = fds.pop()
        try:
            return os.pread(memfd, os.fstat(memfd).st_size, 0), fds
        finally:
            os.close(memfd)
    return packet[1:], fds


_CMSG_SPACE = _socket.CMSG_SPACE(4 * _MAX_FDS)


def decode_request(raw: bytes) -> ToLauncher:
    """What ``receive_raw`` brought a starter."""
    return _decoders[ToLauncher].decode(raw)  # type: ignore[no-any-return]


def is_about_netns(raw: bytes) -> bool:
    """Whether a request that is not decoded yet is one of those that need no process."""
    return raw.startswith(_NETNS_HEADS)


def receive_from_monitor(channel: Socket, *, wait: bool = True) -> tuple[FromMonitor, list[int]]:
    raw, fds = receive_raw(channel, wait=wait)
    return _decoders[FromMonitor].decode(raw), fds


def receive_from_daemon(channel: Socket, *, wait: bool = True) -> tuple[ToMonitor, list[int]]:
    raw, fds = receive_raw(channel, wait=wait)
    return _decoders[ToMonitor].decode(raw), fds


def write_begin(begin: Begin, cradle_pid: int, holder_pid: int = 0) -> int:
    """A memfd with what a monitor reads without decoding, and after it the rest. First are its title, the pids of
    process, cradle and holder (0 for none) in PID_DIGITS each, and ATTENDED if clients are attached from the beginning.
    """
    memfd = os.memfd_create("pyker-begin", os.MFD_CLOEXEC)
    pids = (PID_DIGITS, begin.pid, PID_DIGITS, cradle_pid, PID_DIGITS, holder_pid)
    head = (raw_title(begin.name), *pids, ATTENDED if begin.clients else b"-")
    _write_all(memfd, b"%b%*d%*d%*d%b%b" % (*head, _encoder.encode(begin)))
    os.lseek(memfd, 0, os.SEEK_SET)
    return memfd


def read_begin(memfd: int) -> Begin:
    """What follows that."""
    return _begin_decoder.decode(os.pread(memfd, os.fstat(memfd).st_size, _head_bytes()))


def rewrite_begin(memfd: int, begin: Begin) -> None:
    """Put another in its place."""
    os.ftruncate(memfd, _head_bytes())
    os.pwrite(memfd, _encoder.encode(begin), _head_bytes())


def _head_bytes() -> int:
    return title_room() + 3 * PID_DIGITS + 1


def changed(begin: Begin, **fields: object) -> Begin:
    """``begin`` with other ``fields``."""
    return msgspec.structs.replace(begin, **fields)


def receive_from_init(channel: Socket) -> tuple[FromInit, list[int]]:
    raw, fds = receive_raw(channel)
    return _decoders[FromInit].decode(raw), fds


def receive_from_parent(channel: Socket) -> tuple[ToInit, list[int]]:
    raw, fds = receive_raw(channel)
    return _decoders[ToInit].decode(raw), fds


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
