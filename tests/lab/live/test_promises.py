"""A guest that is not what the table promises runs no test; a kernel that the user brings makes a guest."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from lab import cache, kernels, sourcetree
from tests.lab.live.conftest import GUEST, TREE, Start


def copy_of_the_tree(folder: Path, **changes: object) -> Path:
    """The tree, and other things in the table's row of the guest."""
    for name in sourcetree.files(TREE):
        if (TREE / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(TREE / name, folder / name)
    path = folder / "lab/machines.json"
    table = json.loads(path.read_text())
    next(row for row in table["guests"] if row["name"] == GUEST).update(changes)
    path.write_text(json.dumps(table))
    return folder


def test_a_promise_that_is_broken_stops_the_guests_run(lab: Start, tmp_path: Path) -> None:
    tree = copy_of_the_tree(tmp_path / "tree", promises=["podman"])
    run = lab("--guest", GUEST, tests=["tests/kernel/test_netlink.py"], tree=tree)
    assert run.end() == 1
    assert f"{GUEST} is not what lab/machines.json promises" in run.said
    assert "podman" in run.said and "test_capabilities" in run.said
    assert " tests\n" not in run.said
    assert list(run.rows()) == ["the guest itself"]
    assert [run.suite().get(kind) for kind in ("tests", "errors")] == ["1", "1"]
    run.assert_nothing_is_left()


def test_without_checks_the_test_that_needs_it_fails(lab: Start, tmp_path: Path) -> None:
    """A skip would hide it."""
    tree = copy_of_the_tree(tmp_path / "tree", promises=["podman"])
    (tree / "tests/unit/test_needs.py").write_text(
        "import pytest\n\n\n@pytest.mark.requires('podman')\ndef test_needs() -> None:\n    pass\n"
    )
    run = lab("--guest", GUEST, "--no-checks", tests=["tests/unit/test_needs.py"], tree=tree)
    assert run.end() == 1
    assert "this environment promised 'podman', and lacks it" in run.rows()["test_needs"]["reason"]


def brought(folder: Path) -> tuple[Path, str]:
    """A kernel as a user lays it down, here one that Debian has; and its version."""
    found = next(path.parent for path in cache.home().glob(f"kernel-*/{cache.MANIFEST}"))
    version = (found / kernels.VERSION).read_text()
    made = folder / "aufs"
    (made / "lib/modules").mkdir(parents=True)
    shutil.copyfile(found / kernels.VMLINUX, made / f"vmlinuz-{version}")
    unpacked = made / "lib/modules" / version
    subprocess.run(
        ["unsquashfs", "-quiet", "-no-progress", "-d", unpacked, found / kernels.MODULES],
        check=True,
        capture_output=True,
    )
    return folder, version


def test_a_kernel_that_the_user_brings(lab: Start, tmp_path: Path) -> None:
    """It starts, and is looked at as any guest: this one has no aufs, and that is said."""
    folder, version = brought(tmp_path / "brought")
    place = {"PYKER_LAB_KERNELS": str(folder), "PYKER_CACHE": str(tmp_path / "cache")}
    roots = tmp_path / "cache/lab"
    roots.mkdir(parents=True)
    for entry in cache.home().glob("*-*"):
        if entry.is_dir() and entry.name.split("-")[0] in ("root", "storage", "accelerator"):
            (roots / entry.name).symlink_to(entry)
    run = lab("--guest", "aufs", "--no-checks", "--command", "uname -r; stat -fc %T /sys/fs/cgroup", **place)
    assert run.end(600) == 0, run.said
    assert f"{version}\ntmpfs\n" in run.said
    looked_at = lab("--guest", "aufs", tests=["tests/kernel/test_netlink.py"], **place)
    assert looked_at.end() == 1
    assert "aufs is not what lab/machines.json promises" in looked_at.said
    assert "first boot" not in looked_at.said
    assert "['aufs'] == []" in looked_at.said
    looked_at.assert_nothing_is_left()


def test_a_kernel_that_nobody_brought(lab: Start, tmp_path: Path) -> None:
    run = lab("--guest", "aufs")
    assert run.end() == 1
    assert "set PYKER_LAB_KERNELS to a folder that has aufs/vmlinuz-VERSION and aufs/lib/modules/VERSION" in run.said
    empty = lab("--guest", "aufs", PYKER_LAB_KERNELS=str(tmp_path))
    assert empty.end() == 1
    assert "there is no folder 'aufs' in it" in empty.said
    (tmp_path / "aufs").mkdir()
    half = lab("--guest", "aufs", PYKER_LAB_KERNELS=str(tmp_path))
    assert half.end() == 1
    assert f"{tmp_path}/aufs/lib/modules is missing; see docs/lab.md" in half.said
    for each in (run, empty, half):
        each.assert_nothing_is_left()
