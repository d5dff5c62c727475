"""The processes of a start: the spare monitor, its starter and its cradle; what each leaves, and who waits for whom."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from tests.kernel.containerbench import Bench, alive, bench, children_of, demultiplex, eventually, read_all

pytestmark = pytest.mark.requires("root", "overlay", "busybox")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def helpers_of(monitor: int) -> list[int]:
    try:
        return children_of(monitor)
    except FileNotFoundError:
        return []


def spare_of(own: Bench) -> int:
    """The monitor that waits, once its helpers wait too."""
    spares: list[int] = []

    def ready() -> bool:
        spares[:] = [child for child in children_of(own.launcher.pid) if name_of(child) == "pyker-launcher"]
        return len(spares) == 1 and sorted(map(name_of, helpers_of(spares[0]))) == ["pyker-cradle", "pyker-starter"]

    eventually(ready, "a spare monitor with a starter and a cradle")
    return spares[0]


def test_after_a_start_the_monitor_has_no_child_but_init(own: Bench) -> None:
    process, _ = own.start(own.spec("sleep", "60"))
    monitor = own.monitor_of(process)
    eventually(lambda: children_of(monitor) == [process.pid], "the end of starter and cradle")


def helpers(monitor: int) -> set[str]:
    return set(map(name_of, children_of(monitor)))


TALK = ("sh", "-c", "while :; do echo x; usleep 2000; done")


def test_a_talkative_process_does_not_keep_them(own: Bench) -> None:
    process, _ = own.start(own.spec(*TALK))
    monitor = own.monitor_of(process)
    eventually(lambda: not {"pyker-starter", "pyker-cradle"} & helpers(monitor), "the end of starter and cradle")


def test_nor_does_one_with_a_client_from_the_beginning(own: Bench) -> None:
    """Which is the monitor's own to serve."""
    ours, theirs = socket.socketpair()
    with ours, ThreadPoolExecutor(1) as thread:
        process, _ = own.start(own.spec(*TALK), theirs)
        thread.submit(read_all, ours)
        monitor = own.monitor_of(process)
        try:
            eventually(lambda: not {"pyker-starter", "pyker-cradle"} & helpers(monitor), "the end of both")
        finally:
            ours.shutdown(socket.SHUT_RDWR)


def test_a_start_that_failed_leaves_none_of_them(own: Bench) -> None:
    spare = spare_of(own)
    helpers = helpers_of(spare)
    with pytest.raises(Exception, match="executable file not found"):
        own.start(own.spec("nonesuch"))
    eventually(lambda: not any(map(alive, [spare, *helpers])), "the end of the monitor and its helpers")


def test_a_cradle_dies_with_its_monitor(own: Bench) -> None:
    spare = spare_of(own)
    helpers = helpers_of(spare)
    os.kill(spare, signal.SIGKILL)
    cradles = [pid for pid in helpers if name_of(pid) == "pyker-cradle"]
    eventually(lambda: not any(map(alive, cradles)), "the end of the cradle")
    for pid in helpers:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    assert spare_of(own) != spare
    assert own.run("echo", "on").lines == ["on"]


def test_a_request_that_waits_is_served_while_another_start_hangs(own: Bench) -> None:
    spec = own.spec("true")
    # The starter opens the log for writing, and a pipe has no end until somebody reads.
    os.mkfifo(spec.log.path)
    spare_of(own)
    with ThreadPoolExecutor(2) as threads:
        hanging = threads.submit(own.start, spec)
        quick = threads.submit(own.run, "echo", "quick")
        done, _ = wait([quick, hanging], timeout=15, return_when=FIRST_COMPLETED)
        # Only now may the first one go on.
        reader = os.open(spec.log.path, os.O_RDONLY)
        hanging.result()
        os.close(reader)
        assert quick.result().lines == ["quick"]
    assert done == {quick}


def test_a_launcher_that_is_killed_with_a_request_in_its_hands_loses_no_start(own: Bench) -> None:
    spare = spare_of(own)
    launcher = own.launcher.pid
    # Nobody is there to take the request, and nobody makes one who would.
    os.kill(launcher, signal.SIGSTOP)
    for pid in (*helpers_of(spare), spare):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(spare), "the end of the spare")
    ours, theirs = socket.socketpair()
    with ours, ThreadPoolExecutor(1) as thread:
        starting = thread.submit(own.start, own.spec("echo", "after all"), theirs)
        wait([starting], timeout=0.3)
        assert not starting.done()
        os.kill(launcher, signal.SIGKILL)
        _, watcher = starting.result(20)
        assert demultiplex(read_all(ours)) == (b"after all\n", b"")
        assert watcher.wait().exit_code == 0


def test_a_request_about_a_network_namespace_takes_no_spare(own: Bench, tmp_path: Path) -> None:
    spare = spare_of(own)
    for number in range(3):
        os.close(own.launcher.new_netns(str(tmp_path / f"ns{number}")))
        own.launcher.remove_netns(str(tmp_path / f"ns{number}"))
    assert spare_of(own) == spare
    host = os.readlink("/proc/self/ns/net")
    assert {os.readlink(f"/proc/{pid}/ns/net") for pid in (spare, *children_of(spare))} == {host}


IN_PLACE = """
import os, sys
from pyker.libcontainer import inplace
inplace.prepare()
mine = os.getpid()
pid = inplace.clone(0)
os.write(1, f"{mine} {pid} {os.getpid()} {os.getppid()}\\n".encode())
os.execv("/bin/sleep", ["sleep", "60"])
"""


def test_a_clone_in_place_goes_on_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", IN_PLACE], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        mine, pid, own_pid, parent = map(int, caller.stdout.readline().split())
        try:
            assert (mine, pid, parent) == (caller.pid, own_pid, caller.pid)
            eventually(lambda: name_of(pid) == "sleep", "execve")
            assert children_of(caller.pid) == [pid]
            # After execve in the child the caller sleeps in a system call of its own, pause(2), and runs no Python.
            eventually(lambda: Path(f"/proc/{mine}/syscall").read_text().startswith("34 "), "pause")
        finally:
            os.kill(pid, signal.SIGKILL)
            caller.kill()


HOLD = """
import os, sys
from pyker.libcontainer import inplace
inplace.prepare()
if sys.argv[1:]:
    os.getppid = lambda: 1
caller = os.fork()
if caller == 0:
    os.write(1, f"{inplace.hold()}\\n".encode())
    os._exit(7)
print(os.waitpid(caller, 0) == (caller, 7 << 8), flush=True)
sys.stdin.read()
"""


def holder(*arguments: str) -> tuple[subprocess.Popen[str], int]:
    """A program one of whose children had itself held, and has ended; and who holds it."""
    parent = subprocess.Popen(
        [sys.executable, "-c", HOLD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert parent.stdout.readline() == "True\n"
    return parent, pid


def test_a_holder_has_the_memory_of_one_that_ended_until_its_parent_is_killed() -> None:
    parent, pid = holder()
    with parent:
        assert children_of(parent.pid) == [pid]
        eventually(lambda: Path(f"/proc/{pid}/syscall").read_text().startswith("34 "), "pause")
        assert "VmRSS" in Path(f"/proc/{pid}/status").read_text()
        parent.kill()
        eventually(lambda: not alive(pid), "the end of the holder")


def test_a_holder_whose_parent_was_gone_before_it_could_say_so_ends_at_once() -> None:
    parent, pid = holder("another parent")
    with parent:
        eventually(lambda: not alive(pid), "the end of the holder")
        parent.kill()


def test_where_nothing_can_hold_a_start_does_without(own: Bench) -> None:
    """Requests of one that came to nothing, and one with a client; both leave a spare behind that serves the next."""
    ours, theirs = socket.socketpair()
    with ours:
        with pytest.raises(Exception, match="executable file not found"):
            own.start(own.spec("nonesuch"), theirs)
    eventually(lambda: spare_of(own) > 0, "a spare")
    assert own.run("echo", "next").lines == ["next"]


NURSERY = """
import os, signal, sys
from pyker.libcontainer import nursery
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
nursery.prepare()
channel, _ = os.pipe()
log = os.open(sys.argv[1], os.O_RDWR | os.O_APPEND | os.O_CREAT)
caller = os.getpid()
tell, pid = nursery.rear(channel, 0, 0.001)
count = os.pread(log, 1000, 0).count(b"\\n")
if pid == 0:
    os.set_inheritable(tell, os.getsid(0) == os.getppid())
    if count != 2:
        os.write(tell, b"t" if count < 6 else b"g")
    os.write(log, b"starter\\n")
    os._exit(5)
if tell < 0:
    print("gone", pid, os.getpid() == caller)
    try:
        os.wait()
    except ChildProcessError:
        sys.exit()
# It shares the descriptors, and the starter has ended before this goes on.
reaped = os.waitpid(pid, 0) == (pid, 5 << 8)
os.write(log, f"monitor {os.getppid() == caller} {os.get_inheritable(tell)} {reaped}\\n".encode())
"""


def test_the_nursery_forks_the_next_when_one_is_taken_or_dead(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", NURSERY, str(log)], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n") == ["gone 1 True", ""], done.stderr
    eventually(lambda: log.read_text().count("monitor") == 4, "the end of the last")
    assert sorted(log.read_text().splitlines()) == ["monitor True True True"] * 4 + ["starter"] * 4


# prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN), Linux 6.3: it outlasts fork and execve.
WITHOUT_NEW_CODE = """
import ctypes, sys
from pathlib import Path
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:
    sys.exit(75)
from pyker.libcontainer import inplace
from tests.kernel.containerbench import bench
inplace.prepare()
try:
    inplace.clone(0)
except OSError as error:
    print(error.errno)
with bench(Path(sys.argv[1])) as own:
    process, _ = own.start(own.spec("sleep", "60"))
    print(own.exec(process, "echo", "inside").lines)
    print(own.run("sh", "-c", "echo $$; exit 3").record.exit_code)
"""


def test_where_no_memory_may_become_code_processes_fork(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NEW_CODE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    if done.returncode == 75:
        pytest.skip("needs Linux 6.3 (PR_SET_MDWE)")
    assert done.stdout.split("\n") == ["38", "['inside']", "3", ""], done.stderr
