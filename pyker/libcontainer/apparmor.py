"""AppArmor: is it there, what is loaded, and under which profile a process shall run. Source: apparmor(7).

A process chooses the profile of the program it is about to execute by writing ``exec NAME`` into its own attribute
file; the kernel applies it at execve.
"""

from __future__ import annotations

import os
import subprocess

from pyker.errors import InvalidParameter, KernelError, NotSupported

DEFAULT_PROFILE = "pyker-default"
UNCONFINED = "unconfined"
PARSER = "/sbin/apparmor_parser"

_ENABLED = "/sys/module/apparmor/parameters/enabled"
_PROFILES = "/sys/kernel/security/apparmor/profiles"

_NEVER = (
    "@{PROC}/{kallsyms,kcore,kmem,mem,sysrq-trigger} rwklx",
    "@{PROC}/{acpi,bus,fs,irq,scsi}/** wklx",
    "@{PROC}/sys/{abi,debug,dev,fs,sunrpc,user,vm}/** wklx",
    "@{PROC}/sys/kernel/{core_*,hotplug,kexec*,kptr_restrict,modprobe,modules_disabled,panic*,sysrq,yama/**} wklx",
    "/sys/{block,bus,class,dev,devices,hypervisor,module,power}/** wklx",
    "/sys/{firmware,kernel/security,kernel/debug,kernel/tracing}/** rwklx",
    "/sys/kernel/** wklx",
    "/sys/fs/{bpf,btrfs,ext4,f2fs,fuse,pstore,resctrl,selinux,smackfs,xfs}/** wklx",
    "/sys/devices/virtual/powercap/** rwklx",
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
            os.write(fd, f"exec {profile}".encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(
            f"apparmor: profile {profile!r}: {os.strerror(error.errno or 0)}",
            syscall="write",
            errno=error.errno or 0,
            stage="apparmor",
            hint="is it loaded? see /sys/kernel/security/apparmor/profiles",
        ) from error


def default_text(name: str = DEFAULT_PROFILE) -> str:
    """The source of the default profile: all files, network and capabilities, but no mounts, no kernel knobs.

    Processes in it may signal and trace each other; a process outside, which is the engine, may signal them.
    """
    lines = [
        "#include <tunables/global>",
        "",
        f"profile {name} flags=(attach_disconnected,mediate_deleted) {{",
        "  #include <abstractions/base>",
        "  file, network, capability, umount,",
        f"  signal (send, receive) peer={name},",
        "  signal (receive) peer=unconfined,",
        f"  ptrace peer={name},",
        "  deny mount,",
        *(f"  deny {rule}," for rule in _NEVER),
        "}",
        "",
    ]
    return "\n".join(lines)


def load_default(name: str = DEFAULT_PROFILE) -> None:
    """Make sure that the default profile is loaded; for the daemon, once at start.

    Raises: NotSupported without AppArmor or its parser, KernelError if the parser refuses.
    """
    require()
    if loaded(name):
        return
    if not os.access(PARSER, os.X_OK):
        raise NotSupported(f"{PARSER} is missing", hint="install the package apparmor")
    done = subprocess.run(
        [PARSER, "-Kr"], input=default_text(name).encode(), capture_output=True, check=False, close_fds=True
    )
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip()
        raise KernelError(f"apparmor: {PARSER} refused profile {name!r}: {reason}", stage="apparmor")
