"""What the daemon says of the machine it runs on: kernel, distribution, processors, memory."""

from __future__ import annotations

import os
import platform
import shlex


def operating_system() -> str:
    """The distribution's own name, such as "Debian GNU/Linux 12 (bookworm)"; "Linux" if it does not say."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("PRETTY_NAME="):
                return (shlex.split(line.partition("=")[2]) or ["Linux"])[0]
    return "Linux"


def os_version() -> str:
    """The distribution's version, such as "12"; "" if it does not say."""
    try:
        return platform.freedesktop_os_release().get("VERSION_ID", "")
    except OSError:
        return ""


def memory_bytes() -> int:
    """All of the machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def ipv4_forwarding() -> bool:
    """Whether the kernel forwards packets between links."""
    try:
        with open("/proc/sys/net/ipv4/ip_forward", encoding="ascii") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def engine_id(data_root: str) -> str:
    """This engine's own name, made once: twelve groups of four letters and digits."""
    path = os.path.join(data_root, "engine-id")
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        pass
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    name = ":".join("".join(letters[byte & 31] for byte in os.urandom(4)) for _ in range(12))
    with open(path, "w", encoding="ascii") as file:
        file.write(name + "\n")
    return name
