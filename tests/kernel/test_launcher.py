"""The launcher: network namespaces, errors that cross, threads, and life after its death."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from pyker.errors import KernelError, Unavailable
from pyker.libcontainer.launcher import Launcher
from tests.kernel.containerbench import children_of, eventually, host_mounts
from tests.support.namespaces import ip_json, isolated

pytestmark = pytest.mark.requires("root", "iproute2")

IMPORT_DIET = {"asyncio", "email", "hashlib", "http", "json", "logging", "requests", "socket", "sqlite3", "ssl"} | {
    "selectors",
    "shutil",
    "subprocess",
    "tempfile",
    "threading",
    "pyroute2",
}
"""What the launcher must not carry: each fork would copy its page tables."""


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    with isolated():
        made = Launcher.spawn(str(tmp_path))
        yield made
        made.close()


def links_in(fd: int) -> list[str]:
    """Names of the links that a NETLINK_ROUTE socket sees, asked with a dump of our own making. rtnetlink(7)."""
    header = struct.pack("=IHHII", 32, 18, 0x301, 1, 0) + struct.pack("=BxHiII", 0, 0, 0, 0, 0)
    names = []
    with socket.socket(fileno=os.dup(fd)) as netlink:
        netlink.send(header)
        data = netlink.recv(1 << 16)
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        if kind == 16:
            attributes = data[32:length]
            while len(attributes) >= 4:
                size, name = struct.unpack_from("=HH", attributes)
                if name == 3:
                    names.append(attributes[4 : size - 1].decode())
                attributes = attributes[(size + 3) & ~3 :]
        data = data[(length + 3) & ~3 :]
    return names


def test_a_namespace_is_pinned_with_loopback_up(launcher: Launcher, tmp_path: Path) -> None:
    path = str(tmp_path / "ns")
    before = host_mounts()
    fd = launcher.new_netns(path)
    try:
        assert host_mounts() - before == {path}
        (loopback,) = ip_json("link", netns_path=path)
        assert loopback["ifname"] == "lo"
        assert "UP" in loopback["flags"]
        assert links_in(fd) == ["lo"]
    finally:
        os.close(fd)
    launcher.remove_netns(path)
    assert host_mounts() == before
    assert not os.path.exists(path)


def test_the_socket_belongs_to_the_namespace(launcher: Launcher, tmp_path: Path) -> None:
    path = str(tmp_path / "ns")
    fd = launcher.new_netns(path)
    try:
        subprocess.run(
            ["nsenter", f"--net={path}", "ip", "link", "add", "mark0", "type", "bridge"],
            check=True,
            capture_output=True,
        )
        assert links_in(fd) == ["lo", "mark0"]
        again = launcher.open_netns(path)
        assert links_in(again) == ["lo", "mark0"]
        os.close(again)
    finally:
        os.close(fd)
        launcher.remove_netns(path)


def test_sockets_are_close_on_exec(launcher: Launcher, tmp_path: Path) -> None:
    fd = launcher.new_netns(str(tmp_path / "ns"))
    assert not os.get_inheritable(fd)
    os.close(fd)
    launcher.remove_netns(str(tmp_path / "ns"))


def test_removing_twice_or_what_never_was(launcher: Launcher, tmp_path: Path) -> None:
    path = str(tmp_path / "ns")
    os.close(launcher.new_netns(path))
    launcher.remove_netns(path)
    launcher.remove_netns(path)
    (tmp_path / "plain").touch()
    launcher.remove_netns(str(tmp_path / "plain"))
    assert not (tmp_path / "plain").exists()


def test_errors_cross_with_their_class_call_and_number(launcher: Launcher, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(KernelError) as caught:
        launcher.new_netns(str(taken))
    assert (caught.value.errno, caught.value.stage) == (17, "netns")
    assert taken.read_text() == "mine"
    with pytest.raises(KernelError) as caught:
        launcher.open_netns(str(taken))
    assert (caught.value.syscall, caught.value.errno) == ("setns", 22)
    with pytest.raises(KernelError) as caught:
        launcher.open_netns(str(tmp_path / "missing"))
    assert caught.value.errno == 2


def test_threads_share_it(launcher: Launcher, tmp_path: Path) -> None:
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                path = str(tmp_path / f"ns{number}.{turn}")
                fd = launcher.new_netns(path)
                assert links_in(fd) == ["lo"]
                os.close(fd)
                launcher.remove_netns(path)
        except (KernelError, Unavailable, OSError, AssertionError) as error:
            failures.append(error)

    before = host_mounts()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert host_mounts() == before


def test_it_is_started_again_when_it_died(launcher: Launcher, tmp_path: Path) -> None:
    first = launcher.pid
    os.kill(first, signal.SIGKILL)
    eventually(lambda: launcher.pid == 0, "the end of the launcher")
    fd = launcher.new_netns(str(tmp_path / "ns"))
    assert links_in(fd) == ["lo"]
    os.close(fd)
    launcher.remove_netns(str(tmp_path / "ns"))
    assert launcher.pid not in (0, first)


def test_a_request_that_died_with_it_is_asked_again(launcher: Launcher, tmp_path: Path) -> None:
    first = launcher.pid
    eventually(lambda: _ignores(first, signal.SIGCHLD) and len(children_of(first)) == 1, "the spare monitor")
    (spare,) = children_of(first)
    os.kill(first, signal.SIGSTOP)
    for pid in (*children_of(spare), spare):
        os.kill(pid, signal.SIGKILL)
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(launcher.new_netns, str(tmp_path / "ns"))
        wait([asked], timeout=0.3)
        assert not asked.done()
        os.kill(first, signal.SIGKILL)
        fd = asked.result(20)
    assert links_in(fd) == ["lo"]
    os.close(fd)
    launcher.remove_netns(str(tmp_path / "ns"))


def test_one_that_dies_while_it_gets_ready_is_noticed(tmp_path: Path) -> None:
    """Whatever of it is left must not keep the channel open: nobody would answer."""
    with isolated():
        for number in range(12):
            made = Launcher.spawn(str(tmp_path))
            asked = threading.Thread(target=_ask_for_nothing, args=(made, tmp_path), daemon=True)
            asked.start()
            time.sleep(0.03 * number)
            os.kill(made.pid, signal.SIGKILL)
            asked.join(20)
            assert not asked.is_alive(), number
            made.close()


def _ask_for_nothing(launcher: Launcher, folder: Path) -> None:
    with contextlib.suppress(Unavailable):
        launcher.remove_netns(str(folder / "nosuch"))


def test_rehearsals_on_a_busy_machine() -> None:
    """Where the rehearsed process says its first word late, its helpers have been seen off before."""
    script = (
        "import time\n"
        "from pyker.libcontainer import launcher_main, monitor\n"
        "launcher_main._go_with = lambda launcher: time.sleep(4 * monitor.HELPERS_S)\n"
        "launcher_main._rehearse()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_leaves_no_zombies(launcher: Launcher, tmp_path: Path) -> None:
    for number in range(5):
        os.close(launcher.new_netns(str(tmp_path / f"ns{number}")))
        launcher.remove_netns(str(tmp_path / f"ns{number}"))

    def states() -> list[str]:
        found = []
        for child in children_of(launcher.pid):
            try:
                found.append(Path(f"/proc/{child}/comm").read_text().strip())
            except FileNotFoundError:
                continue
        return found

    # What stays is the one copy that is kept ready.
    eventually(lambda: states() == ["pyker-launcher"], "an idle launcher")


def _ignores(pid: int, signum: int) -> bool:
    (mask,) = re.findall(r"^SigIgn:\s+(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) >> (signum - 1) & 1)


def test_it_ends_with_its_handle_and_so_does_the_spare_monitor(tmp_path: Path) -> None:
    with isolated():
        launcher = Launcher.spawn(str(tmp_path))
        pid = launcher.pid
        # What it rehearses with are children too; it ignores their ends, as it does its monitors', only afterwards.
        eventually(lambda: _ignores(pid, signal.SIGCHLD) and len(children_of(pid)) == 1, "the spare monitor")
        (spare,) = children_of(pid)
        launcher.close()
        eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the launcher")
        eventually(
            lambda: not os.path.exists(f"/proc/{spare}") or "Z" in Path(f"/proc/{spare}/stat").read_text().split()[2],
            "the end of the spare",
        )
        with pytest.raises(Unavailable):
            launcher.remove_netns(str(tmp_path / "ns"))


def test_it_ends_when_the_daemon_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pyker.libcontainer.launcher import Launcher; "
        f"l = Launcher.spawn({str(tmp_path)!r}); print(l.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        pid = int(daemon.stdout.readline())
        assert os.path.exists(f"/proc/{pid}")
        daemon.kill()
        daemon.wait()
    eventually(
        lambda: not os.path.exists(f"/proc/{pid}") or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z",
        "the end of the launcher",
    )


def test_its_descriptors_are_few(launcher: Launcher) -> None:
    launcher.remove_netns("/nonexistent/ns")
    eventually(lambda: len(children_of(launcher.pid)) == 1, "an idle launcher")
    # Three on /dev/null, the daemon's log, the channel to the daemon, the channel to the spare monitor, its epoll.
    assert len(os.listdir(f"/proc/{launcher.pid}/fd")) == 7


def test_import_diet() -> None:
    program = "import sys; import pyker.libcontainer.launcher_main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert IMPORT_DIET & set(loaded) == set()


def test_it_has_one_thread(launcher: Launcher) -> None:
    launcher.remove_netns("/nonexistent/ns")
    assert len(os.listdir(f"/proc/{launcher.pid}/task")) == 1
