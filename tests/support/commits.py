"""What ``commit`` makes of a container's changes, on any graphdriver."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import PurePosixPath

from tests.support.engines import Engine

_CHANGES = """
echo made > /made && chown 12:34 /made && chmod 4750 /made && ln /made /again && ln -s made /way
mkdir -p /deep/er && echo x > /deep/er/x && rm /etc/group && rm -r /root && echo y > /root
mknod /pipe p && touch -d "2001-02-03 04:05:06" /old
"""
_LOOK = """
cat /made /again /way /deep/er/x /root; stat -c "%a %u %g %h" /made; ls /etc/group; stat -c %F /pipe
stat -c %y /old | cut -d. -f1
"""


def check_commit(engine: Engine, image: str) -> None:
    """Commit a container that changed all sorts of files; see the layer itself, and a container of the image."""
    engine.docker("run", "--name", "committed", image, "sh", "-ec", _CHANGES, check=True)
    made = engine.docker("commit", "-m", "why", "-c", "ENV A=1", "committed", "made:1", check=True).out.strip()
    looked = engine.docker("run", "--rm", "made:1", "sh", "-c", f"echo $A; {_LOOK}")
    assert looked.out.splitlines() == [
        "1",
        *["made"] * 3,
        "x",
        "y",
        "4750 12 34 2",
        "fifo",
        "2001-02-03 04:05:06",
    ]
    assert "/etc/group: No such file" in looked.err
    names = layer_names(engine, made)
    assert names == {
        *("made", "again", "way", "deep/", "deep/er/", "deep/er/x", "root", "pipe", "old", "etc/", "etc/.wh.group")
    }
    engine.docker("rm", "committed", check=True)
    again = engine.docker("create", "--name", "committed", image, check=True).out.strip()
    nothing = engine.docker("commit", again, check=True).out.strip()
    assert layers(engine, nothing) == layers(engine, image)


def layers(engine: Engine, image: str) -> list[str]:
    """The diff-ids of an image, lowest first."""
    found: list[str] = json.loads(engine.request("GET", f"/images/{image}/json").body)["RootFS"]["Layers"]
    return found


def layer_names(engine: Engine, image: str) -> set[str]:
    """The entries of an image's topmost layer; folders end with a slash."""
    with tarfile.open(fileobj=io.BytesIO(engine.request("GET", f"/images/{image}/get").body)) as archive:
        file = archive.extractfile("manifest.json")
        assert file is not None
        last = archive.extractfile(json.load(file)[0]["Layers"][-1])
        assert last is not None
        with tarfile.open(fileobj=io.BytesIO(last.read())) as layer:
            return {f"{PurePosixPath(each.name)}/" if each.isdir() else each.name for each in layer}
