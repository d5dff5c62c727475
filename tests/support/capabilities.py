"""What this machine can do, asked of the machine itself.

A test says what it needs with ``@pytest.mark.requires("root", "overlay", ...)``. What is missing skips the test, unless
the environment promised it: ``PYKER_PROMISED=root,overlay,...`` (a lab guest sets it) turns the skip into a failure.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def _filesystem(name: str) -> bool:
    lines = Path("/proc/filesystems").read_text().splitlines()
    return any(line.split()[-1] == name for line in lines)


_LINKS = {
    "veth": "name veth0 type veth peer name veth1",
    "bridge": "name bridge0 type bridge",
    "dummy": "name dummy0 type dummy",
    "vxlan": "name vxlan0 type vxlan id 7 dstport 4789",
    "macvlan": "link veth0 name macvlan0 type macvlan",
    "vlan": "link veth0 name vlan0 type vlan id 5",
    # The other end: a card is the parent of links of one kind.
    "ipvlan": "link veth1 name ipvlan0 type ipvlan",
}


@functools.cache
def _link_types() -> frozenset[str]:
    """The kinds of links that can be made, all tried at once in a namespace of their own."""
    import subprocess

    script = "\n".join([*(f"link add {link}" for link in _LINKS.values()), "link"])
    try:
        done = subprocess.run(
            ["unshare", "-n", "ip", "-force", "-oneline", "-batch", "-"],
            input=script.encode(),
            capture_output=True,
            check=False,
        )
    except OSError:
        return frozenset()
    names = {line.split(": ")[1].partition("@")[0] for line in done.stdout.decode().splitlines()}
    return frozenset(kind for kind in _LINKS if f"{kind}0" in names)


def _link_type(kind: str) -> bool:
    return kind in _link_types()


def _cgroup_v1() -> bool:
    return any(
        " - cgroup " in line and "memory" in line for line in Path("/proc/self/mountinfo").read_text().splitlines()
    )


def _cgroup_v2() -> bool:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    return controllers.exists() and "memory" in controllers.read_text().split()


def _docker_cli_major() -> int:
    """The stock CLI's major version, 0 where there is none. Its words and its bodies changed over the years."""
    import re
    import subprocess

    if shutil.which("docker") is None:
        return 0
    text = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)\.", text)
    return int(found[1]) if found else 0


def _library(name: str) -> bool:
    import ctypes

    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _apparmor() -> bool:
    """Switched on, and its files are mounted: profiles can be loaded."""
    switch = Path("/sys/module/apparmor/parameters/enabled")
    return (
        switch.exists() and switch.read_text().startswith("Y") and os.path.exists("/sys/kernel/security/apparmor/.load")
    )


def _overlay_in_user_namespace() -> bool:
    import subprocess

    options = "lowerdir=l,upperdir=u,workdir=w"
    script = f"mount -t tmpfs tmpfs /mnt; cd /mnt; mkdir l u w m; mount -t overlay none -o {options} m"
    done = subprocess.run(["unshare", "-Urm", "sh", "-ec", script], capture_output=True, check=False)
    return done.returncode == 0


def _iptables_legacy() -> bool:
    """The program, and the kernel's part of it."""
    import subprocess

    try:
        done = subprocess.run(["unshare", "-n", "iptables-legacy", "-w", "-S"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _idmapped_mounts() -> bool:
    """On the file system that tests write to, with an overlay above."""
    import subprocess
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-m", "pyker.libcontainer.idmap", folder, "100000", "100000", "overlay"]
        return subprocess.run(program, capture_output=True, check=False).returncode == 0


_PROBES: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "idmapped-mounts": _idmapped_mounts,
    "overlay-in-user-namespace": _overlay_in_user_namespace,
    "overlay": lambda: _filesystem("overlay"),
    "btrfs": lambda: _filesystem("btrfs") and shutil.which("mkfs.btrfs") is not None,
    "loop": lambda: os.path.exists("/dev/loop-control"),
    "bridge": lambda: _link_type("bridge"),
    "veth": lambda: _link_type("veth"),
    "macvlan": lambda: _link_type("macvlan"),
    "ipvlan": lambda: _link_type("ipvlan"),
    "dummy": lambda: _link_type("dummy"),
    "vlan": lambda: _link_type("vlan"),
    "vxlan": lambda: _link_type("vxlan"),
    "nftables": lambda: _library("libnftables.so.1"),
    "seccomp": lambda: _library("libseccomp.so.2"),
    "cgroup-v1": _cgroup_v1,
    "cgroup-v2": _cgroup_v2,
    "cgroup2": lambda: " - cgroup2 " in Path("/proc/self/mountinfo").read_text(),
    "apparmor": _apparmor,
    "apparmor-parser": lambda: any(os.path.exists(f"{place}/apparmor_parser") for place in ("/sbin", "/usr/sbin")),
    "docker-cli": lambda: shutil.which("docker") is not None,
    "docker-cli-28": lambda: _docker_cli_major() >= 28,
    "dockerd": lambda: shutil.which("dockerd") is not None,
    "busybox": lambda: os.path.exists("/bin/busybox"),
    "podman": lambda: shutil.which("podman") is not None,
    "compose-v1": lambda: shutil.which("docker-compose") is not None,
    "apt": lambda: shutil.which("apt-get") is not None and shutil.which("dpkg-deb") is not None,
    "docker-registry": lambda: shutil.which("docker-registry") is not None,
    "skopeo": lambda: shutil.which("skopeo") is not None,
    "htpasswd": lambda: shutil.which("htpasswd") is not None,
    "nft": lambda: shutil.which("nft") is not None,
    "iptables": lambda: shutil.which("iptables-nft") is not None and shutil.which("iptables-legacy") is not None,
    "iptables-legacy": _iptables_legacy,
    "iproute2": lambda: shutil.which("ip") is not None,
    "openssl": lambda: shutil.which("openssl") is not None,
    "chromium": lambda: shutil.which("chromium") is not None,
    "pdftotext": lambda: shutil.which("pdftotext") is not None,
    "gcc": lambda: shutil.which("gcc") is not None,
    "vagrant": lambda: shutil.which("vagrant") is not None,
    "qemu": lambda: shutil.which("qemu-system-x86_64") is not None,
    "strace": lambda: shutil.which("strace") is not None,
}


NAMES = frozenset(_PROBES)
"""What can be asked for."""


@functools.cache
def has(capability: str) -> bool:
    """Whether this machine has ``capability``. Raises KeyError for a name that nobody defined.

    Those of ``PYKER_FOUND`` were asked for just before: the lab does so before it has tests run in a guest.
    """
    probe = _PROBES[capability]
    return capability in os.environ.get("PYKER_FOUND", "").split(",") or probe()


def promised() -> frozenset[str]:
    """What the environment promised to have."""
    return frozenset(filter(None, os.environ.get("PYKER_PROMISED", "").split(",")))
