"""Messages between the processes: nothing is lost on the way, whatever its size, and errors arrive as they left."""

from __future__ import annotations

import os

import pytest

from pyker.errors import Conflict, InvalidParameter, KernelError, NotFound, PykerError, SystemFailure, Unavailable
from pyker.libcontainer import handshake
from pyker.libcontainer.handshake import Done, Failure, NewNetns, Run, Started, Streams
from pyker.libcontainer.spec import (
    ContainerSpec,
    DeviceNode,
    DeviceRule,
    IdMapping,
    LogSpec,
    ProcessSpec,
    Resources,
    Rlimit,
)
from pyker.types.mount import Mount


def spec(**process: object) -> ContainerSpec:
    return ContainerSpec(
        id="c" * 64,
        state_dir="/run/x",
        rootfs=Mount(target="/", fstype="overlay", source="overlay", options=("lowerdir=/a:/b",)),
        mounts=(Mount(target="/proc", fstype="proc"),),
        process=ProcessSpec(args=("a", "b"), rlimits=(Rlimit("nofile", 1, -1),), **process),  # type: ignore[arg-type]
        namespaces={"mnt": "", "net": "/run/netns/x"},
        devices=(DeviceNode("/dev/null", "c", 1, 3),),
        sysctls={"net.x": "1"},
        uid_mappings=(IdMapping(0, 100000, 65536),),
        resources=Resources(memory_bytes=-1, devices=(DeviceRule(allow=False),)),
        log=LogSpec(path="/l", attributes={"k": "v"}),
    )


@pytest.mark.parametrize("size", [0, 10, 59_000, 70_000, 3_000_000])
def test_a_request_arrives_whole(size: int) -> None:
    sent = Run(spec(seccomp=b"\x00\xff" * size, env=("A=äx",)), (Streams(stdin=True),), 7, announce=True)
    ours, theirs = handshake.pair()
    handshake.send(ours, sent)
    raw, fds = handshake.receive_raw(theirs)
    assert fds == []
    assert handshake.decode_request(raw) == sent


def test_text_that_no_encoding_has_is_refused() -> None:
    ours, _theirs = handshake.pair()
    with pytest.raises(InvalidParameter, match="not text"):
        handshake.send(ours, NewNetns("/\udc80"))


@pytest.mark.parametrize("size", [1, 100_000])
def test_descriptors_arrive_close_on_exec_and_in_order(size: int) -> None:
    ours, theirs = handshake.pair()
    pipes = [os.pipe() for _ in range(5)]
    handshake.send(ours, NewNetns("/" + "x" * size), [write for _, write in pipes])
    _, fds = handshake.receive_raw(theirs)
    assert len(fds) == 5
    for number, fd in enumerate(fds):
        assert not os.get_inheritable(fd)
        os.write(fd, bytes([number]))
        assert os.read(pipes[number][0], 1) == bytes([number])
    for fd in (*fds, *(end for pair in pipes for end in pair)):
        os.close(fd)


def test_the_end_is_an_eof_and_sending_to_it_is_an_error() -> None:
    ours, theirs = handshake.pair()
    theirs.close()
    with pytest.raises(EOFError):
        handshake.receive_raw(ours)
    with pytest.raises(Unavailable):
        handshake.send(ours, Done())


def test_what_was_sent_before_the_end_is_still_received() -> None:
    """The other end closes with a message of ours unread: the kernel then reports a reset before its own last words."""
    ours, theirs = handshake.pair()
    handshake.send(ours, Done())
    handshake.send(theirs, Done())
    theirs.close()
    message, _ = handshake.receive_from_monitor(ours)
    assert message == Done()
    with pytest.raises(EOFError):
        handshake.receive_from_monitor(ours)


def test_not_waiting() -> None:
    ours, _theirs = handshake.pair()
    with pytest.raises(BlockingIOError):
        handshake.receive_raw(ours, wait=False)


@pytest.mark.parametrize(
    "error",
    [
        KernelError("mounts: mount '/x': No such device", syscall="mount", errno=19, stage="mounts", hint="load it"),
        InvalidParameter("bad", hint="do better"),
        NotFound("gone"),
        Conflict("busy"),
        SystemFailure("broken"),
    ],
)
def test_errors_of_ours_cross_unchanged(error: PykerError) -> None:
    arrived = Failure.of(error, "elsewhere").error()
    assert type(arrived) is type(error)
    assert (arrived.message, arrived.hint) == (error.message, error.hint)
    if isinstance(error, KernelError):
        assert isinstance(arrived, KernelError)
        assert (arrived.syscall, arrived.errno, arrived.stage) == (error.syscall, error.errno, error.stage)


def test_a_system_calls_error_gets_its_stage() -> None:
    arrived = Failure.of(OSError(19, "mount: No such device", "/x"), "mounts").error()
    assert isinstance(arrived, KernelError)
    assert (arrived.syscall, arrived.errno, arrived.stage) == ("mount", 19, "mounts")
    assert arrived.message == "mounts: mount '/x': No such device"


def test_a_fault_of_ours_is_a_system_failure() -> None:
    arrived = Failure.of(ZeroDivisionError("oops"), "masks").error()
    assert type(arrived) is SystemFailure
    assert arrived.message == "masks: ZeroDivisionError: oops"


def test_a_kind_that_is_no_error_of_ours() -> None:
    assert type(Failure("ClassVar", "x").error()) is SystemFailure
    assert type(Failure("nosuch", "x").error()) is SystemFailure


def test_stages_keep_their_order() -> None:
    ours, theirs = handshake.pair()
    handshake.send(ours, Started(1, 2, {"fork": 3, "exec": 1, "a": 2}))
    message, _ = handshake.receive_from_monitor(theirs)
    assert isinstance(message, Started)
    assert list(message.stages) == ["fork", "exec", "a"]
