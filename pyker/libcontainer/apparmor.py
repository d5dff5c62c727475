"""AppArmor: is it there, what is loaded, and under which profile a process shall run. Source: apparmor(7).

A process chooses the profile of the program it is about to execute by writing ``exec NAME`` into its own attribute
file; the kernel applies it at execve.
"""

from __future__ import annotations

import os

from pyker.errors import InvalidParameter, KernelError, NotSupported
from pyker.libcontainer import syscalls as sc

DEFAULT_PROFILE = "pyker-default"
UNCONFINED = "unconfined"
PARSER = "/sbin/apparmor_parser"

_ENABLED = "/sys/module/apparmor/parameters/enabled"
_PROFILES = "/sys/kernel/security/apparmor/profiles"

_PARSER_PLACES = (PARSER, "/usr/sbin/apparmor_parser")
_REMOVE = "/sys/kernel/security/apparmor/.remove"

_NEVER = (
    # What stays open in /proc: processes' own files, and the limits on shared memory, which namespaces have.
    "@{PROC}/* wkl",
    "@{PROC}/{[^0-9s],s[^y],sy[^s],sys?}*/** wkl",
    "@{PROC}/sys/[^k]** wkl",
    "@{PROC}/sys/k[^e]** wkl",
    "@{PROC}/sys/kernel/{[^s],s[^h],sh[^m]}** wkl",
    "@{PROC}/{kcore,kmem,mem,sysrq-trigger} rwkl",
    # In /sys, only the cgroups that are shown.
    "/sys/{[^f],f[^s]}*/** wkl",
    "/sys/fs/{[^c],c[^g],cg[^r]}*/** wkl",
    "/sys/{firmware,kernel/security}/** rwkl",
    "/sys/devices/virtual/powercap/** rwkl",
)
"""Knobs of the whole machine: what a rule ends with is refused even to root."""


def enabled() -> bool:
    """Whether this kernel confines with AppArmor."""
    try:
        with open(_ENABLED, encoding="ascii") as file:
            return file.read(1) == "Y"
    except OSError:
        return False


def require() -> None:
    """Raises: NotSupported where AppArmor is off."""
    if not enabled():
        raise NotSupported(
            "apparmor isn't enabled in this kernel", hint="leave the apparmor= option away, or boot with lsm=apparmor"
        )


def loaded(profile: str) -> bool:
    """Whether the kernel knows ``profile``."""
    try:
        with open(_PROFILES, encoding="utf-8") as file:
            return any(line.rsplit(" (", 1)[0] == profile for line in file)
    except OSError:
        return False


def check_name(profile: str) -> None:
    """Raises: InvalidParameter for a name that could say more than a name in the attribute file."""
    if not profile or any(character.isspace() or ord(character) < 32 for character in profile):
        raise InvalidParameter(f"invalid apparmor profile name {profile!r}")


def change_on_exec(profile: str) -> None:
    """Confine what this process executes next; needs its own /proc. Raises: KernelError, NotSupported.

    Must be the last step but for seccomp: under the profile the process may not reach its attribute file any more.
    """
    if not profile or profile == UNCONFINED:
        return
    require()
    check_name(profile)
    attribute = "/proc/self/attr/apparmor/exec"
    if not os.path.exists(attribute):
        attribute = "/proc/self/attr/exec"
    try:
        fd = os.open(attribute, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if sc.fstatfs_type(fd) != sc.PROC_SUPER_MAGIC:
                # An image that offers a file of its own would leave the process unconfined (CVE-2019-16884).
                raise KernelError(f"apparmor: {attribute} is not in procfs", stage="apparmor")
            os.write(fd, f"exec {profile}".encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(
            f"apparmor failed to apply profile {profile}: write {attribute}: {os.strerror(error.errno or 0).lower()}",
            syscall="write",
            errno=error.errno or 0,
            stage="apparmor",
            hint="is it loaded? see /sys/kernel/security/apparmor/profiles",
        ) from error


def default_text(name: str = DEFAULT_PROFILE) -> str:
    """The source of the default profile: all files, network and capabilities, but no mounts, no knobs of the kernel.

    It forbids what the reference engine's does. Processes in it may signal and trace each other; a process outside,
    which is the engine, may signal them.
    """
    lines = [
        "#include <tunables/global>",
        "",
        f"profile {name} flags=(attach_disconnected,mediate_deleted) {{",
        "  #include <abstractions/base>",
        "  file, network, capability, umount,",
        f"  signal (send, receive) peer={name},",
        "  signal (receive) peer=unconfined,",
        f"  ptrace (read, readby, trace, tracedby) peer={name},",
        "  deny mount,",
        *(f"  deny {rule}," for rule in _NEVER),
        "}",
        "",
    ]
    return "\n".join(lines)


def parser() -> str:
    """Where apparmor_parser is. Raises: NotSupported."""
    for path in _PARSER_PLACES:
        if os.access(path, os.X_OK):
            return path
    raise NotSupported(f"{PARSER} is missing", hint="install the package apparmor")


def load(text: str, name: str) -> None:
    """Compile a profile and give it to the kernel, in place of one of that name. apparmor_parser(8) --replace.

    Processes that run under it are confined by the new text at once. Raises: NotSupported without AppArmor or its
    parser, KernelError if the parser or the kernel refuses.
    """
    import subprocess

    require()
    # Without a cache: nothing is left in /etc or /var, and a text of ours is compiled once a boot.
    done = subprocess.run([parser(), "-Kr"], input=text.encode(), capture_output=True, check=False, close_fds=True)
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip()
        raise KernelError(f"apparmor: {PARSER} refused profile {name!r}: {reason}", stage="apparmor")


def load_default(record: str = "", name: str = DEFAULT_PROFILE) -> None:
    """Make sure that the default profile is loaded; for the daemon, once at start.

    ``record`` is a file that goes with the boot and remembers which text was loaded, so that a newer daemon replaces
    an older one's profile, and the same daemon compiles nothing twice. Raises: as ``load``.
    """
    import hashlib

    require()
    text = default_text(name)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if loaded(name) and (not record or _content(record) == digest):
        return
    load(text, name)
    if record:
        with open(record, "w", encoding="ascii") as file:
            file.write(digest)


def unload(name: str) -> None:
    """Take a profile from the kernel; processes under it are unconfined from then on. One that is gone is no error.

    Raises: KernelError, NotSupported.
    """
    require()
    try:
        with open(_REMOVE, "wb", buffering=0) as file:
            file.write(name.encode())
    except FileNotFoundError:
        return
    except OSError as error:
        raise KernelError.from_oserror(error, syscall="write", stage="apparmor") from error


def _content(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
