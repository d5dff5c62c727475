"""``python -m tests.dockerpy [--engine NAME ...] [--results FOLDER] [-- PYTEST ARGUMENTS]``.

Runs the suite against each engine, compares with ``expected.toml``, and writes ``dockerpy-ENGINE.json`` for the report.
Exits 1 if the reference fails what it passed before, or Pyker passes fewer than it did.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.dockerpy import bed, outcomes
from tests.support import engines


def main() -> int:
    """0 if every engine did at least what it is expected to."""
    parser = argparse.ArgumentParser(
        prog="dockerpy", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--engine", action="append", type=engines.specification, help="pyker unless told")
    parser.add_argument("--results", type=Path, default=Path("build/results"), help="where the results are written")
    parser.add_argument("--api-version", default="", help="the engine's own, but 1.45 at most, unless told")
    parser.add_argument("pytest", nargs="*", help="after --, such as -k exec; then nothing is compared")
    options = parser.parse_args()

    expected = outcomes.Expected.load()
    failures: list[str] = []
    for name in options.engine or ["pyker"]:
        with tempfile.TemporaryDirectory(prefix="pyker-dockerpy-") as folder:
            with bed.Bed(Path(folder), name) as place:
                code, report = place.run(options.pytest, version=options.api_version)
                facts = place.facts()
            # Tests that fail are for the list to judge; anything else is no result.
            if code not in (0, 1):
                print(f"dockerpy: {name}: pytest ended with {code}", file=sys.stderr)
                return 2
            runs = outcomes.read(report, name)
        path = options.results / f"dockerpy-{name.replace(':', '-')}.json"
        outcomes.write(path, runs, facts)
        print(f"dockerpy: {name}: {outcomes.counts(runs)}; {path}")
        if not options.pytest:
            failures += expected.judge(name, runs)
    for line in failures:
        print(f"dockerpy: {line}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
