"""Version 2's device controller: a BPF program attached to the cgroup decides each open and mknod.

Source: kernel Documentation/admin-guide/cgroup-v2.rst "Device controller", bpf(2), linux/bpf.h bpf_cgroup_dev_ctx.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

from pyker.errors import KernelError
from pyker.libcontainer.spec import DeviceRule
from pyker.libcontainer.syscalls import bpf

_BPF_PROG_LOAD, _BPF_PROG_ATTACH, _BPF_PROG_DETACH, _BPF_PROG_GET_FD_BY_ID, _BPF_PROG_QUERY = 5, 8, 9, 13, 16
_BPF_PROG_TYPE_CGROUP_DEVICE, _BPF_CGROUP_DEVICE = 15, 6
_BPF_F_ALLOW_MULTI = 2
_ATTRIBUTES_SIZE = 72
"""Enough for the oldest form of each command's attributes; the kernel takes missing ones for zero."""

_TYPE = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_ALL = 7

_LOAD_WORD, _AND, _RIGHT_SHIFT, _MOVE, _MOVE_REGISTER = 0x61, 0x54, 0x74, 0xB4, 0xBC
_JUMP_EQUAL, _JUMP_NOT_EQUAL, _EXIT = 0x15, 0x55, 0x95
_R0, _R1, _TYPE_REGISTER, _ACCESS_REGISTER, _MAJOR_REGISTER, _MINOR_REGISTER = range(6)


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, target | source << 4, offset, value)


def _clause(rule: DeviceRule) -> bytes:
    """Instructions that return the rule's verdict if it matches, and otherwise fall through to what follows.

    An allowing rule must cover every access that is asked for; a denying one matches if it covers any.
    """
    tests: list[tuple[int, int, int]] = []
    if rule.kind != "a":
        tests.append((_JUMP_NOT_EQUAL, _TYPE_REGISTER, _TYPE[rule.kind]))
    access = sum(_ACCESS[letter] for letter in set(rule.access))
    before = b""
    if access != _ALL:
        mask = _ALL & ~access if rule.allow else access
        before = _instruction(_MOVE_REGISTER, _R1, _ACCESS_REGISTER) + _instruction(_AND, _R1, value=mask)
        tests.append((_JUMP_NOT_EQUAL if rule.allow else _JUMP_EQUAL, _R1, 0))
    if rule.major != -1:
        tests.append((_JUMP_NOT_EQUAL, _MAJOR_REGISTER, rule.major))
    if rule.minor != -1:
        tests.append((_JUMP_NOT_EQUAL, _MINOR_REGISTER, rule.minor))
    jumps = b"".join(
        _instruction(code, register, offset=len(tests) - index + 1, value=value)
        for index, (code, register, value) in enumerate(tests)
    )
    return before + jumps + _instruction(_MOVE, _R0, value=int(rule.allow)) + _instruction(_EXIT)


def program(rules: Sequence[DeviceRule]) -> bytes:
    """The BPF instructions for ``rules``: the last one that matches decides; what none matches is allowed."""
    last_reset = max((i for i, rule in enumerate(rules) if _covers_everything(rule)), default=0)
    code = (
        _instruction(_LOAD_WORD, _TYPE_REGISTER, _R1, 0)
        + _instruction(_MOVE_REGISTER, _ACCESS_REGISTER, _TYPE_REGISTER)
        + _instruction(_AND, _TYPE_REGISTER, value=0xFFFF)
        + _instruction(_RIGHT_SHIFT, _ACCESS_REGISTER, value=16)
        + _instruction(_LOAD_WORD, _MAJOR_REGISTER, _R1, 4)
        + _instruction(_LOAD_WORD, _MINOR_REGISTER, _R1, 8)
    )
    for rule in reversed(rules[last_reset:]):
        code += _clause(rule)
    if not rules or not _covers_everything(rules[last_reset]):
        code += _instruction(_MOVE, _R0, value=1) + _instruction(_EXIT)
    return code


def _covers_everything(rule: DeviceRule) -> bool:
    return rule.kind == "a" and rule.major == -1 and rule.minor == -1 and set(rule.access) >= set("rwm")


def _load(code: bytes) -> int:
    instructions = ctypes.create_string_buffer(code, len(code))
    license_text = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQ",
        _BPF_PROG_TYPE_CGROUP_DEVICE,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(license_text),
    )
    return bpf(_BPF_PROG_LOAD, bytearray(attributes.ljust(_ATTRIBUTES_SIZE, b"\0")))


def attached(directory_fd: int) -> list[int]:
    """IDs of the device programs attached to this very cgroup, not inherited. Raises: OSError."""
    room = (ctypes.c_uint32 * 64)()
    packed = struct.pack("=IIIIQI", directory_fd, _BPF_CGROUP_DEVICE, 0, 0, ctypes.addressof(room), len(room))
    attributes = bytearray(packed.ljust(_ATTRIBUTES_SIZE, b"\0"))
    bpf(_BPF_PROG_QUERY, attributes)
    count: int = struct.unpack_from("=I", attributes, 24)[0]
    return [room[index] for index in range(count)]


def attach(directory: str, rules: Sequence[DeviceRule]) -> None:
    """Enforce ``rules`` in the v2 cgroup at ``directory``, in place of those that ``attach`` set before.

    The program lives as long as the cgroup. Programs of cgroups above still apply: all must allow. Needs CAP_BPF and
    CAP_NET_ADMIN, or CAP_SYS_ADMIN. Raises: KernelError.
    """
    try:
        directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            before = attached(directory_fd)
            program_fd = _load(program(rules))
            try:
                attributes = struct.pack("=IIII", directory_fd, program_fd, _BPF_CGROUP_DEVICE, _BPF_F_ALLOW_MULTI)
                bpf(_BPF_PROG_ATTACH, bytearray(attributes))
            finally:
                os.close(program_fd)
            for identifier in before:
                _detach(directory_fd, identifier)
        finally:
            os.close(directory_fd)
    except OSError as error:
        raise KernelError(
            f"cgroup: device filter of {directory}: {error.strerror}",
            syscall="bpf",
            errno=error.errno or 0,
            stage="cgroup",
            hint="version 2 device rules need a kernel with CONFIG_CGROUP_BPF",
        ) from error


def _detach(directory_fd: int, identifier: int) -> None:
    program_fd = bpf(_BPF_PROG_GET_FD_BY_ID, bytearray(struct.pack("=I", identifier)))
    try:
        bpf(_BPF_PROG_DETACH, bytearray(struct.pack("=III", directory_fd, program_fd, _BPF_CGROUP_DEVICE)))
    finally:
        os.close(program_fd)
