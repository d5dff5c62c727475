"""Resource limits: names as ``--ulimit`` spells them, clipped to what this process may give. Source: getrlimit(2)."""

from __future__ import annotations

import resource

from pyker.errors import InvalidParameter, KernelError
from pyker.libcontainer.spec import Rlimit

NUMBERS: dict[str, int] = {
    "as": resource.RLIMIT_AS,
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,
    "fsize": resource.RLIMIT_FSIZE,
    "locks": 10,
    "memlock": resource.RLIMIT_MEMLOCK,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
    "nice": resource.RLIMIT_NICE,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "rss": resource.RLIMIT_RSS,
    "rtprio": resource.RLIMIT_RTPRIO,
    "rttime": resource.RLIMIT_RTTIME,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "stack": resource.RLIMIT_STACK,
}
"""RLIMIT_LOCKS (10) has no effect since Linux 2.4.25, and Python has no name for it."""

UNLIMITED = -1


def check(limit: Rlimit) -> None:
    """Raises: InvalidParameter for an unknown name, or a soft limit above the hard one."""
    if limit.name not in NUMBERS:
        raise InvalidParameter(f"invalid ulimit type: {limit.name}", hint=f"one of {', '.join(sorted(NUMBERS))}")
    above = limit.soft == UNLIMITED or limit.soft > limit.hard
    if limit.hard != UNLIMITED and above:
        raise InvalidParameter(
            f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
        )


def _least(first: int, second: int) -> int:
    if UNLIMITED in (first, second):
        return second if first == UNLIMITED else first
    return min(first, second)


def clip(limits: tuple[Rlimit, ...], *, may_raise: bool) -> tuple[tuple[Rlimit, ...], tuple[str, ...]]:
    """The limits that can be set from here, and a warning for each that had to be lowered.

    ``may_raise`` says whether CAP_SYS_RESOURCE is at hand: without it a hard limit can only go down.
    """
    possible: list[Rlimit] = []
    warnings: list[str] = []
    for limit in limits:
        hard = resource.getrlimit(NUMBERS[limit.name])[1]
        if may_raise or _least(limit.hard, hard) == limit.hard:
            possible.append(limit)
            continue
        lowered = Rlimit(name=limit.name, soft=_least(limit.soft, hard), hard=hard)
        possible.append(lowered)
        warnings.append(
            f"ulimit {limit.name}={limit.soft}:{limit.hard} is above the hard limit {hard} and CAP_SYS_RESOURCE is "
            f"missing: set to {lowered.soft}:{lowered.hard}"
        )
    return tuple(possible), tuple(warnings)


def apply(limits: tuple[Rlimit, ...]) -> None:
    """Set the calling process's limits, before the user ID changes. Raises: KernelError, InvalidParameter."""
    for limit in limits:
        check(limit)
        try:
            resource.setrlimit(NUMBERS[limit.name], (limit.soft, limit.hard))
        except (OSError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else None
            raise KernelError(
                f"rlimits: setrlimit {limit.name}={limit.soft}:{limit.hard}: {error}",
                syscall="setrlimit",
                errno=number or 1,
                stage="rlimits",
            ) from error
