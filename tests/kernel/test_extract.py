"""Extraction as root: what a tar may do to a layer's folder, and that it can do nothing beyond it."""

from __future__ import annotations

import copy
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from pyker.errors import Corrupt
from pyker.libcontainer import syscalls
from tests.support import layers
from tests.support.layers import entry, file, folder, hardlink, members, symlink

pytestmark = pytest.mark.requires("root")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the layer's, with a file that nothing may touch."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret").write_bytes(b"untouched")
    return place


HOSTILE: dict[str, list[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]]] = {
    "dot-dot": [file("../outside/secret", b"gotcha")],
    "dot-dot-inside": [folder("a"), file("a/../../outside/secret", b"gotcha")],
    "absolute": [file("{outside}/secret", b"gotcha")],
    "absolute-dot-dot": [file("/../../../..{outside}/secret", b"gotcha")],
    "symlink-then-file": [symlink("link", "../outside"), file("link/secret", b"gotcha")],
    "absolute-symlink-then-file": [symlink("link", "{outside}"), file("link/secret", b"gotcha")],
    "symlink-chain": [
        symlink("a", "{outside}"), symlink("b", "a"), symlink("c", "./b"), file("c/secret", b"gotcha"),
    ],
    "symlink-as-the-file-itself": [symlink("secret", "../outside/secret"), file("secret", b"gotcha")],
    "symlink-loop": [symlink("a", "b"), symlink("b", "a"), file("a/x", b"gotcha")],
    "hardlink-outside": [hardlink("x", "../outside/secret"), file("x", b"gotcha")],
    "hardlink-absolute": [hardlink("x", "{outside}/secret"), file("x", b"gotcha")],
    "hardlink-through-symlink": [symlink("l", "../outside"), hardlink("x", "l/secret"), file("x", b"gotcha")],
    "hardlink-to-symlink": [symlink("l", "../outside/secret"), hardlink("x", "l"), file("x", b"gotcha")],
    "folder-over-symlink": [symlink("d", "../outside"), folder("d", 0o777), file("d/secret", b"gotcha")],
    "chmod-through-symlink": [symlink("d", "../outside"), folder("d/.", 0o777)],
    "whiteout-outside": [file("../outside/.wh.secret")],
    "whiteout-through-symlink": [symlink("l", "../outside"), file("l/.wh.secret")],
    "whiteout-of-dot": [file(".wh..")],
    "whiteout-of-dot-dot": [file(".wh...")],
    "opaque-through-symlink": [symlink("l", "../outside"), file("l/.wh..wh..opq")],
    "device-through-symlink": [symlink("l", "../outside"), entry("l/secret", tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "fifo-in-the-way": [entry("p", tarfile.FIFOTYPE), file("p/x", b"gotcha"), file("p", b"gotcha")],
    "file-as-folder": [file("f", b"x"), file("f/secret", b"gotcha")],
    "name-too-long": [file("n" * 300, b"gotcha")],
    "path-too-long": [file("d/" * 3000 + "x", b"gotcha")],
    "deep": [file("d/" * 2000 + "x", b"fine")],
    "overlay-xattrs": [folder("d", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/../outside"})],
    "link-to-itself": [hardlink("x", "x")],
}  # fmt: skip


@pytest.mark.claim("registry-unpack-confined")
@pytest.mark.parametrize("style", ["overlay", "none"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "deep" else []) for name in sorted(HOSTILE)]
)
def test_nothing_outside_is_touched(tmp_path: Path, outside: Path, name: str, style: str) -> None:
    infos: list[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]] = []
    for item in HOSTILE[name]:
        info = copy.copy(item[0] if isinstance(item, tuple) else item)
        info.name = info.name.replace("{outside}", str(outside))
        info.linkname = info.linkname.replace("{outside}", str(outside))
        infos.append((info, item[1]) if isinstance(item, tuple) else info)
    tar = members(*infos)
    before = layers.tree(outside), oct(outside.stat().st_mode), outside.stat().st_mtime_ns, sorted(os.listdir(tmp_path))
    try:
        try:
            layers.apply_bytes(tar, tmp_path / "layer", style)
        except (Corrupt, OSError):
            pass
        else:
            assert layers.assemble(tmp_path / "layer") == tar
        made = [entry for entry in os.listdir(tmp_path) if not entry.startswith("layer")]
        after = layers.tree(outside), oct(outside.stat().st_mode), outside.stat().st_mtime_ns, sorted(made)
        assert after == before
        assert os.listxattr(outside) == []
        for found in (tmp_path / "layer").iterdir():
            assert not [name for name in os.listxattr(found, follow_symlinks=False) if "redirect" in name]
    finally:
        # The deep one is too deep for what clears up after pytest.
        syscalls.remove_tree(str(tmp_path / "layer"))


@pytest.mark.parametrize("name", ["../x", "a/../../x", "..", "a/b/../../../x"])
def test_a_name_outside_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Corrupt, match="leads out of the root"):
        layers.apply_bytes(members(file("first", b""), file(name, b"x")), tmp_path / "layer")
    with pytest.raises(Corrupt, match="leads out of the root"):
        layers.apply_bytes(members(file("first", b""), hardlink("link", name)), tmp_path / "other")


def test_a_link_that_leads_out_stays_inside(tmp_path: Path, outside: Path) -> None:
    """A symlink counts from the layer's root, as in the container."""
    tar = members(folder("etc"), symlink("link", "/etc"), file("link/passwd", b"inside"))
    layers.apply_bytes(tar, tmp_path / "layer")
    assert (tmp_path / "layer" / "etc" / "passwd").read_bytes() == b"inside"


@pytest.mark.parametrize(
    "cut", [lambda t: t[:700], lambda t: t[:1800], lambda t: t[:512], lambda t: t[:300] + b"x" + t[301:]]
)
def test_a_damaged_tar_is_corrupt(tmp_path: Path, cut: object) -> None:
    assert callable(cut)
    tar = members(file("a", b"x" * 1000), file("b", b"y" * 1000), fmt=tarfile.USTAR_FORMAT)
    with pytest.raises(Corrupt):
        layers.apply_bytes(cut(tar), tmp_path / "layer")


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz", "zstd"])
def test_compressions(tmp_path: Path, compression: str) -> None:
    """Whole streams, several behind each other, and a cut one."""
    import bz2
    import gzip
    import lzma

    from backports import zstd

    pack = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd.compress}[compression]
    tar = members(file("a", os.urandom(3_000_000)), file("b", b"y" * 9_000_000))
    blob = tmp_path / "blob"
    blob.write_bytes(pack(tar[:1_000_000]) + pack(tar[1_000_000:]))
    layers.apply_file(blob, tmp_path / "layer")
    assert layers.assemble(tmp_path / "layer") == tar
    blob.write_bytes(pack(tar)[:-20])
    with pytest.raises(Corrupt):
        layers.apply_file(blob, tmp_path / "cut")


@pytest.mark.claim("registry-unpack")
def test_metadata_is_kept(tmp_path: Path) -> None:
    """Owners, setuid after chown, nanoseconds, capabilities, devices, links."""
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    times = {"pax_headers": {"mtime": "1600000000.123456789"}}
    tar = members(
        folder("d", 0o2750, uid=12, gid=34, **times),
        (entry("d/su", mode=0o4755, uid=1000, gid=1001, **times), b"program"),
        (entry("cap", mode=0o755, uid=7, pax_headers={
            "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
            "SCHILY.xattr.user.note": "kept", "mtime": "1600000000.5",
        }), b"program"),
        entry("null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3),
        entry("disk", tarfile.BLKTYPE, mode=0o660, gid=6, devmajor=8, devminor=1),
        entry("pipe", tarfile.FIFOTYPE, mode=0o600),
        entry("link", tarfile.SYMTYPE, link="nowhere", uid=5, gid=6),
        hardlink("d/again", "d/su", mode=0o4755, uid=1000, gid=1001, **times),
        (entry("big", uid=3_000_000_000, gid=4_000_000_000), b""),
    )  # fmt: skip
    layer = tmp_path / "layer"
    layers.apply_bytes(tar, layer)
    d, su = (layer / "d").stat(), (layer / "d" / "su").stat()
    assert (oct(d.st_mode), d.st_uid, d.st_gid, d.st_mtime_ns) == ("0o42750", 12, 34, 1_600_000_000_123_456_789)
    assert (oct(su.st_mode), su.st_uid, su.st_gid) == ("0o104755", 1000, 1001)
    assert su.st_mtime_ns == 1_600_000_000_123_456_789
    assert su.st_ino == (layer / "d" / "again").stat().st_ino
    assert os.getxattr(layer / "cap", "security.capability") == capability
    assert os.getxattr(layer / "cap", "user.note") == b"kept"
    null = (layer / "null").stat()
    assert stat.S_ISCHR(null.st_mode) and null.st_rdev == os.makedev(1, 3) and null.st_mode & 0o777 == 0o666
    assert (layer / "disk").stat().st_rdev == os.makedev(8, 1)
    assert stat.S_ISFIFO((layer / "pipe").stat().st_mode)
    link = (layer / "link").lstat()
    assert (link.st_uid, link.st_gid, link.st_mtime_ns) == (5, 6, 1_700_000_000_000_000_000)
    assert ((layer / "big").stat().st_uid, (layer / "big").stat().st_gid) == (3_000_000_000, 4_000_000_000)
    assert layers.assemble(layer) == tar


def test_a_setgid_folder_does_not_give_its_group_away(tmp_path: Path) -> None:
    tar = members(folder("d", 0o2775, uid=0, gid=50), (entry("d/f", uid=0, gid=0), b""), folder("d/e", uid=0, gid=0))
    layers.apply_bytes(tar, tmp_path / "layer")
    assert (tmp_path / "layer/d/f").stat().st_gid == 0
    assert (tmp_path / "layer/d/e").stat().st_gid == 0
    assert not (tmp_path / "layer/d/e").stat().st_mode & stat.S_ISGID


def test_later_entries_replace_earlier_ones(tmp_path: Path) -> None:
    tar = members(
        file("a", b"file"), folder("a"), file("a/in", b"1"),
        folder("b"), file("b/in", b"2"), file("b", b"now a file"),
        folder("c", 0o700), file("c/kept", b"3"), folder("c", 0o711),
        file("e", b"old"), hardlink("f", "e"), file("e", b"new"),
    )  # fmt: skip
    layer = tmp_path / "layer"
    layers.apply_bytes(tar, layer)
    assert (layer / "a" / "in").read_bytes() == b"1"
    assert (layer / "b").read_bytes() == b"now a file"
    assert (layer / "c" / "kept").read_bytes() == b"3"
    assert oct((layer / "c").stat().st_mode) == "0o40711"
    assert ((layer / "e").read_bytes(), (layer / "f").read_bytes()) == (b"new", b"old")
    assert layers.assemble(layer) == tar


def test_whiteouts_for_overlayfs(tmp_path: Path) -> None:
    tar = members(
        file(".wh.gone"), folder("d"), file("d/.wh..wh..opq"), file("d/new", b"new"),
        file(".wh.back"), folder("back"), file("back/x", b""), folder("was"), file(".wh.was"),
        file("stays", b"of this layer"), file(".wh.stays"), folder(".wh..wh.plnk"),
    )  # fmt: skip
    layer = tmp_path / "layer"
    layers.apply_bytes(tar, layer)
    assert sorted(os.listdir(layer)) == ["back", "d", "gone", "stays", "was"]
    gone = (layer / "gone").lstat()
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0 and gone.st_mode & 0o777 == 0
    for opaque in ("d", "back", "was"):
        assert os.getxattr(layer / opaque, "trusted.overlay.opaque") == b"y"
    assert (layer / "stays").read_bytes() == b"of this layer"
    assert layers.assemble(layer) == tar


def test_whiteouts_carried_out(tmp_path: Path) -> None:
    """For vfs the folder has what lower layers left; only that goes, whatever the order."""
    layer = tmp_path / "layer"
    for name in ("gone/deep", "d/old", "d/sub/old", "was/old", "stays", "other"):
        path = layer / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"lower")
    tar = members(
        file(".wh.gone"), file("d/new", b"new"), file("d/sub/new", b""), file("d/.wh..wh..opq"),
        folder("was"), file("was/new", b""), file(".wh.was"), file("stays", b"upper"), file(".wh.stays"),
        file(".wh.never-there"),
    )  # fmt: skip
    layers.apply_bytes(tar, layer, "none")
    found = {str(path.relative_to(layer)) for path in layer.rglob("*") if path.is_file()}
    assert found == {"d/new", "d/sub/new", "was/new", "stays", "other"}
    assert (layer / "stays").read_bytes() == b"upper"
    assert layers.assemble(layer) == tar


@pytest.mark.parametrize("fmt", ["gnu", "posix", "ustar", "v7", "oldgnu"])
def test_the_same_as_gnu_tar(tmp_path: Path, fmt: str) -> None:
    """The system's tar as oracle: modes, owners, times, attributes, links, devices, sparse files."""
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / ("long" * 20)).write_bytes(os.urandom(100_000))
    (source / "hard").write_bytes(b"linked")
    os.link(source / "hard", source / "deep" / "hard2")
    os.symlink("../hard", source / "deep" / "soft")
    if fmt != "v7":
        os.mkfifo(source / "pipe")
        os.mknod(source / "zero", stat.S_IFCHR | 0o622, os.makedev(1, 5))
    (source / "suid").write_bytes(b"#!")
    os.chown(source / "suid", 123, 45)
    os.chmod(source / "suid", 0o6755)
    os.chmod(source / "deep", 0o1777)
    with open(source / "holes", "wb") as out:
        out.seek(3_000_000)
        out.write(b"end")
    flags = [f"--format={fmt}"]
    if fmt in ("gnu", "posix", "oldgnu"):
        flags.append("--sparse")
    if fmt == "posix":
        os.setxattr(source / "suid", "user.note", b"kept")
        os.setxattr(source / "deep", "user.folder", b"kept too")
        flags += ["--xattrs", "--xattrs-include=*"]
    blob = tmp_path / "blob"
    subprocess.run(["tar", "-C", str(source), *flags, "-cf", str(blob), "."], check=True)
    oracle = tmp_path / "oracle"
    oracle.mkdir()
    subprocess.run(["tar", "-C", str(oracle), "--xattrs", "--xattrs-include=*", "-xpf", str(blob)], check=True)
    layers.apply_file(blob, tmp_path / "layer")
    assert layers.tree(tmp_path / "layer") == layers.tree(oracle)
    assert layers.assemble(tmp_path / "layer") == blob.read_bytes()
