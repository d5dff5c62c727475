"""The backends beside QEMU: a box by Vagrant, here a folder of this machine behind stand-ins, and this host itself."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import cache
from lab.commands import Tools
from lab.progress import Progress
from lab.runner import TREE, Outcome, Runner, Wanted
from lab.table import table

VAGRANT = """#!/bin/sh
echo "$*" >>{box}/asked
case $1 in
  ssh-config) echo "Host $2" ;;
  up) exit {up} ;;
esac
"""
# The box's own folders are here.
SSH = """#!/bin/sh
[ "$1" = -F ] && grep -q "Host $3" "$2" || exit 255
inside=$(printf %s "$4" | sed 's|/src|{tree}|g; s|/opt/pyker/bin/python|{python}|g; s|/var/tmp/pyker-lab|{box}/out|g')
exec sh -c "$inside"
"""
SUDO = """#!/bin/sh
exec "$@"
"""
SUITE = ["tests/unit/test_reference.py", "-k", "digest"]


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(table(), cache.Cache(tmp_path / "cache"), Tools(), Progress(io.StringIO()))


def wanted(tmp_path: Path, **more: object) -> Wanted:
    options = {"tests": SUITE, "results": tmp_path / "results", "deadline_s": 60.0} | more
    return Wanted(**options)  # type: ignore[arg-type]


def outcomes(tmp_path: Path, name: str) -> set[str]:
    value = json.loads((tmp_path / f"results/lab-{name}.json").read_text())
    assert (tmp_path / f"results/lab-{name}.xml").exists()
    return {row["outcome"] for row in value["runs"]}


@pytest.fixture
def box(tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Outcome, list[str]]]:
    """Runs tests in the box ``centos``; the outcome, and what Vagrant was asked."""

    def run(*, up: int = 0, **more: object) -> tuple[Outcome, list[str]]:
        programs = tmp_path / "bin"
        programs.mkdir()
        for name, text in (("vagrant", VAGRANT), ("ssh", SSH), ("sudo", SUDO)):
            (programs / name).write_text(text.format(box=tmp_path, tree=TREE, python=sys.executable, up=up))
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
        entry = next(each for each in table().boxes if each.name == "centos")
        outcome = runner.run(entry, wanted(tmp_path, **more))
        return outcome, (tmp_path / "asked").read_text().splitlines()

    return run


def test_a_box_is_brought_up_used_and_halted(tmp_path: Path, box: Callable[..., tuple[Outcome, list[str]]]) -> None:
    outcome, asked = box()
    assert outcome.good, outcome.trouble
    assert asked == ["up centos --provision", "rsync centos", "ssh-config centos", "halt --force centos"]
    assert outcomes(tmp_path, "centos") == {"passed"}
    value = json.loads((tmp_path / "results/lab-centos.json").read_text())
    assert value["environment"]["name"] == "centos"


def test_a_command_in_a_box(box: Callable[..., tuple[Outcome, list[str]]]) -> None:
    outcome, _ = box(tests=[], command="echo $PYKER_DRIVER; pwd; exit 4")
    assert outcome.output == f"overlay2\n{TREE}\n"
    assert outcome.trouble == "the command exited 4"


def test_a_box_that_does_not_come_up(tmp_path: Path, box: Callable[..., tuple[Outcome, list[str]]]) -> None:
    outcome, asked = box(up=3)
    assert outcome.trouble.startswith("vagrant up centos --provision exited 3")
    assert asked == ["up centos --provision", "halt --force centos"]
    assert outcomes(tmp_path, "centos") == {"failed"}


def test_a_box_whose_tests_do_not_end(tmp_path: Path, box: Callable[..., tuple[Outcome, list[str]]]) -> None:
    outcome, asked = box(tests=["tests/lab/inside/sleeps.py"], deadline_s=3.0)
    assert outcome.trouble.startswith("pytest had not ended after 3 s; 1 of 2: 1 passed, in tests/lab/inside/sleeps.py")
    assert outcomes(tmp_path, "centos") == {"passed", "failed"}
    assert asked[-1] == "halt --force centos"


def test_this_host(tmp_path: Path, runner: Runner) -> None:
    outcome = runner.run(None, wanted(tmp_path))
    assert outcome.good, outcome.trouble
    assert outcomes(tmp_path, "local") == {"passed"}
    assert runner.run(None, wanted(tmp_path, tests=[], command="pwd")).output == f"{TREE}\n"
