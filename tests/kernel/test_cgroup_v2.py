"""Version 2 on a real mount: what needs no controller, and so works on a hybrid machine too."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pyker.libcontainer import devices
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import device_filter, files, open_cgroup
from pyker.libcontainer.cgroups.layout import Layout
from pyker.libcontainer.cgroups.layout import layout as mounted
from pyker.libcontainer.cgroups.v2 import CgroupV2
from pyker.libcontainer.spec import DeviceRule, Resources
from tests.support.forked import Sleeper, in_child

pytestmark = pytest.mark.requires("root", "cgroup2")

PARENT = f"/pyker-test-{os.getpid()}"


@pytest.fixture
def cgroup() -> Iterator[CgroupV2]:
    mountpoint = mounted().unified
    found = open_cgroup(f"{PARENT}/c1", Layout(unified=mountpoint))
    assert isinstance(found, CgroupV2)
    yield found
    found.remove()
    found.remove_parent()
    assert not os.path.exists(mountpoint + PARENT)


def directory(cgroup: CgroupV2) -> str:
    return cgroup.paths()[""]


def test_made_and_removed(cgroup: CgroupV2) -> None:
    cgroup.create(Resources())
    assert os.path.isdir(directory(cgroup))
    os.mkdir(f"{directory(cgroup)}/below")
    cgroup.remove()
    assert not os.path.exists(directory(cgroup))


def test_born_inside(cgroup: CgroupV2) -> None:
    """Before ``create``, as the monitor does it: the child is inside from its first instruction."""
    fd = cgroup.birth_fd()
    try:
        pid, pidfd = sc.clone3(0, cgroup_fd=fd)
        if pid == 0:
            signal.pause()
            os._exit(1)
        try:
            assert cgroup.pids() == [pid]
            assert f"0::{PARENT}/c1" in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        finally:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(pidfd)
    finally:
        os.close(fd)


def test_join_writes_nothing_if_born_inside(cgroup: CgroupV2, monkeypatch: pytest.MonkeyPatch) -> None:
    cgroup.create(Resources())

    def inside() -> list[int]:
        cgroup.join()
        monkeypatch.setattr(files, "write", lambda *_: pytest.fail("moved once more"))
        cgroup.join()
        return [pid - os.getpid() for pid in cgroup.pids()]

    assert in_child(inside) == [0]


def test_freeze_and_thaw(cgroup: CgroupV2) -> None:
    cgroup.create(Resources())

    def before() -> None:
        cgroup.join()
        signal.signal(signal.SIGTERM, lambda *_: os._exit(7))

    with Sleeper(before) as child:
        cgroup.freeze()
        assert cgroup.frozen()
        assert "frozen 1" in Path(directory(cgroup), "cgroup.events").read_text()
        os.kill(child.pid, signal.SIGTERM)
        assert os.waitpid(child.pid, os.WNOHANG) == (0, 0)
        cgroup.thaw()
        assert os.waitstatus_to_exitcode(child.wait()) == 7
        assert not cgroup.frozen()


def test_kill_reaches_everyone(cgroup: CgroupV2) -> None:
    cgroup.create(Resources())
    with Sleeper(cgroup.join) as first, Sleeper(cgroup.join) as second:
        cgroup.kill()
        assert os.waitstatus_to_exitcode(first.wait()) == -signal.SIGKILL
        assert os.waitstatus_to_exitcode(second.wait()) == -signal.SIGKILL


def _opens(cgroup: CgroupV2, node: Path, flags: Sequence[int]) -> list[int]:
    def tries() -> list[int]:
        cgroup.join()
        results = []
        for flag in flags:
            try:
                os.close(os.open(node, flag | os.O_NONBLOCK))
                results.append(0)
            except OSError as error:
                results.append(error.errno or 0)
        return results

    return in_child(tries)


@pytest.fixture
def kmsg(tmp_path: Path) -> Path:
    node = tmp_path / "kmsg"
    os.mknod(node, 0o600 | 0o020000, os.makedev(1, 11))
    return node


R, W = os.O_RDONLY, os.O_WRONLY


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((devices.DENY_ALL,), [errno.EPERM, errno.EPERM]),
        (devices.DEFAULT_RULES, [errno.EPERM, errno.EPERM]),
        ((devices.DENY_ALL, devices.ALLOW_ALL), [0, 0]),
        ((devices.DENY_ALL, DeviceRule(allow=True, kind="c", major=1, minor=11, access="r")), [0, errno.EPERM]),
        ((devices.DENY_ALL, DeviceRule(allow=True, kind="c", major=1, minor=-1, access="rw")), [0, 0]),
        ((devices.DENY_ALL, DeviceRule(allow=True, kind="b", major=1, minor=11)), [errno.EPERM, errno.EPERM]),
        ((devices.DENY_ALL, DeviceRule(allow=True, kind="c", major=-1, minor=11, access="w")), [errno.EPERM, 0]),
        ((DeviceRule(allow=False, kind="c", major=1, minor=11, access="w"),), [0, errno.EPERM]),
        (
            (devices.ALLOW_ALL, DeviceRule(allow=False, kind="c", major=1, minor=11, access="r")),
            [errno.EPERM, 0],
        ),
    ],
)
def test_device_filter(cgroup: CgroupV2, kmsg: Path, rules: tuple[DeviceRule, ...], expected: list[int]) -> None:
    """The kernel verifies the program at load, and runs it at each open."""
    cgroup.create(Resources(devices=rules))
    assert _opens(cgroup, kmsg, (R, W)) == expected


def test_default_rules_let_the_usual_devices_through(cgroup: CgroupV2, tmp_path: Path) -> None:
    cgroup.create(Resources(devices=devices.DEFAULT_RULES))
    for name in ("null", "zero", "full", "random", "urandom"):
        assert _opens(cgroup, Path("/dev", name), (R,)) == [0], name
    made = tmp_path / "made"

    def makes() -> None:
        cgroup.join()
        os.mknod(made, 0o600 | 0o060000, os.makedev(7, 99))

    in_child(makes)
    assert made.is_block_device()


def test_mknod_is_refused_where_no_rule_allows_it(cgroup: CgroupV2, tmp_path: Path) -> None:
    cgroup.create(Resources(devices=(devices.DENY_ALL, DeviceRule(allow=True, kind="c", access="m"))))

    def makes() -> int:
        cgroup.join()
        os.mknod(tmp_path / "c", 0o600 | 0o020000, os.makedev(7, 99))
        try:
            os.mknod(tmp_path / "b", 0o600 | 0o060000, os.makedev(7, 99))
        except OSError as error:
            return error.errno or 0
        return 0

    assert in_child(makes) == errno.EPERM


def test_a_new_filter_takes_the_old_ones_place(cgroup: CgroupV2, kmsg: Path) -> None:
    cgroup.create(Resources(devices=(devices.DENY_ALL,)))
    cgroup.set(Resources(devices=(devices.ALLOW_ALL,)))
    fd = os.open(directory(cgroup), os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert len(device_filter.attached(fd)) == 1
    finally:
        os.close(fd)
    assert _opens(cgroup, kmsg, (R, W)) == [0, 0]
