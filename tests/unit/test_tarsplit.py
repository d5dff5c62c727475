"""Whatever tar goes in, the same bytes come out: the extracted folder and the tar-split data give it back."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyker.errors import Corrupt
from tests.support import layers

_NAME = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\"), min_size=1, max_size=30
).filter(lambda name: name.strip(". ") != "" and not name.startswith(".wh."))
_PATH = st.lists(_NAME, min_size=1, max_size=4).map("/".join)
_LONG = st.lists(st.text("abcXYZ019_-", min_size=20, max_size=90), min_size=2, max_size=4).map("/".join)


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    """Random members in a random format; names may come twice, folders may turn into files."""
    fmt = draw(st.sampled_from((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)))
    names = draw(st.lists(_PATH if fmt == tarfile.USTAR_FORMAT else st.one_of(_PATH, _LONG), max_size=12, unique=True))
    files: list[str] = []
    parts: set[str] = set()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=fmt, encoding="utf-8") as tar:
        for name in names:
            if any(name.startswith(known + "/") for known in files):
                continue
            info = tarfile.TarInfo(name)
            info.uid, info.gid = os.getuid(), os.getgid()
            info.mtime = draw(st.integers(0, 2**31))
            if fmt == tarfile.PAX_FORMAT and draw(st.booleans()):
                info.mtime = info.mtime + draw(st.integers(0, 999)) / 1000  # type: ignore[assignment]
            info.mode = draw(st.integers(0, 0o777)) | 0o400
            kind = draw(st.sampled_from(("file", "file", "folder", "symlink", "link", "again")))
            data = b""
            if kind == "folder" or name in parts:
                info.type, info.mode = tarfile.DIRTYPE, info.mode | 0o700
            elif kind == "symlink":
                info.type, info.linkname = tarfile.SYMTYPE, draw(_PATH)
                files.append(name)
            elif kind == "link" and files and (target := draw(st.sampled_from(files))) != name:
                info.type, info.linkname = tarfile.LNKTYPE, target
                files.append(name)
            else:
                data = draw(st.binary(max_size=2000))
                info.size = len(data)
                files.append(name)
            try:
                tar.addfile(info, io.BytesIO(data))
                if kind == "again" and info.isreg():
                    data = draw(st.binary(max_size=600))
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
            except ValueError:
                files = [known for known in files if known != name]
                continue
            pieces = name.split("/")
            parts.update("/".join(pieces[:n]) for n in range(1, len(pieces)))
    tail = draw(st.sampled_from((b"", b"\0" * 512, b"trailing bytes that no reader needs")))
    return buffer.getvalue() + tail


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tars())
def test_any_tar_comes_out_as_it_went_in(tar: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "layer"
        try:
            layers.apply_bytes(tar, folder)
        except Corrupt as error:
            # Names whose parent is a file by now, and links to what a later name took away: no reader can do these.
            assert "is not a folder" in error.message or "hard link" in error.message, error
            return
        assert layers.assemble(folder) == tar


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tars(), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
def test_damaged_tars_are_refused_or_come_out_as_they_went_in(
    tar: bytes, damage: list[tuple[int, int]], fix: bool
) -> None:
    """Never anything but an error of ours or of the kernel; ``fix`` makes the checksums right again."""
    raw = bytearray(tar)
    for position, value in damage:
        raw[position % len(raw)] = value
    if fix:
        for start in range(0, len(raw) - 511, 512):
            block = raw[start : start + 512]
            if block[257:262] == b"ustar":
                block[148:156] = b"        "
                raw[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "layer"
        try:
            layers.apply_bytes(bytes(raw), folder)
        except (Corrupt, OSError):
            return
        finally:
            for found in folder.rglob("*"):
                if not found.is_symlink():
                    found.chmod(0o700)
        assert layers.assemble(folder) == raw
        assert sorted(os.listdir(place)) == ["layer", "layer.split", "layer.tar"]


def test_the_lines_are_those_of_the_reference(tmp_path: Path) -> None:
    """Type 2 is bytes, type 1 a file with CRC-64/ISO, as a store of dockerd 20.10 has them."""
    tar = layers.members(layers.folder("d/"), layers.file("d/f", b"123456789"), fmt=tarfile.USTAR_FORMAT)
    lines = [json.loads(line) for line in gzip.decompress(layers.apply_bytes(tar, tmp_path / "l")).splitlines()]
    assert [(line["type"], line.get("name"), line.get("size"), line["position"]) for line in lines] == [
        (2, None, None, 0),
        (1, "d/", None, 1),
        (2, None, None, 2),
        (1, "d/f", 9, 3),
        (2, None, None, 4),
    ]
    # The check value of CRC-64/GO-ISO for "123456789" is b90956c775a41001.
    assert lines[3]["payload"] == "uQlWx3WkEAE="
    assert lines[1]["payload"] is None


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    info = layers.entry("x")
    info.name = b"caf\xe9".decode("utf-8", "surrogateescape")
    tar = layers.members((info, b"data"), fmt=tarfile.GNU_FORMAT)
    tar = tar.replace(b"caf\xc3\xa9", b"caf\xe9")
    split = gzip.decompress(layers.apply_bytes(tar, tmp_path / "l"))
    assert b'"name_raw":"Y2Fm6Q=="' in split
    assert os.listdir(os.fsencode(tmp_path / "l")) == [b"caf\xe9"]
    assert layers.assemble(tmp_path / "l") == tar


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    layers.apply_bytes(layers.members(layers.file("f", b"what was stored")), tmp_path / "l")
    (tmp_path / "l" / "f").write_bytes(b"what was chanGed")
    with pytest.raises(Corrupt, match="has changed"):
        layers.assemble(tmp_path / "l")


def test_a_file_that_the_same_tar_replaced(tmp_path: Path) -> None:
    tar = layers.members(
        layers.file("f", b"first"), layers.file("g", b"kept"), layers.file("f", b"second"), layers.folder("h"),
        layers.file("h/x", b"inside"), layers.symlink("h", "elsewhere"),
    )  # fmt: skip
    layers.apply_bytes(tar, tmp_path / "l")
    assert (tmp_path / "l" / "f").read_bytes() == b"second"
    assert os.readlink(tmp_path / "l" / "h") == "elsewhere"
    assert layers.assemble(tmp_path / "l") == tar


@pytest.mark.parametrize("form", ["gnu", "pax-0.0", "pax-0.1", "pax-1.0"])
def test_sparse_files(tmp_path: Path, form: str) -> None:
    source = tmp_path / "in"
    source.mkdir()
    with open(source / "sparse", "wb") as out:
        out.write(b"head")
        out.seek(5_000_000)
        out.write(b"middle" * 1000)
        out.truncate(9_000_000)
    os.setxattr(source / "sparse", "user.note", b"kept") if form != "gnu" else None
    flags = ["--format=gnu"] if form == "gnu" else ["--format=posix", f"--sparse-version={form[4:]}", "--xattrs"]
    done = subprocess.run(
        ["tar", "-C", str(source), "--sparse", *flags, "-cf", "-", "."], capture_output=True, check=True
    )
    layers.apply_bytes(done.stdout, tmp_path / "l")
    made = tmp_path / "l" / "sparse"
    assert made.read_bytes() == (source / "sparse").read_bytes()
    assert made.stat().st_blocks * 512 < 100_000
    assert layers.assemble(tmp_path / "l") == done.stdout
