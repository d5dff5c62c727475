"""Results as a file for programs and a page for people."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.measures import Row

_TARGETS = {"1/6": 1 / 6, "1/3": 1 / 3, "1/2": 1 / 2, "1": 1.0, "2": 2.0, "1/10": 0.1}


def verdict(row: Row) -> str:
    """yes, no, or nothing where there is no target."""
    if not row.target or row.ratio is None:
        return ""
    limit = _TARGETS[row.target]
    return "yes" if (row.ratio <= limit if row.better == "less" else row.ratio >= limit) else "no"


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(rows: Sequence[Row]) -> str:
    """A Markdown table of medians and ratios."""
    lines = ["| what | unit | dockerd | pyker | ratio | asked for | reached |", "|---|---|---:|---:|---:|---:|---|"]
    for row in rows:
        ratio = f"{row.ratio:.3f}" if row.ratio is not None else "-"
        lines.append(
            f"| {row.name} | {row.unit} | {_figure(row.values.get('docker'))} | {_figure(row.values['pyker'])} | "
            f"{ratio} | {row.target} | {verdict(row)} |"
        )
    return "\n".join(lines)


def _tree(jobs: Sequence[dict[str, Any]]) -> str:
    lines = ["| job | ms |", "|---|---:|"]
    children: dict[object, list[dict[str, Any]]] = {}
    for job in jobs:
        children.setdefault(job.get("ParentID"), []).append(job)
    known = {job.get("ID") for job in jobs}

    def show(job: dict[str, Any], depth: int) -> None:
        lines.append(f"| {'&nbsp;' * 4 * depth}{job.get('Name')} | {job.get('DurationNs', 0) / 1e6:.2f} |")
        for stage, spent in (job.get("Stages") or {}).items():
            lines.append(f"| {'&nbsp;' * 4 * (depth + 1)}_{stage}_ | {spent / 1e6:.2f} |")
        for child in children.get(job.get("ID"), []):
            show(child, depth + 1)

    for job in jobs:
        if job.get("ParentID") not in known:
            show(job, 0)
    return "\n".join(lines)


def write(
    folder: Path,
    rows: Sequence[Row],
    steps: Sequence[dict[str, Any]],
    facts: dict[str, str],
    *,
    reference: str,
    whole: bool,
) -> None:
    """``latest.json`` and ``latest.md`` for a ``whole`` run; ``partial.*`` for a part or a quick one.

    With another ``reference`` than this machine's dockerd its name is part of theirs: ``latest-docker-28.md``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = "latest" if whole else "partial"
    if reference != "docker":
        name += "-" + (reference or "alone").replace(":", "-")
    value = {
        "facts": facts,
        "rows": [dataclasses.asdict(row) | {"ratio": row.ratio} for row in rows],
        "steps": list(steps),
    }
    (folder / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")
    head = "\n".join(f"- {key}: {text}" for key, text in facts.items())
    page = (
        "# Pyker and dockerd, side by side\n\nMedians of one run; engines took turns. Written by `nox -s bench`.\n\n"
        f"{head}\n\n{table(rows)}\n\n## Where the time goes in one `docker run`\n\n{_tree(steps)}\n"
    )
    (folder / f"{name}.md").write_text(page)
