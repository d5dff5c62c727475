"""A daemon with ``--userns-remap``: containers whose root is nobody outside, on images and volumes like any other's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import Pyker

pytestmark = pytest.mark.requires("root", "overlay", "nftables", "busybox", "docker-cli")

BUSYBOX = "pyker.local/busybox"
FIRST = 231_072
SCRIPT = """
for file in subuid subgid; do
  echo nobody:{first}:65536 > $1/$file
  test -e /etc/$file || touch /etc/$file
  mount --bind $1/$file /etc/$file
done
"""


@pytest.fixture
def remapped(tmp_path: Path) -> Iterator[Pyker]:
    """An engine, not started, that is to give containers the IDs of the user nobody."""
    for above in (tmp_path, *tmp_path.parents):
        if str(above) != "/":
            above.chmod(above.stat().st_mode | 0o1)
    engine = Pyker(tmp_path / "engine", flags=["--userns-remap=nobody"])
    engine.data_root.mkdir(parents=True)
    script = SCRIPT.format(first=FIRST)
    assert engine.sandbox.run(["sh", "-ec", script, "sh", str(tmp_path)]).returncode == 0
    yield engine
    engine.stop()


@pytest.mark.requires("idmapped-mounts")
def test_root_inside_is_somebody_else_outside(remapped: Pyker) -> None:
    remapped.start()
    remapped.docker("pull", "-q", BUSYBOX, check=True)
    assert "name=userns" in remapped.docker("info", "--format", "{{.SecurityOptions}}").out
    remapped.docker(
        "run", "-d", "--name", "web", "-v", "data:/data", "-p", "18080:80", BUSYBOX, "sleep", "60", check=True
    )
    pid = int(remapped.docker("inspect", "--format", "{{.State.Pid}}", "web").out)
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    assert next(line.split()[1] for line in status if line.startswith("Uid:")) == str(FIRST)
    script = "id -u; touch /made /data/made; stat -c %u /bin/sh /etc/hosts /data; hostname"
    ran = remapped.docker("exec", "web", "sh", "-ec", script)
    assert (ran.code, ran.out.split()[:4]) == (0, ["0", "0", "0", "0"]), ran.err
    volume = remapped.docker("volume", "inspect", "--format", "{{.Mountpoint}}", "data")
    where = volume.out.strip() if volume.code == 0 else str(remapped.data_root / "volumes/data/_data")
    assert os.stat(f"{where}/made").st_uid == 0
    # Started again, and by a daemon that takes no notice of user namespaces, the layer is as it was.
    assert remapped.docker("restart", "-t", "0", "web").code == 0
    assert remapped.docker("exec", "web", "stat", "-c", "%u", "/made").out == "0\n"
    unmapped = remapped.docker("run", "--rm", "--userns", "host", BUSYBOX, "cat", "/proc/self/uid_map")
    assert unmapped.out.split()[:2] == ["0", "0"]


@pytest.mark.requires("idmapped-mounts")
def test_networks_users_and_logs_as_ever(remapped: Pyker) -> None:
    remapped.start()
    remapped.docker("pull", "-q", BUSYBOX, check=True)
    script = (
        "id -u; ip -o -4 addr show eth0 | grep -c 172; echo err >&2; echo again > /dev/stderr; test -r /dev/urandom"
    )
    ran = remapped.docker("run", "--user", "1000:1000", "--name", "c1", BUSYBOX, "sh", "-ec", script)
    assert (ran.code, ran.out.split(), ran.err) == (0, ["1000", "1"], "err\nagain\n"), ran.err
    assert remapped.docker("logs", "c1").out.split() == ["1000", "1"]
    tty = remapped.docker("run", "--rm", "-t", BUSYBOX, "sh", "-c", "echo hi; test -t 0 && tty")
    assert tty.out.split() == ["hi", "/dev/pts/0"]


@pytest.mark.requires("idmapped-mounts")
def test_what_cannot_be_is_refused(remapped: Pyker) -> None:
    remapped.start()
    remapped.docker("pull", "-q", BUSYBOX, check=True)
    for flag in ("--privileged", "--network=host", "--pid=host"):
        refused = remapped.docker("run", "--rm", flag, BUSYBOX, "true")
        assert refused.code == 125
        assert "user namespaces" in refused.err
        assert remapped.docker("run", "--rm", "--userns=host", flag, BUSYBOX, "true").code == 0
    view = remapped.docker("run", "--rm", "host", "true")
    assert view.code == 125
    assert "machine's own root cannot be shown in a user namespace" in view.err
    assert remapped.docker("ps", "-aq").out == ""


def test_a_machine_that_cannot_says_why(remapped: Pyker) -> None:
    """A data root on a file system without such mounts; here an overlay, which has none on any kernel."""
    where = str(remapped.data_root)
    script = (
        'mkdir -p "$1/../u" "$1/../w"; mount -t overlay none -o "lowerdir=$1,upperdir=$1/../u,workdir=$1/../w" "$1"'
    )
    assert remapped.sandbox.run(["sh", "-ec", script, "sh", where]).returncode == 0
    remapped.flags.append("--storage-driver=vfs")
    with pytest.raises(RuntimeError) as caught:
        remapped.start()
    text = str(caught.value)
    assert "Traceback" not in text
    assert "--userns-remap: " in text
    assert "idmapped mounts" in text
    assert "start the daemon without --userns-remap" in text
