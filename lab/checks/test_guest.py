"""What the table says of a guest, asked of the guest."""

from __future__ import annotations

import json

from testinfra.host import Host

from lab.table import Guest, table


def test_kernel(machine: Host, guest: Guest) -> None:
    release = machine.check_output("uname -r")
    if table().kernels[guest.kernel].suite:
        assert release.startswith(f"{guest.kernel}."), release
    assert machine.file(f"/lib/modules/{release}/modules.dep").exists


def test_python(machine: Host, guest: Guest) -> None:
    assert machine.check_output("python3 -V").startswith(f"Python {table().roots[guest.root].python}.")


def test_distribution(machine: Host, guest: Guest) -> None:
    assert f"VERSION_CODENAME={table().roots[guest.root].suite}" in machine.file("/etc/os-release").content_string


def test_cgroup_mode(machine: Host, guest: Guest) -> None:
    mode = machine.mount_point("/sys/fs/cgroup")
    if guest.cgroup == "v2":
        assert mode.filesystem == "cgroup2"
        controllers = machine.file("/sys/fs/cgroup/cgroup.controllers").content_string.split()
        assert {"cpu", "cpuset", "io", "memory", "pids"} <= set(controllers)
    else:
        assert mode.filesystem == "tmpfs"
        for controller in ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"):
            assert machine.file(f"/sys/fs/cgroup/{controller}/cgroup.procs").exists, controller


def test_storage(machine: Host, guest: Guest) -> None:
    assert machine.mount_point("/storage").filesystem == guest.storage


def test_apparmor_is_enforced(machine: Host) -> None:
    assert machine.file("/sys/module/apparmor/parameters/enabled").content_string.strip() == "Y"
    assert machine.file("/sys/module/apparmor/parameters/mode").content_string.strip() == "enforce"
    assert machine.file("/sys/kernel/security/apparmor/.load").exists


def test_modules_of_networks_and_filesystems(machine: Host, guest: Guest) -> None:
    wanted = ["overlay", "bridge", "veth", "macvlan", "ipvlan", "vxlan", "nf_tables", "br_netfilter", "btrfs", "loop"]
    if guest.graphdriver == "aufs":
        wanted.append("aufs")
    # Loaded, built in, or to be had: modprobe knows all three.
    if machine.run("modprobe -n -q -a %s" % " ".join(wanted)).rc != 0:  # noqa: UP031
        missing = machine.run("for m in %s; do modprobe -n -q $m || echo $m; done" % " ".join(wanted))  # noqa: UP031
        assert missing.stdout.split() == []


def test_the_tree_under_test_is_importable(machine: Host) -> None:
    found = machine.check_output("cd / && python3 -c 'import pyker; print(pyker.__file__)'")
    assert found == "/src/pyker/__init__.py"


def test_the_clock_is_right(machine: Host) -> None:
    import time

    assert abs(int(machine.check_output("date +%s")) - time.time_ns() // 10**9) < 60


def test_capabilities(machine: Host, guest: Guest) -> None:
    script = (
        "import json, sys; from tests.support import capabilities; "
        "print(json.dumps([name for name in sys.argv[1:] if not capabilities.has(name)]))"
    )
    promised = table().promised(guest)
    out = machine.check_output("cd /src && python3 -c %s" + " %s" * len(promised), script, *promised)
    assert json.loads(out) == []
