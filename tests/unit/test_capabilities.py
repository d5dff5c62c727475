"""Capability names, numbers, and what --cap-add and --cap-drop come to."""

from __future__ import annotations

import pytest

from pyker.errors import InvalidParameter
from pyker.libcontainer import capabilities

ALL = frozenset(capabilities.NAMES)


def test_default_mask_is_the_references() -> None:
    assert f"{capabilities.mask(capabilities.DEFAULT):016x}" == "00000000a80425fb"


def test_numbers_are_the_kernels() -> None:
    assert capabilities.NUMBERS["CAP_CHOWN"] == 0
    assert capabilities.NUMBERS["CAP_SYS_ADMIN"] == 21
    assert capabilities.NUMBERS["CAP_SETFCAP"] == 31
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        assert capabilities.NUMBERS["CAP_CHECKPOINT_RESTORE"] <= int(file.read())


def test_names_and_mask_are_inverse() -> None:
    assert capabilities.names(capabilities.mask(capabilities.DEFAULT[:5])) == tuple(
        sorted(capabilities.DEFAULT[:5], key=lambda name: capabilities.NUMBERS[name])
    )
    assert capabilities.names(1 << 63) == ()


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ((), (), set(capabilities.DEFAULT)),
        (("net_admin",), (), {*capabilities.DEFAULT, "CAP_NET_ADMIN"}),
        (("CAP_NET_ADMIN",), ("cap_mknod",), {*capabilities.DEFAULT, "CAP_NET_ADMIN"} - {"CAP_MKNOD"}),
        ((), ("all",), set()),
        (("chown", "KILL"), ("ALL",), {"CAP_CHOWN", "CAP_KILL"}),
        (("ALL",), (), set(ALL)),
        (("all",), ("SYS_ADMIN",), set(ALL) - {"CAP_SYS_ADMIN"}),
    ],
)
def test_resolve(add: tuple[str, ...], drop: tuple[str, ...], expected: set[str]) -> None:
    found, warnings = capabilities.resolve(add, drop, available=ALL)
    assert set(found) == expected
    assert len(found) == len(set(found))
    assert warnings == ()


def test_privileged_is_what_the_machine_has() -> None:
    here = ALL - {"CAP_SYS_RESOURCE"}
    found, warnings = capabilities.resolve((), ("CHOWN",), privileged=True, available=here)
    assert set(found) == here
    assert warnings == ()


def test_missing_here_is_warned_of_only_if_it_was_named() -> None:
    here = ALL - {"CAP_SYS_RESOURCE", "CAP_MKNOD"}
    found, warnings = capabilities.resolve(("SYS_RESOURCE", "SYS_TIME"), (), available=here)
    assert set(found) == ({*capabilities.DEFAULT, "CAP_SYS_TIME"} - {"CAP_MKNOD"})
    assert len(warnings) == 1
    assert "CAP_SYS_RESOURCE" in warnings[0]
    assert capabilities.resolve(("ALL",), (), available=here)[1] == ()


@pytest.mark.parametrize(
    ("add", "drop", "message"),
    [
        (("FOO",), (), 'invalid CapAdd: unknown capability: "CAP_FOO"'),
        (("cap_foo",), (), 'invalid CapAdd: unknown capability: "CAP_FOO"'),
        ((), ("bar",), 'invalid CapDrop: unknown capability: "CAP_BAR"'),
    ],
)
def test_unknown(add: tuple[str, ...], drop: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        capabilities.resolve(add, drop, available=ALL)
    assert caught.value.message == message
