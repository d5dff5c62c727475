"""Capabilities: their names, a container's default set, and how a process puts its sets on. Source: capabilities(7).

The order in which init goes from root to the container's process, each step needing what the next one takes away:

1. ``before_setuid``: the bounding set goes down, permitted capabilities will outlive setresuid
2. setgroups, setresgid, setresuid
3. ``regain``: what step 2 took from the effective set comes back
4. ``seccomp.load``, unless no-new-privileges is wanted (without it, loading needs CAP_SYS_ADMIN)
5. ``after_setuid``: the final sets
6. with no-new-privileges: prctl(PR_SET_NO_NEW_PRIVS), then ``seccomp.load``
7. execve
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from pyker.errors import InvalidParameter, KernelError
from pyker.libcontainer import syscalls
from pyker.libcontainer.spec import Capabilities

_IN_ORDER = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)

NUMBERS: dict[str, int] = {f"CAP_{name}": number for number, name in enumerate(_IN_ORDER.split())}
"""Names with CAP_, as of Linux 5.9; none was added since."""

NAMES: tuple[str, ...] = tuple(NUMBERS)
"""By number."""

DEFAULT: tuple[str, ...] = tuple(
    f"CAP_{name}"
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
)
"""What a container has if nothing else is asked for. Source: Docker API v1.45, mask 00000000a80425fb."""

_PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 2, 4


def mask(names: Iterable[str]) -> int:
    """The bits of ``names``. Raises: KeyError for a name that ``NUMBERS`` lacks."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name]
    return bits


def names(bits: int) -> tuple[str, ...]:
    """The names of the bits, by number; bits without a name are left out."""
    return tuple(name for name, number in NUMBERS.items() if bits >> number & 1)


@functools.cache
def bounding_set() -> frozenset[str]:
    """What this process may give to a container: its own bounding set. Source: proc_pid_status(5) CapBnd."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapBnd:"):
                return frozenset(names(int(line.split()[1], 16)))
    return frozenset()


def _normal(name: str, option: str) -> str:
    upper = name.strip().upper()
    if upper == "ALL":
        return upper
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in NUMBERS:
        raise InvalidParameter(f'invalid {option}: unknown capability: "{full}"', hint="see capabilities(7)")
    return full


def resolve(
    add: Iterable[str], drop: Iterable[str], *, privileged: bool = False, available: frozenset[str] | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What ``--cap-add`` and ``--cap-drop`` come to: (names in the default's order or by number, warnings).

    Names may lack CAP_ and be in lower case; ALL means all. A capability asked for by name that ``available`` (this
    machine's bounding set) lacks is left out with a warning; ALL and ``privileged`` mean all that the machine has.
    Raises: InvalidParameter for an unknown name. Source: Docker API v1.45 HostConfig.CapAdd.
    """
    possible = bounding_set() if available is None else available
    adding = [_normal(name, "CapAdd") for name in add]
    dropping = {_normal(name, "CapDrop") for name in drop}
    if privileged:
        return tuple(name for name in NAMES if name in possible), ()
    if "ALL" in adding:
        wanted = [name for name in NAMES if name not in dropping and name in possible]
        return tuple(wanted), ()
    if "ALL" in dropping:
        wanted = [name for name in NAMES if name in adding]
    else:
        kept = [name for name in DEFAULT if name not in dropping]
        wanted = kept + [name for name in NAMES if name in adding and name not in kept]
    warnings = tuple(
        f"capability {name} was asked for, but this host's bounding set lacks it: left out"
        for name in wanted
        if name not in possible and name in adding
    )
    return tuple(name for name in wanted if name in possible), warnings


def before_setuid(wanted: Capabilities) -> None:
    """Drop all but ``wanted.bounding`` from the bounding set, and keep permitted capabilities across setresuid.

    Needs CAP_SETPCAP. Raises: KernelError.
    """
    keep = {NUMBERS[name] for name in wanted.bounding}
    try:
        for number in range(64):
            if number in keep:
                continue
            try:
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
            except OSError as error:
                if error.errno == 22:
                    break
                raise
        syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    except OSError as error:
        raise KernelError.from_oserror(error, syscall="prctl", stage="capabilities") from error


def regain() -> None:
    """Make every permitted capability effective again, as it was before setresuid. Raises: KernelError."""
    try:
        _, permitted, inheritable = syscalls.capget()
        syscalls.capset(permitted, permitted, inheritable)
    except OSError as error:
        raise KernelError.from_oserror(error, syscall=syscalls.call_of(error), stage="capabilities") from error


def after_setuid(wanted: Capabilities, uid: int) -> None:
    """Put the final sets on. A ``uid`` other than 0 gets no permitted, effective or ambient capabilities, except those
    that are ambient in ``wanted``; its bounding set stays. Raises: KernelError.
    """
    ambient = mask(wanted.ambient)
    effective, permitted = mask(wanted.effective), mask(wanted.permitted)
    inheritable = mask(wanted.inheritable)
    if uid != 0:
        effective, permitted = effective & ambient, permitted & ambient
    try:
        syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 0)
        syscalls.capset(effective, permitted, inheritable)
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
        for name in wanted.ambient:
            syscalls.prctl(syscalls.PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, NUMBERS[name])
    except OSError as error:
        raise KernelError.from_oserror(error, syscall=syscalls.call_of(error), stage="capabilities") from error


def apply(wanted: Capabilities, uid: int = 0) -> None:
    """``before_setuid`` and ``after_setuid`` at once, for a process that stays what it is. Raises: KernelError."""
    before_setuid(wanted)
    after_setuid(wanted, uid)
