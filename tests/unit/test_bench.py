"""What the bench says of its measurements, and the engine that it measures the client alone with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import report
from bench.idle import IdleEngine
from bench.measures import Row

FACTS = {"kernel": "7.0"}


def row(pyker: float, target: str, better: str = "less") -> Row:
    return Row("a thing", "ms", {"docker": 12.0, "pyker": pyker}, target, better)


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (row(2.0, "1/6"), "yes"),
        (row(2.1, "1/6"), "no"),
        (row(23.0, "2", better="more"), "no"),
        (row(24.0, "2", better="more"), "yes"),
        (row(2.0, ""), ""),
        (Row("alone", "ms", {"pyker": 1.0}, "1/6"), ""),
    ],
)
def test_a_verdict_is_about_the_ratio(measured: Row, said: str) -> None:
    assert report.verdict(measured) == said


def test_a_table_has_a_line_for_each_row() -> None:
    lines = report.table([row(3.0, "1/3"), Row("alone", "s", {"pyker": 1234.5}, "")]).splitlines()
    assert lines[2:] == ["| a thing | ms | 12 | 3 | 0.250 | 1/3 | yes |", "| alone | s | - | 1,234 | - |  |  |"]


@pytest.mark.parametrize(
    ("reference", "whole", "name"),
    [
        ("docker", True, "latest"),
        ("docker", False, "partial"),
        ("docker:28", True, "latest-docker-28"),
        ("", True, "latest-alone"),
    ],
)
def test_results_of_different_kinds_do_not_overwrite_each_other(
    tmp_path: Path, reference: str, whole: bool, name: str
) -> None:
    report.write(tmp_path, [row(3.0, "1/3")], [], FACTS, reference=reference, whole=whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.json", f"{name}.md"]
    assert json.loads((tmp_path / f"{name}.json").read_text())["rows"][0]["ratio"] == 0.25


def test_an_engine_that_there_is_not_is_refused() -> None:
    command = [sys.executable, "-m", "bench", "--reference", "nonesuch"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, 'there is no engine "nonesuch"' in done.stderr) == (2, True)


@pytest.mark.requires("docker-cli")
@pytest.mark.parametrize("command", [["run", "--rm", "--network", "none", "image", "true"], ["exec", "c", "true"]])
def test_the_stock_client_takes_the_idle_engine_for_one(tmp_path: Path, command: list[str]) -> None:
    with IdleEngine(tmp_path) as idle:
        for _ in range(2):
            env = {**os.environ, "DOCKER_HOST": idle.host}
            done = subprocess.run(
                ["docker", *command], env=env, capture_output=True, text=True, timeout=30, check=False
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
