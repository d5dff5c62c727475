"""System call filters: compile a profile to BPF, keep the result, load it. Source: seccomp(2).

Compiling happens in the daemon (a few milliseconds, once for each profile and capability set); loading happens in init,
and takes only the bytes. libseccomp is asked for nothing but the numbers that calls have on each architecture.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping

from pyker.errors import InvalidParameter, KernelError, NotSupported
from pyker.libcontainer import syscalls
from pyker.libcontainer.seccomp_default import Argument, Rule

LIBRARY = "libseccomp.so.2"
_FORMAT = 2
"""Part of the cache's key: to be raised when the same profile compiles to something else."""

_SPEC_ALLOW = 4
"""Leave speculative store bypass alone, which the kernel itself does since Linux 5.16."""

ARCHES = {"x86_64": "amd64", "aarch64": "arm64", "s390x": "s390x", "riscv64": "riscv64", "ppc64le": "ppc64le"}

_NEWER = {
    "cachestat": 451, "fchmodat2": 452, "map_shadow_stack": 453, "futex_wake": 454, "futex_wait": 455,
    "futex_requeue": 456, "statmount": 457, "listmount": 458, "lsm_get_self_attr": 459, "lsm_set_self_attr": 460,
    "lsm_list_modules": 461, "mseal": 462, "setxattrat": 463, "getxattrat": 464, "listxattrat": 465,
    "removexattrat": 466, "open_tree_attr": 467, "file_getattr": 468, "file_setattr": 469,
}  # fmt: skip
"""Calls that an older libseccomp does not know; from 424 on all architectures use the same numbers."""

_SOCKETCALLS = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
]
_IPCCALLS = {
    "semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
    "shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
}  # fmt: skip


_NEWER_AMD64 = {"uretprobe": 335}

_DIRECT_X86 = {
    "recvmmsg": 337, "sendmmsg": 345, "socket": 359, "socketpair": 360, "bind": 361, "connect": 362, "listen": 363,
    "accept4": 364, "getsockopt": 365, "setsockopt": 366, "getsockname": 367, "getpeername": 368, "sendto": 369,
    "sendmsg": 370, "recvfrom": 371, "recvmsg": 372, "shutdown": 373, "semget": 393, "semctl": 394, "shmget": 395,
    "shmctl": 396, "shmat": 397, "shmdt": 398, "msgget": 399, "msgsnd": 400, "msgrcv": 401, "msgctl": 402,
}  # fmt: skip
"""32-bit x86 has these beside socketcall and ipc; libseccomp answers with a stand-in that covers both."""


def native_arch() -> str:
    """This machine, as profiles name it. Raises: NotSupported for one that no profile knows."""
    arch = ARCHES.get(platform.machine())
    if arch is None:
        raise NotSupported(f"seccomp: no profile for {platform.machine()}", hint="run with seccomp=unconfined")
    return arch


@functools.cache
def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(character for character in minor if character.isdigit()) or 0)


class _Version(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint)]


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise NotSupported(
            f"seccomp profiles need {LIBRARY}, which is not installed",
            hint="install libseccomp2, or run with --security-opt seccomp=unconfined",
        ) from error
    library.seccomp_version.restype = ctypes.POINTER(_Version)
    library.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    library.seccomp_syscall_resolve_name_arch.restype = ctypes.c_int
    return library


@functools.cache
def library_version() -> str:
    """Such as ``2.5.4``. Raises: NotSupported if libseccomp is not installed."""
    version = _library().seccomp_version().contents
    return f"{version.major}.{version.minor}.{version.micro}"


def number(name: str, machine: str) -> int | None:
    """The call's number on ``machine`` (x32's have their bit set), or None if it has no such call."""
    from pyker.libcontainer.seccomp_bpf import MACHINES

    found = int(_library().seccomp_syscall_resolve_name_arch(MACHINES[machine].token, name.encode()))
    if found >= 0:
        return found
    if machine == "x86" and name in _DIRECT_X86:
        return _DIRECT_X86[name]
    if machine == "amd64" and name in _NEWER_AMD64:
        return _NEWER_AMD64[name]
    if found == -1 and name in _NEWER:
        return _NEWER[name] | (0x40000000 if machine == "x32" else 0)
    return None


def compile_profile(
    profile: Mapping[str, object] | str | None, capabilities: Iterable[str], arch: str = "", cache_dir: str = ""
) -> bytes:
    """The BPF program for a process with these capabilities (names with CAP_).

    ``profile`` is decoded JSON, the JSON text itself, or None for the default profile. ``arch`` is empty for this
    machine's. An empty profile object means no filter, and so an empty program. Results are kept in memory, and in
    ``cache_dir`` if that is given (made if missing).
    Raises: InvalidParameter for a profile that cannot be right, NotSupported without libseccomp.
    """
    text = profile if isinstance(profile, str) else "" if profile is None else json.dumps(profile, sort_keys=True)
    wanted = frozenset(capabilities)
    arch = arch or native_arch()
    parts = [str(_FORMAT), library_version(), arch, str(_kernel()), ",".join(sorted(wanted)), text]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    program = _memory.get(key)
    if program is None:
        program = _read(cache_dir, key)
    if program is None:
        program = _compile(text, wanted, arch)
        _write(cache_dir, key, program)
    if len(_memory) >= 256:
        _memory.clear()
    _memory[key] = program
    return program


_memory: dict[str, bytes] = {}


def check(text: str) -> None:
    """Raises: InvalidParameter for a profile that no process could run under."""
    from pyker.libcontainer import capabilities

    compile_profile(text, capabilities.DEFAULT)


def _compile(text: str, capabilities: frozenset[str], arch: str) -> bytes:
    from pyker.libcontainer import seccomp_bpf, seccomp_profile

    if text:
        try:
            decoded = json.loads(text)
        except ValueError as error:
            raise InvalidParameter(f"Decoding seccomp profile failed: {_json_error(error)}") from error
        if not isinstance(decoded, dict):
            raise InvalidParameter("Decoding seccomp profile failed: it must be a JSON object")
        if not decoded.get("defaultAction") and not decoded.get("syscalls"):
            return b""
        found = seccomp_profile.parse(decoded, capabilities, arch, _kernel())
    else:
        found = seccomp_profile.builtin(capabilities, arch, _kernel())
    names = {name for rule in found.rules for name in rule.names}
    resolved = names | {"socketcall", "ipc"}
    tables = {
        machine: {name: nr for name in resolved if (nr := number(name, machine)) is not None}
        for machine in found.machines
    }
    rules = [*found.rules, *_multiplexed(list(found.rules), names)]
    return seccomp_bpf.assemble(rules, tables, found.default_action, found.default_errno)


def _json_error(error: ValueError) -> str:
    """In the reference engine's words where the first character is wrong already."""
    if isinstance(error, json.JSONDecodeError) and error.msg == "Expecting value" and error.pos < len(error.doc):
        return f"invalid character '{error.doc[error.pos]}' looking for beginning of value"
    return str(error)


def _multiplexed(rules: list[Rule], names: set[str]) -> list[Rule]:
    """32-bit x86 and s390 also reach sockets and System V IPC through one call each, whose first argument says which.

    A rule without conditions for ``connect`` must therefore open that door of ``socketcall`` too, unless the profile
    speaks of ``socketcall`` itself. Rules with conditions cannot: the real arguments are behind a pointer.
    """
    doors = {name: ("socketcall", index) for index, name in enumerate(_SOCKETCALLS, start=1)}
    doors |= {name: ("ipc", index) for name, index in _IPCCALLS.items()}
    found = []
    for rule in rules:
        for name in rule.names if not rule.args else ():
            call, index = doors.get(name, ("", 0))
            if call and call not in names:
                found.append(Rule((call,), rule.action, rule.errno, (Argument(0, "EQ", index),)))
    return found


def _read(directory: str, key: str) -> bytes | None:
    if not directory:
        return None
    try:
        with open(f"{directory}/{key}.bpf", "rb") as file:
            data = file.read()
    except OSError:
        return None
    return data if data and len(data) % 8 == 0 else None


def _write(directory: str, key: str, program: bytes) -> None:
    """Keep a program. The cache is a convenience: a full or read-only disk loses nothing but time."""
    if not directory:
        return
    temporary = f"{directory}/.{key}.{os.getpid()}"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(program)
        os.rename(temporary, f"{directory}/{key}.bpf")
    except OSError:
        return


class _Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def load(program: bytes) -> None:
    """Put the filter on the calling thread, for good, and on all that it starts.

    Without no_new_privs this needs CAP_SYS_ADMIN, so it comes before capabilities are dropped; see
    ``capabilities`` for the order. What runs between this and execve is itself filtered. Raises: KernelError.
    """
    value = _Program(len(program) // 8, program)
    try:
        syscalls.seccomp(syscalls.SECCOMP_SET_MODE_FILTER, _SPEC_ALLOW, ctypes.byref(value))
    except OSError as error:
        raise KernelError.from_oserror(error, syscall="seccomp", stage="seccomp") from error
