"""What becomes of a container: the handlers on fakes, each transition seen from outside."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyker.engine.job import CancelToken
from pyker.errors import Cancelled, Conflict, InvalidParameter, NotFound, NotModified, PykerError, SystemFailure
from pyker.jobs import containers as jobs
from pyker.libcontainer.spec import ExitRecord
from pyker.types.config import HostConfig, RestartPolicy
from tests.support.fake_engine_room import Client, EngineRoom


@pytest.fixture
def room(tmp_path: Path) -> Iterator[EngineRoom]:
    room = EngineRoom(str(tmp_path))
    yield room
    room.exits.close()
    for process in list(room.driver.running.values()):
        process.end(0)
    room.engine.close()
    room.store.close()


def state(room: EngineRoom, container: str) -> Any:
    return room.store.get(container).state


def test_a_run_goes_from_created_to_exited(room: EngineRoom) -> None:
    container = room.create("exit", "3", name="c1")
    assert state(room, "c1").status == "created"
    waiting = Client()
    future = room.spawn(jobs.WaitContainer(container="c1", condition="next-exit"), waiting)
    assert waiting.begun.wait(10)
    room.start("c1")
    assert future.result(10).exit_code == 3
    assert (state(room, container).status, state(room, container).exit_code) == ("exited", 3)
    assert room.network.sandboxes == {}
    assert room.actions() == ["container create", "container start", "container die"]


def test_wait_not_running_returns_at_once_for_what_does_not_run(room: EngineRoom) -> None:
    room.create("forever", name="c1")
    assert room.wait_exit("c1") == 0


def test_next_exit_does_not_fire_for_what_merely_does_not_run(room: EngineRoom) -> None:
    room.create("exit", "0", name="c1")
    room.start("c1")
    room.wait_exit("c1")
    cancel, client = CancelToken(), Client()
    future = room.spawn(jobs.WaitContainer(container="c1", condition="next-exit"), client, cancel)
    assert client.begun.wait(10)
    cancel.cancel()
    with pytest.raises(Cancelled):
        future.result(10)


def test_wait_with_an_unknown_condition_is_refused(room: EngineRoom) -> None:
    room.create("forever", name="c1")
    with pytest.raises(InvalidParameter, match='invalid condition: "x"'):
        room.run(jobs.WaitContainer(container="c1", condition="x"), Client())


def test_auto_remove_leaves_nothing_and_answers_removed(room: EngineRoom, tmp_path: Path) -> None:
    container = room.create("exit", "7", host=HostConfig(auto_remove=True), volumes={"/data": {}})
    volume = room.store.get(container).mount_points[0]
    assert Path(volume.source).is_dir()
    client = Client()
    future = room.spawn(jobs.WaitContainer(container=container, condition="removed"), client)
    assert client.begun.wait(10)
    room.start(container)
    assert future.result(10).exit_code == 7
    assert room.store.find(container) is None
    assert not Path(volume.source).exists()
    assert room.actions()[-4:] == ["container die", "volume unmount", "volume destroy", "container destroy"]


def test_a_start_that_fails_keeps_created_and_says_why(room: EngineRoom) -> None:
    room.create("nosuchcmd", name="c1")
    with pytest.raises(InvalidParameter) as caught:
        room.start("c1")
    assert caught.value.message == (
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container "
        'process: exec: "nosuchcmd": executable file not found in $PATH: unknown'
    )
    now = state(room, "c1")
    assert (now.status, now.exit_code, now.error) == ("created", 127, caught.value.message)
    assert room.network.sandboxes == {}
    assert not list(Path(room.options.exec_root, "containers").iterdir())


def test_a_start_that_fails_with_auto_remove_removes_and_ends_the_wait(room: EngineRoom) -> None:
    container = room.create("nosuchcmd", host=HostConfig(auto_remove=True))
    client = Client()
    future = room.spawn(jobs.WaitContainer(container=container, condition="removed"), client)
    assert client.begun.wait(10)
    with pytest.raises(InvalidParameter):
        room.start(container)
    assert future.result(10).exit_code == 127
    assert room.store.find(container) is None
    assert room.graph.layers.writable == set()


def test_no_network_no_container(room: EngineRoom) -> None:
    room.create("forever", name="c1")
    room.network.refusal = SystemFailure("Bind for 0.0.0.0:80 failed: port is already allocated")
    with pytest.raises(SystemFailure, match="port is already allocated"):
        room.start("c1")
    assert (state(room, "c1").status, state(room, "c1").exit_code) == ("created", 128)
    room.network.refusal = None
    room.start("c1")
    assert state(room, "c1").status == "running"


def test_starting_twice_at_once_starts_once(room: EngineRoom) -> None:
    room.create("forever", name="c1")
    gate = threading.Barrier(2)
    outcomes: list[str] = []

    def start() -> None:
        gate.wait()
        try:
            room.start("c1")
            outcomes.append("started")
        except NotModified:
            outcomes.append("was running")

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(outcomes) == ["started", "was running"]
    assert len(room.driver.running) == 1


def test_stop_during_start_waits_and_stops(room: EngineRoom) -> None:
    room.create("forever", name="c1")
    under_way, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        under_way.set()
        assert go_on.wait(10)

    room.driver.before_run = slow
    starting = room.spawn(jobs.StartContainer(container="c1"))
    assert under_way.wait(10)
    removing = room.spawn(jobs.RemoveContainer(container="c1", force=True))
    go_on.set()
    starting.result(10)
    removing.result(10)
    assert room.store.all() == []
    assert room.driver.running == {}


def test_stop_sends_the_containers_signal_then_kills(room: EngineRoom) -> None:
    container = room.create("deaf", name="c1", stop_signal="SIGINT", stop_timeout=0)
    room.start("c1")
    process = room.driver.running[container]
    room.run(jobs.StopContainer(container="c1"))
    assert process.signals == [2, 9]
    assert state(room, "c1").exit_code == 137
    assert room.actions()[-4:] == ["container kill", "container kill", "container die", "container stop"]


def test_stop_of_what_does_not_run_is_not_modified(room: EngineRoom) -> None:
    room.create("forever", name="c1")
    with pytest.raises(NotModified):
        room.run(jobs.StopContainer(container="c1"))


def test_kill_texts(room: EngineRoom) -> None:
    container = room.create("forever", name="c1")
    with pytest.raises(Conflict, match=f"Cannot kill container: c1: Container {container} is not running"):
        room.run(jobs.KillContainer(container="c1"))
    with pytest.raises(NotFound, match="Cannot kill container: nobody: No such container: nobody"):
        room.run(jobs.KillContainer(container="nobody"))
    with pytest.raises(InvalidParameter, match="Invalid signal: SIGFOO"):
        room.run(jobs.KillContainer(container="c1", signal="SIGFOO"))


def test_pause_and_unpause(room: EngineRoom) -> None:
    container = room.create("forever", name="c1")
    with pytest.raises(Conflict, match="is not running"):
        room.run(jobs.PauseContainer(container="c1"))
    room.start("c1")
    room.run(jobs.PauseContainer(container="c1"))
    assert room.driver.running[container].paused
    assert state(room, "c1").status == "paused"
    with pytest.raises(Conflict, match="is already paused"):
        room.run(jobs.PauseContainer(container="c1"))
    with pytest.raises(Conflict, match="cannot start a paused container, try unpause instead"):
        room.start("c1")
    with pytest.raises(Conflict, match="Container c1 is paused, unpause the container before exec"):
        room.run(jobs.CreateExec(container="c1", command=("x",)))
    room.run(jobs.UnpauseContainer(container="c1"))
    assert not room.driver.running[container].paused
    with pytest.raises(SystemFailure, match="is not paused"):
        room.run(jobs.UnpauseContainer(container="c1"))


def test_stopping_what_is_paused_thaws_it(room: EngineRoom) -> None:
    container = room.create("forever", name="c1")
    room.start("c1")
    process = room.driver.running[container]
    room.run(jobs.PauseContainer(container="c1"))
    room.run(jobs.StopContainer(container="c1"))
    assert not process.paused
    assert state(room, "c1").exit_code == 143


def test_what_was_paused_may_be_gone_before_it_can_be_thawed(room: EngineRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen process of cgroup version 1 is killed and thawed, and then it, and its cgroup, may go at any moment."""
    container = room.create("forever", name="c1")
    room.start("c1")
    room.run(jobs.PauseContainer(container="c1"))

    def gone() -> None:
        raise NotFound("container c1 has ended")

    monkeypatch.setattr(room.driver.running[container], "resume", gone)
    room.run(jobs.RemoveContainer(container="c1", force=True))
    with pytest.raises(NotFound):
        state(room, "c1")


def test_rm_texts_and_effects(room: EngineRoom, tmp_path: Path) -> None:
    container = room.create("forever", name="c1")
    room.start("c1")
    expected = (
        f"You cannot remove a running container {container}. Stop the container before attempting removal or force "
        "remove"
    )
    with pytest.raises(Conflict) as caught:
        room.run(jobs.RemoveContainer(container="c1"))
    assert caught.value.message == expected
    room.run(jobs.PauseContainer(container="c1"))
    with pytest.raises(Conflict, match="Unpause and then stop the container before"):
        room.run(jobs.RemoveContainer(container="c1"))
    room.run(jobs.RemoveContainer(container="c1", force=True))
    assert list((tmp_path / "containers").iterdir()) == []
    assert list(Path(room.options.exec_root, "records").iterdir()) == []
    assert room.graph.held == {}
    with pytest.raises(NotFound, match="No such container: c1"):
        room.run(jobs.RemoveContainer(container="c1"))


def test_a_removal_under_way_is_a_conflict(room: EngineRoom) -> None:
    container = room.create("forever", name="c1")
    room.remover.claim(room.store.get(container))
    with pytest.raises(Conflict, match="removal of container c1 is already in progress"):
        room.run(jobs.RemoveContainer(container="c1"))


def test_names(room: EngineRoom) -> None:
    first = room.create("forever", name="c1")
    with pytest.raises(Conflict) as caught:
        room.create("forever", name="c1")
    assert caught.value.message == (
        f'Conflict. The container name "/c1" is already in use by container "{first}". You have to remove (or rename) '
        "that container to be able to reuse that name."
    )
    with pytest.raises(InvalidParameter, match="Invalid container name"):
        room.create("forever", name="a")
    room.create("forever", name="c2")
    with pytest.raises(Conflict, match="already in use"):
        room.run(jobs.RenameContainer(container="c1", new_name="c2"))
    with pytest.raises(InvalidParameter, match="Renaming a container with the same name as its current name"):
        room.run(jobs.RenameContainer(container="c1", new_name="c1"))
    with pytest.raises(InvalidParameter, match="Neither old nor new names may be empty"):
        room.run(jobs.RenameContainer(container="c1", new_name=""))
    room.run(jobs.RenameContainer(container="c1", new_name="c3"))
    assert room.store.get("c3").id == first
    room.create("forever", name="c1")


def test_on_failure_counts_its_retries(room: EngineRoom) -> None:
    policy = RestartPolicy(name="on-failure", maximum_retry_count=2)
    container = room.create("exit", "4", host=HostConfig(restart_policy=policy))
    ended = threading.Event()
    room.processes.on_change(container, lambda: ended.set() if state(room, container).status == "exited" else None)
    room.start(container)
    assert ended.wait(10)
    assert room.store.get(container).restart_count == 2
    assert state(room, container).exit_code == 4
    assert room.actions().count("container start") == 3


def test_stop_between_two_runs_ends_the_restarts(room: EngineRoom) -> None:
    container = room.create("exit", "1", host=HostConfig(restart_policy=RestartPolicy(name="always")))
    pausing = threading.Event()
    room.processes.on_change(
        container, lambda: pausing.set() if state(room, container).status == "restarting" else None
    )
    room.start(container)
    assert pausing.wait(10)
    room.run(jobs.StopContainer(container=container))
    assert state(room, container).status == "exited"
    assert not state(room, container).running


def test_restart_keeps_an_auto_remove_container(room: EngineRoom) -> None:
    container = room.create("forever", host=HostConfig(auto_remove=True))
    room.start(container)
    first = room.driver.running[container].pid
    room.run(jobs.RestartContainer(container=container, timeout_s=0))
    assert state(room, container).status == "running"
    assert room.driver.running[container].pid != first


def test_attach_before_start_loses_nothing(room: EngineRoom) -> None:
    room.create("say", "hello", "0", name="c1", tty=True)
    client = Client()
    future = room.spawn(jobs.AttachContainer(container="c1", stdout=True, stream=True), client)
    assert client.begun.wait(10)
    room.start("c1")
    future.result(10)
    client.close()
    assert client.read_all() == b"hello"


def test_attached_stdin_ends_by_half_close(room: EngineRoom) -> None:
    room.create("cat", name="c1", open_stdin=True, stdin_once=True)
    client = Client()
    future = room.spawn(jobs.AttachContainer(container="c1", stdin=True, stdout=True, stream=True), client)
    assert client.begun.wait(10)
    room.start("c1")
    client.mine.sendall(b"ping")
    client.mine.shutdown(socket.SHUT_WR)
    future.result(10)
    client.close()
    assert client.read_all() == b"\x01\0\0\0\0\0\0\x04ping"
    assert room.wait_exit("c1") == 0


def test_detach_keys_leave_the_container_running(room: EngineRoom) -> None:
    room.create("cat", name="c1", tty=True, open_stdin=True)
    client = Client()
    job = jobs.AttachContainer(container="c1", stdin=True, stdout=True, stream=True, detach_keys="ctrl-a,b")
    future = room.spawn(job, client)
    assert client.begun.wait(10)
    room.start("c1")
    client.mine.sendall(b"x\x01y")
    assert client.mine.recv(3) == b"x\x01y"
    client.mine.sendall(b"\x01")
    client.mine.sendall(b"b")
    future.result(10)
    assert "container detach" in room.actions()
    assert state(room, "c1").status == "running"


def test_attach_to_a_failed_start_ends(room: EngineRoom) -> None:
    room.create("nosuchcmd", name="c1")
    client = Client()
    future = room.spawn(jobs.AttachContainer(container="c1", stdout=True, stream=True), client)
    assert client.begun.wait(10)
    with pytest.raises(PykerError):
        room.start("c1")
    future.result(10)


def test_a_client_that_leaves_before_the_start_is_forgotten(room: EngineRoom) -> None:
    container = room.create("forever", name="c1")
    client = Client()
    future = room.spawn(jobs.AttachContainer(container="c1", stdout=True, stream=True), client)
    assert client.begun.wait(10)
    client.mine.close()
    future.result(10)
    assert room.processes.take_waiting(room.store.get(container).id) == ()


def test_a_client_that_waits_for_a_start_is_let_go_by_the_removal(room: EngineRoom) -> None:
    room.create("forever", name="c1")
    client = Client()
    future = room.spawn(jobs.AttachContainer(container="c1", stdout=True, stream=True), client)
    assert client.begun.wait(10)
    room.run(jobs.RemoveContainer(container="c1"))
    future.result(10)


def test_cancelling_ends_an_attachment(room: EngineRoom) -> None:
    room.create("forever", name="c1")
    room.start("c1")
    client, cancel = Client(), CancelToken()
    future = room.spawn(jobs.AttachContainer(container="c1", stdout=True, stream=True), client, cancel)
    assert client.begun.wait(10)
    cancel.cancel()
    future.result(10)
    assert state(room, "c1").status == "running"


def test_exec_and_its_exit_code(room: EngineRoom) -> None:
    room.create("forever", name="c1")
    with pytest.raises(Conflict, match="is not running"):
        room.run(jobs.CreateExec(container="c1", command=("say",)))
    room.start("c1")
    with pytest.raises(InvalidParameter, match="No exec command specified"):
        room.run(jobs.CreateExec(container="c1", command=()))
    exec_id = room.run(jobs.CreateExec(container="c1", command=("say", "hi", "9"), attach_stdout=True))
    assert room.run(jobs.InspectExec(exec_id=exec_id)).exit_code is None
    client = Client()
    room.run(jobs.StartExec(exec_id=exec_id), client)
    client.close()
    assert client.read_all() == b"\x01\0\0\0\0\0\0\x02hi"
    assert room.run(jobs.InspectExec(exec_id=exec_id)).exit_code == 9
    again = Client()
    room.run(jobs.StartExec(exec_id=exec_id), again)
    again.close()
    assert f"Error: Exec command {exec_id} has already run".encode() in again.read_all()


def test_exec_of_an_unknown_command_says_so_in_the_stream(room: EngineRoom) -> None:
    room.create("forever", name="c1")
    room.start("c1")
    exec_id = room.run(jobs.CreateExec(container="c1", command=("nosuch",), attach_stdout=True))
    client = Client()
    room.run(jobs.StartExec(exec_id=exec_id), client)
    client.close()
    assert b'exec: "nosuch": executable file not found in $PATH: unknown\r\n' in client.read_all()
    assert room.run(jobs.InspectExec(exec_id=exec_id)).exit_code in (126, 127)


def test_a_new_daemon_adopts_what_lives_and_learns_what_ended(room: EngineRoom, tmp_path: Path) -> None:
    lives = room.create("forever", name="lives")
    ends = room.create("forever", name="ends")
    goes = room.create("forever", name="goes", host=HostConfig(auto_remove=True))
    never = room.create("forever", name="never")
    unknown = room.create("forever", name="unknown")
    before = room.store.get(unknown)
    room.start(unknown)
    for container in (lives, ends, goes):
        room.start(container)
    room.store.put(before)
    room.store.close()
    # The first daemon hears of nothing any more, and had not yet noted the start of one.
    for container in (ends, goes, unknown):
        process = room.driver.running.pop(container)
        process.tell(None)
        process.end(5)
        room.driver.records[container] = ExitRecord(exit_code=5, ended_ns=1)
    second = EngineRoom(str(tmp_path), room.driver)
    try:
        assert second.warnings == []
        restorer = second.restorer()
        restorer.adopt()
        restorer.settle()
        assert state(second, lives).status == "running"
        assert (state(second, ends).status, state(second, ends).exit_code) == ("exited", 5)
        assert second.store.find(goes) is None  # type: ignore[arg-type]
        assert state(second, never).status == "created"
        assert (state(second, unknown).status, state(second, unknown).exit_code) == ("exited", 5)
        second.run(jobs.KillContainer(container="lives"))
    finally:
        second.engine.close()
        second.store.close()


def test_always_starts_with_the_daemon_even_after_a_stop(room: EngineRoom, tmp_path: Path) -> None:
    always = room.create("forever", name="always", host=HostConfig(restart_policy=RestartPolicy(name="always")))
    unless = room.create("forever", name="unless", host=HostConfig(restart_policy=RestartPolicy(name="unless-stopped")))
    for container in (always, unless):
        room.start(container)
        room.run(jobs.StopContainer(container=container))
    room.store.close()
    second = EngineRoom(str(tmp_path), room.driver)
    try:
        restorer = second.restorer()
        restorer.adopt()
        restorer.settle()
        running = threading.Event()
        second.processes.on_change(second.store.get(always).id, running.set)
        restorer.start_all()
        assert running.wait(10)
        assert state(second, unless).status == "exited"
    finally:
        second.exits.close()
        second.engine.close()
        second.store.close()
