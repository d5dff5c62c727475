"""The monitor: logs, attached clients, input, the end of a process, and survival of everybody above it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.errors import NotFound
from pyker.execdriver.base import Attachment, ContainerProcess, StreamFlags
from pyker.libcontainer import handshake, monitor
from pyker.libcontainer.handshake import Begin, Fault
from pyker.libcontainer.spec import DeviceRule, ExitRecord, LogSpec, Resources
from tests.kernel.containerbench import (
    Bench,
    Recorder,
    alive,
    bench,
    children_of,
    demultiplex,
    eventually,
    parent_of,
    read_all,
)

pytestmark = pytest.mark.requires("root", "overlay", "busybox")

SHARED_PID = {"mnt": "", "uts": "", "ipc": "", "net": ""}
OPEN = {"open_stdin": True}


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("monitor")) as made:
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Bench]:
    """A bench that a test may break."""
    with bench(tmp_path) as made:
        yield made


def lines_of(containers: Bench, path: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


# The log


def test_log_lines_have_the_reference_engines_form(containers: Bench) -> None:
    spec = containers.spec("sh", "-c", "printf 'a<b>&\"\\\\\\t\\377\\n'; echo err >&2; printf tail")
    containers.run_spec(spec)
    raw = Path(spec.log.path).read_text().splitlines()
    assert len(raw) == 3
    by_text = {json.loads(line)["log"]: line for line in raw}
    assert set(by_text) == {'a<b>&"\\\t\ufffd\n', "err\n", "tail"}
    odd = by_text['a<b>&"\\\t\ufffd\n']
    assert odd.startswith('{"log":"a\\u003cb\\u003e\\u0026\\"\\\\\\u0009\\ufffd\\n","stream":"stdout","time":"20')
    assert odd.endswith('Z"}')
    assert '"stream":"stderr"' in by_text["err\n"]


def test_neither_a_log_nor_a_record_that_cannot_be_written_changes_how_it_ends(own: Bench) -> None:
    spec = own.spec("sh", "-c", "sleep 0.3; echo spoken; sleep 0.2; exit 3")
    _, watcher = own.start(spec)
    folder = Path(spec.log.path).parent
    folder.rename(folder.with_name("elsewhere"))
    assert watcher.wait().exit_code == 3


def test_a_fault_of_the_monitor_is_told_to_the_daemon() -> None:
    daemon, control = handshake.pair()
    begin = Begin(name="", pid=1, start_time=0, tty=False, stdin_once=False, controls=(control.detach(),))
    memfd = handshake.write_begin(begin, 1)
    try:
        raise LookupError("odd")
    except LookupError:
        monitor._report_fault(memfd)
    os.close(memfd)
    message, _ = handshake.receive_from_monitor(daemon)
    daemon.close()
    assert isinstance(message, Fault)
    assert message.trace.endswith("LookupError: odd\n")


def test_a_long_line_is_cut_at_sixteen_kilobytes(containers: Bench) -> None:
    spec = containers.spec("sh", "-c", "head -c 40000 /dev/zero | sed 's/./x/g' 2>/dev/null; echo")
    process = spec.process
    del process
    spec = containers.spec(
        "sh",
        "-c",
        "x=xxxxxxxxxx; y=$x$x$x$x$x$x$x$x$x$x; i=0; while [ $i -lt 400 ]; do printf $y; i=$((i+1)); done; echo",
    )
    containers.run_spec(spec)
    pieces = [str(line["log"]) for line in lines_of(containers, spec.log.path)]
    assert [len(piece) for piece in pieces] == [16384, 16384, 40000 - 2 * 16384 + 1]
    assert "".join(pieces) == "x" * 40000 + "\n"


def test_attributes_go_into_each_line(containers: Bench) -> None:
    spec = containers.spec("echo", "hello")
    log = LogSpec(path=spec.log.path, attributes={"tag": "web", "env": "prod"})
    containers.run_spec(type(spec)(**{name: getattr(spec, name) for name in spec.__struct_fields__} | {"log": log}))
    (line,) = lines_of(containers, log.path)
    assert line["attrs"] == {"env": "prod", "tag": "web"}


@pytest.mark.parametrize("compress", [False, True])
def test_rotation_keeps_so_many_files(containers: Bench, compress: bool) -> None:
    spec = containers.spec("sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo line-$i; i=$((i+1)); done")
    log = LogSpec(path=spec.log.path, max_size_bytes=50_000, max_files=3, compress=compress)
    fields = {name: getattr(spec, name) for name in spec.__struct_fields__}
    containers.run_spec(type(spec)(**fields | {"log": log}))
    folder = Path(log.path).parent
    suffix = ".gz" if compress else ""
    assert sorted(path.name for path in folder.glob("log*")) == ["log", f"log.1{suffix}", f"log.2{suffix}"]
    last = lines_of(containers, log.path)[-1]
    assert last["log"] == "line-2999\n"
    if compress:
        import gzip

        text = gzip.decompress((folder / "log.1.gz").read_bytes()).decode()
    else:
        text = (folder / "log.1").read_text()
    before = [json.loads(line)["log"] for line in text.splitlines()]
    first = str(lines_of(containers, log.path)[0]["log"])
    assert int(before[-1].split("-")[1]) + 1 == int(first.split("-")[1])


def test_the_log_is_there_from_the_start(containers: Bench) -> None:
    spec = containers.spec("sleep", "60")
    process, _ = containers.start(spec)
    assert Path(spec.log.path).stat().st_mode & 0o777 == 0o640
    process.signal(9)


def test_no_log_where_none_is_wanted(containers: Bench) -> None:
    ran = containers.run("echo", "x", log=LogSpec(driver="none"))
    assert ran.stdout == b"x\n"


# Attached clients


def test_output_of_a_second_client_starts_where_it_joins(containers: Bench) -> None:
    spec = containers.spec("sh", "-c", "echo first; read x; echo second", process=OPEN)
    ours, theirs = socket.socketpair()
    late_ours, late_theirs = socket.socketpair()
    with ours, late_ours:
        process, watcher = containers.start(spec, theirs, stdin=True)
        ours.settimeout(10)
        assert demultiplex(ours.recv(100)) == (b"first\n", b"")
        process.attach(Attachment(late_theirs.detach(), StreamFlags()))
        ours.sendall(b"go\n")
        assert demultiplex(read_all(ours)) == (b"second\n", b"")
        assert demultiplex(read_all(late_ours)) == (b"second\n", b"")
        assert watcher.wait().exit_code == 0


def test_flags_choose_the_streams(containers: Bench) -> None:
    spec = containers.spec("sh", "-c", "read x; echo out; echo err >&2", process=OPEN)
    pairs = [socket.socketpair() for _ in range(3)]
    process, _ = containers.start(spec, pairs[0][1], stdin=True)
    process.attach(Attachment(pairs[1][1].detach(), StreamFlags(stdout=True, stderr=False)))
    process.attach(Attachment(pairs[2][1].detach(), StreamFlags(stdout=False, stderr=True)))
    pairs[0][0].sendall(b"\n")
    assert demultiplex(read_all(pairs[0][0])) == (b"out\n", b"err\n")
    assert demultiplex(read_all(pairs[1][0])) == (b"out\n", b"")
    assert demultiplex(read_all(pairs[2][0])) == (b"", b"err\n")
    for ours, _ in pairs:
        ours.close()


def test_a_half_closed_client_still_gets_all_output(containers: Bench) -> None:
    spec = containers.spec("sh", "-c", "cat; echo after", process={"open_stdin": True, "stdin_once": True})
    ran = containers.run_spec(spec, stdin=b"x" * 300_000)
    assert ran.stdout == b"x" * 300_000 + b"after\n"


def test_without_stdin_once_a_half_close_does_not_end_input(containers: Bench) -> None:
    spec = containers.spec("sh", "-c", "read a; read b; echo $a$b", process=OPEN)
    first, first_theirs = socket.socketpair()
    second, second_theirs = socket.socketpair()
    with first, second:
        process, watcher = containers.start(spec, first_theirs, stdin=True)
        first.sendall(b"one\n")
        first.shutdown(socket.SHUT_WR)
        process.attach(Attachment(second_theirs.detach(), StreamFlags(stdin=True)))
        second.sendall(b"two\n")
        assert demultiplex(read_all(first)) == (b"onetwo\n", b"")
        assert watcher.wait().exit_code == 0


def test_close_stdin_ends_input_after_what_was_sent(containers: Bench) -> None:
    spec = containers.spec("cat", process=OPEN)
    ours, theirs = socket.socketpair()
    with ours:
        process, watcher = containers.start(spec, theirs, stdin=True)
        ours.sendall(b"text")
        ours.settimeout(10)
        assert demultiplex(ours.recv(100)) == (b"text", b"")
        process.close_stdin()
        assert read_all(ours) == b""
        assert watcher.wait().exit_code == 0


def test_a_client_that_goes_away_does_not_disturb_others(containers: Bench) -> None:
    spec = containers.spec("sh", "-c", "read x; yes | head -n 100000", process=OPEN)
    gone, gone_theirs = socket.socketpair()
    stays, stays_theirs = socket.socketpair()
    process, watcher = containers.start(spec, stays_theirs, stdin=True)
    process.attach(Attachment(gone_theirs.detach(), StreamFlags()))
    gone.close()
    stays.sendall(b"\n")
    assert len(demultiplex(read_all(stays))[0]) == 200_000
    assert watcher.wait().exit_code == 0
    stays.close()


def test_a_slow_client_loses_nothing_and_neither_does_a_quick_one(containers: Bench) -> None:
    """The slow one does not read until the quick one has seen megabytes, which it cannot before the slow one reads."""
    spec = containers.spec("sh", "-c", "read x; yes 0123456789 | head -n 600000", process=OPEN)
    slow, slow_theirs = socket.socketpair()
    quick, quick_theirs = socket.socketpair()
    process, watcher = containers.start(spec, quick_theirs, stdin=True)
    process.attach(Attachment(slow_theirs.detach(), StreamFlags()))
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(read_all(quick)))
    reader.start()
    quick.sendall(b"\n")
    eventually(lambda: Path(spec.log.path).stat().st_size > 1_000_000, "a megabyte of log")
    slow_bytes = read_all(slow)
    reader.join()
    expected = b"0123456789\n" * 600_000
    assert demultiplex(slow_bytes)[0] == expected
    assert demultiplex(seen[0])[0] == expected
    assert watcher.wait().exit_code == 0
    for each in (slow, quick):
        each.close()


def test_input_that_nobody_reads_blocks_nothing(containers: Bench) -> None:
    spec = containers.spec("sh", "-c", "exec 0<&-; echo out", process=OPEN)
    ours, theirs = socket.socketpair()
    with ours:
        _, watcher = containers.start(spec, theirs, stdin=True)
        ours.setblocking(False)
        try:
            while True:
                ours.send(b"x" * 65536)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            ours.setblocking(True)
        assert watcher.wait().exit_code == 0


# The end


def test_the_last_output_comes_before_the_exit(containers: Bench) -> None:
    for _ in range(30):
        ran = containers.run("sh", "-c", "yes | head -n 5000; printf end")
        assert ran.stdout.endswith(b"end")
        assert len(ran.stdout) == 10_003


def test_a_grandchild_that_holds_the_pipes_delays_the_exit_only_briefly(containers: Bench) -> None:
    spec = containers.spec("sh", "-c", "sleep 300 & echo done", namespaces=SHARED_PID)
    ran = containers.run_spec(spec)
    assert ran.stdout == b"done\n"


def test_without_a_pid_namespace_what_is_left_is_killed(containers: Bench) -> None:
    spec = containers.spec("sh", "-c", "sleep 301 & echo $!; wait", namespaces=SHARED_PID)
    ours, theirs = socket.socketpair()
    with ours:
        process, watcher = containers.start(spec, theirs)
        ours.settimeout(10)
        left = int(demultiplex(ours.recv(100))[0])
        assert alive(left)
        process.signal(9)
        watcher.wait()
        eventually(lambda: not alive(left), "the end of the other process")
    assert not containers.cgroup_exists(spec)


def test_the_exit_record_is_there_before_anybody_hears_of_it(containers: Bench) -> None:
    spec = containers.spec("sh", "-c", "exit 7")
    ran = containers.run_spec(spec)
    record = json.loads((Path(spec.state_dir) / "exit.json").read_text())
    assert record["exit_code"] == 7
    assert record["ended_ns"] == ran.record.ended_ns
    assert sorted(os.listdir(spec.state_dir)) == ["exit.json"]
    assert not containers.cgroup_exists(spec)


def test_a_second_run_forgets_the_first_record(containers: Bench) -> None:
    spec = containers.spec("sleep", "60")
    (Path(spec.state_dir) / "exit.json").write_text('{"exit_code":9}')
    process, _ = containers.start(spec)
    assert not (Path(spec.state_dir) / "exit.json").exists()
    process.signal(9)


def test_signals_to_what_is_gone(containers: Bench) -> None:
    process, watcher = containers.start(containers.spec("true"))
    watcher.wait()
    with pytest.raises(NotFound):
        process.signal(15)
    with pytest.raises(NotFound):
        process.close_stdin()


def test_no_zombie_and_no_monitor_stays(containers: Bench) -> None:
    process, watcher = containers.start(containers.spec("sleep", "60"))
    monitor = containers.monitor_of(process)
    process.signal(9)
    watcher.wait()
    eventually(lambda: not Path(f"/proc/{monitor}").exists(), "the end of the monitor")
    states = {
        Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        for child in children_of(containers.launcher.pid)
    }
    assert "Z" not in states


# Memory


@pytest.mark.requires("cgroup-v1")
def test_memory_exhaustion_is_seen_and_recorded(containers: Bench) -> None:
    resources = Resources(memory_bytes=16 << 20, memory_swap_bytes=16 << 20, devices=(DeviceRule(allow=True),))
    spec = containers.spec("sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=64; echo $?", resources=resources)
    process, watcher = containers.start(spec)
    del process
    record = watcher.wait()
    assert record.oom_killed
    assert watcher.ooms >= 1


@pytest.mark.requires("cgroup-v1")
def test_an_ordinary_end_is_not_taken_for_exhaustion(containers: Bench) -> None:
    resources = Resources(memory_bytes=64 << 20, devices=(DeviceRule(allow=True),))
    process, watcher = containers.start(containers.spec("sleep", "60", resources=resources))
    process.signal(9)
    record = watcher.wait()
    assert (record.exit_code, record.oom_killed, watcher.ooms) == (137, False, 0)


def test_a_waiting_monitor_is_small(containers: Bench) -> None:
    process, _ = containers.start(containers.spec("sleep", "60"))
    monitor = containers.monitor_of(process)
    rollup = Path(f"/proc/{monitor}/smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))
    assert private < 480, f"{private} kB of private memory"
    process.signal(9)


def test_processes_say_what_they_are(containers: Bench) -> None:
    spec = containers.spec("sleep", "60")
    process, _ = containers.start(spec)
    assert Path(f"/proc/{containers.launcher.pid}/comm").read_text() == "pyker-launcher\n"
    monitor = containers.monitor_of(process)
    eventually(lambda: Path(f"/proc/{monitor}/comm").read_text() == f"pyker-m:{spec.id[:7]}\n", "the monitor's name")
    process.signal(9)


def test_a_frozen_container_can_be_killed(containers: Bench) -> None:
    process, watcher = containers.start(containers.spec("sleep", "60"))
    process.pause()
    process.signal(9)
    assert watcher.wait().exit_code == 137


def test_pause_stops_and_resume_lets_go_on(containers: Bench) -> None:
    spec = containers.spec("sh", "-c", "while read x; do echo $x; done", process=OPEN)
    ours, theirs = socket.socketpair()
    with ours:
        process, _ = containers.start(spec, theirs, stdin=True)
        process.pause()
        ours.sendall(b"held\n")
        ours.settimeout(0.2)
        with pytest.raises(TimeoutError):
            ours.recv(100)
        process.resume()
        ours.settimeout(10)
        assert demultiplex(ours.recv(100)) == (b"held\n", b"")
        process.signal(9)


def test_an_ordinary_container_has_no_mounts_when_its_end_is_told(containers: Bench) -> None:
    process, watcher = containers.start(containers.spec("sleep", "60"))
    monitor = containers.monitor_of(process)
    await_rest(monitor, process)
    folder = f"/proc/{monitor}/fd"
    assert not [fd for fd in os.listdir(folder) if os.readlink(f"{folder}/{fd}").startswith("mnt:")]
    process.signal(9)
    watcher.wait()


def test_mounts_of_a_disposable_container_are_gone_a_moment_after_its_end(containers: Bench) -> None:
    spec = containers.spec("sleep", "60", disposable=True)
    process, watcher = containers.start(spec)
    monitor = containers.monitor_of(process)
    namespace = os.readlink(f"/proc/{process.pid}/ns/mnt")

    def held() -> bool:
        folder = f"/proc/{monitor}/fd"
        return namespace in [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]

    eventually(held, "a monitor that holds the mount namespace")
    process.signal(9)
    watcher.wait()
    eventually(lambda: not alive(monitor), "the end of the monitor")


# The speaker

UNTIL = "until [ -e /%s ]; do usleep 10000; done"


def speakers_of(monitor: int) -> list[int]:
    """The child that speaks for a monitor, if there is one."""
    found = []
    for child in children_of(monitor):
        try:
            if Path(f"/proc/{child}/comm").read_text().startswith("pyker-s:"):
                found.append(child)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def await_rest(monitor: int, process: ContainerProcess) -> None:
    eventually(lambda: children_of(monitor) == [process.pid], "a monitor that is alone with its process")


def test_one_that_has_spoken_is_small_again_and_knows_where_it_was(own: Bench) -> None:
    script = f"echo one; printf half; {UNTIL % 'on'}; echo ' a line'; {UNTIL % 'end'}; printf tail; exit 7"
    spec = own.spec("sh", "-c", script)
    process, watcher = own.start(spec)
    monitor = own.monitor_of(process)
    eventually(lambda: bool(speakers_of(monitor)), "a speaker")
    await_rest(monitor, process)
    assert [line["log"] for line in lines_of(own, spec.log.path)] == ["one\n"]
    rollup = Path(f"/proc/{monitor}/smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))
    assert private < 480, f"{private} kB of private memory"
    descriptors = len(os.listdir(f"/proc/{monitor}/fd"))
    own.exec(process, "touch", "/on")
    eventually(lambda: len(lines_of(own, spec.log.path)) == 2, "the second line")
    await_rest(monitor, process)
    assert len(os.listdir(f"/proc/{monitor}/fd")) == descriptors
    own.exec(process, "touch", "/end")
    assert watcher.wait().exit_code == 7
    assert [line["log"] for line in lines_of(own, spec.log.path)] == ["one\n", "half a line\n", "tail"]


def test_what_was_half_said_is_written_though_nothing_follows(own: Bench) -> None:
    spec = own.spec("sh", "-c", f"printf half; {UNTIL % 'end'}")
    process, watcher = own.start(spec)
    monitor = own.monitor_of(process)
    eventually(lambda: bool(speakers_of(monitor)), "a speaker")
    await_rest(monitor, process)
    own.exec(process, "touch", "/end")
    assert watcher.wait().exit_code == 0
    assert [line["log"] for line in lines_of(own, spec.log.path)] == ["half"]


def test_a_process_that_ends_beside_a_speaker_and_leaves_output(own: Bench) -> None:
    script = f"echo one; {UNTIL % 'end'}; seq 1 20000; exit 3"
    spec = own.spec("sh", "-c", script)
    process, watcher = own.start(spec)
    monitor = own.monitor_of(process)
    eventually(lambda: bool(speakers_of(monitor)), "a speaker")
    own.exec(process, "touch", "/end")
    assert watcher.wait().exit_code == 3
    said = [line["log"] for line in lines_of(own, spec.log.path)]
    assert said == ["one\n", *(f"{number}\n" for number in range(1, 20001))]
    eventually(lambda: not alive(monitor), "the end of the monitor")
    assert not own.cgroup_exists(spec)


def test_clients_and_daemons_come_to_a_monitor_at_rest(own: Bench) -> None:
    process, container_id, state_dir, _ = survivor(own)
    monitor = own.monitor_of(process)
    for turn in (b"first", b"second"):
        await_rest(monitor, process)
        own.restart_driver()
        process, watcher = adopted(own, container_id, state_dir)
        ours, theirs = socket.socketpair()
        with ours:
            process.attach(Attachment(theirs.detach(), StreamFlags(stdin=True)))
            ours.sendall(turn + b"\n")
            ours.settimeout(10)
            assert demultiplex(ours.recv(100)) == (b"got " + turn + b"\n", b"")
            assert len(speakers_of(monitor)) == 1
    await_rest(monitor, process)
    process.signal(9)
    assert watcher.wait().exit_code == 137


def test_closing_the_input_of_a_monitor_at_rest(own: Bench) -> None:
    process, watcher = own.start(own.spec("sh", "-c", "cat; exit 4", process=OPEN))
    await_rest(own.monitor_of(process), process)
    process.close_stdin()
    assert watcher.wait().exit_code == 4


def test_input_that_nobody_reads_does_not_keep_a_monitor_awake(own: Bench) -> None:
    process, _ = own.start(own.spec("sh", "-c", "exec <&-; echo deaf; exec sleep 60", process=OPEN))
    monitor = own.monitor_of(process)
    eventually(lambda: bool(speakers_of(monitor)), "a speaker")
    await_rest(monitor, process)
    before = Path(f"/proc/{monitor}/stat").read_text().rpartition(")")[2].split()[11:15]
    # A second run of the same container's would have been seen by now: they are forked at once.
    select.select([], [], [], 0.3)
    assert children_of(monitor) == [process.pid]
    assert Path(f"/proc/{monitor}/stat").read_text().rpartition(")")[2].split()[11:15] == before
    process.signal(9)


def test_a_killed_speaker_is_as_a_killed_monitor(own: Bench) -> None:
    spec = own.spec("sh", "-c", "echo x; exec sleep 60")
    process, watcher = own.start(spec)
    monitor = own.monitor_of(process)
    eventually(lambda: bool(speakers_of(monitor)), "a speaker")
    os.kill(speakers_of(monitor)[0], signal.SIGKILL)
    assert watcher.wait().exit_code == 137
    eventually(lambda: not alive(monitor) and not alive(process.pid), "the end of monitor and container")
    own.driver.cleanup(spec.id, spec.state_dir)


def test_a_speaker_dies_with_its_monitor(own: Bench) -> None:
    spec = own.spec("sh", "-c", "echo x; exec sleep 60")
    process, watcher = own.start(spec)
    monitor = own.monitor_of(process)
    eventually(lambda: bool(speakers_of(monitor)), "a speaker")
    (speaker,) = speakers_of(monitor)
    os.kill(monitor, signal.SIGKILL)
    assert watcher.wait().exit_code == 137
    eventually(lambda: not alive(speaker) and not alive(process.pid), "the end of speaker and container")
    own.driver.cleanup(spec.id, spec.state_dir)


# Survival


def survivor(own: Bench) -> tuple[ContainerProcess, str, str, Path]:
    """A container that answers each line it reads."""
    script = "while read x; do echo got $x; [ $x = stop ] && exit 6; done"
    spec = own.spec("sh", "-c", script, process=OPEN)
    process, _ = own.start(spec)
    return process, spec.id, spec.state_dir, Path(spec.log.path)


def adopted(own: Bench, container_id: str, state_dir: str) -> tuple[ContainerProcess, Recorder]:
    watcher = Recorder()
    found = own.driver.adopt(container_id, state_dir, watcher)
    assert found is not None and not isinstance(found, ExitRecord)
    own.started.append(found)
    return found, watcher


def test_a_new_driver_adopts_a_running_container(own: Bench) -> None:
    before, container_id, state_dir, log = survivor(own)
    own.restart_driver()
    process, watcher = adopted(own, container_id, state_dir)
    assert process.pid == before.pid
    ours, theirs = socket.socketpair()
    with ours:
        process.attach(Attachment(theirs.detach(), StreamFlags(stdin=True)))
        ours.sendall(b"again\n")
        ours.settimeout(10)
        assert demultiplex(ours.recv(100)) == (b"got again\n", b"")
        assert own.exec(process, "cat", "/proc/1/comm").stdout == b"sh\n"
        assert process.pids() == [process.pid]
        ours.sendall(b"stop\n")
        assert demultiplex(read_all(ours)) == (b"got stop\n", b"")
    assert watcher.wait().exit_code == 6
    assert [json.loads(line)["log"] for line in log.read_text().splitlines()] == ["got again\n", "got stop\n"]


def test_a_container_survives_its_launcher(own: Bench) -> None:
    process, container_id, _, log = survivor(own)
    os.kill(own.launcher.pid, signal.SIGKILL)
    eventually(lambda: own.launcher.pid == 0, "the end of the launcher")
    assert alive(process.pid)
    ours, theirs = socket.socketpair()
    with ours:
        process.attach(Attachment(theirs.detach(), StreamFlags(stdin=True)))
        ours.sendall(b"on\n")
        ours.settimeout(10)
        assert demultiplex(ours.recv(100)) == (b"got on\n", b"")
    assert own.run("echo", "next").stdout == b"next\n"
    assert own.exec(process, "echo", container_id[:4]).stdout.strip() == container_id[:4].encode()
    assert "got on" in log.read_text()


def test_a_container_survives_sigterm_to_the_group_of_its_launcher(own: Bench) -> None:
    process, *_ = survivor(own)
    monitor = own.monitor_of(process)
    os.killpg(own.launcher.pid, signal.SIGTERM)
    assert own.run("echo", "x").stdout == b"x\n"
    assert os.getpgid(monitor) != own.launcher.pid
    assert alive(process.pid) and alive(monitor)


def test_an_exit_while_nobody_listens_is_on_record(own: Bench) -> None:
    process, container_id, state_dir, log = survivor(own)
    pid = process.pid
    ours, theirs = socket.socketpair()
    with ours:
        process.attach(Attachment(theirs.detach(), StreamFlags(stdin=True)))
        own.driver.close()
        ours.sendall(b"stop\n")
        assert demultiplex(read_all(ours)) == (b"got stop\n", b"")
    eventually(lambda: (Path(state_dir) / "exit.json").exists(), "the exit record")
    own.restart_driver()
    record = own.driver.adopt(container_id, state_dir, Recorder())
    assert isinstance(record, ExitRecord)
    assert record.exit_code == 6
    assert not alive(pid)
    assert "got stop" in log.read_text()


def test_nothing_is_adopted_where_nothing_ran(own: Bench) -> None:
    spec = own.spec("true")
    assert own.driver.adopt(spec.id, spec.state_dir, Recorder()) is None
    assert own.driver.adopt(spec.id, str(own.folder / "nowhere"), Recorder()) is None


def test_a_container_whose_monitor_was_killed_counts_as_killed(own: Bench) -> None:
    process, container_id, state_dir, _ = survivor(own)
    own.driver.close()
    monitor = own.monitor_of(process)
    os.kill(monitor, signal.SIGKILL)
    eventually(lambda: not alive(monitor), "the end of the monitor")
    own.restart_driver()
    record = own.driver.adopt(container_id, state_dir, Recorder())
    assert isinstance(record, ExitRecord)
    assert (record.exit_code, record.signal) == (137, 9)
    assert not alive(process.pid)
    assert os.listdir(state_dir) == ["exit.json"]


def test_a_killed_monitor_is_an_exit_for_the_daemon_that_runs(own: Bench) -> None:
    spec = own.spec("sleep", "60")
    process, watcher = own.start(spec)
    os.kill(own.monitor_of(process), signal.SIGKILL)
    assert watcher.wait().exit_code == 137
    eventually(lambda: not alive(process.pid), "the end of the container")
    own.driver.cleanup(spec.id, spec.state_dir)
    assert not own.cgroup_exists(spec)


def test_two_drivers_hear_of_the_same_end(own: Bench) -> None:
    from pyker.execdriver.native import NativeDriver
    from pyker.libcontainer.launcher import Launcher

    spec = own.spec("sleep", "60")
    process, first = own.start(spec)
    other = NativeDriver(Launcher(str(own.exec_root)), str(own.exec_root))
    try:
        second = Recorder()
        assert other.adopt(spec.id, spec.state_dir, second) is not None
        process.signal(9)
        assert first.wait() == second.wait()
    finally:
        other.close()


def test_a_state_folder_deeper_than_a_socket_address(own: Bench) -> None:
    spec = own.spec("sleep", "60")
    deep = Path(spec.state_dir, *["d" * 60] * 4)
    deep.mkdir(parents=True)
    fields = {name: getattr(spec, name) for name in spec.__struct_fields__} | {"state_dir": str(deep)}
    process, watcher = own.start(type(spec)(**fields))
    assert (deep / "monitor.sock").stat().st_mode & 0o777 == 0o600
    own.restart_driver()
    again, watcher = adopted(own, spec.id, str(deep))
    again.signal(9)
    assert watcher.wait().exit_code == 137
    assert parent_of(os.getpid()) > 0 and process.pid == again.pid


def test_many_starts_at_once(own: Bench) -> None:
    specs = [own.spec("sh", "-c", f"exit {number}") for number in range(24)]
    codes: dict[int, int] = {}

    def start(number: int) -> None:
        codes[number] = own.run_spec(specs[number]).record.exit_code

    threads = [threading.Thread(target=start, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {number: number for number in range(24)}
