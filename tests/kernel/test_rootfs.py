"""A container's file system: what is mounted, where it lands, what is hidden, and that the host sees none of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.errors import InvalidParameter, KernelError
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.spec import ContainerSpec, DeviceNode
from pyker.types.mount import Mount
from tests.kernel.containerbench import DEVICES, MOUNTS, Bench, bench, host_mounts

pytestmark = pytest.mark.requires("root", "overlay", "busybox")


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("rootfs")) as made:
        yield made


def upper_of(spec: ContainerSpec) -> Path:
    return Path(spec.state_dir).parent / "upper"


def bind(source: object, target: str, *options: str, create: str = "dir") -> Mount:
    return Mount(target=target, fstype="bind", source=str(source), options=options, create=create)


def options_of(lines: list[str], target: str) -> set[str]:
    """The mount's own flags, of the last mount at ``target``, in the format of mountinfo."""
    return set([line.split()[5] for line in lines if line.split()[4] == target][-1].split(","))


def test_the_host_sees_no_mount_of_a_container(containers: Bench) -> None:
    before = host_mounts()
    process, _ = containers.start(containers.spec("sleep", "60"))
    assert host_mounts() == before
    inside = {line.split()[4] for line in Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()}
    assert {"/", "/proc", "/dev", "/dev/pts", "/sys"} <= inside
    process.signal(9)


def test_a_host_with_shared_mounts_sees_none_either(tmp_path: Path) -> None:
    with bench(tmp_path) as own:
        sc.mount(str(own.folder), str(own.folder), "", sc.MS_BIND)
        sc.mount("", str(own.folder), "", sc.MS_SHARED)
        try:
            before = host_mounts()
            process, watcher = own.start(own.spec("sleep", "60"))
            assert host_mounts() == before
            process.signal(9)
            watcher.wait()
            assert host_mounts() == before
        finally:
            sc.umount2(str(own.folder), sc.MNT_DETACH)


@pytest.mark.claim("rootfs-kernel-is-the-hosts", "isolation-mount")
def test_the_hosts_mounts_are_gone_inside(containers: Bench) -> None:
    lines = containers.run("cat", "/proc/self/mountinfo").lines
    points = [line.split()[4] for line in lines]
    assert points[0] == "/"
    assert all(point == "/" or point.startswith(("/proc", "/dev", "/sys")) for point in points), points


def test_a_bind_as_root_file_system(containers: Bench) -> None:
    spec = containers.spec(
        "sh", "-c", "echo > /made", rootfs=Mount(target="/", fstype="bind", source=str(containers.lower))
    )
    assert containers.run_spec(spec).record.exit_code == 0
    made = containers.lower / "made"
    assert made.exists()
    made.unlink()


@pytest.mark.claim("rootfs-private-copy")
def test_what_is_written_lands_in_the_upper_layer(containers: Bench) -> None:
    spec = containers.spec("touch", "/tmp/new")
    containers.run_spec(spec)
    assert (upper_of(spec) / "tmp/new").exists()
    assert not (containers.lower / "tmp/new").exists()


def test_more_layers_than_a_page_of_options_holds(containers: Bench) -> None:
    layers = []
    for number in range(60):
        layer = containers.folder / "layers" / f"{number:064d}" / "diff"
        layer.mkdir(parents=True)
        (layer / f"f{number}").touch()
        layers.append(str(layer))
    spec = containers.spec("ls", "/")
    folder = upper_of(spec).parent
    options = (
        f"lowerdir={':'.join([str(containers.lower), *layers])}",
        f"upperdir={folder}/upper",
        f"workdir={folder}/work",
    )
    assert len(",".join(options)) > 4096
    fields = {name: getattr(spec, name) for name in spec.__struct_fields__}
    changed = fields | {"rootfs": Mount(target="/", fstype="overlay", source="overlay", options=options)}
    assert {"f0", "f59"} <= set(containers.run_spec(ContainerSpec(**changed)).lines)


def test_a_readonly_root_keeps_its_mounts_writable(containers: Bench) -> None:
    ran = containers.run("sh", "-c", "touch /x || echo refused; touch /dev/shm/y && echo fine", readonly_rootfs=True)
    assert ran.lines == ["refused", "fine"]


def test_device_nodes_and_links(containers: Bench) -> None:
    ran = containers.run("stat", "-c", "%n %F %t:%T %a", *(device.path for device in DEVICES))
    assert ran.lines == [
        f"{device.path} character special file {device.major:x}:{device.minor:x} 666" for device in DEVICES
    ]
    ran = containers.run(
        "sh",
        "-c",
        "for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done".replace("readlink", "busybox readlink"),
    )
    assert ran.lines == ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx"]


def test_a_device_of_the_users_with_mode_and_owner(containers: Bench) -> None:
    device = DeviceNode(path="/dev/sub/mine", kind="c", major=1, minor=3, mode=0o640, uid=1000, gid=50)
    ran = containers.run("stat", "-c", "%t:%T %a %u %g", "/dev/sub/mine", devices=(*DEVICES, device))
    assert ran.lines == ["1:3 640 1000 50"]


def test_masked_files_are_empty_and_masked_folders_too(containers: Bench) -> None:
    masked = ("/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/acpi", "/proc/no-such-thing")
    script = "cat /proc/keys /proc/timer_list; ls /sys/firmware; touch /sys/firmware/x || echo refused"
    ran = containers.run("sh", "-c", script, masked_paths=masked)
    assert ran.lines == ["refused"]


def test_a_mask_cannot_be_led_outside_by_the_image(containers: Bench) -> None:
    """CVE-2025-31133: the image's own /dev/null is not what covers a masked path."""
    mounts = tuple(mount for mount in MOUNTS if not mount.target.startswith("/dev"))
    spec = containers.spec("cat", "/secret", mounts=mounts, devices=(), masked_paths=("/secret",))
    upper = upper_of(spec)
    (upper / "dev").mkdir()
    (upper / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    (upper / "secret").write_text("hidden")
    ran = containers.run_spec(spec)
    assert ran.stdout == b""
    assert (upper / "secret").read_text() == "hidden"


def test_readonly_paths_refuse_writes(containers: Bench) -> None:
    ran = containers.run(
        "sh", "-c", "echo x > /proc/sys/kernel/domainname || echo refused", readonly_paths=("/proc/sys", "/proc/none")
    )
    assert ran.lines == ["refused"]


def test_bind_of_a_folder_and_of_a_file(containers: Bench, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("content")
    mounts = (*MOUNTS, bind(tmp_path, "/data", "rbind"), bind(tmp_path / "f", "/etc/motd", "rbind"))
    ran = containers.run("sh", "-c", "cat /etc/motd /data/f; echo new > /data/g", mounts=mounts)
    assert ran.stdout == b"contentcontent"
    assert (tmp_path / "g").read_text() == "new\n"


def test_a_readonly_bind_is_readonly_all_the_way_down(containers: Bench, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    sc.mount("tmpfs", str(tmp_path / "below"), "tmpfs")
    try:
        mounts = (*MOUNTS, bind(tmp_path, "/data", "rbind", "ro"))
        script = "touch /data/x || echo top; touch /data/below/x || echo below"
        assert containers.run("sh", "-c", script, mounts=mounts).lines == ["top", "below"]
    finally:
        sc.umount2(str(tmp_path / "below"))


def test_a_bind_has_the_flags_it_was_given(containers: Bench, tmp_path: Path) -> None:
    mounts = (*MOUNTS, bind(tmp_path, "/data", "bind", "nosuid", "nodev", "noexec", "noatime"))
    options = options_of(containers.run("cat", "/proc/self/mountinfo", mounts=mounts).lines, "/data")
    assert {"rw", "nosuid", "nodev", "noexec", "noatime"} <= options


def test_a_tmpfs_has_its_options(containers: Bench) -> None:
    tmpfs = Mount(
        target="/scratch", fstype="tmpfs", source="tmpfs", options=("nosuid", "noexec", "size=64k", "mode=700")
    )
    ran = containers.run("sh", "-c", "stat -c %a /scratch; cat /proc/self/mountinfo", mounts=(*MOUNTS, tmpfs))
    assert ran.lines[0] == "700"
    assert {"nosuid", "noexec"} <= options_of(ran.lines[1:], "/scratch")
    assert any("size=64k" in line for line in ran.lines)


def test_a_bind_source_that_is_missing(containers: Bench) -> None:
    with pytest.raises(InvalidParameter, match="bind source path does not exist: /no/such/source"):
        containers.run("true", mounts=(*MOUNTS, bind("/no/such/source", "/data")))


def test_a_target_that_must_exist(containers: Bench, tmp_path: Path) -> None:
    spec = containers.spec("true", mounts=(*MOUNTS, bind(tmp_path, "/not/there", create="")))
    with pytest.raises(KernelError) as caught:
        containers.run_spec(spec)
    assert caught.value.stage == "mounts"
    assert "/not/there" in caught.value.message
    assert not containers.cgroup_exists(spec)


@pytest.mark.parametrize("link", ["/outside", "../../../../../../outside", "/proc/1/root/outside"])
def test_a_symlink_as_target_stays_inside(containers: Bench, tmp_path: Path, link: str) -> None:
    spec = containers.spec("cat", "/outside/f", mounts=(*MOUNTS, bind(tmp_path, "/data/deep")))
    (tmp_path / "f").write_text("inside")
    upper = upper_of(spec)
    (upper / "outside").mkdir()
    (upper / "data").mkdir()
    (upper / "data/deep").symlink_to(link)
    try:
        ran = containers.run_spec(spec)
    except KernelError:
        # A magic link of /proc on the way is refused.
        assert link.startswith("/proc")
        return
    assert ran.stdout == b"inside"
    assert not Path("/outside").exists()


def test_a_symlink_without_an_end_is_made_inside(containers: Bench, tmp_path: Path) -> None:
    spec = containers.spec("cat", "/run/app/f", mounts=(*MOUNTS, bind(tmp_path, "/var/run/app")))
    (tmp_path / "f").write_text("reached")
    (upper_of(spec) / "var").mkdir()
    (upper_of(spec) / "var/run").symlink_to("/run")
    assert containers.run_spec(spec).stdout == b"reached"


def test_a_loop_of_symlinks_is_an_error(containers: Bench, tmp_path: Path) -> None:
    spec = containers.spec("true", mounts=(*MOUNTS, bind(tmp_path, "/a/x")))
    (upper_of(spec) / "a").symlink_to("b")
    (upper_of(spec) / "b").symlink_to("a")
    with pytest.raises(KernelError) as caught:
        containers.run_spec(spec)
    assert caught.value.errno == 40


def test_a_bind_from_another_containers_mount(containers: Bench) -> None:
    first, _ = containers.start(containers.spec("sleep", "60"))
    containers.exec(first, "sh", "-c", "echo shared > /dev/shm/f")
    others = tuple(mount for mount in MOUNTS if mount.target != "/dev/shm")
    shared = bind(f"/proc/{first.pid}/root/dev/shm", "/dev/shm", "bind", "rprivate")
    assert containers.run("cat", "/dev/shm/f", mounts=(*others, shared)).stdout == b"shared\n"
    first.signal(9)


@pytest.mark.parametrize(("propagation", "seen"), [("rprivate", False), ("rslave", True)])
def test_propagation_into_a_container(containers: Bench, tmp_path: Path, propagation: str, seen: bool) -> None:
    base = tmp_path / "base"
    (base / "late").mkdir(parents=True)
    sc.mount(str(base), str(base), "", sc.MS_BIND)
    sc.mount("", str(base), "", sc.MS_SHARED)
    try:
        mounts = (*MOUNTS, bind(base, "/data", "rbind", propagation))
        root_propagation = "rslave" if seen else "rprivate"
        process, _ = containers.start(
            containers.spec("sleep", "60", mounts=mounts, rootfs_propagation=root_propagation)
        )
        sc.mount("tmpfs", str(base / "late"), "tmpfs")
        (base / "late/f").touch()
        assert (containers.exec(process, "ls", "/data/late").lines == ["f"]) is seen
        process.signal(9)
    finally:
        sc.umount2(str(base / "late"), sc.MNT_DETACH)
        sc.umount2(str(base), sc.MNT_DETACH)


def test_a_shared_bind_reaches_the_host(containers: Bench, tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "point").mkdir(parents=True)
    sc.mount(str(base), str(base), "", sc.MS_BIND)
    sc.mount("", str(base), "", sc.MS_SHARED)
    before = host_mounts()
    try:
        from pyker.libcontainer import capabilities
        from pyker.libcontainer.spec import Capabilities

        every = tuple(capabilities.bounding_set())
        caps = Capabilities(bounding=every, effective=every, permitted=every)
        mounts = (*MOUNTS, bind(base, "/data", "rbind", "rshared"))
        spec = containers.spec(
            "sh",
            "-c",
            "mount -t tmpfs tmpfs /data/point && echo fine; sleep 60",
            mounts=mounts,
            rootfs_propagation="rshared",
            process={"capabilities": caps},
        )
        import socket

        ours, theirs = socket.socketpair()
        with ours:
            process, watcher = containers.start(spec, theirs)
            ours.settimeout(10)
            assert ours.recv(100)[8:] == b"fine\n"
            assert host_mounts() - before == {str(base / "point")}
            process.signal(9)
            watcher.wait()
    finally:
        sc.umount2(str(base / "point"), sc.MNT_DETACH)
        sc.umount2(str(base), sc.MNT_DETACH)


def test_mounts_that_fail_undo_everything(containers: Bench) -> None:
    broken = Mount(target="/x", fstype="no-such-fs")
    spec = containers.spec("true", mounts=(*MOUNTS, broken))
    before = host_mounts()
    with pytest.raises(KernelError) as caught:
        containers.run_spec(spec)
    assert (caught.value.syscall, caught.value.stage, caught.value.errno) == ("mount", "mounts", 19)
    assert host_mounts() == before
    assert os.listdir(spec.state_dir) == []
    assert not containers.cgroup_exists(spec)


# A root that is a plain folder, with the machine's folders bound below it.
IN_A_CHROOT = """
set -e
mkdir "$1/root"
for folder in /*; do
    if [ -h "$folder" ]; then cp -P "$folder" "$1/root$folder"; continue; fi
    [ -d "$folder" ] || continue
    mkdir "$1/root$folder"
    mount --rbind "$folder" "$1/root$folder"
done
exec chroot "$1/root" "$2" -c "$3" "$1/$4"
"""
FROM_A_CHROOT = """
import contextlib, sys
from pathlib import Path
from tests.kernel.containerbench import Bench
folder = Path(sys.argv[1])
folder.mkdir()
with contextlib.closing(Bench(folder)) as own:
    for propagation in ("rprivate", "rslave", "rshared"):
        print(own.run("sh", "-c", "echo inside; ls -d /lower; ls /", rootfs_propagation=propagation).lines)
    process, _ = own.start(own.spec("sleep", "60"))
    print(own.exec(process, "echo", "exec").lines)
"""


def test_a_chroot_whose_root_is_no_mount_point(tmp_path: Path) -> None:
    command = ["unshare", "-m", "sh", "-c", IN_A_CHROOT, "sh", str(tmp_path), sys.executable, FROM_A_CHROOT, "bench"]
    before = host_mounts()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    inside = "['inside', 'bin', 'dev', 'etc', 'proc', 'root', 'sys', 'tmp']"
    assert done.stdout.splitlines() == [inside] * 3 + ["['exec']"], done.stderr
    assert host_mounts() == before
