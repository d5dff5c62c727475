"""From the limits of the API, which are version 1's, to what version 2 writes into its files."""

from __future__ import annotations

from pyker.errors import InvalidParameter

UNLIMITED = -1


def cpu_weight(shares: int) -> int:
    """cpu.shares 2..262144 to cpu.weight 1..10000; 0 stays 0 (not given). Source: cgroup-v2 cpu.weight."""
    if shares == 0:
        return 0
    shares = min(max(shares, 2), 262144)
    return 1 + ((shares - 2) * 9999) // 262142


def cpu_max(quota_us: int, period_us: int) -> str:
    """The line of cpu.max; empty when neither is given. Source: cgroup-v2 cpu.max."""
    if quota_us == 0 and period_us == 0:
        return ""
    quota = str(quota_us) if quota_us > 0 else "max"
    return f"{quota} {period_us}" if period_us else quota


def io_weight(blkio_weight: int) -> int:
    """blkio.weight 10..1000 to io.weight 1..10000; 0 stays 0. Source: cgroup-v2 io.weight."""
    return 0 if blkio_weight == 0 else 1 + (blkio_weight - 10) * 9999 // 990


def limit(value: int) -> str:
    """A number, or ``max`` for -1."""
    return "max" if value == UNLIMITED else str(value)


def swap_max(memory_bytes: int, memory_swap_bytes: int) -> str:
    """memory.swap.max from the limit on memory plus swap; empty when not given.

    Raises: InvalidParameter if the sum is below the memory's part, or is given alone.
    Source: cgroup-v2 memory.swap.max.
    """
    if memory_swap_bytes == 0:
        return ""
    if memory_swap_bytes == UNLIMITED or memory_bytes == UNLIMITED:
        return "max"
    if memory_bytes == 0:
        raise InvalidParameter("a limit on memory plus swap needs a limit on memory")
    if memory_swap_bytes < memory_bytes:
        raise InvalidParameter("the limit on memory plus swap is below the limit on memory")
    return str(memory_swap_bytes - memory_bytes)
