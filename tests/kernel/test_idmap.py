"""Containers in user namespaces whose layers and volumes are mapped: 0 inside, 0 on disk, somebody else in between."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pyker.errors import KernelError, NotSupported
from pyker.libcontainer import capabilities, idmap
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.spec import Capabilities, ContainerSpec, IdMapping
from pyker.types.mount import Mount
from tests.kernel.containerbench import MOUNTS, NAMESPACES, Bench, bench, host_mounts
from tests.support.namespaces import ForkingNamespaceMaker

pytestmark = pytest.mark.requires("root", "overlay", "busybox")

OUTSIDE = 100_000
MAPPING = (IdMapping(0, OUTSIDE, 65_536),)
mapped_kernel = pytest.mark.requires("idmapped-mounts")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("warm")
    with bench(folder) as made:
        for above in (folder, *folder.parents):
            if str(above) != "/":
                above.chmod(above.stat().st_mode | 0o1)
        made.folder.chmod(0o711)
        yield made


@pytest.fixture
def containers(warm: Bench) -> Iterator[Bench]:
    yield warm
    warm.renew()


def mapped(containers: Bench, *args: str, binds: tuple[Mount, ...] = (), **changes: object) -> ContainerSpec:
    """A container in a user namespace of its own, its layers mapped."""
    spec = containers.spec(
        *args,
        namespaces={**dict.fromkeys(NAMESPACES, ""), "user": ""},
        uid_mappings=MAPPING,
        gid_mappings=MAPPING,
        mounts=(*MOUNTS, *binds),
        **changes,
    )
    return msgspec.structs.replace(spec, rootfs=mapped_root(spec.rootfs))


def mapped_root(mount: Mount) -> Mount:
    return Mount(
        target="/", fstype=mount.fstype, source=mount.source, options=mount.options, workdir=mount.workdir, idmap=True
    )


def upper(spec: ContainerSpec) -> Path:
    return Path(spec.state_dir).parent / "upper"


def owner(path: Path) -> tuple[int, int]:
    seen = path.lstat()
    return seen.st_uid, seen.st_gid


@mapped_kernel
def test_what_is_roots_on_disk_is_roots_inside_and_stays_so(containers: Bench) -> None:
    """Lower layer, copied-up file, new file, new owner, folder: all as an unmapped container would have left them."""
    lower = containers.lower
    (lower / "etc/rights").write_text("x")
    (lower / "etc/more").write_text("x")
    os.chown(lower / "etc/rights", 5, 7)
    spec = mapped(
        containers,
        "sh",
        "-c",
        "id -u; stat -c %u:%g /bin/busybox /etc/passwd /etc/rights; cat /proc/self/uid_map;"
        "echo more >> /etc/more && touch /made /theirs && mkdir /folder && chown 9:11 /theirs /etc/rights; echo done",
    )
    ran = containers.run_spec(spec)
    assert ran.stderr == b""
    assert [line.split() for line in ran.lines] == [
        ["0"],
        ["0:0"],
        ["0:0"],
        ["5:7"],
        ["0", str(OUTSIDE), "65536"],
        ["done"],
    ]
    assert owner(upper(spec) / "made") == owner(upper(spec) / "folder") == owner(upper(spec) / "etc/more") == (0, 0)
    assert owner(upper(spec) / "theirs") == owner(upper(spec) / "etc/rights") == (9, 11)
    assert owner(upper(spec)) == (0, 0)
    assert owner(lower / "etc/rights") == (5, 7)
    assert (lower / "etc/more").read_text() == "x"
    assert {owner(path) for path in (Path(spec.state_dir).parent / "work").rglob("*")} <= {(0, 0)}


@mapped_kernel
def test_deletions_are_kept_as_every_container_keeps_them(containers: Bench) -> None:
    """A whiteout, and an opaque folder marked in the trusted namespace: a layer like any other."""
    (containers.lower / "etc/old").mkdir()
    (containers.lower / "etc/old/file").write_text("x")
    script = "rm /etc/group; rm -r /etc/old; mkdir /etc/old; ls /etc/old | wc -l"
    spec = mapped(containers, "sh", "-c", script)
    ran = containers.run_spec(spec)
    assert (ran.stderr, ran.lines) == (b"", ["0"])
    whiteout = (upper(spec) / "etc/group").lstat()
    assert (stat.S_ISCHR(whiteout.st_mode), whiteout.st_rdev) == (True, 0)
    assert os.getxattr(upper(spec) / "etc/old", "trusted.overlay.opaque") == b"y"


@mapped_kernel
def test_from_outside_the_process_is_somebody_else(containers: Bench) -> None:
    process, _ = containers.start(mapped(containers, "sleep", "60"))
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    assert next(line.split()[1:] for line in status if line.startswith("Uid:")) == [str(OUTSIDE)] * 4
    assert os.stat(f"/proc/{process.pid}/root/bin/busybox").st_uid == OUTSIDE
    again = containers.exec(process, "stat", "-c", "%u", "/bin/busybox")
    assert again.lines == ["0"]
    process.signal(9)


@mapped_kernel
@pytest.mark.parametrize("idmapped", [True, False])
def test_a_volume(containers: Bench, tmp_path: Path, idmapped: bool) -> None:
    """Not mapped, what is the host's root's belongs to nobody inside, and cannot be written to."""
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o755)
    (volume / "there").write_text("x")
    bind = Mount(target="/v", fstype="bind", source=str(volume), options=("rbind", "rprivate"), idmap=idmapped)
    script = "stat -c %u /v/there; echo new > /v/made 2>/dev/null && echo written || echo refused"
    spec = mapped(containers, "sh", "-c", script, binds=(bind,))
    ran = containers.run_spec(spec)
    assert ran.lines == (["0", "written"] if idmapped else ["65534", "refused"])
    if idmapped:
        assert owner(volume / "made") == (0, 0)
    assert owner(volume / "there") == (0, 0)


@mapped_kernel
def test_a_volume_that_only_root_of_the_host_may_reach(containers: Bench, tmp_path: Path) -> None:
    """Its source is opened by somebody with the host's rights; and read-only stays read-only."""
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "volume").mkdir(mode=0o755)
    bind = Mount(
        target="/v", fstype="bind", source=str(hidden / "volume"), options=("rbind", "rro", "rprivate"), idmap=True
    )
    ran = containers.run_spec(mapped(containers, "touch", "/v/made", binds=(bind,)))
    assert ran.record.exit_code == 1
    assert b"Read-only file system" in ran.stderr


@mapped_kernel
def test_a_root_that_is_no_overlay(containers: Bench) -> None:
    """What the graphdrivers vfs and btrfs describe."""
    spec = mapped(containers, "sh", "-c", "stat -c %u /bin/busybox; touch /made")
    root = Mount(target="/", fstype="bind", source=str(containers.lower), options=("rbind",), idmap=True)
    ran = containers.run_spec(msgspec.structs.replace(spec, rootfs=root))
    assert (ran.stderr, ran.lines) == (b"", ["0"])
    assert owner(containers.lower / "made") == (0, 0)


@mapped_kernel
@pytest.mark.requires("cgroup-v2")
def test_its_cgroup_is_the_top_that_it_sees(containers: Bench) -> None:
    """Over the host's cgroups, which come with the host's /sys: a user namespace may have no sysfs of its own here."""
    script = "cat /proc/self/cgroup; head -1 /sys/fs/cgroup/cgroup.procs; : > /sys/fs/cgroup/cgroup.procs"
    spec = mapped(containers, "sh", "-c", script)
    ran = containers.run_spec(msgspec.structs.replace(spec, namespaces={**spec.namespaces, "cgroup": ""}))
    assert ran.lines == ["0::/", "1"]
    assert b"Read-only file system" in ran.stderr


@mapped_kernel
def test_a_network_that_was_made_before_can_be_joined(containers: Bench, tmp_path: Path) -> None:
    """It is the host's, not the container's: joined, and its parameters set, from outside."""
    maker = ForkingNamespaceMaker()
    path = str(tmp_path / "netns")
    os.close(maker.new_netns(path))
    try:
        spec = mapped(
            containers,
            "sh",
            "-c",
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni",
            sysctls={"net.ipv4.ip_unprivileged_port_start": "77", "kernel.shmmni": "99"},
        )
        spec = msgspec.structs.replace(spec, namespaces={**spec.namespaces, "net": path})
        process, _ = containers.start(msgspec.structs.replace(spec, process=containers.spec("sleep", "60").process))
        assert os.stat(f"/proc/{process.pid}/ns/net").st_ino == os.stat(path).st_ino
        said = containers.exec(process, *spec.process.args)
        assert (said.stderr, said.lines) == (b"", ["77", "99"])
        process.signal(9)
    finally:
        maker.remove_netns(path)


@mapped_kernel
def test_standard_streams_belong_to_whoever_the_process_is(containers: Bench) -> None:
    script = "id -u; echo again > /dev/stderr; stat -L -c %u /dev/stdout"
    spec = mapped(containers, "sh", "-c", script, process={"user": "bob"})
    ran = containers.run_spec(spec)
    assert (ran.lines, ran.stderr) == (["1000", "1000"], b"again\n")
    root = containers.run_spec(mapped(containers, "sh", "-c", "echo again > /dev/stderr"))
    assert root.stderr == b"again\n"


@mapped_kernel
@pytest.mark.requires("overlay-in-user-namespace")
def test_root_inside_can_mount_an_overlay_of_its_own(containers: Bench) -> None:
    """With the right to mount, and of its own namespace only: what an engine inside needs. Linux 5.11."""
    script = (
        "mkdir /tmp/l /tmp/u /tmp/w /tmp/m && echo low > /tmp/l/f &&"
        "mount -t overlay none -o lowerdir=/tmp/l,upperdir=/tmp/u,workdir=/tmp/w /tmp/m &&"
        "cat /tmp/m/f && echo up > /tmp/m/f && cat /tmp/l/f /tmp/u/f"
    )
    rights = Capabilities(
        **dict.fromkeys(("bounding", "effective", "permitted"), (*capabilities.DEFAULT, "CAP_SYS_ADMIN"))
    )
    bind = Mount(target="/tmp", fstype="tmpfs", source="tmpfs", options=("mode=1777",))
    ran = containers.run_spec(mapped(containers, "sh", "-c", script, binds=(bind,), process={"capabilities": rights}))
    assert (ran.stderr, ran.lines) == (b"", ["low", "low", "up"])


@mapped_kernel
def test_more_volumes_than_descriptors_fit_in_a_message(containers: Bench, tmp_path: Path) -> None:
    binds = []
    for number in range(150):
        (tmp_path / f"v{number}").mkdir()
        source = str(tmp_path / f"v{number}")
        binds.append(Mount(target=f"/v/{number}", fstype="bind", source=source, options=("bind",), idmap=True))
    ran = containers.run_spec(
        mapped(containers, "sh", "-c", "for each in /v/*; do touch $each/made; done", binds=tuple(binds))
    )
    assert ran.stderr == b""
    assert all((tmp_path / f"v{number}/made").exists() for number in range(150))


@mapped_kernel
def test_more_layers_than_a_page_of_absolute_paths_holds(containers: Bench) -> None:
    layers = []
    for number in range(60):
        layer = containers.folder / f"layer-{number:0>40}"
        layer.mkdir()
        (layer / f"from-{number}").write_text("")
        layers.append(str(layer))
    spec = mapped(containers, "sh", "-c", "ls / | grep -c from-; stat -c %u /from-59")
    options = (f"lowerdir={':'.join([*layers, str(containers.lower)])}", *spec.rootfs.options[1:])
    assert sum(map(len, options)) > 4096
    rootfs = Mount(target="/", fstype="overlay", source="overlay", options=options, idmap=True)
    ran = containers.run_spec(msgspec.structs.replace(spec, rootfs=rootfs))
    assert (ran.stderr, ran.lines) == (b"", ["60", "0"])


@mapped_kernel
def test_a_file_system_that_cannot_be_mapped_is_named_and_nothing_is_left(containers: Bench) -> None:
    before = host_mounts()
    bind = Mount(target="/v", fstype="bind", source="/proc/sys", options=("bind",), idmap=True)
    spec = mapped(containers, "true", binds=(bind,))
    with pytest.raises(NotSupported, match="the file system of '/proc/sys' does not support idmapped mounts"):
        containers.run_spec(spec)
    assert not containers.cgroup_exists(spec)
    assert host_mounts() == before


def test_a_view_of_the_machines_root_is_refused() -> None:
    mount = Mount(
        target="/", fstype="overlay", options=("lowerdir=/", "upperdir=c/diff", "workdir=c/work"), workdir="/v"
    )
    with pytest.raises(NotSupported, match="machine's own root cannot be shown in a user namespace"):
        idmap._relative(mount)


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSYS, "came with Linux 5.12"), (errno.EINVAL, "does not support idmapped mounts on this kernel")],
)
def test_a_kernel_that_cannot_is_told_by_its_own_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "mount_setattr")

    monkeypatch.setattr(sc, "mount_setattr", refuse)
    with pytest.raises(NotSupported, match=says):
        idmap._map(0, 0, str(tmp_path))
    monkeypatch.setattr(sc, "mount_setattr", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EPERM, "no")))
    with pytest.raises(KernelError, match="mount_setattr"):
        idmap._map(0, 0, str(tmp_path))


def test_on_kernels_without_them_a_start_says_so(containers: Bench) -> None:
    """The probe and a start must agree, whatever this kernel is."""
    answer = idmap.probe(str(containers.folder), OUTSIDE, OUTSIDE, overlay=True)
    assert [path.name for path in containers.folder.glob(".idmap*")] == []
    spec = mapped(containers, "true")
    if answer.usable:
        assert containers.run_spec(spec).record.exit_code == 0
        return
    with pytest.raises(NotSupported, match=r"came with Linux 5\.1[29]"):
        containers.run_spec(spec)
    assert "came with Linux 5.1" in answer.reason
