"""From a container's record to the spec that libcontainer runs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pyker.container.record import Container, MountPoint
from pyker.daemon import spec_process
from pyker.daemon.spec import BuiltSpec, SpecOptions, Specs, build_exec, build_spec
from pyker.daemon.spec_security import with_hidden_paths
from pyker.errors import Conflict, InvalidParameter, NotFound, NotSupported, SystemFailure
from pyker.jobs.containers import CreateExec
from pyker.libcontainer import capabilities, devices
from pyker.libcontainer.spec import ContainerSpec
from pyker.networkdriver.base import Sandbox
from pyker.types.config import ContainerConfig, HostConfig, Ulimit
from pyker.types.mount import Mount
from tests.support.records import ROOTFS, container

pytestmark = pytest.mark.requires("seccomp")

NETNS = "/run/pyker/netns/x"
PLAIN = SpecOptions()


def lookup(*others: Container) -> dict[str, Container]:
    return {other.name: other for other in others}


def built(
    box: Container,
    *,
    netns: str | None = NETNS,
    options: SpecOptions = PLAIN,
    others: Mapping[str, Container] | None = None,
) -> BuiltSpec:
    def find(name: str) -> Container:
        if others is None or name not in others:
            raise NotFound(f"No such container: {name}")
        return others[name]

    return build_spec(box, ROOTFS, netns, "/state", options, find)


def spec(
    config: dict[str, object] | None = None, host: dict[str, object] | None = None, *, netns: str | None = NETNS
) -> ContainerSpec:
    return built(container(config, host), netns=netns).spec


def mounts(found: ContainerSpec) -> dict[str, Mount]:
    return {mount.target: mount for mount in found.mounts}


def test_a_plain_container() -> None:
    found = spec()
    assert found.namespaces == {"mnt": "", "uts": "", "ipc": "", "pid": "", "net": NETNS}
    assert found.cgroup_path == "/pyker/" + "a" * 64
    assert found.hostname == "a" * 12
    assert found.state_dir == "/state"
    assert found.process.args == ("true",)
    assert found.process.cwd == "/"
    assert len(found.process.seccomp) > 1000
    assert not found.process.no_new_privileges
    assert found.stop_signal == 15
    assert "/proc/kcore" in found.masked_paths
    assert found.readonly_paths == ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
    assert found.sysctls == {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
    }
    assert found.resources.devices == devices.DEFAULT_RULES
    assert found.devices == devices.DEFAULT_NODES


def test_default_mounts_are_the_references() -> None:
    """Recorded from the bundle that the reference engine wrote for a plain container."""
    expected = [
        ("/proc", "proc", ["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
        ("/sys/fs/cgroup", "cgroup", ["ro", "nosuid", "noexec", "nodev"]),
        ("/dev/mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        ("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
        ("/etc/resolv.conf", "bind", ["bind", "rprivate"]),
        ("/etc/hostname", "bind", ["bind", "rprivate"]),
        ("/etc/hosts", "bind", ["bind", "rprivate"]),
    ]
    found = [(mount.target, mount.fstype, sorted(mount.options)) for mount in spec().mounts]
    assert found == [(target, fstype, sorted(options)) for target, fstype, options in expected]


# Environment and process


def test_environment_order() -> None:
    found = spec({"Env": ["A=1", "PATH=/x", "B", "HOSTNAME=other"], "Tty": True})
    assert found.process.env == ("PATH=/x", "HOSTNAME=other", "TERM=xterm", "A=1")
    assert found.process.tty
    plain = spec({"Env": None})
    assert plain.process.env == (f"PATH={spec_process.DEFAULT_PATH}", "HOSTNAME=" + "a" * 12)


def test_process_fields() -> None:
    found = spec(
        {"User": "1:2", "WorkingDir": "/w", "OpenStdin": True, "StdinOnce": True, "StopSignal": "SIGINT"},
        {"GroupAdd": ["audio"], "OomScoreAdj": 7},
    )
    process = found.process
    assert (process.user, process.cwd, process.additional_groups) == ("1:2", "/w", ("audio",))
    assert (process.open_stdin, process.stdin_once, process.oom_score_adj) == (True, True, 7)
    assert found.stop_signal == 2


def test_ulimits_with_the_daemons_defaults() -> None:
    options = SpecOptions(
        default_ulimits=(Ulimit(name="nofile", soft=10, hard=20), Ulimit(name="core", soft=1, hard=1))
    )
    box = container(host={"Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}]})
    limits = {limit.name: (limit.soft, limit.hard) for limit in built(box, options=options).spec.process.rlimits}
    assert limits == {"nofile": (10, 20), "core": (0, 0)}


def test_init_goes_before_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec_process, "find_init", lambda: "/usr/bin/docker-init")
    found = spec(host={"Init": True})
    assert found.process.args == ("/sbin/docker-init", "--", "true")
    assert mounts(found)["/sbin/docker-init"] == Mount(
        target="/sbin/docker-init",
        fstype="bind",
        source="/usr/bin/docker-init",
        options=("bind", "ro", "rprivate"),
        create="file",
    )
    assert spec(host={"Init": True, "PidMode": "host"}).process.args == ("true",)


def test_no_init_binary_is_a_clear_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec_process, "find_init", lambda: "")
    with pytest.raises(NotSupported) as caught:
        spec(host={"Init": True})
    assert "tini" in caught.value.hint


# Security


def test_privileged() -> None:
    found = spec(host={"Privileged": True})
    everything = {name for name in capabilities.NAMES if name in capabilities.bounding_set()}
    assert set(found.process.capabilities.bounding) == everything
    assert found.process.seccomp == b""
    assert (found.masked_paths, found.readonly_paths) == ((), ())
    assert found.resources.devices == ()
    assert "ro" not in mounts(found)["/sys"].options
    assert "ro" not in mounts(found)["/sys/fs/cgroup"].options
    assert {node.path for node in devices.DEFAULT_NODES} <= {node.path for node in found.devices}
    assert len(found.devices) > len(devices.DEFAULT_NODES)


def test_security_options() -> None:
    assert spec(host={"SecurityOpt": ["seccomp=unconfined"]}).process.seccomp == b""
    assert spec(host={"SecurityOpt": ["no-new-privileges"]}).process.no_new_privileges
    assert spec(host={"SecurityOpt": ["systempaths=unconfined"]}).masked_paths == ()
    one_rule = '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO"}]}'
    small = spec(host={"SecurityOpt": [f"seccomp={one_rule}"]}).process.seccomp
    assert 0 < len(small) < 200
    assert spec(host={"SecurityOpt": [f"seccomp={one_rule}"], "Privileged": True}).process.seccomp == small


def test_capabilities_reach_the_filter() -> None:
    """--cap-add SYS_ADMIN opens mount: the two programs differ."""
    assert spec(host={"CapAdd": ["SYS_ADMIN"]}).process.seccomp != spec().process.seccomp
    assert spec(host={"CapDrop": ["ALL"]}).process.capabilities.bounding == ()


def test_own_lists_of_hidden_paths() -> None:
    found = spec(host={"MaskedPaths": ["/proc/x"], "ReadonlyPaths": []})
    assert (found.masked_paths, found.readonly_paths) == (("/proc/x",), ())


def test_hidden_paths_are_written_out_for_inspect() -> None:
    shown = with_hidden_paths(HostConfig(readonly_paths=()))
    assert shown.masked_paths == spec().masked_paths
    assert shown.readonly_paths == ()
    assert with_hidden_paths(HostConfig(privileged=True)).masked_paths is None


# Namespaces


def test_host_namespaces() -> None:
    found = spec(host={"PidMode": "host", "IpcMode": "host", "UTSMode": "host", "CgroupnsMode": "host"}, netns="")
    assert found.namespaces == {"mnt": ""}
    assert (found.hostname, found.sysctls) == ("", {})
    assert mounts(found)["/dev/shm"].source == "/dev/shm"


def test_a_new_network_namespace_and_a_private_cgroup_namespace() -> None:
    found = spec(host={"CgroupnsMode": "private"}, netns=None)
    assert found.namespaces["net"] == ""
    assert found.namespaces["cgroup"] == ""


def test_ipc_none_has_no_shm() -> None:
    found = spec(host={"IpcMode": "none"})
    assert found.namespaces["ipc"] == ""
    assert "/dev/shm" not in mounts(found)


def test_joining_another_container() -> None:
    other = container(host={"IpcMode": "shareable"}, name="other", digit="b", pid=4242)
    box = container(host={"PidMode": "container:other", "IpcMode": "container:other"})
    found = built(box, others=lookup(other)).spec
    assert found.namespaces["pid"] == "/proc/4242/ns/pid"
    assert found.namespaces["ipc"] == "/proc/4242/ns/ipc"
    assert mounts(found)["/dev/shm"].source == "/proc/4242/root/dev/shm"


def test_the_network_of_another_brings_its_name() -> None:
    other = container({"Hostname": "theirs"}, name="other", digit="b", pid=4242)
    box = container({"Hostname": ""}, {"NetworkMode": "container:other"})
    assert built(box, others=lookup(other)).spec.hostname == "theirs"


@pytest.mark.parametrize(
    ("other", "mode", "error", "text"),
    [
        (container(name="other", digit="b"), {"PidMode": "container:other"}, Conflict, "is not running"),
        (
            container(name="other", digit="b", pid=7),
            {"IpcMode": "container:other"},
            InvalidParameter,
            "non-shareable IPC",
        ),
        (container(name="x", digit="b", pid=7), {"PidMode": "container:other"}, NotFound, "No such container: other"),
    ],
)
def test_joining_refused(other: Container, mode: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        built(container(host=mode), others=lookup(other))


# Mounts


def point(kind: str, destination: str, **fields: object) -> MountPoint:
    source = "" if kind == "tmpfs" else f"/src{destination}"
    return MountPoint(type=kind, source=source, destination=destination, **fields)  # type: ignore[arg-type]


def with_points(*points: MountPoint, **host: object) -> ContainerSpec:
    return built(container(host=host, points=points)).spec


def test_user_mounts_come_parents_first() -> None:
    found = with_points(point("volume", "/a/b/c"), point("bind", "/a"), point("bind", "/a/b", rw=False))
    targets = [mount.target for mount in found.mounts]
    assert [target for target in targets if target.startswith("/a")] == ["/a", "/a/b", "/a/b/c"]
    assert targets.index("/proc") < targets.index("/a")


def test_bind_options() -> None:
    found = mounts(with_points(point("bind", "/w"), point("bind", "/r", rw=False), point("volume", "/v")))
    assert found["/w"] == Mount(target="/w", fstype="bind", source="/src/w", options=("rbind", "rprivate"))
    assert "rro" in found["/r"].options
    assert found["/v"].source == "/src/v"


def test_bind_options_of_a_mount_request() -> None:
    requests = [
        {"Type": "bind", "Source": "/s", "Target": "/n", "BindOptions": {"NonRecursive": True}},
        {"Type": "bind", "Source": "/s", "Target": "/o", "BindOptions": {"ReadOnlyNonRecursive": True}},
        {"Type": "volume", "Source": "v", "Target": "/p", "VolumeOptions": {"Subpath": "in/side"}},
        {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o1770}},
    ]
    found = mounts(
        with_points(
            point("bind", "/n"), point("bind", "/o", rw=False), point("volume", "/p"), point("tmpfs", "/t"),
            Mounts=requests,
        )
    )  # fmt: skip
    assert found["/n"].options[0] == "bind"
    assert "ro" in found["/o"].options
    assert found["/p"].source == "/src/p/in/side"
    assert {"size=4096", "mode=1770", "noexec"} <= set(found["/t"].options)


@pytest.mark.parametrize("subpath", ["../up", "/abs", "a/../../b"])
def test_a_subpath_stays_inside(subpath: str) -> None:
    requests = [{"Type": "volume", "Source": "v", "Target": "/p", "VolumeOptions": {"Subpath": subpath}}]
    with pytest.raises(InvalidParameter):
        with_points(point("volume", "/p"), Mounts=requests)


def test_tmpfs_defaults_and_overrides() -> None:
    found = mounts(with_points(Tmpfs={"/run": "", "/t": "size=1m,exec"}))
    assert found["/run"].options == ("rw", "nosuid", "nodev", "noexec")
    assert found["/t"].options == ("rw", "nosuid", "nodev", "noexec", "size=1m", "exec")


def test_the_users_mount_replaces_ours() -> None:
    found = with_points(point("bind", "/dev/shm"), point("bind", "/etc/hosts"))
    assert [mount.source for mount in found.mounts if mount.target == "/dev/shm"] == ["/src/dev/shm"]
    assert [mount.source for mount in found.mounts if mount.target == "/etc/hosts"] == ["/src/etc/hosts"]
    below = [mount.target for mount in with_points(point("bind", "/dev")).mounts if mount.target.startswith("/dev")]
    assert below == ["/dev"]


def test_shm_size() -> None:
    assert "size=1048576" in mounts(spec(host={"ShmSize": 1048576}))["/dev/shm"].options


def test_a_shared_bind_of_a_private_mount_is_refused() -> None:
    """/proc is never shared where tests run."""
    shared = MountPoint(type="bind", source="/proc/sys", destination="/x", propagation="rshared")
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        peers = any(line.split()[4] == "/proc" and "shared:" in line for line in file)
    if peers:
        assert with_points(shared).rootfs_propagation == "shared"
    else:
        with pytest.raises(InvalidParameter, match="is mounted on /proc but it is not a shared mount"):
            with_points(shared)


# Resources


def test_limits() -> None:
    found = spec(
        host={"Memory": 64 << 20, "NanoCpus": 1_500_000_000, "PidsLimit": 10, "CpuShares": 7, "CpusetCpus": "0"}
    ).resources
    assert found.memory_bytes == 64 << 20
    assert found.memory_swap_bytes == 128 << 20
    assert (found.cpu_quota_us, found.cpu_period_us) == (150_000, 100_000)
    assert (found.pids_limit, found.cpu_shares, found.cpuset_cpus) == (10, 7, "0")


@pytest.mark.parametrize(("given", "limit"), [(None, 0), (0, 0), (-1, -1), (5, 5)])
def test_pids_limit(given: int | None, limit: int) -> None:
    assert spec(host={"PidsLimit": given}).resources.pids_limit == limit


def test_devices_and_rules() -> None:
    mapping = {"PathOnHost": "/dev/null", "PathInContainer": "/dev/nix", "CgroupPermissions": "r"}
    found = spec(host={"Devices": [mapping], "DeviceCgroupRules": ["c 42:* rmw"]})
    node = {node.path: node for node in found.devices}["/dev/nix"]
    assert (node.kind, node.major, node.minor) == ("c", 1, 3)
    last, added = found.resources.devices[-2:]
    assert (last.major, last.minor, last.access) == (1, 3, "r")
    assert (added.kind, added.major, added.minor, set(added.access)) == ("c", 42, -1, set("rwm"))


def test_a_missing_device() -> None:
    with pytest.raises(SystemFailure) as caught:
        spec(host={"Devices": [{"PathOnHost": "/dev/nope", "PathInContainer": "/dev/nope"}]})
    assert caught.value.message == (
        'error gathering device information while adding custom device "/dev/nope": no such file or directory'
    )


def test_gpus() -> None:
    with pytest.raises(NotSupported) as caught:
        spec(host={"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]})
    assert caught.value.message == 'could not select device driver "" with capabilities: [[gpu]]'


def test_cgroup_parent() -> None:
    assert spec(host={"CgroupParent": "mine/deep/"}).cgroup_path == "/mine/deep/" + "a" * 64
    found = built(container(), options=SpecOptions(cgroup_parent="/other"))
    assert found.spec.cgroup_path == "/other/" + "a" * 64


# Logs


def test_log_options() -> None:
    settings = {
        "max-size": "10m",
        "max-file": "3",
        "compress": "true",
        "labels": "a,zz",
        "env": "E",
        "tag": "{{.Name}}",
    }
    found = spec(
        {"Labels": {"a": "1", "b": "2"}, "Env": ["E=x", "F=y"]},
        {"LogConfig": {"Type": "json-file", "Config": settings}},
    ).log
    assert (found.driver, found.path) == ("json-file", "/logs/x-json.log")
    assert (found.max_size_bytes, found.max_files, found.compress) == (10 << 20, 3, True)
    assert found.attributes == {"a": "1", "E": "x", "tag": "box"}
    assert spec(host={"LogConfig": {"Type": "none", "Config": {}}}).log.driver == "none"


# Exec


def test_exec_inherits() -> None:
    box = container({"Env": ["A=1"], "User": "7", "WorkingDir": "/w"}, {"CapDrop": ["ALL"]})
    found = build_exec(box, CreateExec(container="box", command=("id",), env=("A=2", "B=3"), tty=True), SpecOptions())
    assert found.args == ("id",)
    assert found.env[-3:] == ("TERM=xterm", "A=2", "B=3")
    assert (found.user, found.cwd, found.tty) == ("7", "/w", True)
    assert found.capabilities.bounding == ()
    assert found.seccomp != b""


def test_exec_overrides_and_privilege() -> None:
    box = container({"User": "7", "WorkingDir": "/w"}, {"SecurityOpt": ["no-new-privileges"]})
    job = CreateExec(container="box", command=("id",), user="0", working_dir="/tmp", privileged=True)
    found = build_exec(box, job, SpecOptions())
    assert (found.user, found.cwd) == ("0", "/tmp")
    assert set(found.capabilities.effective) == capabilities.bounding_set()
    assert (found.seccomp, found.no_new_privileges) == (b"", True)


# The class that the daemon uses


def test_specs_follow_the_sandbox() -> None:
    def nobody(name: str) -> Container:
        raise NotFound(f"No such container: {name}")

    specs = Specs(SpecOptions(), nobody)
    for sandbox, expected in (
        (Sandbox(id="s", netns_path="/ns"), "/ns"),
        (None, ""),
    ):
        assert specs.container_spec(container(), ROOTFS, sandbox, "/s").namespaces["net"] == expected
    host = specs.container_spec(container(), ROOTFS, Sandbox(id="s", netns_path=""), "/s")
    assert "net" not in host.namespaces
    with pytest.raises(InvalidParameter, match="No such container: nope"):
        specs.check(ContainerConfig(), HostConfig(pid_mode="container:nope"))
