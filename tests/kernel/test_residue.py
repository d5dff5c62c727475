"""What a test leaves behind is seen: each kind of thing, by its name."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.engines import Reply
from tests.support.residue import Watch
from tests.support.sandbox import Sandbox, cgroup_prefix, terminate, wait_until

pytestmark = pytest.mark.requires("root", "iproute2")


class Quiet:
    """An engine that holds nothing but its sandbox and its folders."""

    def __init__(self, root: Path, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.data_root = root
        self.cgroup_parent = f"/{cgroup_prefix()}{uuid.uuid4().hex[:8]}"
        self.keeps = ("volume kept",)
        for folder in ("containers", "volumes", "overlay2/l", "image/overlay2/layerdb/sha256"):
            (root / folder).mkdir(parents=True)

    def request(self, method: str, path: str) -> Reply:
        return Reply(404, {}, b"")


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Quiet]:
    with Sandbox() as sandbox:
        yield Quiet(tmp_path, sandbox)


def _mount(quiet: Quiet, stack: ExitStack) -> str:
    target = quiet.data_root / "mounted"
    target.mkdir()
    quiet.sandbox.run(["mount", "-t", "tmpfs", "tmpfs", str(target)])
    stack.callback(quiet.sandbox.run, ["umount", str(target)])
    return f"mount {target}"


def _link(quiet: Quiet, stack: ExitStack) -> str:
    quiet.sandbox.run(["ip", "link", "add", "left0", "type", "veth", "peer", "name", "left1"])
    stack.callback(quiet.sandbox.run, ["ip", "link", "del", "left0"])
    return "link left0"


def _process(quiet: Quiet, stack: ExitStack) -> str:
    process = quiet.sandbox.popen(["sleep", "1000"])
    stack.callback(terminate, process)
    return "process sleep"


def _namespace(quiet: Quiet, stack: ExitStack) -> str:
    process = quiet.sandbox.popen(["unshare", "-u", "sleep", "1000"])
    stack.callback(terminate, process)
    return "namespace uts"


def _cgroup(quiet: Quiet, stack: ExitStack) -> str:
    line = next(each for each in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup" in each)
    folder = f"{line.split()[4]}{quiet.cgroup_parent}"
    os.mkdir(folder)
    stack.callback(os.rmdir, folder)
    return f"cgroup {folder}"


def _rule(quiet: Quiet, stack: ExitStack) -> str:
    quiet.sandbox.run(["nft", "add", "table", "inet", "left"])
    stack.callback(quiet.sandbox.run, ["nft", "delete", "table", "inet", "left"])
    return "rule table inet left {"


def _container(quiet: Quiet, stack: ExitStack) -> str:
    folder = quiet.data_root / "containers" / ("12ab" * 16)
    folder.mkdir()
    stack.callback(folder.rmdir)
    return f"container {folder.name}"


def _volume(quiet: Quiet, stack: ExitStack) -> str:
    folder = quiet.data_root / "volumes" / "mine"
    folder.mkdir()
    stack.callback(folder.rmdir)
    return "volume mine"


def _layer(quiet: Quiet, stack: ExitStack) -> str:
    folder = quiet.data_root / "overlay2" / ("34cd" * 16)
    folder.mkdir()
    stack.callback(folder.rmdir)
    return f"layer {folder.name}"


@pytest.mark.requires("nft")
@pytest.mark.parametrize(
    "leave",
    [_mount, _link, _process, _namespace, _cgroup, _rule, _container, _volume, _layer],
    ids=lambda f: f.__name__,
)
def test_what_is_left_is_named(quiet: Quiet, leave: Callable[[Quiet, ExitStack], str]) -> None:
    watch = Watch(quiet, quiet_s=0)
    try:
        assert watch.settle() == []
        with ExitStack() as stack:
            name = leave(quiet, stack)
            wait_until(lambda: name in watch.leaks(), what=f"news of {name}")
        assert watch.settle() == []
    finally:
        watch.close()


def test_a_layer_of_an_image_is_no_residue(quiet: Quiet) -> None:
    watch = Watch(quiet, quiet_s=0)
    try:
        cache_id = "34cd" * 16
        (quiet.data_root / "overlay2" / cache_id).mkdir()
        layer = quiet.data_root / "image" / "overlay2" / "layerdb" / "sha256" / ("56ef" * 16)
        layer.mkdir()
        (layer / "cache-id").write_text(cache_id)
        assert watch.leaks() == []
    finally:
        watch.close()


def test_what_an_engine_keeps_by_design_is_no_residue(quiet: Quiet) -> None:
    watch = Watch(quiet, quiet_s=0)
    try:
        for name in ("kept", "other"):
            (quiet.data_root / "volumes" / name).mkdir()
        assert watch.leaks() == ["volume other"]
    finally:
        watch.close()


def test_a_process_of_another_sandbox_is_not_ours(quiet: Quiet) -> None:
    watch = Watch(quiet, quiet_s=0)
    with Sandbox() as other:
        stranger = other.popen(["sleep", "1000"])
        mine = subprocess.Popen(["sleep", "1000"])
        try:
            assert watch.leaks() == []
        finally:
            for process in (stranger, mine):
                terminate(process)
            watch.close()
