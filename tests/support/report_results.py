"""Results of runs that never happened, for tests of the report."""

from __future__ import annotations

import json
from pathlib import Path

from tests.report import read
from tests.report.merge import merge
from tests.report.model import Report
from tests.support.claims import Claim, Difference, Pending

# What a page must show as text, whatever it would mean as markup, script, terminal code or end of an element.
HOSTILE = (
    '</script></pre><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>&lt;\'"`|\u202e${7*7}<!--'
)


def run(test: str, outcome: str = "passed", **rest: object) -> dict[str, object]:
    """One entry of ``runs``, with what a plain conformance test on Pyker has."""
    plain: dict[str, object] = {
        "parameters": "",
        "level": "conformance",
        "engine": "pyker",
        "claims": [],
        "reason": "",
        "log": "",
        "seconds": 0.5,
    }
    return {"test": f"tests/conformance/{test}", "outcome": outcome, **plain, **rest}


def document(*runs: dict[str, object], name: str = "this host", **facts: str) -> dict[str, object]:
    """A whole results file."""
    about = {
        "kernel": "6.1.0",
        "distribution": "Debian 12",
        "cgroup": "v2",
        "graphdriver": "overlay2",
        "python": "3.11.2",
    }
    return {"environment": {"name": name, **about, "commit": "1f0a" * 10, **facts}, "runs": list(runs)}


def claim(
    id: str,
    section: str = "Docker Client",
    source: str = "document",
    priority: str = "",
    level: str = "conformance",
) -> Claim:
    return Claim(id, source, section, f"What {id} says is true.", priority, level)


def report(
    folder: Path,
    *documents: dict[str, object],
    claims: tuple[Claim, ...] = (),
    pending: tuple[Pending, ...] = (),
    differences: tuple[Difference, ...] = (),
    guests: tuple[str, ...] = (),
    written: tuple[str, ...] = (),
    docker_py_fails: dict[str, str] | None = None,
) -> Report:
    """The report of some results files, by way of the files."""
    parts = []
    for number, content in enumerate(documents):
        path = folder / f"results{number}.json"
        path.write_text(json.dumps(content), "utf-8")
        parts += read.results(path)
    taken: set[str] = set()
    return merge(
        parts,
        [read.new_claim(each, taken) for each in claims],
        date="1 May 2026, 12:00 UTC",
        pending=pending,
        differences=differences,
        guests=guests,
        written=written,
        docker_py_fails=docker_py_fails,
    )
