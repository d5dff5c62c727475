"""``python -m bench [--quick] [--only NAME ...]``: run the measurements and write bench/results/."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench import measures, report
from bench.bed import Bed
from tests.support import engines


def main() -> int:
    """Run what was asked for; 0 if every measurement could be made."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a fifth of the repetitions: for a look, not for the record"
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", choices=sorted(measures.ALL), help="only this measurement"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("results"), help="where results are written"
    )
    against = parser.add_mutually_exclusive_group()
    against.add_argument(
        "--reference",
        default="docker",
        type=engines.specification,
        metavar="ENGINE",
        help="what Pyker is measured against: docker, which is this machine's dockerd, or a release such as docker:28",
    )
    against.add_argument("--without-reference", action="store_true", help="measure Pyker alone")
    options = parser.parse_args()

    reference = "" if options.without_reference else options.reference
    names = options.only or list(measures.ALL)
    rows: list[measures.Row] = []
    with tempfile.TemporaryDirectory(prefix="pyker-bench-") as folder:
        with Bed(Path(folder), reference=reference) as bed:
            for name in names:
                print(f"bench: {name}", file=sys.stderr, flush=True)
                rows += measures.ALL[name](bed, 0.2 if options.quick else 1.0)
            steps = measures.steps(bed)
            facts = bed.facts()
    whole = not (options.quick or options.only)
    report.write(options.output, rows, steps, facts, reference=reference, whole=whole)
    print(report.table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
