"""Who a process runs as: ``name|uid[:group|gid]`` against the container's own /etc/passwd and /etc/group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyker.errors import InvalidParameter

MAX_ID = 2**31 - 1
"""The reference engine's limit; the kernel's own is higher."""


@dataclass(frozen=True, slots=True)
class ResolvedUser:
    """``groups`` are for setgroups(2): the primary group comes first. ``home`` is "/" when passwd has no entry."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of passwd (``gid``, ``home`` set) or of group (``members`` set)."""

    name: str
    number: int
    gid: int = 0
    home: str = ""
    members: tuple[str, ...] = ()


def _lines(data: bytes, fields: int) -> Iterator[list[str]]:
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        parts = line.strip().split(":")
        if len(parts) >= fields and not line.lstrip().startswith("#"):
            yield parts


def _number(text: str) -> int | None:
    """A decimal number, or None. An uid as a name of digits only is still tried as a name first."""
    return int(text) if text.isascii() and text.isdigit() else None


def _passwd(data: bytes) -> list[_Entry]:
    entries = []
    for parts in _lines(data, 4):
        uid, gid = _number(parts[2]), _number(parts[3])
        if uid is not None and gid is not None:
            entries.append(_Entry(parts[0], uid, gid=gid, home=parts[5] if len(parts) > 5 else ""))
    return entries


def _group(data: bytes) -> list[_Entry]:
    entries = []
    for parts in _lines(data, 3):
        gid = _number(parts[2])
        if gid is not None:
            members = tuple(filter(None, parts[3].split(","))) if len(parts) > 3 else ()
            entries.append(_Entry(parts[0], gid, members=members))
    return entries


def _in_range(number: int) -> int:
    if number > MAX_ID:
        raise InvalidParameter(f"uids and gids must be in range 0-{MAX_ID}")
    return number


def _find(entries: list[_Entry], text: str) -> _Entry | None:
    """The first entry, in the file's order, of that name or number."""
    number = _number(text)
    return next((entry for entry in entries if entry.name == text or entry.number == number), None)


def resolve(user: str, passwd: bytes, group: bytes, additional: tuple[str, ...] = ()) -> ResolvedUser:
    """Find the IDs that ``user`` means; empty is root.

    An unknown uid is taken as it is, with group 0 and home "/". Groups that list the user are added, unless
    ``user`` names a group itself; ``additional`` (names or numbers) are added in any case.

    Raises: InvalidParameter for a name that the files do not have, or an ID past 2^31-1.
    Source: Docker API v1.45 ContainerConfig.User, HostConfig.GroupAdd.
    """
    user_text, _, group_text = user.partition(":")
    accounts, groups = _passwd(passwd), _group(group)
    account = _find(accounts, user_text or "0")
    if account is not None:
        uid, gid, home, name = account.number, account.gid, account.home or "/", account.name
    else:
        number = _number(user_text or "0")
        if number is None:
            raise InvalidParameter(f"unable to find user {user_text}: no matching entries in passwd file")
        uid, gid, home, name = _in_range(number), 0, "/", ""
    supplementary: list[int] = []
    if group_text:
        found = _find(groups, group_text)
        number = _number(group_text)
        if found is not None:
            gid = found.number
        elif number is not None:
            gid = _in_range(number)
        else:
            raise InvalidParameter(f"unable to find group {group_text}: no matching entries in group file")
    elif name:
        supplementary += [entry.number for entry in groups if name in entry.members]
    supplementary += [_additional(groups, text) for text in additional]
    return ResolvedUser(uid, gid, tuple(dict.fromkeys([gid, *supplementary])), home, name)


def _additional(groups: list[_Entry], text: str) -> int:
    found = _find(groups, text)
    if found is not None:
        return found.number
    number = _number(text)
    if number is None:
        raise InvalidParameter(f"Unable to find group {text}: no matching entries in group file")
    return _in_range(number)
