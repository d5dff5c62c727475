"""The one table of guests, ``machines.json``, as typed values. Whatever it promises is checked here, once."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Literal

import msgspec

Cgroup = Literal["v1", "v2"]
Storage = Literal["ext4", "btrfs", "xfs"]

TABLE = Path(__file__).with_name("machines.json")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


class LabError(Exception):
    """Something that the lab was asked for cannot be had; the message says what to do next."""


class Kernel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a kernel comes from: a package of a Debian suite, or a folder of ``PYKER_LAB_KERNELS``."""

    suite: str = ""
    package: str = ""
    folder: str = ""


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A root file system: a suite, the Python in it, and packages beyond those that every root has."""

    suite: str
    python: str
    packages: tuple[str, ...] = ()


class Guest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A virtual machine: kernel x cgroup mode x root. ``promises`` adds to what the table promises for all."""

    name: str
    kernel: str
    cgroup: Cgroup
    root: str
    graphdriver: str
    storage: Storage = "ext4"
    memory_mib: int = 768
    promises: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    # What of the selection a run of everything leaves to other guests: whole entries, or tests in them.
    leaves: tuple[str, ...] = ()
    # Not part of a run that names no guest.
    on_request: bool = False
    # About how long a run of everything takes in it, emulated: those that take longest start first.
    seconds: int = 0


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two guests on one virtual L2."""

    name: str
    guests: tuple[str, str]
    seconds: int = 0


class Box(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Vagrant box, for a machine that can run those."""

    name: str
    box: str
    graphdriver: str
    cgroup: Cgroup


class _Capabilities(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    everywhere: tuple[str, ...]
    v1: tuple[str, ...]
    v2: tuple[str, ...]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    kernels: dict[str, Kernel]
    roots: dict[str, Root]
    capabilities: _Capabilities
    # What of each level runs in guests unless all of it is asked for: emulation has time for what asks the kernel most.
    selection: dict[str, tuple[str, ...]]
    guests: tuple[Guest, ...]
    pairs: tuple[Pair, ...] = ()
    boxes: tuple[Box, ...] = ()

    def guest(self, name: str) -> Guest:
        """The guest of that name. Raises LabError that lists those there are."""
        for guest in self.guests:
            if guest.name == name:
                return guest
        raise LabError(f"there is no guest {name!r}; there are: {', '.join(guest.name for guest in self.guests)}")

    def promised(self, guest: Guest) -> tuple[str, ...]:
        """The capabilities (``tests/support/capabilities.py``) whose absence is a failure in ``guest``."""
        common = (*self.capabilities.everywhere, *getattr(self.capabilities, guest.cgroup), *guest.promises)
        return tuple(sorted(set(common) - set(guest.lacks)))

    def wrong(self) -> list[str]:
        """What contradicts itself, a sentence each."""
        found = []
        names = [guest.name for guest in self.guests] + [pair.name for pair in self.pairs]
        names += [box.name for box in self.boxes]
        found += [f"the name {name!r} is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
        found += [
            f"the name {name!r} is not made of a-z, 0-9, dots and dashes" for name in names if not _NAME.fullmatch(name)
        ]
        for name, kernel in self.kernels.items():
            if bool(kernel.folder) == bool(kernel.suite and kernel.package):
                found.append(f"kernel {name!r} needs a suite and a package, or a folder")
        for guest in self.guests:
            if guest.kernel not in self.kernels:
                found.append(f"guest {guest.name!r} names the kernel {guest.kernel!r}, which is not in the table")
            if guest.root not in self.roots:
                found.append(f"guest {guest.name!r} names the root {guest.root!r}, which is not in the table")
            selected = {test for tests in self.selection.values() for test in tests}
            found += [
                f"guest {guest.name!r} leaves {test!r}, which is not selected"
                for test in guest.leaves
                if not selected & {test, test.partition("::")[0]}
            ]
        known = {guest.name for guest in self.guests}
        for pair in self.pairs:
            found += [
                f"pair {pair.name!r} names {name!r}, which is no guest" for name in pair.guests if name not in known
            ]
        return found


def parse(text: bytes) -> Table:
    """A table from JSON. Raises LabError with everything that is wrong with it."""
    try:
        table = msgspec.json.decode(text, type=Table)
    except msgspec.DecodeError as error:
        raise LabError(f"{TABLE.name}: {error}") from error
    if wrong := table.wrong():
        raise LabError(f"{TABLE.name}: {'; '.join(wrong)}")
    return table


@functools.cache
def table() -> Table:
    """The table beside this file."""
    return parse(TABLE.read_bytes())
