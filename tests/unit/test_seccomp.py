"""Seccomp programs, read by an interpreter of our own and compared with what libseccomp makes of the same rules."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from pyker.errors import InvalidParameter
from pyker.libcontainer import capabilities, seccomp, seccomp_bpf, seccomp_profile
from pyker.libcontainer.seccomp_default import Argument, Rule
from tests.support import bpf

pytestmark = pytest.mark.requires("seccomp")

AMD64, X86, ARM64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
X32_BIT = 0x40000000
EPERM, ENOSYS = bpf.errno(1), bpf.errno(38)
DEFAULT = capabilities.DEFAULT
CLONE_NEWUSER, CLONE_THREAD_FLAGS = 0x10000000, 0x3D0F00


def verdict(program: bytes, name: str, *args: int, machine: str = "amd64") -> int:
    number = seccomp.number(name, machine)
    assert number is not None, name
    return bpf.run(program, seccomp_bpf.MACHINES[machine].audit, number, args)


@pytest.fixture(scope="module")
def plain() -> bytes:
    return seccomp.compile_profile(None, DEFAULT, "amd64")


@pytest.mark.parametrize(
    "name",
    [
        "read",
        "write",
        "openat",
        "execve",
        "clone",
        "futex",
        "mmap",
        "socketpair",
        "getrandom",
        "statx",
        "openat2",
        "close_range",
        "ptrace",
        "chroot",
        "arch_prctl",
        "modify_ldt",
        "mknod",
        "chown",
        "setuid",
        "seccomp",
        "landlock_create_ruleset",
        "mseal",
        "listmount",
    ],
)
def test_allowed_by_default(plain: bytes, name: str) -> None:
    assert verdict(plain, name) == bpf.ALLOW


@pytest.mark.parametrize(
    "name",
    [
        "mount",
        "umount2",
        "unshare",
        "setns",
        "reboot",
        "init_module",
        "kexec_load",
        "add_key",
        "keyctl",
        "bpf",
        "perf_event_open",
        "swapon",
        "settimeofday",
        "syslog",
        "acct",
        "iopl",
        "open_by_handle_at",
        "pivot_root",
        "userfaultfd",
        "io_uring_setup",
        "io_uring_enter",
        "move_mount",
        "vhangup",
        "process_madvise",
        "lookup_dcookie",
        "quotactl",
        "set_mempolicy",
        "clock_settime",
        "sethostname",
    ],
)
def test_refused_by_default(plain: bytes, name: str) -> None:
    assert verdict(plain, name) == EPERM


def test_clone_may_not_make_namespaces(plain: bytes) -> None:
    assert verdict(plain, "clone", CLONE_THREAD_FLAGS) == bpf.ALLOW
    for shift in (17, 25, 26, 27, 28, 29, 30):
        assert verdict(plain, "clone", 1 << shift | 17) == EPERM, shift
    assert verdict(plain, "clone3") == ENOSYS


def test_with_sys_admin_clone_is_free() -> None:
    program = seccomp.compile_profile(None, [*DEFAULT, "CAP_SYS_ADMIN"], "amd64")
    assert verdict(program, "clone", CLONE_NEWUSER) == bpf.ALLOW
    assert verdict(program, "clone3") == bpf.ALLOW
    assert verdict(program, "mount") == bpf.ALLOW
    assert verdict(program, "reboot") == EPERM


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("CAP_SYS_PTRACE", "process_madvise"),
        ("CAP_SYS_MODULE", "finit_module"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_SYS_BOOT", "reboot"),
        ("CAP_SYS_PACCT", "acct"),
        ("CAP_SYS_RAWIO", "ioperm"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_SYS_TTY_CONFIG", "vhangup"),
        ("CAP_SYS_NICE", "mbind"),
        ("CAP_SYSLOG", "syslog"),
        ("CAP_BPF", "bpf"),
        ("CAP_PERFMON", "perf_event_open"),
        ("CAP_SYS_CHROOT", "chroot"),
    ],
)
def test_a_capability_opens_its_calls(capability: str, name: str) -> None:
    without = seccomp.compile_profile(None, set(DEFAULT) - {capability}, "amd64")
    granted = seccomp.compile_profile(None, {*DEFAULT, capability}, "amd64")
    assert verdict(without, name) == EPERM
    assert verdict(granted, name) == bpf.ALLOW


def test_vsock_by_the_low_half_of_the_argument(plain: bytes) -> None:
    assert verdict(plain, "socket", 2) == bpf.ALLOW
    assert verdict(plain, "socket", 40) == EPERM
    assert verdict(plain, "socket", 40 | 1 << 32) == EPERM


def test_personality_values(plain: bytes) -> None:
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert verdict(plain, "personality", value) == bpf.ALLOW
    for value in (1, 0x40000, 0xFFFFFFFFFFFFFFFF):
        assert verdict(plain, "personality", value) == EPERM


def test_calls_newer_than_the_profile_do_not_exist(plain: bytes) -> None:
    """A libc that gets EPERM for a call it tries first would give up instead of falling back."""
    assert bpf.run(plain, AMD64, 466) == bpf.ALLOW
    assert bpf.run(plain, AMD64, 467) == ENOSYS
    assert bpf.run(plain, AMD64, 0x3FFFFFFF) == ENOSYS
    assert bpf.run(plain, X86, 467) == ENOSYS
    assert bpf.run(plain, AMD64, X32_BIT + 700) == ENOSYS


def test_companions_are_filtered_too(plain: bytes) -> None:
    assert verdict(plain, "read", machine="x86") == bpf.ALLOW
    assert verdict(plain, "mount", machine="x86") == EPERM
    assert verdict(plain, "connect", machine="x86") == bpf.ALLOW
    assert verdict(plain, "socketcall", machine="x86") == bpf.ALLOW
    assert verdict(plain, "read", machine="x32") == bpf.ALLOW
    assert verdict(plain, "mount", machine="x32") == EPERM


def test_other_machines_are_killed(plain: bytes) -> None:
    assert bpf.run(plain, ARM64, 63) == bpf.KILL


def test_arm64_with_arm() -> None:
    program = seccomp.compile_profile(None, DEFAULT, "arm64")
    assert verdict(program, "read", machine="arm64") == bpf.ALLOW
    assert verdict(program, "mount", machine="arm64") == EPERM
    assert verdict(program, "cacheflush", machine="arm") == bpf.ALLOW
    assert verdict(program, "umount2", machine="arm") == EPERM
    assert bpf.run(program, AMD64, 0) == bpf.KILL


def test_the_tree_is_shallow(plain: bytes) -> None:
    assert len(plain) // 8 < 800
    assert max(bpf.steps(plain, AMD64, number) for number in range(460)) <= 24


# libseccomp as the oracle

_VALUES = {"EQ": 4, "NE": 1, "LT": 2, "LE": 3, "GE": 5, "GT": 6, "MASKED_EQ": 7}


class _Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def by_libseccomp(rules: Iterable[Rule], default: int, machines: Iterable[str]) -> bytes:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_void_p,
    ]
    for name in ("seccomp_arch_add", "seccomp_arch_remove"):
        getattr(library, name).argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    context = library.seccomp_init(default)
    wanted = [seccomp_bpf.MACHINES[name].token for name in machines]
    native = seccomp_bpf.MACHINES[seccomp.native_arch()].token
    for token in wanted:
        library.seccomp_arch_add(context, token)
    if native not in wanted:
        library.seccomp_arch_remove(context, native)
    for rule in rules:
        action = seccomp_bpf.action_value(rule.action, rule.errno)
        for name in rule.names:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == -1:
                continue
            compares = (_Compare * len(rule.args))(
                *(_Compare(a.index, _VALUES[a.op.removesuffix("_INT")], a.value, a.value_two) for a in rule.args)
            )
            result = library.seccomp_rule_add_array(context, action, number, len(rule.args), ctypes.byref(compares))
            assert result in (0, -17, -22, -33, -13), (name, result)
    fd = os.memfd_create("oracle")
    assert library.seccomp_export_bpf(context, fd) == 0
    library.seccomp_release(context)
    program = os.pread(fd, 1 << 20, 0)
    os.close(fd)
    return program


def assert_same(ours: bytes, theirs: bytes, machine: str, beyond: int, skipped: set[int]) -> int:
    """Every number that both know, with arguments on both sides of every comparison; how many were compared."""
    audit = seccomp_bpf.MACHINES[machine].audit
    first = X32_BIT if machine == "x32" else 0
    compared = 0
    for number in range(first, first + 470):
        if number in skipped:
            continue
        for args in ((), (1,), (8,), (17,), (40,), (0x20000,), (0x10000000, 0x20000), (0xFFFFFFFF,), (0x3D0F00,)):
            mine, oracle = bpf.run(ours, audit, number, args), bpf.run(theirs, audit, number, args)
            if mine != beyond:
                assert mine == oracle, (machine, number - first, args, hex(mine), hex(oracle))
                compared += 1
    return compared


@pytest.mark.parametrize("extra", [(), ("CAP_SYS_ADMIN",), ("CAP_SYS_PTRACE", "CAP_BPF", "CAP_SYS_NICE")])
@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_default_profile_equals_libseccomps(arch: str, extra: tuple[str, ...]) -> None:
    granted = frozenset({*DEFAULT, *extra})
    found = seccomp_profile.builtin(granted, arch, (6, 1))
    ours = seccomp.compile_profile(None, granted, arch)
    theirs = by_libseccomp(found.rules, EPERM, found.machines)
    unknown = {*range(451, 470)}
    for machine in found.machines:
        first = X32_BIT if machine == "x32" else 0
        skipped = {first + number for number in unknown} | {335}
        assert assert_same(ours, theirs, machine, ENOSYS, skipped) > 2500


OPS = [
    Rule(("getppid",), args=(Argument(0, "EQ", 5),)),
    Rule(("getpid",), args=(Argument(1, "NE", 1 << 40),)),
    Rule(("getuid",), args=(Argument(0, "GT", 1 << 33),)),
    Rule(("getgid",), args=(Argument(0, "GE", (1 << 33) + 7),)),
    Rule(("geteuid",), args=(Argument(0, "LT", 1 << 33),)),
    Rule(("getegid",), args=(Argument(0, "LE", (1 << 33) + 7),)),
    Rule(("dup",), args=(Argument(0, "MASKED_EQ", 0xF0000000F, 0x300000003),)),
    Rule(("dup2",), args=(Argument(0, "EQ", 1), Argument(1, "GT", 2))),
    Rule(("dup3",), "ERRNO", 13, (Argument(2, "EQ", 0),)),
    Rule(("kill",), "TRAP"),
    Rule(("tkill",), "LOG"),
    Rule(("tgkill",), "KILL_PROCESS"),
    Rule(("fork",), "TRACE", 99),
]


def test_every_operator_equals_libseccomps() -> None:
    names = [name for rule in OPS for name in rule.names]
    table = {name: number for name in names if (number := seccomp.number(name, "amd64")) is not None}
    ours = seccomp_bpf.assemble(OPS, {"amd64": table}, "ERRNO", 1)
    theirs = by_libseccomp(OPS, EPERM, ["amd64"])
    edges = [0, 1, 2, 3, 5, 1 << 33, (1 << 33) - 1, (1 << 33) + 7, (1 << 33) + 8, 1 << 40, 0x300000003, (1 << 64) - 1]
    for name, number in table.items():
        for first in edges:
            for second in edges:
                args = (first, second, first & 1)
                assert bpf.run(ours, AMD64, number, args) == bpf.run(theirs, AMD64, number, args), (name, args)


# Profiles that users write


def profile(**changes: object) -> dict[str, object]:
    return {"defaultAction": "SCMP_ACT_ALLOW", **changes}


def test_a_users_deny_list() -> None:
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]
    program = seccomp.compile_profile(profile(syscalls=rules), DEFAULT, "amd64")
    assert verdict(program, "mkdir") == bpf.errno(13)
    assert verdict(program, "rmdir") == bpf.ALLOW
    assert bpf.run(program, AMD64, 600) == bpf.ALLOW
    assert bpf.run(program, X86, 3) == bpf.KILL


def test_an_allow_list_for_companions_by_arch_map() -> None:
    given = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 22,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [{"names": ["read", "connect", "nosuchcall"], "action": "SCMP_ACT_ALLOW"}],
    }
    program = seccomp.compile_profile(given, DEFAULT, "amd64")
    assert verdict(program, "read", machine="x86") == bpf.ALLOW
    assert verdict(program, "write", machine="x86") == bpf.errno(22)
    # connect on 32-bit x86: the direct call, and the third door of socketcall.
    assert verdict(program, "connect", machine="x86") == bpf.ALLOW
    assert verdict(program, "socketcall", 3, machine="x86") == bpf.ALLOW
    assert verdict(program, "socketcall", 1, machine="x86") == bpf.errno(22)


def test_conditions_on_capability_arch_and_kernel() -> None:
    def entry(name: str, **conditions: object) -> dict[str, object]:
        return {"names": [name], "action": "SCMP_ACT_ERRNO", **conditions}

    given = profile(
        syscalls=[
            entry("mkdir", includes={"caps": ["CAP_SYS_ADMIN"]}),
            entry("rmdir", excludes={"caps": ["CAP_SYS_ADMIN"]}),
            entry("chmod", includes={"arches": ["arm64"]}),
            entry("chown", excludes={"arches": ["arm64"]}),
            entry("link", includes={"minKernel": "99.0"}),
            entry("unlink", includes={"minKernel": "3.1"}),
            entry("symlink", excludes={"minKernel": "3.1"}),
        ]
    )
    program = seccomp.compile_profile(given, DEFAULT, "amd64")
    hit = [
        name
        for name in ("mkdir", "rmdir", "chmod", "chown", "link", "unlink", "symlink")
        if verdict(program, name) == EPERM
    ]
    assert hit == ["rmdir", "chown", "unlink"]


def test_repeated_arguments_are_alternatives() -> None:
    args = [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]
    given = profile(syscalls=[{"names": ["dup"], "action": "SCMP_ACT_ERRNO", "args": args}])
    program = seccomp.compile_profile(given, DEFAULT, "amd64")
    assert [verdict(program, "dup", value) for value in (1, 2, 3)] == [EPERM, EPERM, bpf.ALLOW]


def test_an_empty_profile_is_none() -> None:
    assert seccomp.compile_profile("{}", DEFAULT) == b""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("xx", "Decoding seccomp profile failed: invalid character 'x' looking for beginning of value"),
        ("[]", "Decoding seccomp profile failed: it must be a JSON object"),
        (profile(defaultAction="FOO"), "string FOO is not a valid action for seccomp"),
        (profile(defaultAction="SCMP_ACT_NOTIFY"), "string SCMP_ACT_NOTIFY is not a valid action for seccomp"),
        (profile(architectures=["SCMP_ARCH_FOO"]), "string SCMP_ARCH_FOO is not a valid arch for seccomp"),
        (
            profile(syscalls=[{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}]),
            "'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'",
        ),
        (
            profile(architectures=["SCMP_ARCH_X86"], archMap=[{"architecture": "SCMP_ARCH_X86_64"}]),
            "'architectures' and 'archMap' were specified in the seccomp profile, use either 'architectures' or "
            "'archMap'",
        ),
        (
            profile(syscalls=[{"name": "a", "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": "X"}]}]),
            "string X is not a valid operator for seccomp",
        ),
        (
            profile(syscalls=[{"name": "a", "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}]),
            "Decoding seccomp profile failed: an argument's index is 0 to 5, not 6",
        ),
        (profile(syscalls={"a": 1}), "Decoding seccomp profile failed: syscalls must be a list"),
    ],
)
def test_bad_profiles(given: str | Mapping[str, object], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        seccomp.compile_profile(given, DEFAULT)
    assert caught.value.message == message


def test_a_profile_too_big_for_the_kernel() -> None:
    rules = [
        {
            "names": [name],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": errno,
            "args": [{"index": index, "op": "SCMP_CMP_GE", "value": (errno << 33) + index} for index in range(6)],
        }
        for errno, name in enumerate(["read", "write", "open", "close"] * 40, start=1)
    ]
    with pytest.raises(InvalidParameter, match="instructions"):
        seccomp.compile_profile(profile(syscalls=rules), DEFAULT, "amd64")


def test_the_cache_survives_and_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    given = json.dumps(profile(syscalls=[{"name": "mkdir", "action": "SCMP_ACT_LOG"}]))
    first = seccomp.compile_profile(given, DEFAULT, cache_dir=str(folder))
    (kept,) = folder.iterdir()
    assert kept.read_bytes() == first
    assert kept.stat().st_mode & 0o077 == 0 or folder.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(seccomp, "_memory", {})
    monkeypatch.setattr(seccomp, "_compile", lambda *_: pytest.fail("compiled again"))
    assert seccomp.compile_profile(given, DEFAULT, cache_dir=str(folder)) == first


def test_a_damaged_cache_entry_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = seccomp.compile_profile(None, DEFAULT, cache_dir=str(tmp_path / "c"))
    monkeypatch.setattr(seccomp, "_memory", {})
    seccomp.compile_profile(None, DEFAULT, cache_dir=str(tmp_path / "c"))
    (kept,) = (tmp_path / "c").iterdir()
    kept.write_bytes(b"abc")
    monkeypatch.setattr(seccomp, "_memory", {})
    assert seccomp.compile_profile(None, DEFAULT, cache_dir=str(tmp_path / "c")) == first
