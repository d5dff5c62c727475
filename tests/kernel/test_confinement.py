"""Capabilities, seccomp, no-new-privileges and limits, put on by a real process and read from /proc."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import struct
from pathlib import Path

import pytest

from pyker.errors import KernelError
from pyker.libcontainer import capabilities, rlimits, seccomp
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.spec import Capabilities, Rlimit
from tests.support.forked import in_child

pytestmark = pytest.mark.requires("root", "seccomp")

DEFAULT = tuple(name for name in capabilities.DEFAULT if name in capabilities.bounding_set())
SETS = Capabilities(bounding=DEFAULT, effective=DEFAULT, permitted=DEFAULT)


def status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def assume(uid: int, wanted: Capabilities = SETS, *, program: bytes = b"", no_new_privileges: bool = False) -> None:
    """The steps of ``capabilities``'s docstring, in its order."""
    capabilities.before_setuid(wanted)
    os.setgroups([uid])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    capabilities.regain()
    if program and not no_new_privileges:
        seccomp.load(program)
    capabilities.after_setuid(wanted, uid)
    if no_new_privileges:
        sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
        if program:
            seccomp.load(program)


def number(call: object) -> int:
    """The errno that ``call`` fails with, 0 if it works."""
    assert callable(call)
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


@pytest.fixture(scope="module")
def program() -> bytes:
    return seccomp.compile_profile(None, DEFAULT)


def test_root_has_exactly_the_sets_asked_for() -> None:
    def inside() -> dict[str, str]:
        assume(0)
        return status()

    found = in_child(inside)
    mask = f"{capabilities.mask(DEFAULT):016x}"
    assert (found["CapPrm"], found["CapEff"], found["CapBnd"]) == (mask, mask, mask)
    assert (found["CapInh"], found["CapAmb"]) == ("0" * 16, "0" * 16)


def test_another_user_keeps_the_bounding_set_only() -> None:
    def inside() -> dict[str, str]:
        assume(1000)
        return status()

    found = in_child(inside)
    assert found["CapBnd"] == f"{capabilities.mask(DEFAULT):016x}"
    assert {found[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
    assert found["Uid"].split() == ["1000"] * 4
    assert found["Groups"].split() == ["1000"]


def test_ambient_capabilities_reach_another_user() -> None:
    one = ("CAP_NET_BIND_SERVICE",)
    wanted = Capabilities(bounding=one, effective=one, permitted=one, inheritable=one, ambient=one)

    def inside() -> dict[str, str]:
        assume(1000, wanted)
        return status()

    found = in_child(inside)
    assert found["CapAmb"] == found["CapEff"] == f"{capabilities.mask(one):016x}"


def test_what_is_dropped_cannot_come_back() -> None:
    def inside() -> int:
        assume(0, Capabilities())
        return number(lambda: sc.capset(1, 1, 0))

    assert in_child(inside) == errno.EPERM


@pytest.mark.parametrize("no_new_privileges", [False, True])
@pytest.mark.parametrize("uid", [0, 1000])
def test_the_filter_is_on(program: bytes, uid: int, no_new_privileges: bool) -> None:
    def inside() -> tuple[str, str, int, int]:
        assume(uid, program=program, no_new_privileges=no_new_privileges)
        found = status()
        return (
            found["Seccomp"],
            found["NoNewPrivs"],
            number(lambda: sc.unshare(sc.CLONE_NEWUSER)),
            number(lambda: os.stat("/")),
        )

    assert in_child(inside) == ("2", str(int(no_new_privileges)), errno.EPERM, 0)


def test_refused_calls_and_missing_calls(program: bytes) -> None:
    def inside() -> list[int]:
        seccomp.load(program)
        return [
            number(lambda: sc.mount("x", "/tmp", "tmpfs")),
            clone3(),
            number(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)),
            number(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()),
            number(lambda: sc.keyctl(sc.KEYCTL_JOIN_SESSION_KEYRING)),
            number(lambda: os.waitpid(_fork(), 0)),
        ]

    assert in_child(inside) == [errno.EPERM, errno.ENOSYS, errno.EPERM, 0, errno.EPERM, 0]


def clone3() -> int:
    """The errno of the bare call: the wrapper in syscalls goes on to try clone."""
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.syscall(435, None, 0) < 0 else 0


def _fork() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return pid


def test_without_privilege_and_no_new_privs_loading_is_refused(program: bytes) -> None:
    def inside() -> int:
        os.setresuid(1000, 1000, 1000)
        try:
            seccomp.load(program)
        except KernelError as error:
            assert error.stage == "seccomp"
            return error.errno
        return 0

    assert in_child(inside) == errno.EACCES


def test_a_killing_rule_kills() -> None:
    given = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "getppid", "action": "SCMP_ACT_KILL_PROCESS"}]}
    killer = seccomp.compile_profile(given, DEFAULT)
    pid = os.fork()
    if pid == 0:
        seccomp.load(killer)
        os.getppid()
        os._exit(0)
    _, wait_status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(wait_status)
    assert os.WTERMSIG(wait_status) == 31


def test_rlimits_are_the_kernels() -> None:
    def inside() -> tuple[str, tuple[int, int]]:
        rlimits.apply((Rlimit("nofile", 100, 200), Rlimit("core", 0, 0), Rlimit("fsize", 4096, -1)))
        line = next(line for line in Path("/proc/self/limits").read_text().splitlines() if "open files" in line)
        return line, resource.getrlimit(resource.RLIMIT_FSIZE)

    line, fsize = in_child(inside)
    assert line.split()[3:5] == ["100", "200"]
    assert fsize == (4096, -1)


def test_a_hard_limit_above_ours_is_clipped_and_told() -> None:
    def inside() -> tuple[list[Rlimit], tuple[str, ...], tuple[int, int]]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (50, 60))
        possible, warnings = rlimits.clip((Rlimit("nofile", 70, 80), Rlimit("cpu", 5, 6)), may_raise=False)
        rlimits.apply(possible)
        return list(possible), warnings, resource.getrlimit(resource.RLIMIT_NOFILE)

    possible, warnings, now = in_child(inside)
    assert possible == [Rlimit("nofile", 60, 60), Rlimit("cpu", 5, 6)]
    assert now == (60, 60)
    assert len(warnings) == 1
    assert "nofile=70:80" in warnings[0]
    assert in_child(lambda: rlimits.clip((Rlimit("nofile", 1, 1 << 40),), may_raise=True)) == (
        (Rlimit("nofile", 1, 1 << 40),),
        (),
    )


def test_capget_agrees_with_proc() -> None:
    effective, permitted, inheritable = sc.capget()
    found = status()
    assert [f"{mask:016x}" for mask in (effective, permitted, inheritable)] == [
        found["CapEff"],
        found["CapPrm"],
        found["CapInh"],
    ]


def test_the_program_is_an_array_of_sock_filter(program: bytes) -> None:
    assert len(program) % 8 == 0
    assert len(program) // 8 <= 4096
    assert struct.unpack_from("=H", program, len(program) - 8)[0] == 6
