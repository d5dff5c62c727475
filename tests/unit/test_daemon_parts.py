"""The daemon's pure parts: detach keys, options, image configuration, mounts, events, failures, steps."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyker.container.store import ContainerStore
from pyker.container.volumes import VolumeStore
from pyker.daemon.events import EventBus, encode, matches
from pyker.daemon.imageconfig import ImageConfig, merge
from pyker.daemon.mountpoints import MountPlanner
from pyker.daemon.options import parse_options
from pyker.daemon.restartpolicy import RestartPauses, check_restart_policy
from pyker.daemon.startfailure import describe
from pyker.daemon.steps import render
from pyker.daemon.streams import DEFAULT_DETACH_KEYS, DetachScanner, parse_detach_keys
from pyker.daemon.usage import usage
from pyker.engine.job import JobRecord
from pyker.errors import (
    Conflict,
    InvalidParameter,
    KernelError,
    NotFound,
    NotSupported,
    PykerError,
    SystemFailure,
)
from pyker.types.config import ContainerConfig, HostConfig, MountRequest, RestartPolicy, VolumeOptions
from pyker.types.events import Event
from pyker.types.ids import JobId


def test_detach_keys_are_read() -> None:
    assert parse_detach_keys("") == DEFAULT_DETACH_KEYS == b"\x10\x11"
    assert parse_detach_keys("ctrl-a,b,ctrl-@,ctrl-_") == b"\x01b\x00\x1f"
    for bad in ("ctrl-", "ctrl-é", "ab", "ctrl-ab", "a,,b"):
        with pytest.raises(InvalidParameter):
            parse_detach_keys(bad)


@given(st.lists(st.binary(max_size=6), max_size=12))
def test_nothing_is_lost_unless_the_sequence_comes(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    scanner = DetachScanner(b"\x10\x11")
    passed = b""
    for piece in pieces:
        out, detached = scanner.feed(piece)
        passed += out
        if detached:
            break
    at = whole.find(b"\x10\x11")
    expected = whole if at < 0 else whole[:at]
    held = b"\x10" if at < 0 and whole.endswith(b"\x10") else b""
    assert passed + held == expected


def test_a_sequence_in_two_pieces_detaches() -> None:
    scanner = DetachScanner(b"\x10\x11")
    assert scanner.feed(b"ab\x10") == (b"ab", False)
    assert scanner.feed(b"\x10") == (b"\x10", False)
    assert scanner.feed(b"\x11rest") == (b"", True)


def test_options_from_flags_file_and_environment(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({"insecure-registries": ["a:5000"], "debug": True, "log-opts": {"max-size": "1m"}}))
    argv = ["-H", "tcp://127.0.0.1:1", "--host=unix:///x", "--config-file", str(file), "--icc=false", "--mtu", "1400"]
    options = parse_options(argv, {"DOCKER_DRIVER": "vfs"})
    assert options.host == ("tcp://127.0.0.1:1", "unix:///x")
    assert options.insecure_registry == ("a:5000",)
    assert (options.debug, options.icc, options.mtu, options.storage_driver) == (True, False, 1400, "vfs")
    assert options.log_opt == {"max-size": "1m"}
    assert parse_options(["-s", "overlay2"], {"DOCKER_DRIVER": "vfs"}).storage_driver == "overlay2"
    assert not parse_options(["--no-embedded-registry"], {}).embedded_registry


def test_options_that_contradict_or_are_unknown(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({"mtu": 1300}))
    with pytest.raises(InvalidParameter, match="specified both as a flag and in the configuration file: mtu"):
        parse_options(["--config-file", str(file), "--mtu=1400"], {})
    file.write_text(json.dumps({"nonsense": 1}))
    with pytest.raises(InvalidParameter, match="don't match any configuration option: nonsense"):
        parse_options(["--config-file", str(file)], {})
    for argv in (["--nonsense"], ["--mtu"], ["--mtu=x"], ["--icc=maybe"], ["stray"], ["-l", "loud"]):
        with pytest.raises(InvalidParameter):
            parse_options(argv, {})


def test_help_describes_every_option() -> None:
    text = usage()
    assert "-H, --host list" in text
    assert "--no-embedded-registry" in text
    assert len(text.splitlines()) > 40
    assert all(len(line) <= 130 for line in text.splitlines())


def test_a_container_takes_over_what_it_leaves_open() -> None:
    image = ImageConfig(
        user="u",
        env=("PATH=/bin", "A=image"),
        cmd=("serve",),
        entrypoint=("/entry",),
        working_dir="/srv",
        labels={"a": "1", "b": "1"},
        exposed_ports={"80/tcp": {}},
        volumes={"/v": {}},
        stop_signal="SIGQUIT",
    )
    merged = merge(ContainerConfig(env=("A=own",), labels={"b": "2"}), image)
    assert merged.env == ("A=own", "PATH=/bin")
    assert merged.labels == {"a": "1", "b": "2"}
    assert (merged.user, merged.working_dir, merged.stop_signal) == ("u", "/srv", "SIGQUIT")
    assert (merged.entrypoint, merged.cmd) == (("/entry",), ("serve",))
    assert merged.exposed_ports == {"80/tcp": {}}
    assert merged.volumes == {"/v": {}}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (ContainerConfig(cmd=("x",)), (("/entry",), ("x",))),
        (ContainerConfig(entrypoint=("/own",)), (("/own",), None)),
        (ContainerConfig(entrypoint=("",), cmd=("x",)), (None, ("x",))),
    ],
)
def test_an_entrypoint_of_ones_own_clears_the_images_command(own: ContainerConfig, expected: tuple[Any, Any]) -> None:
    merged = merge(own, ImageConfig(entrypoint=("/entry",), cmd=("serve",)))
    assert (merged.entrypoint, merged.cmd) == expected


@pytest.fixture
def planner(tmp_path: Path) -> MountPlanner:
    store = ContainerStore(str(tmp_path), str(tmp_path / "exec"))
    return MountPlanner(VolumeStore(str(tmp_path)), store.get)


def test_mounts_of_all_kinds(planner: MountPlanner, tmp_path: Path) -> None:
    host = HostConfig(
        binds=(f"{tmp_path}:/bind:ro,rslave", "named:/vol"),
        mounts=(
            MountRequest(type="tmpfs", target="/tmp"),
            MountRequest(type="volume", target="/m", volume_options=VolumeOptions(no_copy=True)),
        ),
    )
    plan = planner.plan(ContainerConfig(volumes={"/vol": {}, "/anon": {}}), host)
    found = {point.destination: point for point in plan.points}
    assert set(found) == {"/bind", "/vol", "/tmp", "/m", "/anon"}
    bind = found["/bind"]
    assert (bind.type, bind.rw, bind.propagation, bind.mode) == ("bind", False, "rslave", "ro,rslave")
    assert (found["/vol"].name, found["/vol"].anonymous) == ("named", False)
    assert found["/anon"].anonymous
    assert len(found["/anon"].name) == 64
    assert {point.destination for point in plan.copied} == {"/vol", "/anon"}
    assert {volume.name for volume in plan.created} == {"named", found["/anon"].name, found["/m"].name}


@pytest.mark.parametrize(
    ("host", "error", "text"),
    [
        (HostConfig(binds=("a:b",)), InvalidParameter, "mount path must be absolute"),
        (HostConfig(binds=("a:/",)), InvalidParameter, "destination can't be '/'"),
        (HostConfig(binds=("::",)), InvalidParameter, "invalid volume specification"),
        (HostConfig(binds=("vv:/x:zz",)), SystemFailure, "invalid mode: zz"),
        (HostConfig(binds=("vv:/x", "ww:/x/../x")), InvalidParameter, "Duplicate mount point: /x"),
        (HostConfig(binds=("v!:/x",)), InvalidParameter, "includes invalid characters"),
        (
            HostConfig(mounts=(MountRequest(type="bind", source="/nonexistent", target="/x"),)),
            InvalidParameter,
            'invalid mount config for type "bind": bind source path does not exist: /nonexistent',
        ),
        (HostConfig(mounts=(MountRequest(type="zz", target="/x"),)), InvalidParameter, "mount type unknown"),
        (HostConfig(volumes_from=("nosuch",)), InvalidParameter, "No such container: nosuch"),
    ],
)
def test_mounts_that_cannot_be_leave_no_volume(
    planner: MountPlanner, tmp_path: Path, host: HostConfig, error: type[PykerError], text: str
) -> None:
    with pytest.raises(error, match=text):
        planner.plan(ContainerConfig(), host)
    assert list((tmp_path / "volumes").iterdir()) == []


def test_a_volume_stays_while_a_container_with_it_is_being_made(tmp_path: Path) -> None:
    volumes = VolumeStore(str(tmp_path))
    store = ContainerStore(str(tmp_path), str(tmp_path / "exec"))
    planner = MountPlanner(volumes, store.get)
    volumes.create("there")
    host = HostConfig(binds=("there:/a",))
    first, second = (planner.plan(ContainerConfig(), host) for _ in range(2))
    planner.settle(first)
    with pytest.raises(Conflict, match="in use by a container that is being made"):
        volumes.remove("there", [])
    planner.undo(second)
    volumes.remove("there", [])


def test_a_volume_that_stands_for_a_folder(tmp_path: Path) -> None:
    volumes = VolumeStore(str(tmp_path))
    options = {"type": "none", "o": "bind", "device": "/srv/folder"}
    volumes.create("v1", options=options)
    store = ContainerStore(str(tmp_path), str(tmp_path / "exec"))
    plan = MountPlanner(VolumeStore(str(tmp_path)), store.get).plan(ContainerConfig(), HostConfig(binds=("v1:/a",)))
    (point,) = plan.points
    assert (point.source, point.bound) == (f"{tmp_path}/volumes/v1/_data", "/srv/folder")
    for refused in ({"type": "nfs", "o": "addr=1.2.3.4", "device": ":/x"}, {"type": "tmpfs", "device": "tmpfs"}):
        with pytest.raises(NotSupported, match="file system of their own"):
            volumes.create("v2", options=refused)


def test_events_are_filtered_as_the_reference_does() -> None:
    event = Event(kind="container", action="health_status: healthy", actor_id="a" * 64)
    event = Event(**{**_fields(event), "attributes": {"image": "bb:1", "name": "web", "l": "v"}})
    for filters, expected in (
        ({"event": ("health_status",)}, True),
        ({"event": ("die",)}, False),
        ({"type": ("image", "container")}, True),
        ({"container": ("web",)}, True),
        ({"container": ("aaaaaaaaaaaa",)}, True),
        ({"container": ("other",)}, False),
        ({"image": ("bb",)}, True),
        ({"image": ("bb:1",)}, True),
        ({"label": ("l", "l=v")}, True),
        ({"label": ("l", "l=w")}, False),
        ({"volume": ("web",)}, False),
    ):
        assert matches(event, filters) is expected, filters


def _fields(event: Event) -> dict[str, Any]:
    return {"kind": event.kind, "action": event.action, "actor_id": event.actor_id}


def test_an_event_on_the_wire() -> None:
    event = Event(kind="container", action="die", actor_id="c", attributes={"image": "bb"}, time_ns=1_500_000_000)
    assert json.loads(encode(event)) == {
        "status": "die",
        "id": "c",
        "from": "bb",
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": "c", "Attributes": {"image": "bb"}},
        "scope": "local",
        "time": 1,
        "timeNano": 1_500_000_000,
    }


def test_the_bus_keeps_256_and_tells_in_order() -> None:
    bus = EventBus()
    _, queue, leave = bus.subscribe()
    for number in range(300):
        bus.publish(Event(kind="image", action=str(number), actor_id="i"))
    past, _, leave_again = bus.subscribe()
    assert [event.action for event in past] == [str(number) for number in range(44, 300)]
    times = [queue.get().time_ns for _ in range(300)]  # type: ignore[union-attr]
    assert times == sorted(set(times))
    leave()
    leave_again()
    assert bus.listeners() == 0


@pytest.mark.parametrize(
    ("command", "number", "code", "text"),
    [
        ("nosuch", errno.ENOENT, 127, 'exec: "nosuch": executable file not found in $PATH: unknown'),
        ("/no/such", errno.ENOENT, 127, 'exec: "/no/such": stat /no/such: no such file or directory: unknown'),
        ("/etc", errno.EACCES, 126, 'exec: "/etc": permission denied: unknown'),
        ("/etc", errno.EISDIR, 126, 'exec: "/etc": permission denied: unknown'),
    ],
)
def test_why_a_command_did_not_run(command: str, number: int, code: int, text: str) -> None:
    failure = describe(KernelError("x", syscall="execve", errno=number, stage="exec"), command, "/")
    assert failure.exit_code == code
    assert failure.error.message.endswith(text)
    assert isinstance(failure.error, InvalidParameter)


def test_other_failures_are_128_and_keep_their_class() -> None:
    assert describe(SystemFailure("no"), "x", "/").exit_code == 128
    assert isinstance(describe(NotFound("no"), "x", "/").error, NotFound)
    assert describe(OSError(errno.ENOSPC, "No space left on device"), "x", "/").exit_code == 128


def test_restart_policies_that_cannot_be() -> None:
    for policy, auto_remove, text in (
        (RestartPolicy(name="always"), True, "can't create 'AutoRemove' container with restart policy"),
        (RestartPolicy(name="always", maximum_retry_count=1), False, "cannot be used with restart policy 'always'"),
        (RestartPolicy(name="zz"), False, "invalid restart policy 'zz'"),
        (RestartPolicy(name="on-failure", maximum_retry_count=-1), False, "cannot be negative"),
    ):
        with pytest.raises(InvalidParameter, match=text):
            check_restart_policy(HostConfig(restart_policy=policy, auto_remove=auto_remove))


def test_pauses_double_and_start_anew_after_a_run_that_held() -> None:
    from types import SimpleNamespace

    container: Any = SimpleNamespace(
        id="c",
        has_been_manually_stopped=False,
        restart_count=0,
        host_config=HostConfig(restart_policy=RestartPolicy(name="always")),
    )
    pauses = RestartPauses()
    found = [pauses.next_pause_s(container, 1, 0.5) for _ in range(12)]
    assert found[:4] == [0.1, 0.2, 0.4, 0.8]
    assert found[-1] == 60.0
    assert pauses.next_pause_s(container, 1, 10.0) == 0.1
    container.has_been_manually_stopped = True
    assert pauses.next_pause_s(container, 1, 0.5) is None


def test_steps_name_part_and_time() -> None:
    def record(name: str, ended_ns: int, **arguments: object) -> JobRecord:
        return JobRecord(
            job_id=JobId("j"), parent_id=None, name=name, actor="", arguments=arguments, started_ns=0, ended_ns=ended_ns
        )

    text = render(
        [
            record("pull", 85_000_000, image="pyker.local/hello", tag="latest"),
            record("pull_layer", 2_000_000, digest="sha256:" + "ab" * 32),
            record("create", 1_500_000),
            record("start", 0),
            record("attach", 0),
            record("allocate_interface", 700_000, mode="bridge"),
        ]
    )
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][:2] == ["pull", "pyker.local/hello:latest"]
    assert lines[0][-2:] == ["85.0", "ms"]
    assert lines[1][:2] == ["pull_layer", "abababababab"]
    assert lines[3][-2:] == ["under", "way"]
    assert [line[0] for line in lines] == [
        "pull",
        "pull_layer",
        "create",
        "start",
        "allocate_interface",
        "execdriver_run",
    ]


def test_a_record_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "containers" / ("a" * 64)
    folder.mkdir(parents=True)
    (folder / "config.v2.json").write_text("{")
    (folder / "hostconfig.json").write_text("{}")
    store = ContainerStore(str(tmp_path), str(tmp_path / "exec"))
    warnings = store.load()
    assert len(warnings) == 1
    assert "a" * 64 in warnings[0]
    assert store.all() == []
    assert (folder / "config.v2.json").read_text() == "{"


def test_what_a_crash_left_half_removed_or_half_made_goes(tmp_path: Path) -> None:
    (tmp_path / "containers" / ("b" * 64 + ".removed")).mkdir(parents=True)
    (tmp_path / "containers" / ("c" * 64)).mkdir()
    store = ContainerStore(str(tmp_path), str(tmp_path / "exec"))
    assert store.load() == []
    assert list((tmp_path / "containers").iterdir()) == []
