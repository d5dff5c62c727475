"""What guests are built from: archives, kernels, package lists, requirement locks."""

from __future__ import annotations

import gzip
import lzma
import os
import struct
import subprocess
from pathlib import Path

import pytest
from backports import zstd

from lab import cpio, debian, kernels, roots
from lab.table import LabError

ELF = b"\x7fELF" + bytes(range(256)) * 40


def bzimage(payload: bytes) -> bytes:
    """As the kernel's build lays it out, with two sectors of set-up. Source: kernel x86/boot.rst."""
    head = bytearray(3 * 512)
    head[0x1F1] = 2
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", head, 0x248, 64, len(payload))
    return bytes(head) + bytes(64) + payload + b"what follows"


@pytest.mark.requires("busybox")
def test_an_archive_as_busybox_unpacks_it(tmp_path: Path) -> None:
    archive = cpio.Archive()
    archive.folder("bin")
    archive.file("bin/run", b"#!/bin/sh\n", 0o755)
    archive.file("empty", b"")
    archive.symlink("bin/other", "run")
    subprocess.run(["busybox", "cpio", "-idm"], input=archive.finish(), cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "bin/run").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "bin/run").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "empty").read_bytes() == b""
    assert os.readlink(tmp_path / "bin/other") == "run"


def test_archives_may_be_joined() -> None:
    archive = cpio.Archive()
    archive.file("a", b"1")
    assert len(archive.finish()) % 512 == 0


@pytest.mark.parametrize("compress", [lzma.compress, zstd.compress, gzip.compress])
def test_the_elf_file_inside_a_kernel_image(compress: object) -> None:
    assert callable(compress)
    assert kernels.vmlinux(bzimage(compress(ELF))) == ELF


def test_an_elf_kernel_is_taken_as_it_is() -> None:
    assert kernels.vmlinux(ELF) == ELF


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (b"not a kernel" * 100, "neither an ELF file nor a bzImage"),
        (bzimage(b"BZh9" + bytes(50)), "something that is not xz, zstd or gzip: 425a6839"),
        (bzimage(gzip.compress(b"text")), "holds no ELF file"),
    ],
)
def test_what_is_no_kernel_is_refused(image: bytes, complaint: str) -> None:
    with pytest.raises(LabError, match=complaint):
        kernels.vmlinux(image)


def test_modules_are_loaded_after_what_they_need(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text(
        "kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz\n"
        "kernel/fs/jbd2/jbd2.ko.xz: kernel/lib/crc16.ko.xz\n"
        "kernel/lib/crc16.ko.xz:\nkernel/fs/mbcache.ko.xz:\nkernel/net/9p/9pnet-virtio.ko:\n"
    )
    order = [Path(path).name for path in kernels.load_order(tmp_path, ["ext4", "built_in", "9pnet_virtio"])]
    assert set(order) == {"ext4.ko.xz", "crc16.ko.xz", "mbcache.ko.xz", "jbd2.ko.xz", "9pnet-virtio.ko"}
    assert order.index("crc16.ko.xz") < order.index("jbd2.ko.xz") < order.index("ext4.ko.xz")
    assert order.index("mbcache.ko.xz") < order.index("ext4.ko.xz")


def test_dependencies_without_versions_and_second_choices() -> None:
    field = "dracut | initramfs-tools (>= 0.120), linux-binary-7.2-amd64 (= 7.2.1-1), kmod:any, libc6 (>= 2.38)"
    assert list(debian.depends(field)) == ["dracut", "linux-binary-7.2-amd64", "kmod", "libc6"]
    assert list(debian.depends("")) == []


def test_a_split_kernel_is_gathered() -> None:
    class Suite(debian.Suite):
        def __init__(self) -> None:
            self.name = "made-up"

        def package(self, name: str) -> debian.Package:
            needs = {
                "linux-image-amd64": ("linux-base-amd64", "linux-image-7.2"),
                "linux-image-7.2": ("dracut", "linux-binary-7.2", "linux-modules-7.2"),
                "linux-modules-7.2": ("kmod",),
            }
            return debian.Package(name, "7.2-1", needs.get(name, ()))

    found = debian.kernel_packages(Suite(), "linux-image-amd64")
    assert [package.name for package in found] == ["linux-binary-7.2", "linux-image-7.2", "linux-modules-7.2"]
    with pytest.raises(LabError, match="leads to no kernel"):
        debian.kernel_packages(Suite(), "linux-binary-7.2")


def test_settings_that_lead_to_the_mirror_are_carried_over() -> None:
    dump = (
        'Acquire "";\nAcquire::http::Proxy "http://proxy:3142";\nAcquire::Languages "de";\n'
        'Acquire::IndexTargets::deb::Packages "x";\nAcquire::Check-Date "false";\nAcquire::https "";\n'
    )
    assert debian.carried(dump) == ['Acquire::http::Proxy "http://proxy:3142";', 'Acquire::Check-Date "false";']


def test_the_codename_of_a_release(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text('NAME="Debian"\nVERSION_CODENAME=bookworm\n')
    assert debian.release(tmp_path / "os-release") == "bookworm"


def test_guests_get_the_lock_without_what_only_checks_the_tree() -> None:
    lock = (
        '# made by pip\nmsgspec==0.22 ; python_version < "3.14" \\\n    --hash=sha256:1 \\\n    --hash=sha256:2\n'
        "ruff==1 \\\n    --hash=sha256:3\n"
    )
    assert list(roots.requirements(lock)) == ['msgspec==0.22 ; python_version < "3.14" --hash=sha256:1 --hash=sha256:2']
    names = {entry.partition("==")[0] for entry in roots.requirements(roots.LOCK.read_text())}
    assert {"pytest", "msgspec", "pyroute2", "pytest-timeout"} <= names
    assert not names & roots.NOT_IN_GUESTS
