"""Signals by name and number, as users write them: ``SIGTERM``, ``term``, ``15``, ``RTMIN+3``.

The numbers are Linux's on amd64 and arm64, so that a client on another system names the same ones. Source: signal(7).
"""

from __future__ import annotations

from pyker.errors import InvalidParameter

SIGRTMIN = 34
"""glibc keeps 32 and 33 for itself."""
SIGRTMAX = 64

_PLAIN = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG "
    "XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)

NAMES: dict[int, str] = {number: f"SIG{name}" for number, name in enumerate(_PLAIN.split(), start=1)}
"""Numbers 1 to 31, each with its first name."""

_NUMBERS: dict[str, int] = {
    **{name.removeprefix("SIG"): number for number, name in NAMES.items()},
    "CLD": 17,
    "IOT": 6,
    "POLL": 29,
    "RTMIN": SIGRTMIN,
    "RTMAX": SIGRTMAX,
    **{f"RTMIN+{offset}": SIGRTMIN + offset for offset in range(1, 16)},
    **{f"RTMAX-{offset}": SIGRTMAX - offset for offset in range(1, 15)},
}


def parse(text: str) -> int:
    """The number of the signal that ``text`` names.

    Raises: InvalidParameter, with the reference engine's words, for an unknown name or a number outside 1 to 64.
    """
    bare = text.strip()
    if bare.isascii() and bare.lstrip("+-").isdigit():
        number = int(bare)
        if 0 < number <= SIGRTMAX:
            return number
    else:
        found = _NUMBERS.get(bare.upper().removeprefix("SIG"))
        if found is not None:
            return found
    raise InvalidParameter(
        f"Invalid signal: {text}", hint="give a name such as SIGTERM or TERM, or a number from 1 to 64"
    )


def name(number: int) -> str:
    """``SIGTERM`` for 15; real-time signals relative to SIGRTMIN; the bare number for what has no name."""
    if number in NAMES:
        return NAMES[number]
    if SIGRTMIN <= number <= SIGRTMAX:
        return "SIGRTMIN" if number == SIGRTMIN else f"SIGRTMIN+{number - SIGRTMIN}"
    return str(number)
