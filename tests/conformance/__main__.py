"""``python -m tests.conformance``: the whole suite on the reference engine and on Pyker, for ``nox -s conformance``.

Tests run beside each other, on engines that other tests keep busy. A few that fail there are asked once more, each by
itself. One that then passes is unsteady: the last lines, the results and the report say so, with what it said first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path("build/results/conformance.json")
CACHE = Path("build/conformance-cache")
ENGINES = ("docker", "pyker")
FEW = 5
"""With more failures than these something is broken, and another look would only take time."""
FAILED = 1
"""pytest's exit code when tests failed, and nothing worse happened."""

Row = dict[str, Any]


def main(workers: str) -> int:
    """pytest's exit code, of the second look where there was one."""
    code = _pytest(RESULTS, "-n", workers)
    if code != FAILED:
        return code
    crowd = json.loads(RESULTS.read_bytes())
    failed = [_key(row) for row in crowd["runs"] if row["outcome"] == "failed"]
    if not 0 < len(failed) <= FEW:
        return code
    print(f"conformance: {len(failed)} failed beside others; each is asked once more, by itself", flush=True)
    alone_path = RESULTS.with_name("conformance-alone.json")
    try:
        code = _pytest(alone_path, "--last-failed", "--last-failed-no-failures=none")
        alone = json.loads(alone_path.read_bytes())
    finally:
        alone_path.unlink(missing_ok=True)
    crowd["runs"] = merged(crowd["runs"], alone["runs"])
    new = RESULTS.with_name(f".{RESULTS.name}.{os.getpid()}")
    new.write_text(json.dumps(crowd, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(RESULTS)
    for row in crowd["runs"]:
        if row.get("unsteady"):
            print(f"conformance: unsteady: {row['test']}[{row['parameters']}]: {row['unsteady']}")
    asked = {_key(row) for row in alone["runs"]}
    if missed := [key for key in failed if key not in asked]:
        print(f"conformance: not asked again: {missed}")
        return FAILED
    return code


def merged(crowd: Sequence[Row], alone: Iterable[Row]) -> list[Row]:
    """The rows of a whole run, with what the second look said in the place of the first failures."""
    again = {_key(row): row for row in alone}
    rows = list[Row]()
    for row in crowd:
        second = again.get(_key(row)) if row["outcome"] == "failed" else None
        if second is None:
            rows.append(row)
        elif second["outcome"] == "failed":
            rows.append({**second, "log": f"{row['log']}\n--- asked again, by itself\n{second['log']}"})
        else:
            rows.append({**second, "log": row["log"], "unsteady": row["reason"] or "failed"})
    return rows


def _key(row: Row) -> tuple[str, str, str]:
    return row["test"], row["parameters"], row["engine"]


def _pytest(results: Path, *more: str) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "--timeout=180", "-o", f"cache_dir={CACHE}", "tests/conformance"]
    command += [argument for engine in ENGINES for argument in ("--engine", engine)]
    return subprocess.run([*command, "--results", str(results), *more], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "2"))
