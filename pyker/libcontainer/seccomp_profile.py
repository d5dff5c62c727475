"""User-written seccomp profiles, in the JSON form that ``--security-opt seccomp=FILE`` takes.

Source: OCI runtime-spec config-linux.md#seccomp; Docker engine security/seccomp (archMap, includes, excludes).
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from pyker.errors import InvalidParameter
from pyker.libcontainer.seccomp_default import SUB_ARCHES, Argument, Rule
from pyker.libcontainer.seccomp_default import rules as default_rules

ARCH_NAMES: dict[str, str] = {
    "SCMP_ARCH_X86_64": "amd64",
    "SCMP_ARCH_X86": "x86",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_AARCH64": "arm64",
    "SCMP_ARCH_ARM": "arm",
    "SCMP_ARCH_S390X": "s390x",
    "SCMP_ARCH_S390": "s390",
    "SCMP_ARCH_RISCV64": "riscv64",
    "SCMP_ARCH_PPC64LE": "ppc64le",
}
_FOREIGN = {
    "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB",
}  # fmt: skip
"""Names that are right, for machines that Pyker does not run on."""

ACTIONS = frozenset({"KILL_PROCESS", "KILL", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "LOG", "ALLOW"})
"""NOTIFY is left out: nobody would answer."""

_OPS = {"NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"}


@dataclass(frozen=True, slots=True)
class Filter:
    """A profile resolved for one process on one machine: what ``seccomp_bpf.assemble`` takes."""

    default_action: str
    default_errno: int
    machines: tuple[str, ...]
    rules: tuple[Rule, ...]


def builtin(capabilities: frozenset[str], arch: str, kernel: tuple[int, int]) -> Filter:
    """The default profile."""
    machines = (arch, *SUB_ARCHES.get(arch, ()))
    return Filter("ERRNO", 1, machines, tuple(default_rules(capabilities, arch, kernel)))


def _bad(message: str) -> InvalidParameter:
    return InvalidParameter(f"Decoding seccomp profile failed: {message}")


def _word(value: object, prefix: str, words: Container[str], what: str) -> str:
    """``value`` without its prefix, which must leave one of ``words``."""
    text = value if isinstance(value, str) else ""
    word = text.removeprefix(prefix)
    if not text.startswith(prefix) or word not in words:
        raise InvalidParameter(f"string {text} is not a valid {what} for seccomp")
    return word


def _list(value: object, what: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _bad(f"{what} must be a list")
    return value


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _bad(f"{what} must be an object")
    return value


def _number(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise _bad(f"{what} must be a number from 0 to 2^64-1, not {value!r}")
    return value


def _version(value: object) -> tuple[int, int]:
    major, dot, minor = value.partition(".") if isinstance(value, str) else ("", "", "")
    if not dot or not major.isdigit() or not minor.isdigit():
        raise _bad(f"invalid kernel version {value!r}: it must be like 4.8")
    return int(major), int(minor)


def _applies(entry: Mapping[str, object], capabilities: frozenset[str], arch: str, kernel: tuple[int, int]) -> bool:
    includes, excludes = _mapping(entry.get("includes"), "includes"), _mapping(entry.get("excludes"), "excludes")
    if arch in _list(excludes.get("arches"), "excludes.arches"):
        return False
    if any(name in capabilities for name in _list(excludes.get("caps"), "excludes.caps")):
        return False
    if excludes.get("minKernel") and kernel >= _version(excludes["minKernel"]):
        return False
    arches = _list(includes.get("arches"), "includes.arches")
    if arches and arch not in arches:
        return False
    if any(name not in capabilities for name in _list(includes.get("caps"), "includes.caps")):
        return False
    return not (includes.get("minKernel") and kernel < _version(includes["minKernel"]))


def _arguments(entry: Mapping[str, object]) -> tuple[Argument, ...]:
    found = []
    for item in _list(entry.get("args"), "args"):
        arg = _mapping(item, "an argument")
        op = _word(arg.get("op"), "SCMP_CMP_", _OPS, "operator")
        index = _number(arg.get("index", 0), "an argument's index")
        if index > 5:
            raise _bad(f"an argument's index is 0 to 5, not {index}")
        value_two = _number(arg.get("valueTwo", 0), "valueTwo")
        found.append(Argument(index, op, _number(arg.get("value", 0), "value"), value_two))
    return tuple(found)


def _rule(entry: Mapping[str, object]) -> Rule:
    names = _list(entry.get("names"), "names")
    single = entry.get("name")
    if names and single:
        raise InvalidParameter("'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'")
    action = _word(entry.get("action"), "SCMP_ACT_", ACTIONS, "action")
    errno = entry.get("errnoRet")
    return Rule(
        tuple(str(name) for name in names) or ((str(single),) if single else ()),
        action,
        1 if errno is None else _number(errno, "errnoRet"),
        _arguments(entry),
    )


def _machines(profile: Mapping[str, object], arch: str) -> tuple[str, ...]:
    plain, mapped = _list(profile.get("architectures"), "architectures"), _list(profile.get("archMap"), "archMap")
    if plain and mapped:
        raise InvalidParameter(
            "'architectures' and 'archMap' were specified in the seccomp profile, "
            "use either 'architectures' or 'archMap'"
        )
    wanted = plain
    for item in mapped:
        entry = _mapping(item, "archMap")
        if ARCH_NAMES.get(str(entry.get("architecture"))) == arch:
            wanted = [entry["architecture"], *_list(entry.get("subArchitectures"), "subArchitectures")]
    found = [arch]
    for name in wanted:
        if name in ARCH_NAMES:
            found.append(ARCH_NAMES[str(name)])
        elif name not in _FOREIGN:
            raise InvalidParameter(f"string {name} is not a valid arch for seccomp")
    return tuple(dict.fromkeys(found))


def parse(profile: Mapping[str, object], capabilities: frozenset[str], arch: str, kernel: tuple[int, int]) -> Filter:
    """Resolve ``profile`` (decoded JSON) for a process with ``capabilities``. Raises: InvalidParameter."""
    action = _word(profile.get("defaultAction"), "SCMP_ACT_", ACTIONS, "action")
    errno = profile.get("defaultErrnoRet")
    entries = [_mapping(item, "syscalls") for item in _list(profile.get("syscalls"), "syscalls")]
    rules = tuple(_rule(entry) for entry in entries if _applies(entry, capabilities, arch, kernel))
    default_errno = 1 if errno is None else _number(errno, "defaultErrnoRet")
    return Filter(action, default_errno, _machines(profile, arch), rules)
