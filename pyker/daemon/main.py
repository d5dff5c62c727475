"""``pyker daemon``: reads the options, takes the locks, composes the engine, serves until a signal.

On SIGTERM and SIGINT it stops accepting, lets running jobs end, and goes. Containers go on running: the next daemon
adopts them. Source: dockerd(8); sd_notify(3).
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType

import pyker
from pyker.daemon import logformat
from pyker.daemon.options import Options, parse_options
from pyker.errors import PykerError

log = logging.getLogger("pyker.daemon")

_SWITCH_INTERVAL_S = 0.0005
"""How long a busy thread may keep the interpreter: 0.7 ms instead of 5 for a request beside it."""


def main(argv: list[str]) -> int:
    """Run the daemon; returns its exit status."""
    try:
        options = parse_options(argv, os.environ)
    except PykerError as error:
        sys.stderr.write(f"{error}\n" + (f"{error.hint}\n" if error.hint else ""))
        return 1
    if options.help:
        from pyker.daemon.usage import usage

        sys.stdout.write(usage())
        return 0
    if options.validate:
        sys.stdout.write("configuration OK\n")
        return 0
    logformat.set_up("debug" if options.debug else options.log_level)
    try:
        with ExitStack() as stack:
            _prepare(options, stack)
            _serve(options, stack)
    except PykerError as error:
        log.error("%s", error)
        sys.stderr.write(f"failed to start daemon: {error}\n" + (f"{error.hint}\n" if error.hint else ""))
        return 1
    return 0


class Refused(PykerError):
    """The daemon cannot run here or now."""

    reference = "daemon-refused"


def _prepare(options: Options, stack: ExitStack) -> None:
    """Make the folders, take the locks. Raises Refused."""
    if os.geteuid() != 0:
        raise Refused(
            "the daemon needs to be started with root privileges",
            hint="start it as root: sudo pyker daemon",
        )
    for folder, mode in ((options.data_root, 0o710), (options.exec_root, 0o711)):
        try:
            os.makedirs(folder, mode=mode, exist_ok=True)
        except OSError as error:
            raise Refused(f"mkdir {folder}: {(error.strerror or str(error)).lower()}") from error
    _write_trial(options.data_root)
    _lock(os.path.join(options.data_root, "daemon.lock"), options, stack)
    _write_pidfile(options.pidfile, stack)


def _write_trial(folder: str) -> None:
    path = os.path.join(folder, ".trial")
    try:
        with open(path, "wb") as file:
            file.write(b"x")
        os.unlink(path)
    except OSError as error:
        raise Refused(f"the data root {folder!r} cannot be written to: {error.strerror}") from error


def _lock(path: str, options: Options, stack: ExitStack) -> None:
    """One daemon for each data root, also where their pid files differ. The lock goes with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        raise Refused(
            f"pid file found, ensure pyker is not running or delete {options.pidfile}: process {holder} uses the data "
            f"root {options.data_root}",
            hint="another daemon can run beside it with its own --data-root, --exec-root, --pidfile and --host",
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _write_pidfile(path: str, stack: ExitStack) -> None:
    """Held by a lock, not by what it says: a pid is used again one day."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused(f"pid file found, ensure pyker is not running or delete {path}") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    stack.callback(_unlink, path)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _serve(options: Options, stack: ExitStack) -> None:
    from pyker.daemon.cgroupparent import CgroupParent, cgroup_parent
    from pyker.daemon.compose import compose
    from pyker.libcontainer.launcher import Launcher

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _on_signal(stop))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    log.info("Starting up")
    parent = CgroupParent(cgroup_parent(options), options.exec_root)
    stack.callback(parent.give_back)
    launcher = Launcher.spawn(options.exec_root)
    stack.callback(launcher.close)
    _raise_file_limit()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    daemon = compose(options, launcher)
    stack.callback(daemon.close)
    daemon.serve(options)
    gc.collect()
    gc.freeze()
    log.info("Daemon has completed initialization: version %s, storage driver %s", pyker.__version__, daemon.storage)
    _notify(b"READY=1")
    stop.wait()
    _notify(b"STOPPING=1")
    log.info("Daemon shutting down; containers go on running")


def _raise_file_limit() -> None:
    """Every client and container costs descriptors. The launcher, and with it every container, keeps the old limit.

    Source: getrlimit(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        log.debug("up to %d open files instead of %d", hard, soft)


def _on_signal(stop: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    return handle


def _notify(message: bytes) -> None:
    """Tell systemd, if it started us."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(message, address)
        except OSError as error:
            log.warning("systemd cannot be told: %s", error)
