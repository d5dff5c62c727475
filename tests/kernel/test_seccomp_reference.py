"""The default filter against the one that the reference engine's containers really run under.

The kernel hands out a running process's program (PTRACE_SECCOMP_GET_FILTER); both are then asked about every number.
The reference here is version 20.10; what later versions changed is listed, and nothing else may differ.
"""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.libcontainer import capabilities, seccomp, seccomp_bpf
from tests.support import bpf
from tests.support.engines import Dockerd

pytestmark = [pytest.mark.requires("root", "dockerd", "docker-cli", "busybox", "seccomp"), pytest.mark.timeout(180)]

NO_LONGER = {"io_uring_setup", "io_uring_enter", "io_uring_register"}
"""Taken out in version 25: too many holes."""
SINCE = (
    "name_to_handle_at process_vm_readv process_vm_writev pkey_alloc pkey_free pkey_mprotect cachestat fchmodat2 "
    "map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount mseal setxattrat getxattrat listxattrat "
    "removexattrat uretprobe lsm_get_self_attr lsm_set_self_attr lsm_list_modules clock_settime64"
)
"""Allowed by later versions, or by a later libseccomp; the last four with a capability."""
MACHINES = {"amd64": range(460), "x86": range(460), "x32": range(0x40000000, 0x40000000 + 560)}
ARGUMENTS = ((), (1,), (8,), (0x20000,), (0x10000000, 0x20000), (0x3D0F00,), (0xFFFFFFFF,))


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    root = tmp_path_factory.mktemp("reference")
    engine = Dockerd(root / "engine", flags=["--bridge=none", "--iptables=false"])
    try:
        engine.start()
        archive = root / "rootfs.tar"
        with tarfile.open(archive, "w") as tar:
            for name in ("bin/busybox", "bin/sleep"):
                tar.add(Path("/bin/busybox").resolve(), name)
        engine.docker("import", str(archive), "bb:1", check=True)
        yield engine
    finally:
        engine.stop()


def reference(engine: Dockerd, *flags: str) -> bytes:
    container = engine.docker("run", "-d", "--net=none", *flags, "bb:1", "sleep", "600", check=True).out.strip()
    try:
        pid = engine.state(container)["Pid"]
        assert isinstance(pid, int)
        return bpf.filter_of(pid)
    finally:
        engine.docker("rm", "-f", container)


@pytest.mark.parametrize(
    "added",
    [
        (),
        ("SYS_ADMIN",),
        ("SYS_PTRACE", "SYS_TIME", "SYS_NICE", "SYSLOG", "SYS_MODULE", "DAC_READ_SEARCH", "SYS_BOOT", "SYS_PACCT",
         "SYS_RAWIO", "SYS_TTY_CONFIG"),
    ],
)  # fmt: skip
def test_same_verdict_for_every_call(dockerd: Dockerd, added: tuple[str, ...]) -> None:
    assert subprocess.run(["uname", "-m"], capture_output=True, check=True).stdout == b"x86_64\n"
    theirs = reference(dockerd, *(f"--cap-add={name}" for name in added))
    ours = seccomp.compile_profile(None, [*capabilities.DEFAULT, *(f"CAP_{name}" for name in added)], "amd64")
    for machine, numbers in MACHINES.items():
        expected = {seccomp.number(name, machine) for name in NO_LONGER}
        expected |= {seccomp.number(name, machine) for name in SINCE.split()}
        # 450 was the reference's last number, above which it says ENOSYS.
        expected |= {seccomp.number("set_mempolicy_home_node", machine)}
        audit = seccomp_bpf.MACHINES[machine].audit
        differing = {
            number
            for number in numbers
            for args in ARGUMENTS
            if bpf.run(ours, audit, number, args) != bpf.run(theirs, audit, number, args)
        }
        assert differing <= expected, (machine, sorted(differing - expected))
        gone = {number for name in NO_LONGER if (number := seccomp.number(name, machine)) is not None}
        assert gone <= differing
        assert all(bpf.run(ours, audit, number) == bpf.errno(1) for number in gone)


def test_ours_is_the_smaller_program(dockerd: Dockerd) -> None:
    assert len(seccomp.compile_profile(None, capabilities.DEFAULT, "amd64")) < len(reference(dockerd)) * 3 // 4
