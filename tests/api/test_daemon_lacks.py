"""A machine that lacks something: the daemon, or the one container that needs it, says what; the rest works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.engines import Pyker

pytestmark = pytest.mark.requires("root", "overlay", "nftables", "busybox", "docker-cli")

BUSYBOX = "pyker.local/busybox"
Make = Callable[..., Pyker]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """An engine in namespaces of its own where ``script`` took something away; not started."""
    made: list[Pyker] = []

    def build(script: str, *flags: str) -> Pyker:
        engine = Pyker(tmp_path / f"engine{len(made)}", flags=flags)
        made.append(engine)
        engine.data_root.mkdir(parents=True)
        assert engine.sandbox.run(["sh", "-ec", script, "sh", str(engine.data_root)]).returncode == 0
        return engine

    yield build
    for engine in made:
        engine.stop()


def hide(library: str) -> str:
    """A script that puts an empty file in a library's place."""
    return f"for file in /usr/lib/*/{library}*; do mount --bind /dev/null $file; done"


def refusal(engine: Pyker) -> str:
    with pytest.raises(RuntimeError) as caught:
        engine.start()
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


def test_without_cgroups(make: Make) -> None:
    assert "no cgroup hierarchy is mounted" in refusal(make("umount -R -l /sys/fs/cgroup"))


@pytest.mark.requires("cgroup-v1")
def test_without_one_controller_a_limit_is_warned_of_and_left_away(make: Make) -> None:
    engine = make("umount -l /sys/fs/cgroup/pids")
    engine.start()
    engine.docker("pull", "-q", BUSYBOX, check=True)
    done = engine.docker("run", "--rm", "--network=none", "--pids-limit=50", BUSYBOX, "echo", "hi")
    assert (done.code, done.out) == (0, "hi\n")
    assert "Your kernel does not support PIDs limit capabilities" in done.err
    assert "WARNING: No pids limit support" in engine.docker("info").err


def test_without_libnftables(make: Make) -> None:
    script = hide("libnftables.so.1")
    text = refusal(make(script))
    assert "libnftables.so.1 is missing" in text
    assert "install the package libnftables1, or start the daemon with --iptables=false" in text
    engine = make(script, "--iptables=false")
    engine.start()
    engine.docker("pull", "-q", BUSYBOX, check=True)
    assert engine.docker("run", "--rm", BUSYBOX, "echo", "hi").out == "hi\n"


def test_without_libseccomp(make: Make) -> None:
    engine = make(hide("libseccomp.so.2"))
    engine.start()
    engine.docker("pull", "-q", BUSYBOX, check=True)
    refused = engine.docker("run", "--rm", BUSYBOX, "true")
    assert refused.code == 125
    assert "seccomp profiles need libseccomp.so.2, which is not installed" in refused.err
    assert engine.docker("ps", "-aq").out == ""
    shown = engine.docker("run", "--rm", "--security-opt", "seccomp=unconfined", BUSYBOX, "echo", "hi")
    assert (shown.code, shown.out) == (0, "hi\n")


OVERLAY = (
    "mkdir -p /run/o/lower /run/o/upper /run/o/work; "
    "mount -t overlay overlay -olowerdir=/run/o/lower,upperdir=/run/o/upper,workdir=/run/o/work $1"
)


def test_where_overlay_cannot_be(make: Make) -> None:
    text = refusal(make(OVERLAY, "--storage-driver=overlay2"))
    assert "error initializing graphdriver: driver not supported: 'overlay2'" in text
    assert "choose a data root on another file system" in text
    engine = make(OVERLAY)
    engine.start()
    assert engine.docker("info", "--format", "{{.Driver}}", check=True).out == "vfs\n"
    engine.docker("pull", "-q", BUSYBOX, check=True)
    assert engine.docker("run", "--rm", BUSYBOX, "echo", "hi").out == "hi\n"
