"""The man pages say what the flag tables say, and every command has one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyker.client import catalogue, manual
from pyker.client.usage import command_help

FOLDER = Path(__file__).parents[2] / "docs" / "man"


def test_the_pages_are_up_to_date() -> None:
    expected = manual.pages()
    assert {path.name for path in FOLDER.glob("*.1")} == set(expected)
    stale = [name for name, text in expected.items() if (FOLDER / name).read_text(encoding="utf-8") != text]
    assert not stale, "python -m pyker.client.manual docs/man"


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
@pytest.mark.parametrize("name", [*sorted(manual.pages()), "pyker-daemon.8"])
def test_groff_reads_every_page_without_a_word(name: str) -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-P-cbou", "-ww", str(FOLDER / name)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert not [line for line in done.stderr.splitlines() if line.strip()]
    assert "SYNOPSIS" in done.stdout


@pytest.mark.parametrize("path", sorted(catalogue.PATHS))
def test_every_command_has_help(path: str) -> None:
    command = catalogue.load(path)
    text = command_help(command)
    assert text.startswith(f"Usage:  pyker {catalogue.SECOND_NAMES.get(path, path)}") and command.summary
    words = {word.rstrip(",") for word in text.split()}
    for flag in command.flags:
        assert (f"--{flag.name}" in words) != flag.hidden
    assert all(len(line) <= 80 for line in text.splitlines()[3:] if not line.startswith("  pyker "))


@pytest.mark.requires("docker-cli-28")
def test_every_docker_command_is_there_or_said_to_be_missing() -> None:
    listed = subprocess.run(["docker", "--help"], capture_output=True, text=True, check=True).stdout
    names = {line.split()[0].rstrip("*") for line in listed.splitlines() if line.startswith("  ") and line[2].isalpha()}
    known = set(catalogue.PATHS) | set(catalogue.GROUPS) | catalogue.NOT_THERE_YET
    assert names <= known and len(names) > 50


def test_the_engine_s_page_has_the_engine_s_flags() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pyker", "daemon", "--help"], capture_output=True, text=True, check=True
    )
    flags = {word.rstrip(",") for word in listed.stdout.split() if word.startswith("--")}
    page = (FOLDER / "pyker-daemon.8").read_text(encoding="utf-8").replace("\\-", "-")
    told = {line.rpartition("\\fB")[2].partition("\\fR")[0] for line in page.splitlines() if "\\fB--" in line}
    assert told == flags and len(flags) > 40
