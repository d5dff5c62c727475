"""What a process finds in its container, seen from outside: mounts, devices, credentials, namespaces."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conformance.conftest import Shelf
from tests.support.asking import message
from tests.support.cgroups import cgroup
from tests.support.compare import Alike
from tests.support.containers import create, finished, joined, output, run
from tests.support.engines import Engine
from tests.support.sandbox import wait_until

pytestmark = pytest.mark.claim("POST /containers/{id}/start")


class Mounted(NamedTuple):
    """A line of mountinfo."""

    fstype: str
    options: frozenset[str]
    data: frozenset[str]
    propagation: str


def mounts(pid: int) -> dict[str, Mounted]:
    """What a process has mounted, by place; of several the one on top."""
    found = {}
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        tags = " ".join(tag.partition(":")[0] for tag in fields[6:])
        found[fields[4]] = Mounted(kind[0], frozenset(fields[5].split(",")), frozenset(kind[2].split(",")), tags)
    return found


def status(pid: int) -> dict[str, list[str]]:
    """``/proc/<pid>/status``, each value as its words."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.split() for key, _, value in (line.partition(":") for line in lines)}


def namespace(pid: int | str, kind: str) -> str:
    """Which namespace a process is in."""
    return os.readlink(f"/proc/{pid}/ns/{kind}")


@pytest.mark.claim("rule-default-mounts")
def test_mounts_of_a_plain_container(engine: Engine, busybox: str, name: str) -> None:
    found = mounts(run(engine, busybox, name))
    for place, fstype, options in (
        ("/", "overlay", {"rw"}),
        ("/proc", "proc", {"rw", "nosuid", "nodev", "noexec"}),
        ("/dev", "tmpfs", {"rw", "nosuid"}),
        ("/dev/pts", "devpts", {"rw", "nosuid", "noexec"}),
        ("/dev/mqueue", "mqueue", {"rw", "nosuid", "nodev", "noexec"}),
        ("/dev/shm", "tmpfs", {"rw", "nosuid", "nodev", "noexec"}),
        ("/sys", "sysfs", {"ro", "nosuid", "nodev", "noexec"}),
    ):
        assert found[place].fstype == fstype, (place, found[place])
        assert options <= found[place].options, (place, found[place])
    assert {"size=65536k", "mode=755"} <= found["/dev"].data
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= found["/dev/pts"].data
    assert "size=65536k" in found["/dev/shm"].data
    groups = [options for place, (_, options, _, _) in found.items() if place.startswith("/sys/fs/cgroup/")]
    assert all("ro" in options for options in groups)
    for file in ("resolv.conf", "hostname", "hosts"):
        assert "rw" in found[f"/etc/{file}"].options
    assert not {place for place in found if str(engine.root) in place}


@pytest.mark.claim("rule-default-mounts")
def test_three_files_of_etc_are_the_engines(engine: Engine, busybox: str, name: str) -> None:
    pid = run(engine, busybox, name)
    value: Any = engine.inspect(name)
    for file, key in (("resolv.conf", "ResolvConfPath"), ("hostname", "HostnamePath"), ("hosts", "HostsPath")):
        assert os.path.samefile(f"/proc/{pid}/root/etc/{file}", value[key])
    assert Path(value["HostnamePath"]).read_text() == f"{value['Id'][:12]}\n"


@pytest.mark.claim("rule-masked-paths")
def test_what_is_hidden_and_what_is_read_only(engine: Engine, busybox: str, name: str) -> None:
    pid = run(engine, busybox, name)
    found = mounts(pid)
    for place in ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"):
        assert found[place].fstype == "proc" and "ro" in found[place].options, place
    for place in ("/proc/acpi", "/proc/scsi", "/sys/firmware"):
        if os.path.isdir(place):
            assert found[place].fstype == "tmpfs" and "ro" in found[place].options
            assert os.listdir(f"/proc/{pid}/root{place}") == []
    for place in ("/proc/keys", "/proc/timer_list", "/proc/kcore"):
        if os.path.exists(place):
            hidden = os.stat(f"/proc/{pid}/root{place}")
            assert stat.S_ISCHR(hidden.st_mode) and (os.major(hidden.st_rdev), os.minor(hidden.st_rdev)) == (1, 3)


@pytest.mark.claim("rule-masked-paths")
def test_hidden_paths_of_ones_own(engine: Engine, busybox: str, name: str) -> None:
    found = mounts(run(engine, busybox, name, HostConfig={"MaskedPaths": [], "ReadonlyPaths": ["/proc/fs"]}))
    assert "ro" in found["/proc/fs"].options
    assert not {"/proc/sys", "/proc/bus", "/proc/keys", "/sys/firmware", "/proc/acpi"} & set(found)


@pytest.mark.claim("rule-default-devices")
def test_device_nodes(engine: Engine, busybox: str, name: str) -> None:
    root = f"/proc/{run(engine, busybox, name)}/root/dev"
    found = {}
    for entry in os.listdir(root):
        info = os.lstat(f"{root}/{entry}")
        if stat.S_ISCHR(info.st_mode):
            found[entry] = (os.major(info.st_rdev), os.minor(info.st_rdev), stat.S_IMODE(info.st_mode))
    assert found == {
        "null": (1, 3, 0o666),
        "zero": (1, 5, 0o666),
        "full": (1, 7, 0o666),
        "random": (1, 8, 0o666),
        "urandom": (1, 9, 0o666),
        "tty": (5, 0, 0o666),
    }


@pytest.mark.claim("rule-default-devices")
def test_a_terminal_is_a_console(engine: Engine, busybox: str, name: str) -> None:
    pid = run(engine, busybox, name, Tty=True)
    assert stat.S_ISCHR(os.lstat(f"/proc/{pid}/root/dev/console").st_mode)
    assert os.readlink(f"/proc/{pid}/fd/0") in {"/dev/pts/0", "/dev/console"}


@pytest.mark.claim("rule-default-devices")
@pytest.mark.requires("cgroup-v1")
def test_devices_that_may_be_used(engine: Engine, busybox: str, name: str) -> None:
    listed = (cgroup(run(engine, busybox, name), "devices") / "devices.list").read_text().splitlines()
    assert sorted(listed) == [
        "b *:* m",
        "c *:* m",
        "c 10:200 rwm",
        "c 136:* rwm",
        *(f"c 1:{minor} rwm" for minor in (3, 5, 7, 8, 9)),
        *(f"c 5:{minor} rwm" for minor in (0, 1, 2)),
    ]


@pytest.mark.claim("rule-default-devices")
@pytest.mark.requires("cgroup-v1")
def test_rules_for_devices_of_ones_own(engine: Engine, busybox: str, name: str) -> None:
    device = {"PathOnHost": "/dev/null", "PathInContainer": "/dev/mine", "CgroupPermissions": "r"}
    host = {"DeviceCgroupRules": ["c 42:* rwm", "b 7:3 r"], "Devices": [device]}
    pid = run(engine, busybox, name, HostConfig=host)
    listed = (cgroup(pid, "devices") / "devices.list").read_text().splitlines()
    assert {"c 42:* rwm", "b 7:3 rm"} <= set(listed) or {"c 42:* rwm", "b 7:3 r"} <= set(listed), listed
    assert os.lstat(f"/proc/{pid}/root/dev/mine").st_rdev == os.makedev(1, 3)


@pytest.mark.claim("rule-default-devices", "rule-start-failure")
def test_a_device_that_is_not_there(engine: Engine, busybox: str, name: str) -> None:
    device = {"PathOnHost": "/dev/no-such", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}
    create(engine, busybox, name, Cmd=["true"], HostConfig={"Devices": [device]})
    reply = engine.request("POST", f"/containers/{name}/start")
    words = 'error gathering device information while adding custom device "/dev/no-such": no such file or directory'
    assert (reply.status, message(reply)) == (500, words)
    state = engine.state(name)
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 128, words)


@pytest.mark.claim("rule-user")
@pytest.mark.parametrize(
    ("user", "added", "ids", "groups"),
    [
        ("", [], ("0", "0"), ["0", "10"]),
        ("www", [], ("33", "33"), ["10", "33"]),
        ("www", ["4711", "daemon"], ("33", "33"), ["1", "10", "33", "4711"]),
        ("www:daemon", [], ("33", "1"), ["1"]),
        ("33", [], ("33", "33"), ["10", "33"]),
        ("1234", [], ("1234", "0"), ["0"]),
        ("1234:5678", [], ("1234", "5678"), ["5678"]),
        ("0:0", [], ("0", "0"), ["0"]),
    ],
)
def test_users_and_groups(alike: Alike, user: str, added: list[str], ids: tuple[str, str], groups: list[str]) -> None:
    image = alike.pulled()

    def credentials(engine: Engine) -> dict[str, list[str]]:
        found = status(run(engine, image, alike.name, User=user, HostConfig={"GroupAdd": added}))
        return {"Uid": found["Uid"], "Gid": found["Gid"], "Groups": sorted(found["Groups"], key=int)}

    found = alike.agree(credentials)
    assert (found["Uid"], found["Gid"]) == ([ids[0]] * 4, [ids[1]] * 4)
    assert sorted(set(found["Groups"]), key=int) == groups


@pytest.mark.claim("rule-user", "rule-start-failure")
@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("no-such", "unable to find user no-such: no matching entries in passwd file"),
        ("root:no-such", "unable to find group no-such: no matching entries in group file"),
    ],
)
def test_users_that_are_not_there(engine: Engine, busybox: str, name: str, user: str, words: str) -> None:
    create(engine, busybox, name, Cmd=["true"], User=user)
    reply = engine.request("POST", f"/containers/{name}/start")
    assert reply.status in {400, 500} and message(reply) == words
    state = engine.state(name)
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 128, words)


@pytest.mark.claim("rule-user")
def test_a_link_for_passwd_stays_inside(engine: Engine, shelf: Shelf, name: str) -> None:
    """An image whose /etc/passwd points up and away finds its own file, or nothing, never the machine's."""
    import tarfile

    from tests.support.images import add_dir, add_file, add_link, busybox_layer

    def layer(tar: tarfile.TarFile) -> None:
        add_dir(tar, "inside")
        add_file(tar, "inside/passwd", b"mine:x:4242:4242::/:/bin/sh\n")
        add_link(tar, "etc/passwd", "../../../../../inside/passwd")

    reference = shelf.add(f"spec/link-{name}:1", label=f"link-{name}", layers=(busybox_layer, layer))
    engine.docker("pull", "-q", reference, check=True)
    assert status(run(engine, reference, name, User="mine"))["Uid"][0] == "4242"


@pytest.mark.claim("rule-default-capabilities")
def test_a_user_keeps_only_the_bound(engine: Engine, busybox: str, name: str) -> None:
    found = status(run(engine, busybox, name, User="1234", HostConfig={"CapAdd": ["NET_ADMIN"]}))
    assert [found[key] for key in ("CapPrm", "CapEff", "CapInh", "CapAmb")] == [["0" * 16]] * 4
    assert found["CapBnd"] == ["00000000a80435fb"]


@pytest.mark.claim("rule-ulimits")
def test_limits_of_the_process(engine: Engine, busybox: str, name: str) -> None:
    wanted = [{"Name": "nofile", "Soft": 100, "Hard": 200}, {"Name": "core", "Soft": 0, "Hard": 0}]
    pid = run(engine, busybox, name, HostConfig={"Ulimits": wanted, "OomScoreAdj": 300})
    limits = Path(f"/proc/{pid}/limits").read_text()
    lines = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()[1:]}
    assert lines["Max open files"] == ["100", "200"] and lines["Max core file size"] == ["0", "0"]
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "300\n"


@pytest.mark.claim("rule-read-only", "rule-tmpfs")
def test_a_read_only_root_and_what_is_not(engine: Engine, busybox: str, name: str) -> None:
    host = {"ReadonlyRootfs": True, "Tmpfs": {"/plain": "", "/own": "size=1m,exec,mode=0700"}}
    found = mounts(run(engine, busybox, name, HostConfig=host))
    assert "ro" in found["/"].options
    assert "rw" in found["/dev/shm"].options
    assert found["/plain"].fstype == "tmpfs" and {"rw", "nosuid", "nodev", "noexec"} <= found["/plain"].options
    assert {"rw", "nosuid", "nodev"} <= found["/own"].options and "noexec" not in found["/own"].options
    assert {"size=1024k", "mode=700"} <= found["/own"].data


@pytest.mark.claim("rule-read-only")
def test_a_working_directory_is_made_in_a_read_only_root(engine: Engine, busybox: str, name: str) -> None:
    pid = run(engine, busybox, name, WorkingDir="/made/here", HostConfig={"ReadonlyRootfs": True})
    assert os.readlink(f"/proc/{pid}/cwd") == "/made/here"


@pytest.mark.claim("rule-namespace-modes")
@pytest.mark.parametrize(
    ("key", "kind"), [("PidMode", "pid"), ("IpcMode", "ipc"), ("UTSMode", "uts"), ("NetworkMode", "net")]
)
def test_namespaces_of_the_host(engine: Engine, busybox: str, name: str, key: str, kind: str) -> None:
    pid = run(engine, busybox, name, HostConfig={key: "host"})
    assert namespace(pid, kind) == namespace(engine.pid, kind)
    for other in {"mnt", "pid", "ipc", "uts", "net"} - {kind}:
        assert namespace(pid, other) != namespace(engine.pid, other), other


@pytest.mark.claim("rule-namespace-modes")
@pytest.mark.parametrize(("key", "kind"), [("PidMode", "pid"), ("IpcMode", "ipc"), ("NetworkMode", "net")])
def test_namespaces_of_another_container(
    engine: Engine, busybox: str, names: Callable[[], str], key: str, kind: str
) -> None:
    first, second = names(), names()
    there = run(engine, busybox, first, HostConfig={"IpcMode": "shareable"})
    pid = run(engine, busybox, second, HostConfig={key: f"container:{first}"})
    assert namespace(pid, kind) == namespace(there, kind)
    assert namespace(pid, "mnt") != namespace(there, "mnt")


@pytest.mark.claim("rule-namespace-modes")
def test_shared_memory_is_shared_with_the_namespace(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    first, second = names(), names()
    there = run(engine, busybox, first, HostConfig={"IpcMode": "shareable"})
    pid = run(engine, busybox, second, HostConfig={"IpcMode": f"container:{first}"})
    Path(f"/proc/{there}/root/dev/shm/word").write_text("said")
    assert Path(f"/proc/{pid}/root/dev/shm/word").read_text() == "said"


@pytest.mark.claim("rule-namespace-modes")
def test_a_private_ipc_namespace_is_not_shared(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    first, second = names(), names()
    container = create(engine, busybox, first, Cmd=["sleep", "300"], HostConfig={"IpcMode": "private"})
    assert engine.request("POST", f"/containers/{first}/start").status == 204
    reply = engine.request(
        "POST",
        f"/containers/create?name={second}",
        {"Image": busybox, "Cmd": ["true"], "HostConfig": {"IpcMode": f"container:{first}"}},
    )
    if reply.status == 201:
        reply = engine.request("POST", f"/containers/{second}/start")
    assert reply.status >= 400
    assert "non-shareable IPC" in message(reply) and container[:12] in message(reply)


@pytest.mark.claim("rule-namespace-modes")
def test_no_shared_memory_at_all(engine: Engine, busybox: str, name: str) -> None:
    found = mounts(run(engine, busybox, name, HostConfig={"IpcMode": "none"}))
    assert "/dev/shm" not in found


@pytest.mark.claim("rule-namespace-modes")
@pytest.mark.parametrize(("mode", "own"), [("private", True), ("host", False)])
def test_namespace_of_cgroups(engine: Engine, busybox: str, name: str, mode: str, own: bool) -> None:
    pid = run(engine, busybox, name, HostConfig={"CgroupnsMode": mode})
    assert (namespace(pid, "cgroup") != namespace(engine.pid, "cgroup")) is own


@pytest.mark.claim("rule-namespace-modes")
def test_the_network_of_a_container_that_does_not_run(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    first, second = names(), names()
    other = create(engine, busybox, first)
    create(engine, busybox, second, Cmd=["true"], HostConfig={"NetworkMode": f"container:{first}"})
    reply = engine.request("POST", f"/containers/{second}/start")
    assert reply.status == 409
    assert message(reply) == f"cannot join network of a non running container: {other}"


@pytest.mark.claim("rule-namespace-modes")
def test_names_and_files_come_with_the_network(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    first, second = names(), names()
    run(engine, busybox, first, Hostname="shared")
    finished(engine, busybox, second, ["hostname"], HostConfig={"NetworkMode": f"container:{first}"})
    assert joined(output(engine, second), 1) == b"shared\n"
    one, two = engine.inspect(first), engine.inspect(second)
    assert one["HostsPath"] == two["HostsPath"] and one["ResolvConfPath"] == two["ResolvConfPath"]


@pytest.mark.claim("rule-init")
@pytest.mark.parametrize("init", [True, False])
def test_a_small_init(engine: Engine, busybox: str, name: str, init: bool) -> None:
    pid = run(engine, busybox, name, HostConfig={"Init": init})
    words = ([b"/sbin/docker-init", b"--"] if init else []) + [b"sleep", b"300"]
    command, children = Path(f"/proc/{pid}/cmdline"), Path(f"/proc/{pid}/task/{pid}/children")
    # A start is over when the kernel has begun to execute the command.
    wait_until(lambda: command.read_bytes().split(b"\0")[:-1] == words, what=f"the command line {words}")
    wait_until(lambda: len(children.read_text().split()) == init, what="the number of its children")


@pytest.mark.claim("rule-mount-modes")
def test_propagation_of_binds(engine: Engine, busybox: str, name: str, tmp_path: Path) -> None:
    modes = ["rshared", "shared", "rslave", "slave", "rprivate", "private", ""]
    binds = [f"{tmp_path}:/m{number}:{mode}".rstrip(":") for number, mode in enumerate(modes)]
    found = mounts(run(engine, busybox, name, HostConfig={"Binds": binds}))
    assert [found[f"/m{number}"].propagation for number in range(len(modes))] == [
        "shared", "shared", "master", "master", "", "", "",
    ]  # fmt: skip
    assert found["/proc"].propagation == ""


@pytest.mark.claim("rule-mount-modes")
@pytest.mark.parametrize(("mode", "seen"), [("rslave", True), ("rprivate", False)])
def test_later_mounts_of_the_host(
    engine: Engine, busybox: str, name: str, tmp_path: Path, mode: str, seen: bool
) -> None:
    (tmp_path / "below").mkdir()
    pid = run(engine, busybox, name, HostConfig={"Binds": [f"{tmp_path}:/m:{mode}"]})
    engine.sandbox.run(["mount", "-t", "tmpfs", "late", str(tmp_path / "below")])
    try:
        assert ("/m/below" in mounts(pid)) is seen
    finally:
        engine.sandbox.run(["umount", str(tmp_path / "below")])


@pytest.mark.claim("rule-mount-modes")
def test_binds_that_may_not_be_written(engine: Engine, busybox: str, name: str, tmp_path: Path) -> None:
    mount = {"Type": "bind", "Source": str(tmp_path), "Target": "/b", "ReadOnly": True}
    host = {"Binds": [f"{tmp_path}:/a:ro", f"{tmp_path}:/c"], "Mounts": [mount]}
    found = mounts(run(engine, busybox, name, HostConfig=host))
    assert ["ro" in found[place].options for place in ("/a", "/b", "/c")] == [True, True, False]


@pytest.mark.claim("rule-mount-modes")
def test_a_bind_of_one_file(engine: Engine, busybox: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("first\n")
    pid = run(engine, busybox, name, HostConfig={"Binds": [f"{tmp_path}/file:/etc/made/here/file"]})
    assert Path(f"/proc/{pid}/root/etc/made/here/file").read_text() == "first\n"


@pytest.mark.claim("rule-mount-modes")
def test_a_source_that_is_missing_is_made(engine: Engine, busybox: str, name: str, tmp_path: Path) -> None:
    missing = tmp_path / "not" / "there"
    run(engine, busybox, name, HostConfig={"Binds": [f"{missing}:/x"]})
    assert missing.is_dir()


@pytest.mark.claim("rule-mount-modes")
def test_a_target_that_is_a_link_stays_inside(engine: Engine, shelf: Shelf, name: str, tmp_path: Path) -> None:
    """A bind over a link of the image lands where the link points inside the root, and not in the machine's folder."""
    import tarfile

    from tests.support.images import add_link, busybox_layer

    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "mark").touch()

    def layer(tar: tarfile.TarFile) -> None:
        add_link(tar, "trap", str(outside))

    reference = shelf.add(f"spec/trap-{name}:1", label=f"trap-{name}", layers=(busybox_layer, layer))
    engine.docker("pull", "-q", reference, check=True)
    pid = run(engine, reference, name, HostConfig={"Binds": [f"{tmp_path}/source:/trap"]})
    assert os.listdir(f"/proc/{pid}/root{outside}") == ["mark"]
    assert list(outside.iterdir()) == []


@pytest.mark.claim("rule-mount-modes")
def test_mounts_of_inspect(engine: Engine, busybox: str, name: str, volume: str, tmp_path: Path) -> None:
    host = {
        "Binds": [f"{tmp_path}:/a", f"{tmp_path}:/b:ro,rslave", f"{volume}:/c:nocopy"],
        "Mounts": [
            {"Type": "tmpfs", "Target": "/t"},
            {"Type": "bind", "Source": str(tmp_path), "Target": "/d", "ReadOnly": True},
            {"Type": "volume", "Source": volume, "Target": "/v"},
        ],
    }
    create(engine, busybox, name, HostConfig=host, Volumes={"/anon": {}})
    value: Any = engine.inspect(name)["Mounts"]
    found = {each["Destination"]: each for each in value}
    data = f"{engine.data_root}/volumes/{volume}/_data"
    assert found["/b"] == {
        "Type": "bind",
        "Source": str(tmp_path),
        "Destination": "/b",
        "Mode": "ro,rslave",
        "RW": False,
        "Propagation": "rslave",
    }
    named = {"Type": "volume", "Name": volume, "Source": data, "Driver": "local", "RW": True, "Propagation": ""}
    assert found["/c"] == {**named, "Destination": "/c", "Mode": "nocopy"}
    assert found["/v"] == {**named, "Destination": "/v", "Mode": "z"}
    assert found["/t"] == {
        "Type": "tmpfs", "Source": "", "Destination": "/t", "Mode": "", "RW": True, "Propagation": "",
    }  # fmt: skip
    assert (found["/a"]["Propagation"], found["/d"]["Propagation"]) == ("rprivate", "rprivate")
    assert (found["/d"]["Mode"], found["/d"]["RW"]) == ("", False)
    anonymous = found["/anon"]
    assert len(anonymous["Name"]) == 64 and (anonymous["Mode"], anonymous["Driver"]) == ("", "local")
    assert anonymous["Source"] == f"{engine.data_root}/volumes/{anonymous['Name']}/_data"
