"""``python -m tests.report``: merge results files into results.json, report.md and report.html."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.report import markdown, page, read, words
from tests.report.merge import as_json, merge
from tests.report.model import Environment, Report, Run

_ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = _ROOT / "build" / "results"

_EPILOG = """\
The files are what `pytest --results FILE.json` writes, and results.json of an earlier report. Without any, all of
build/results/*.json are read, the oldest first: `nox -s conformance` and `nox -s lab` write there."""


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="nox -s report --",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULTS.json", help="results files, later ones win")
    parser.add_argument(
        "--output", type=Path, default=_ROOT / "build" / "report", metavar="DIR", help="default: build/report"
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 when a claim or a test of another level fails"
    )
    parser.add_argument(
        "--log-limit",
        type=int,
        default=20_000,
        metavar="N",
        help="characters of each log to keep, half from its end (default: 20000)",
    )
    return parser.parse_args(argv)


def _files(given: list[Path]) -> list[Path]:
    if given:
        return given
    found = sorted(RESULTS.glob("*.json"), key=lambda path: (path.stat().st_mtime, path.name))
    if not found:
        raise read.ReportError(
            "no results in build/results: run `nox -s conformance` (this machine) or `nox -s lab` (the guests) first, "
            "or name results files"
        )
    return found


def trimmed(run: Run, limit: int) -> Run:
    """The run with no more than ``limit`` characters of its log and of its reason."""
    return dataclasses.replace(run, log=_cut(run.log, limit), reason=_cut(run.reason, limit))


def _cut(text: str, limit: int) -> str:
    """The beginning, where a failure says what it is, and the end."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[{len(text) - 2 * half:,} characters left out]\n{text[len(text) - half :]}"


def collect(files: Sequence[Path], log_limit: int) -> Report:
    """Read the files, and the lists that the tests keep, and merge them."""
    parts: list[tuple[Environment, list[Run]]] = []
    for path in files:
        for environment, runs in read.results(path):
            parts.append((environment, [trimmed(run, log_limit) for run in runs]))
    claims, pending, differences = read.lists()
    return merge(
        parts,
        claims,
        date=datetime.now(UTC).strftime("%-d %B %Y, %H:%M UTC"),
        pending=pending,
        differences=differences,
        docker_py_fails=read.docker_py_fails(_ROOT / "tests" / "dockerpy" / "expected.toml"),
        guests=read.guests(_ROOT / "lab" / "machines.json"),
        written=read.claims_in_tests(_ROOT / "tests"),
    )


def write(report: Report, folder: Path) -> Path:
    """Write the three files; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(as_json(report), indent=0) + "\n", "utf-8")
    (folder / "report.md").write_text(markdown.render(report), "utf-8")
    target = folder / "report.html"
    target.write_text(page.render(report), "utf-8")
    return target


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    try:
        files = _files(arguments.results)
        report = collect(files, max(0, arguments.log_limit))
        target = write(report, arguments.output)
    except (read.ReportError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    for number, column in enumerate(report.columns):
        totals = report.totals(number)
        others = ", ".join(f"{count} {state}" for state, count in totals.claims.items() if state != "pass")
        print(f"{column.label}: {totals.met} of {len(report.claims)} claims met" + (f" ({others})" if others else ""))
    for notice in report.notices:
        print(f"note: {notice}")
    failed = report.failed_cells()
    said = words.verdict(report)
    print(f"{said.headline}\nThe report of {words.count(len(files), 'results file')}: {target}")
    if arguments.strict and failed:
        print(f"report: {words.count(failed, 'cell fails', 'cells fail')}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
