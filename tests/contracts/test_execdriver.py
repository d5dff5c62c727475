"""What every execdriver must do; run on the native one and on the fake that other tests rely on."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from pyker.errors import Conflict, KernelError, NotFound
from pyker.execdriver.base import Attachment, ContainerProcess, ExecDriver, StreamFlags
from pyker.libcontainer.spec import ContainerSpec, ExitRecord, ProcessSpec, Resources
from pyker.types.mount import Mount
from tests.kernel.containerbench import ROOTLESS_PATH, Bench, Recorder, bench, demultiplex, read_all
from tests.support.capabilities import has
from tests.support.fake_execdriver import FakeExecDriver


class Subject(Protocol):
    """A driver, and how to say common things to its containers."""

    driver: ExecDriver

    def spec(self, *command: str, stdin: bool = False, tty: bool = False) -> ContainerSpec: ...

    def process(self, *command: str, stdin: bool = False, tty: bool = False) -> ProcessSpec: ...

    def restart(self) -> None:
        """The driver forgets all it knows, as a new daemon's does."""
        ...


class NativeSubject:
    def __init__(self, made: Bench) -> None:
        self.bench = made

    @property
    def driver(self) -> ExecDriver:
        return self.bench.driver

    def _options(self, command: tuple[str, ...], stdin: bool, tty: bool) -> dict[str, object]:
        match command:
            case ("exit", code):
                args: tuple[str, ...] = ("sh", "-c", f"exit {code}")
            case ("say", text, code):
                args = ("sh", "-c", f"printf '{text}'; exit {code}")
            case _:
                args = command
        return {"args": args, "env": (ROOTLESS_PATH,), "open_stdin": stdin, "stdin_once": stdin, "tty": tty}

    def spec(self, *command: str, stdin: bool = False, tty: bool = False) -> ContainerSpec:
        options = self._options(command, stdin, tty)
        return self.bench.spec(process=options)

    def process(self, *command: str, stdin: bool = False, tty: bool = False) -> ProcessSpec:
        return ProcessSpec(**self._options(command, stdin, tty))  # type: ignore[arg-type]

    def restart(self) -> None:
        self.bench.restart_driver()


class FakeSubject:
    def __init__(self) -> None:
        self.driver: ExecDriver = FakeExecDriver()
        self._count = 0

    def spec(self, *command: str, stdin: bool = False, tty: bool = False) -> ContainerSpec:
        self._count += 1
        return ContainerSpec(
            id=f"{self._count:064x}",
            state_dir="/nonexistent",
            rootfs=Mount(target="/", fstype="overlay"),
            mounts=(),
            process=self.process(*command, stdin=stdin, tty=tty),
            namespaces={},
        )

    def process(self, *command: str, stdin: bool = False, tty: bool = False) -> ProcessSpec:
        return ProcessSpec(args=command, open_stdin=stdin, stdin_once=stdin, tty=tty)

    def restart(self) -> None:
        return


@pytest.fixture(
    params=["fake", pytest.param("native", marks=pytest.mark.requires("root", "overlay", "busybox"))], scope="module"
)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    if request.param == "fake":
        yield FakeSubject()
        return
    if not all(has(each) for each in ("root", "overlay", "busybox")):
        pytest.skip("needs root, overlay and busybox")
    with bench(tmp_path_factory.mktemp("contract")) as made:
        yield NativeSubject(made)


def attachment(*, stdin: bool = False) -> tuple[socket.socket, Attachment]:
    ours, theirs = socket.socketpair()
    return ours, Attachment(theirs.detach(), StreamFlags(stdin=stdin))


def start(subject: Subject, *command: str) -> tuple[ContainerSpec, ContainerProcess, Recorder]:
    spec = subject.spec(*command)
    watcher = Recorder()
    return spec, subject.driver.run(spec, watcher), watcher


@pytest.mark.claim("execdriver-native")
def test_it_can_run_here(subject: Subject) -> None:
    assert subject.driver.probe().usable
    assert subject.driver.name


@pytest.mark.claim("libcontainer-interfaces", "exec-native-kernel")
@pytest.mark.parametrize("code", [0, 7])
def test_the_exit_code_reaches_the_watcher(subject: Subject, code: int) -> None:
    _, _, watcher = start(subject, "exit", str(code))
    record = watcher.wait()
    assert record.exit_code == code
    assert record.ended_ns > 0


@pytest.mark.parametrize("signum", [9, 15])
def test_a_signal_ends_it(subject: Subject, signum: int) -> None:
    # PID 1 heeds only signals that it handles, or SIGKILL: the fake's default is that of an exec.
    _, process, watcher = start(subject, "sleep", "600")
    if signum == 9:
        process.signal(9)
        assert watcher.wait().exit_code == 137
        return
    inner = Recorder()
    spec, outer, outer_watcher = start(subject, "sleep", "600")
    running = subject.driver.exec(spec.id, subject.process("sleep", "601"), inner)
    running.signal(signum)
    assert inner.wait().exit_code == 143
    for each in (process, outer):
        each.signal(9)
    watcher.wait()
    outer_watcher.wait()


def test_output_is_complete_when_the_stream_ends(subject: Subject) -> None:
    ours, attached = attachment()
    with ours:
        watcher = Recorder()
        subject.driver.run(subject.spec("say", "hello", "3"), watcher, (attached,))
        assert demultiplex(read_all(ours)) == (b"hello", b"")
        assert watcher.wait().exit_code == 3


def test_a_half_closed_client_gets_the_rest(subject: Subject) -> None:
    ours, attached = attachment(stdin=True)
    with ours:
        watcher = Recorder()
        subject.driver.run(subject.spec("cat", stdin=True), watcher, (attached,))
        ours.sendall(b"echo")
        ours.shutdown(socket.SHUT_WR)
        assert demultiplex(read_all(ours)) == (b"echo", b"")
        assert watcher.wait().exit_code == 0


def test_a_command_that_is_not_there(subject: Subject) -> None:
    ours, attached = attachment()
    with ours:
        with pytest.raises(KernelError) as caught:
            subject.driver.run(subject.spec("nosuch"), Recorder(), (attached,))
        assert (caught.value.errno, caught.value.stage) == (errno.ENOENT, "exec")
        assert read_all(ours) == b""


def test_the_pid_is_told_before_run_returns(subject: Subject) -> None:
    told: list[int] = []
    watcher = Recorder()
    process = subject.driver.run(subject.spec("sleep", "600"), watcher, (), told.append)
    assert told == [process.pid]
    process.signal(9)
    watcher.wait()


@pytest.mark.claim("execdriver-exec")
def test_exec_in_a_container(subject: Subject) -> None:
    spec, process, watcher = start(subject, "sleep", "600")
    ours, attached = attachment()
    with ours:
        inner = Recorder()
        subject.driver.exec(spec.id, subject.process("say", "inner", "4"), inner, (attached,))
        assert demultiplex(read_all(ours)) == (b"inner", b"")
        assert inner.wait().exit_code == 4
    assert not watcher.ended.is_set()
    process.signal(9)
    watcher.wait()


def test_exec_where_nothing_runs(subject: Subject) -> None:
    spec, _, watcher = start(subject, "exit", "0")
    watcher.wait()
    ours, attached = attachment()
    with ours:
        with pytest.raises(Conflict):
            subject.driver.exec(spec.id, subject.process("exit", "0"), Recorder(), (attached,))
        assert read_all(ours) == b"", "the client's socket stayed open"


def test_what_has_ended_takes_no_signal_and_no_client(subject: Subject) -> None:
    _, process, watcher = start(subject, "exit", "0")
    watcher.wait()
    with pytest.raises(NotFound):
        process.signal(15)
    ours, attached = attachment()
    with ours:
        with pytest.raises(NotFound):
            process.attach(attached)
        assert read_all(ours) == b""


def test_a_resize_needs_no_terminal(subject: Subject) -> None:
    """Clients ask without knowing, and are not refused."""
    _, process, watcher = start(subject, "sleep", "600")
    process.resize(10, 10)
    process.signal(9)
    watcher.wait()
    watcher = Recorder()
    process = subject.driver.run(subject.spec("sleep", "600", tty=True), watcher)
    process.resize(10, 10)
    process.signal(9)
    watcher.wait()


@pytest.mark.claim("execdriver-accounts", "execdriver-limits")
def test_pause_update_stats_and_pids(subject: Subject) -> None:
    _, process, watcher = start(subject, "sleep", "600")
    process.pause()
    process.resume()
    process.update(Resources())
    assert isinstance(process.stats()["memory_usage_bytes"], int)
    assert process.pids() == [process.pid]
    process.signal(9)
    watcher.wait()


def test_adoption_of_the_living_the_ended_and_the_unknown(subject: Subject, tmp_path: Path) -> None:
    living, process, _ = start(subject, "sleep", "600")
    ended, _, watcher = start(subject, "exit", "5")
    watcher.wait()
    subject.restart()
    again = Recorder()
    found = subject.driver.adopt(living.id, living.state_dir, again)
    assert found is not None and not isinstance(found, ExitRecord)
    assert found.pid == process.pid
    record = subject.driver.adopt(ended.id, ended.state_dir, Recorder())
    assert isinstance(record, ExitRecord)
    assert record.exit_code == 5
    assert subject.driver.adopt("f" * 64, str(tmp_path / "nothing"), Recorder()) is None
    found.signal(9)
    assert again.wait().exit_code == 137


def test_cleanup_can_be_repeated(subject: Subject) -> None:
    spec, _, watcher = start(subject, "exit", "0")
    watcher.wait()
    subject.driver.cleanup(spec.id, spec.state_dir)
    subject.driver.cleanup(spec.id, spec.state_dir)
    assert not os.path.exists(f"{spec.state_dir}/monitor.sock")


def test_threads_start_containers_side_by_side(subject: Subject) -> None:
    codes: dict[int, int] = {}

    def work(code: int) -> None:
        _, _, watcher = start(subject, "exit", str(code))
        codes[code] = watcher.wait().exit_code

    threads = [threading.Thread(target=work, args=(code,)) for code in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {code: code for code in range(8)}
