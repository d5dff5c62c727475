"""An independent reading of seccomp filters: a classic BPF interpreter, and the filter that a process runs under.

Source: linux/filter.h, seccomp(2), ptrace(2) PTRACE_SECCOMP_GET_FILTER.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

ALLOW, KILL = 0x7FFF0000, 0x00000000
_SEIZE, _INTERRUPT, _DETACH, _GET_FILTER = 0x4206, 0x4207, 17, 0x420C
_WALL = 0x40000000


def errno(number: int) -> int:
    """What a filter returns to make a call fail with ``number``."""
    return 0x00050000 | number


def run(program: bytes, arch: int, nr: int, args: Sequence[int] = ()) -> int:
    """The word that ``program`` returns for a call. Raises: ValueError for an instruction no filter should hold."""
    data = struct.pack("=IIQ6Q", nr & 0xFFFFFFFF, arch, 0, *(*args, *[0] * (6 - len(args))))
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator = 0
    scratch = [0] * 16
    index = 0
    while True:
        op, true, false, value = code[index]
        index += 1
        match op:
            case 0x20:
                accumulator = struct.unpack_from("=I", data, value)[0]
            case 0x00:
                accumulator = value
            case 0x02:
                scratch[value] = accumulator
            case 0x60:
                accumulator = scratch[value]
            case 0x54:
                accumulator &= value
            case 0x05:
                index += value
            case 0x15:
                index += true if accumulator == value else false
            case 0x25:
                index += true if accumulator > value else false
            case 0x35:
                index += true if accumulator >= value else false
            case 0x45:
                index += true if accumulator & value else false
            case 0x06:
                return int(value)
            case _:
                raise ValueError(f"instruction {op:#x}")


def steps(program: bytes, arch: int, nr: int) -> int:
    """How many instructions ``program`` runs for a call without arguments."""
    code = list(struct.iter_unpack("=HBBI", program))
    data = struct.pack("=II", nr & 0xFFFFFFFF, arch) + bytes(56)
    accumulator = index = count = 0
    while True:
        op, true, false, value = code[index]
        index += 1
        count += 1
        if op == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif op == 0x54:
            accumulator &= value
        elif op == 0x05:
            index += value
        elif op in (0x15, 0x25, 0x35):
            taken = {0x15: accumulator == value, 0x25: accumulator > value, 0x35: accumulator >= value}[op]
            index += true if taken else false
        elif op == 0x06:
            return count
        else:
            raise ValueError(f"instruction {op:#x}")


def filter_of(pid: int, index: int = 0) -> bytes:
    """The newest filter of a running process; needs CAP_SYS_ADMIN. The process is stopped for a moment."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long] * 4
    libc.ptrace.restype = ctypes.c_long

    def ptrace(request: int, address: int = 0, data: int = 0) -> int:
        result = int(libc.ptrace(request, pid, address, data))
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"ptrace: {os.strerror(number)}")
        return result

    ptrace(_SEIZE)
    try:
        ptrace(_INTERRUPT)
        os.waitpid(pid, _WALL)
        count = ptrace(_GET_FILTER, index)
        room = ctypes.create_string_buffer(count * 8)
        ptrace(_GET_FILTER, index, ctypes.addressof(room))
        return room.raw
    finally:
        ptrace(_DETACH)
