"""``--userns-remap``: whose IDs the root of containers, and everyone else in them, has outside.

The daemon's option names a user; /etc/subuid and /etc/subgid say which IDs that user may give to others. Unlike the
reference engine's, our images stay as they are on disk: see ``pyker.libcontainer.idmap``.
Source: subuid(5); dockerd(8) --userns-remap.
"""

from __future__ import annotations

import grp
import pwd
import subprocess
import sys
from dataclasses import dataclass

from pyker.errors import InvalidParameter, NotSupported, SystemFailure
from pyker.libcontainer.spec import IdMapping
from pyker.types.config import HostConfig

DEFAULT_USER = "dockremap"


@dataclass(frozen=True, slots=True)
class Remap:
    """The mappings of every container's user namespace. Empty: containers have none of their own."""

    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.uid_mappings)

    def applies(self, host: HostConfig) -> bool:
        """Whether a container with these options gets a user namespace of its own."""
        return bool(self) and host.userns_mode != "host"

    def check(self, host: HostConfig) -> None:
        """Raises: InvalidParameter for what cannot go with a user namespace."""
        if not self.applies(host):
            return
        hint = "add --userns host"
        if host.privileged:
            raise InvalidParameter(
                "privileged mode is incompatible with user namespaces.  You must run the container in the host "
                "namespace when running privileged mode",
                hint=hint,
            )
        if host.network_mode == "host":
            raise InvalidParameter(
                "cannot share the host's network namespace when user namespaces are enabled", hint=hint
            )
        if host.pid_mode == "host":
            raise InvalidParameter("cannot share the host PID namespace when user namespaces are enabled", hint=hint)


UNMAPPED = Remap()


def read(option: str, *, subuid: str = "/etc/subuid", subgid: str = "/etc/subgid") -> Remap:
    """The mappings for ``USER[:GROUP]``, names or numbers; "default" is the user that the reference engine takes.

    Raises: InvalidParameter, NotSupported if the user has no IDs to give.
    """
    if not option:
        return UNMAPPED
    user, colon, group = (DEFAULT_USER if option == "default" else option).partition(":")
    if not user or (colon and not group):
        raise InvalidParameter(f"invalid --userns-remap {option!r}", hint="default, USER, USER:GROUP, UID or UID:GID")
    users = _user(user)
    groups = _group(group) if group else users
    return Remap(_mappings(users, subuid), _mappings(groups, subgid))


def _user(text: str) -> tuple[str, ...]:
    """The name and the number that a line may begin with."""
    try:
        entry = pwd.getpwuid(int(text)) if text.isdigit() else pwd.getpwnam(text)
    except (KeyError, OverflowError):
        if text.isdigit():
            return (text,)
        raise InvalidParameter(
            f"invalid --userns-remap: there is no user {text!r}",
            hint=f"make one with IDs to give: useradd --system {text}, then lines in /etc/subuid and /etc/subgid",
        ) from None
    return entry.pw_name, str(entry.pw_uid)


def _group(text: str) -> tuple[str, ...]:
    try:
        entry = grp.getgrgid(int(text)) if text.isdigit() else grp.getgrnam(text)
    except (KeyError, OverflowError):
        if text.isdigit():
            return (text,)
        raise InvalidParameter(f"invalid --userns-remap: there is no group {text!r}") from None
    return entry.gr_name, str(entry.gr_gid)


def _mappings(owners: tuple[str, ...], path: str) -> tuple[IdMapping, ...]:
    """The ranges of ``owners``, one after the other from 0."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip().split(":") for line in file]
    except FileNotFoundError:
        lines = []
    found: list[IdMapping] = []
    inside = 0
    for fields in lines:
        if len(fields) != 3 or fields[0] not in owners or not (fields[1].isdigit() and fields[2].isdigit()):
            continue
        outside, size = int(fields[1]), int(fields[2])
        if size and outside + size <= 1 << 32:
            found.append(IdMapping(inside, outside, size))
            inside += size
    if not found:
        raise NotSupported(
            f'no {path.rpartition("/")[2]} ranges found for user "{owners[0]}" in {path}',
            hint=f"add a line: {owners[0]}:100000:65536",
        )
    return tuple(found)


def require(remap: Remap, folder: str, *, overlay: bool) -> None:
    """Try mapped mounts where the layers are. Raises: NotSupported with the reason; SystemFailure if the try fails."""
    if not remap:
        return
    first_uid, first_gid = remap.uid_mappings[0].outside, remap.gid_mappings[0].outside
    # In a process of its own: it forks, and this one has threads.
    program = [sys.executable, "-m", "pyker.libcontainer.idmap", folder, str(first_uid), str(first_gid)]
    done = subprocess.run([*program, "overlay" if overlay else "bind"], capture_output=True, check=False, text=True)
    if done.returncode == 0:
        return
    if done.stdout:
        raise NotSupported(f"--userns-remap: {done.stdout}", hint="start the daemon without --userns-remap")
    raise SystemFailure(f"--userns-remap: the probe for idmapped mounts failed: {done.stderr.strip()[-300:]}")
