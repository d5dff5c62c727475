"""``python -m tests.support.second_look RESULTS WORKERS PYTEST-ARGUMENTS...``: one level's tests, as nox runs them.

Tests run beside each other, on engines and a machine that other tests keep busy. A few that fail there are asked once
more, each by itself. One that then passes is unsteady: the last lines, the results and the report say so, with what it
said first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

FEW = 5
"""With more failures than these something is broken, and another look would only take time."""
FAILED = 1
"""pytest's exit code when tests failed, and nothing worse happened."""

Row = dict[str, Any]


def main(results: Path, workers: str, arguments: Sequence[str]) -> int:
    """pytest's exit code, of the second look where there was one."""
    level = results.stem
    command = [*arguments, "-o", f"cache_dir=build/cache/{level}"]
    code = _pytest(results, *command, "-n", workers)
    if code != FAILED:
        return code
    crowd = json.loads(results.read_bytes())
    failed = [_key(row) for row in crowd["runs"] if row["outcome"] == "failed"]
    if not 0 < len(failed) <= FEW:
        return code
    print(f"{level}: {len(failed)} failed beside others; each is asked once more, by itself", flush=True)
    alone_path = results.with_name(f"{level}-alone.json")
    try:
        code = _pytest(alone_path, *command, "--last-failed", "--last-failed-no-failures=none")
        alone = json.loads(alone_path.read_bytes())
    finally:
        alone_path.unlink(missing_ok=True)
    crowd["runs"] = merged(crowd["runs"], alone["runs"])
    new = results.with_name(f".{results.name}.{os.getpid()}")
    new.write_text(json.dumps(crowd, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(results)
    for row in crowd["runs"]:
        if row.get("unsteady"):
            print(f"{level}: unsteady: {row['test']}[{row['parameters']}]: {row['unsteady']}")
    asked = {_key(row) for row in alone["runs"]}
    if missed := [key for key in failed if key not in asked]:
        print(f"{level}: not asked again: {missed}")
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


def _pytest(results: Path, *arguments: str) -> int:
    command = [sys.executable, "-m", "pytest", "-q", *arguments, "--results", str(results)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
