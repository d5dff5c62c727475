"""One more process in a running container: where it lands, who it is, what it says when it cannot run."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.errors import Conflict, InvalidParameter, KernelError
from pyker.execdriver.base import Attachment, ContainerProcess, StreamFlags
from pyker.libcontainer import setns, statefiles
from pyker.libcontainer.cgroups import open_cgroup
from pyker.libcontainer.handshake import Exec
from pyker.libcontainer.spec import ProcessSpec, Rlimit
from tests.kernel.containerbench import (
    DEFAULT_CAPS,
    NAMESPACES,
    Bench,
    Recorder,
    alive,
    bench,
    eventually,
    namespace_of,
    read_all,
)

pytestmark = pytest.mark.requires("root", "overlay", "busybox")


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("exec")) as made:
        yield made


@pytest.fixture(scope="module")
def target(containers: Bench) -> ContainerProcess:
    spec = containers.spec("sleep", "600", namespaces=dict.fromkeys((*NAMESPACES, "cgroup"), ""))
    process, _ = containers.start(spec)
    return process


@pytest.mark.claim("rule-exec-joins")
def test_it_is_in_every_namespace_and_the_cgroup(containers: Bench, target: ContainerProcess) -> None:
    process = ProcessSpec(args=("sleep", "60"), env=("PATH=/bin",), capabilities=DEFAULT_CAPS)
    watcher = Recorder()
    running = containers.driver.exec(target.container_id, process, watcher)  # type: ignore[attr-defined]
    for kind in (*NAMESPACES, "cgroup"):
        assert namespace_of(running.pid, kind) == namespace_of(target.pid, kind)
    assert Path(f"/proc/{running.pid}/cgroup").read_text() == Path(f"/proc/{target.pid}/cgroup").read_text()
    path = target.cgroup_path  # type: ignore[attr-defined]
    assert sorted(open_cgroup(path).pids()) == sorted([target.pid, running.pid])
    running.signal(15)
    assert watcher.wait().exit_code == 143


@pytest.mark.requires("cgroup2")
def test_both_are_born_in_the_cgroup_of_version_2(containers: Bench, target: ContainerProcess) -> None:
    inside = Path(f"/proc/{target.pid}/cgroup").read_text().splitlines()
    (mine,) = (line for line in inside if line.startswith("0::"))
    assert mine == f"0::{containers.parent}/{target.container_id}"  # type: ignore[attr-defined]
    watcher = Recorder()
    process = containers.driver.exec(
        target.container_id,  # type: ignore[attr-defined]
        ProcessSpec(args=("sleep", "60"), env=("PATH=/bin",), capabilities=DEFAULT_CAPS),
        watcher,
    )
    assert mine in Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
    process.signal(9)
    watcher.wait()


def test_exit_code_and_streams(containers: Bench, target: ContainerProcess) -> None:
    ran = containers.exec(target, "sh", "-c", "echo out; echo err >&2; exit 9")
    assert (ran.stdout, ran.stderr, ran.record.exit_code) == (b"out\n", b"err\n", 9)


def test_it_sees_the_containers_processes_and_no_others(containers: Bench, target: ContainerProcess) -> None:
    lines = containers.exec(target, "ps", "-o", "pid,comm").lines
    assert [line.split()[1] for line in lines[1:]] == ["sleep", "ps"]


def test_identity_is_its_own(containers: Bench, target: ContainerProcess) -> None:
    ran = containers.exec(
        target,
        "sh",
        "-c",
        "id -u; pwd; echo $HOME; ulimit -n; grep NoNewPrivs /proc/self/status",
        user="bob",
        cwd="/tmp",
        rlimits=(Rlimit("nofile", 33, 44),),
        no_new_privileges=True,
    )
    assert ran.lines == ["1000", "/tmp", "/home/bob", "33", "NoNewPrivs:\t1"]


def test_capabilities_are_those_given(containers: Bench, target: ContainerProcess) -> None:
    ran = containers.exec(target, "grep", "^Cap[PEB]", "/proc/self/status")
    assert {line.split()[1] for line in ran.lines} == {"00000000a80425fb"}


def test_input(containers: Bench, target: ContainerProcess) -> None:
    ran = containers.exec(target, "cat", stdin=b"y" * 200_000, open_stdin=True, stdin_once=True)
    assert ran.stdout == b"y" * 200_000


def test_a_terminal(containers: Bench, target: ContainerProcess) -> None:
    ran = containers.exec(target, "sh", "-c", "stty size; tty; echo control > /dev/tty", tty=True, console_size=(9, 33))
    assert ran.stdout == b"9 33\r\n/dev/pts/0\r\ncontrol\r\n"


@pytest.mark.claim("POST /exec/{id}/resize", "rule-resize")
def test_resize(containers: Bench, target: ContainerProcess) -> None:
    script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
    process = ProcessSpec(args=("sh", "-c", script), env=("PATH=/bin",), tty=True, console_size=(1, 1))
    ours, theirs = socket.socketpair()
    with ours:
        running = containers.driver.exec(
            target.container_id,  # type: ignore[attr-defined]
            process,
            Recorder(),
            (Attachment(theirs.detach(), StreamFlags()),),
        )
        ours.settimeout(10)
        assert ours.recv(100) == b"ready\r\n"
        running.resize(50, 60)
        assert read_all(ours) == b"50 60\r\n"


def test_resizing_without_a_terminal_changes_nothing(containers: Bench, target: ContainerProcess) -> None:
    process = ProcessSpec(args=("sleep", "60"), env=("PATH=/bin",))
    watcher = Recorder()
    running = containers.driver.exec(target.container_id, process, watcher)  # type: ignore[attr-defined]
    running.resize(1, 1)
    running.signal(9)
    assert watcher.wait().signal == 9


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nosuch",), 'exec: "nosuch": executable file not found in $PATH'),
        (("/nosuch",), 'exec: "/nosuch": stat /nosuch: no such file or directory'),
        (("/etc/passwd",), 'exec: "/etc/passwd": permission denied'),
        (("/etc",), 'exec: "/etc": is a directory'),
    ],
)
def test_commands_that_cannot_run(
    containers: Bench, target: ContainerProcess, args: tuple[str, ...], message: str
) -> None:
    with pytest.raises(KernelError) as caught:
        containers.exec(target, *args)
    assert (caught.value.message, caught.value.stage) == (message, "exec")


def test_a_working_directory_that_is_missing_is_not_made(containers: Bench, target: ContainerProcess) -> None:
    with pytest.raises(KernelError, match="no such file or directory"):
        containers.exec(target, "true", cwd="/not/there")
    assert containers.exec(target, "ls", "/not").record.exit_code != 0


def test_an_unknown_user(containers: Bench, target: ContainerProcess) -> None:
    with pytest.raises(InvalidParameter, match="unable to find user ghost"):
        containers.exec(target, "true", user="ghost")


def test_it_ends_with_its_container(containers: Bench) -> None:
    process, watcher = containers.start(containers.spec("sleep", "600"))
    inside = Recorder()
    running = containers.driver.exec(
        process.container_id,  # type: ignore[attr-defined]
        ProcessSpec(args=("sleep", "601"), env=("PATH=/bin",)),
        inside,
    )
    process.signal(9)
    assert watcher.wait().exit_code == 137
    assert inside.wait().exit_code == 137
    eventually(lambda: not alive(running.pid), "the end of the exec")


def test_a_container_that_has_ended_or_is_unknown(containers: Bench) -> None:
    process, watcher = containers.start(containers.spec("true"))
    watcher.wait()
    with pytest.raises(Conflict, match="is not running"):
        containers.exec(process, "true")
    with pytest.raises(Conflict, match="Container nosuch is not running"):
        containers.driver.exec("nosuch", ProcessSpec(args=("true",)), Recorder())


def test_another_process_of_the_same_number_is_not_taken_for_the_container() -> None:
    request = Exec("c", os.getpid(), 1, "", ("mnt",), ProcessSpec(args=("true",)))
    with pytest.raises(Conflict, match="Container c is not running"):
        setns.open_target(request)
    right = Exec("c", os.getpid(), statefiles.start_time_of(os.getpid()), "", (), ProcessSpec(args=("true",)))
    os.close(setns.open_target(right))


def test_stages(containers: Bench, target: ContainerProcess) -> None:
    watcher = Recorder()
    running = containers.driver.exec(
        target.container_id,  # type: ignore[attr-defined]
        ProcessSpec(args=("true",), env=("PATH=/bin",)),
        watcher,
    )
    assert list(running.stages) == ["fork", "cgroup", "namespaces", "security", "exec"]  # type: ignore[attr-defined]
    watcher.wait()
