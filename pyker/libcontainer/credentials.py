"""The last steps before execve, the same for a container's init and for an exec: who the process is, what it may do.

The order is forced by the kernel: limits and file owners while still root; the bounding set before the user changes;
the other capability sets after it (KEEPCAPS in between); seccomp while CAP_SYS_ADMIN is there, or at the very end
when no_new_privs makes that possible.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import os
import sys
from typing import NoReturn, Protocol

from pyker.errors import KernelError, NotSupported
from pyker.libcontainer import capabilities, command, console, handshake, mounts, rlimits, user
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.handshake import Pty, Ready, Socket
from pyker.libcontainer.spec import ProcessSpec

_KEYRING_REFUSALS = (1, 13, 38, 122)
"""EPERM, EACCES, ENOSYS, EDQUOT: a process without a keyring of its own still runs, as with the reference engine."""


_ignored: list[int] = []


def note_ignored_signals() -> None:
    """Find out which signals this process ignores, as its children will: by Python, by the launcher, or by whoever
    started the daemon. execve hands that on, so that they must be reset.
    """
    with open("/proc/self/status", "rb", buffering=0) as status:
        text = status.read()
    bits = int(text[text.index(b"SigIgn:") + 7 :].split(maxsplit=1)[0], 16)
    _ignored[:] = [number + 1 for number in range(bits.bit_length()) if bits >> number & 1]


class Stopwatch(Protocol):
    """``pyker.libcontainer.init.Stages``."""

    spent: dict[str, int]

    def enter(self, stage: str) -> None: ...


def detach(container_id: str) -> None:
    """Leave the session, the keyring and the file mode mask of the launcher behind.

    Until execve this process is a copy of the launcher: others in the same container must not look into it, and it
    must not import anything any more, because from pivot_root on it would run modules of the image's, as root.
    """
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path.clear()
    sc.prctl(sc.PR_SET_DUMPABLE, 0)
    os.setsid()
    os.umask(0)
    try:
        sc.keyctl(sc.KEYCTL_JOIN_SESSION_KEYRING, f"_ses.{container_id}")
    except OSError as error:
        if error.errno not in _KEYRING_REFUSALS:
            raise


def make_terminal(root: int, channel: Socket, process: ProcessSpec) -> int:
    """Make the process's terminal from the container's devpts; send its master off; returns the slave."""
    try:
        ptmx = mounts.open_in_root(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        raise KernelError(
            f"console: cannot open /dev/pts/ptmx: {os.strerror(error.errno or 0)}",
            syscall="openat2",
            errno=error.errno or 0,
            stage="console",
        ) from error
    master, slave = console.open_pty(ptmx)
    height, width = process.console_size
    if height or width:
        console.set_size(slave, height, width)
    handshake.send(channel, Pty(), (master, slave))
    os.close(master)
    return slave


def assume_and_execute(
    process: ProcessSpec, stdio: list[int], channel: Socket, stages: Stopwatch, *, make_cwd: bool
) -> NoReturn:
    """Take on the process's identity and limits inside the container's root, and execute its command.

    Sends Ready just before execve. Raises: KernelError or InvalidParameter; the caller reports and exits.
    """
    who = user.resolve(
        process.user,
        command.read_small("/etc/passwd"),
        command.read_small("/etc/group"),
        process.additional_groups,
    )
    env = command.environment(process.env, who.home)
    if make_cwd:
        # Where something else is in the way, going there fails with the words that people know.
        try:
            os.makedirs(process.cwd, 0o755, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            pass
        except OSError as error:
            raise KernelError.from_oserror(error, syscall="mkdir", stage="security") from error
    warnings: tuple[str, ...] = ()
    if process.oom_score_adj is not None:
        _set_oom_score_adj(str(process.oom_score_adj))
    if process.rlimits:
        limits, warnings = rlimits.clip(process.rlimits, may_raise="CAP_SYS_RESOURCE" in capabilities.bounding_set())
        rlimits.apply(limits)
    _take_streams(stdio, who.uid, terminal=process.tty)
    for signum in _ignored:
        _signal.signal(signum, _signal.SIG_DFL)
    if process.apparmor_profile:
        # The launcher has imported it where the kernel has AppArmor; elsewhere it would be dead weight, and is missing.
        apparmor = sys.modules.get("pyker.libcontainer.apparmor")
        if apparmor is None:
            raise NotSupported("this kernel has no AppArmor", hint="drop --security-opt apparmor=...")
        apparmor.change_on_exec(process.apparmor_profile)
    capabilities.before_setuid(process.capabilities)
    os.setgroups(who.groups)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    capabilities.regain()
    if process.seccomp and not process.no_new_privileges:
        _filter(process.seccomp)
    capabilities.after_setuid(process.capabilities, who.uid)
    command.enter(process.cwd)
    if process.no_new_privileges:
        sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
    os.umask(process.umask)
    path = command.find(process.args[0], env.get("PATH", command.DEFAULT_PATH))
    _seal_descriptors()
    stages.enter("exec")
    handshake.send(channel, Ready(stages.spent, warnings))
    if process.seccomp and process.no_new_privileges:
        _filter(process.seccomp)
    try:
        os.execve(path, process.args, env)
    except OSError as error:
        raise command.execve_failure(path, error) from error


def _take_streams(stdio: list[int], uid: int, *, terminal: bool) -> None:
    """Make ``stdio`` descriptors 0, 1 and 2, owned by the process's user so that it can open /dev/stdout again."""
    for fd in dict.fromkeys(stdio):
        if uid and not _is_null(fd):
            os.fchown(fd, uid, -1)
    if terminal:
        os.fchmod(stdio[0], 0o620)
        console.make_controlling(stdio[0])
    # None of them is 0, 1 or 2 already: the monitor keeps those on /dev/null.
    for number, fd in enumerate(stdio):
        os.dup2(fd, number, inheritable=True)


def _filter(program: bytes) -> None:
    try:
        sc.load_filter(program)
    except OSError as error:
        raise KernelError.from_oserror(error, syscall="seccomp", stage="seccomp") from error


def _is_null(fd: int) -> bool:
    return os.fstat(fd).st_rdev == os.makedev(1, 3)


def _set_oom_score_adj(value: str) -> None:
    try:
        _write_proc("/proc/self/oom_score_adj", value)
    except PermissionError:
        # In a user namespace the file of a process that nobody may look into is not ours; the starter has seen to it.
        with open("/proc/self/oom_score_adj", "rb") as file:
            if file.read().strip() != value.encode():
                raise


def _write_proc(path: str, text: str) -> None:
    """Write a file of procfs, having made sure that it is one: an image may have put another there (CVE-2025-52881)."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if sc.fstatfs_type(fd) != sc.PROC_SUPER_MAGIC:
            raise KernelError(f"security: {path} is not in procfs", stage="security")
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _seal_descriptors() -> None:
    """Nothing but the three streams is to outlive execve. All are close-on-exec already; this is the second lock."""
    try:
        sc.close_range(3, flags=sc.CLOSE_RANGE_CLOEXEC)
    except OSError:
        # Before Linux 5.11.
        for fd in range(3, 1024):
            with contextlib.suppress(OSError):
                os.set_inheritable(fd, False)
