"""Guests' kernels: an uncompressed vmlinux, an initrd with the modules that find the root, all modules squashed."""

from __future__ import annotations

import lzma
import os
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from backports import zstd

from lab import cpio, debian
from lab.commands import Tools
from lab.table import Kernel, LabError
from pyker.libcontainer.syscalls import remove_tree

VMLINUX, INITRD, MODULES, VERSION = "vmlinux", "initrd", "modules.squashfs", "version"

# crc32c_generic: ext4, btrfs and xfs ask for the algorithm by name, and no dependency says so.
EARLY = (
    "virtio_pci", "virtio_blk", "virtio_console", "squashfs", "overlay", "crc32c_generic", "crc32c", "libcrc32c",
    "ext4", "9p", "9pnet_virtio", "virtio_net", "virtio_rng", "loop",
)  # fmt: skip
# Drivers of hardware that no guest has: two thirds of all modules.
_LEFT_OUT = (
    "kernel/drivers/gpu", "kernel/drivers/media", "kernel/drivers/infiniband", "kernel/drivers/iio",
    "kernel/drivers/hid", "kernel/drivers/scsi", "kernel/drivers/usb", "kernel/drivers/staging",
    "kernel/drivers/hwmon", "kernel/drivers/mfd", "kernel/drivers/net/ethernet", "kernel/drivers/net/wireless",
    "kernel/drivers/net/usb", "kernel/drivers/net/can", "kernel/drivers/input", "kernel/drivers/platform",
    "kernel/drivers/i2c", "kernel/drivers/crypto", "kernel/drivers/ata", "kernel/drivers/isdn",
    "kernel/drivers/bluetooth", "kernel/drivers/accel", "kernel/sound",
)  # fmt: skip
_MODULE = re.compile(r"\.ko(\.xz|\.zst|\.gz)?$")
_APPLETS = ("sh", "mount", "umount", "insmod", "switch_root", "mkdir", "cat", "cut", "cp", "echo", "sleep")


def build(tools: Tools, kernel: Kernel, folder: Path) -> Mapping[str, object]:
    """Fill ``folder`` from Debian's packages; what went in."""
    suite = debian.Suite(tools, folder / "apt", kernel.suite)
    packages = debian.kernel_packages(suite, kernel.package)
    unpacked = folder / "unpacked"
    for deb in suite.download(packages, folder / "debs"):
        tools.run(["dpkg-deb", "-x", str(deb), str(unpacked)])
    made = assemble(tools, unpacked, folder)
    for scratch in ("apt", "debs", "unpacked"):
        remove_tree(os.fspath(folder / scratch))
    return {"packages": {p.name: p.version for p in packages}, **made}


def build_from_folder(tools: Tools, source: Path, folder: Path) -> Mapping[str, object]:
    """Fill ``folder`` from a kernel that the user brings: ``source`` has vmlinuz-VERSION and lib/modules/VERSION.

    Raises LabError that says what is missing.
    """
    if not (source / "lib/modules").is_dir():
        raise LabError(f'{source}/lib/modules is missing; see docs/lab.md, "A kernel of your own"')
    unpacked = folder / "unpacked"
    tools.run(["cp", "-a", str(source), str(unpacked)])
    made = assemble(tools, unpacked, folder)
    remove_tree(os.fspath(unpacked))
    return made


def assemble(tools: Tools, unpacked: Path, folder: Path) -> Mapping[str, object]:
    """Make vmlinux, initrd and the modules' squashfs from an unpacked kernel."""
    base = next((p for p in (unpacked, unpacked / "usr") if (p / "lib/modules").is_dir()), None)
    versions = sorted(p.name for p in (base / "lib/modules").iterdir() if (p / "kernel").is_dir()) if base else []
    if base is None or len(versions) != 1:
        raise LabError(f"{unpacked} has modules of {versions or 'no kernel'}; one kernel is wanted")
    version = versions[0]
    modules = base / "lib/modules" / version
    places = (modules / "vmlinuz", unpacked / f"boot/vmlinuz-{version}", unpacked / f"vmlinuz-{version}")
    image = next((p for p in places if p.exists()), None)
    if image is None:
        raise LabError(f"there is no vmlinuz-{version} in {unpacked}")
    (folder / VMLINUX).write_bytes(vmlinux(image.read_bytes()))
    for left_out in _LEFT_OUT:
        if (modules / left_out).is_dir():
            remove_tree(os.fspath(modules / left_out))
    tools.run(["depmod", "-b", str(base), version])
    (folder / INITRD).write_bytes(initrd(modules))
    argv = ["mksquashfs", str(modules), str(folder / MODULES), "-quiet", "-no-progress", "-noappend", "-no-xattrs"]
    tools.run([*argv, "-comp", "lz4", "-e", "vmlinuz", "build", "source"])
    (folder / VERSION).write_text(version)
    return {"version": version}


def vmlinux(image: bytes) -> bytes:
    """The ELF file inside a bzImage: a guest that starts from it by PVH has nothing to decompress.

    Source: kernel x86/boot.rst, payload_offset and payload_length.
    """
    if image[:4] == b"\x7fELF":
        return image
    if image[0x202:0x206] != b"HdrS":
        raise LabError("the kernel is neither an ELF file nor a bzImage")
    start = ((image[0x1F1] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[start + offset : start + offset + length]
    found = _decompressed(payload)
    if found[:4] != b"\x7fELF":
        raise LabError("the kernel image holds no ELF file")
    return found


def _decompressed(payload: bytes) -> bytes:
    if payload[:6] == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor().decompress(payload)
    if payload[:4] == b"\x28\xb5\x2f\xfd":
        return zstd.ZstdDecompressor().decompress(payload)
    if payload[:2] == b"\x1f\x8b":
        return zlib.decompressobj(31).decompress(payload)
    raise LabError(f"the kernel is compressed by something that is not xz, zstd or gzip: {payload[:6].hex()}")


def load_order(modules: Path, wanted: Sequence[str]) -> list[str]:
    """Paths of ``wanted`` modules and all that they need, each after what it needs; what is built in is left out."""
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {_MODULE.sub("", Path(path).name).replace("-", "_"): path for path in needs}
    order: list[str] = []

    def add(path: str) -> None:
        for needed in needs[path]:
            if needed not in order:
                add(needed)
        if path not in order:
            order.append(path)

    for name in wanted:
        if name in by_name:
            add(by_name[name])
    return order


def initrd(modules: Path, busybox: Path = Path("/bin/busybox")) -> bytes:
    """busybox and the early modules, uncompressed; ``guest.overlay`` adds what runs in it."""
    archive = cpio.Archive()
    for name in ("bin", "dev", "proc", "sys", "modules", "ro", "rw", "new", "lab"):
        archive.folder(name)
    if not busybox.exists():
        raise LabError("/bin/busybox is missing; run tools/bootstrap --lab")
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    for applet in _APPLETS:
        archive.symlink(f"bin/{applet}", "busybox")
    for number, path in enumerate(load_order(modules, EARLY)):
        data = (modules / path).read_bytes()
        match Path(path).suffix:
            case ".xz":
                data = lzma.decompress(data)
            case ".zst":
                data = zstd.decompress(data)
            case ".gz":
                data = zlib.decompress(data, 31)
        # The shell loads them in the order of their names.
        archive.file(f"modules/{number:02}-{_MODULE.sub('', Path(path).name)}.ko", data)
    return archive.finish()
