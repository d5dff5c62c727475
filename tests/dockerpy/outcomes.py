"""What the suite's tests said, and what they are expected to say."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.support.results import environment

LIST = Path(__file__).with_name("expected.toml")
LEVEL = "docker-py"
CLAIM = "client-docker-py"

Row = dict[str, object]


def read(report: Path, engine: str) -> list[Row]:
    """The rows of a JUnit report, as the report of this project wants them."""
    rows: list[Row] = []
    for case in ElementTree.parse(report).iter("testcase"):
        module, _, name = case.get("classname", "").removeprefix("tests.integration.").partition(".")
        test = "::".join(filter(None, (f"{module}.py", name.replace(".", "::"), case.get("name", ""))))
        outcome, reason, log = "passed", "", ""
        for child in case:
            if child.tag in ("failure", "error"):
                outcome = "failed"
                reason = reason or (child.get("message") or "").partition("\n")[0][:300]
                log += (child.text or "") + "\n"
            elif child.tag == "skipped":
                outcome, reason = "skipped", child.get("message") or ""
            elif child.tag in ("system-out", "system-err") and child.text:
                log += child.text + "\n"
        rows.append(
            {
                "test": test,
                "parameters": "",
                "level": LEVEL,
                "engine": engine,
                "claims": [CLAIM],
                "outcome": outcome,
                "reason": reason,
                "log": log if outcome == "failed" else "",
                "seconds": float(case.get("time") or 0),
            }
        )
    # A test that fails and whose teardown fails too stands there twice.
    merged: dict[object, Row] = {}
    for row in rows:
        if row["test"] not in merged or row["outcome"] == "failed":
            merged[row["test"]] = row
    return list(merged.values())


def counts(runs: Sequence[Row]) -> str:
    """``261 passed, 3 failed``."""
    number = Counter(str(run["outcome"]) for run in runs)
    return ", ".join(f"{number[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped") if number[outcome])


def write(path: Path, runs: Sequence[Row], facts: dict[str, str]) -> None:
    """Write the results, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps({"environment": environment(facts), "runs": runs}, indent=1) + "\n", encoding="utf-8")
    new.replace(path)


@dataclass(frozen=True, slots=True)
class Expected:
    """``expected.toml``: what fails on the reference, and how many pass on Pyker."""

    reference_fails: dict[str, str]
    pyker_passes_at_least: int

    @classmethod
    def load(cls) -> Expected:
        """Raises KeyError for a row without its reason."""
        value = tomllib.loads(LIST.read_text(encoding="utf-8"))
        fails = {row["test"]: row["reason"] for row in value.get("reference_fails", ())}
        return cls(fails, value["pyker_passes_at_least"])

    def judge(self, engine: str, runs: Sequence[Row]) -> list[str]:
        """What is wrong with the results of a whole run, in lines; none if nothing is."""
        if engine == "docker":
            failed = {str(run["test"]): str(run["reason"]) for run in runs if run["outcome"] == "failed"}
            return [
                f"{test} fails on the reference, and is not in {LIST.name}: {reason}"
                for test, reason in failed.items()
                if test not in self.reference_fails
            ]
        if engine == "pyker":
            passed = sum(run["outcome"] == "passed" for run in runs)
            if passed < self.pyker_passes_at_least:
                return [f"pyker passes {passed} tests, and has passed {self.pyker_passes_at_least}"]
            if passed > self.pyker_passes_at_least:
                print(f"dockerpy: pyker passes {passed}: raise pyker_passes_at_least in {LIST.name}")
        return []
