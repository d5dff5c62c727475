"""Plant each fault of ``faults.toml`` in a copy of the tree, and see the tests that it names turn red.

``python -m tests.faults [--only ID] [--list]``. The copy's tests run first without a fault and must be green. A fault
that names claims must turn a test of each of them red, and no conformance test without one. Exits 1 if a fault was not
noticed, or was noticed where it has no business, 2 if nothing can be said: a text that is not there, or a copy that is
not green by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tests.faults.household import TIME_IS_OVER

LIST = Path(__file__).with_name("faults.toml")
TREE = LIST.parents[2]
HOUSEHOLD = os.fspath(LIST.with_name("household.py"))
TEST_TIMEOUT_S = 40
RUN_TIMEOUT_S = 150

# Read by site in every interpreter that starts with the copy on PYTHONPATH, after the .pth files: the tree that is
# installed goes from the path, so that what runs the original's code would fail to import, not be taken for the copy.
SITE = """
import os, sys
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or ".") != {original!r}]
"""
MARKER = """
import importlib.util, sys
import tests.support
for name in ("pyker", "pyker.__main__", "pyker.libcontainer.launcher_main", "pyker.graphdriver.archive.worker"):
    assert importlib.util.find_spec(name).origin.startswith(sys.argv[1] + "/"), (name, sys.path)
assert importlib.util.find_spec("pyker").loader.get_source("pyker").endswith(sys.argv[2]), "another pyker"
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of the list."""

    id: str
    says: str
    level: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    claims: tuple[str, ...] = ()

    @classmethod
    def load(cls, entry: dict[str, Any]) -> Fault:
        """Raises: TypeError, KeyError for an entry that lacks a field or has one too many."""
        return cls(**{**entry, "tests": tuple(entry["tests"]), "claims": tuple(entry.get("claims", ()))})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the tests said about one fault.

    ``silent`` are the named tests that had no failure, ``unproven`` the claims without one, and ``astray`` conformance
    tests that failed and have none of the fault's claims, with the reason. ``proven`` has the tests that turned each
    claim red, and ``green`` is how many conformance tests without one of the claims stayed green.
    """

    caught: bool
    silent: tuple[str, ...]
    reason: str
    seconds: float
    unproven: tuple[str, ...] = ()
    astray: tuple[str, ...] = ()
    proven: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    green: int = 0


class Copy:
    """One copy of the tree, in which one fault at a time is planted."""

    def __init__(self, root: Path, number: int) -> None:
        self.root = root / f"copy{number}"
        self._scratch = root / f"scratch{number}"
        self._runs = 0
        self._stamp = 1_000_000_000 + 1000 * number

    def fill(self) -> None:
        """Copy what git knows of, and what it would add."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=TREE,
            capture_output=True,
            check=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            source, target = TREE / name, self.root / name
            if source.is_file() or source.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        marker = f"# {self.root}\n"
        with open(self.root / "pyker" / "__init__.py", "a", encoding="utf-8") as package:
            package.write(marker)
        (self.root / "sitecustomize.py").write_text(SITE.format(original=os.path.realpath(TREE)))
        # From another folder, as the daemon's children start.
        self._run([sys.executable, "-c", MARKER, str(self.root), marker], cwd="/", check=True)

    @contextmanager
    def planted(self, fault: Fault) -> Iterator[None]:
        """With the fault in place."""
        path = self.root / fault.file
        whole = path.read_text(encoding="utf-8")
        try:
            self._write(path, whole.replace(fault.old, fault.new))
            yield
        finally:
            self._write(path, whole)

    def _write(self, path: Path, text: str) -> None:
        # A time of its own for each version: compiled files are told apart by it, to the second.
        path.write_text(text, encoding="utf-8")
        self._stamp += 2
        os.utime(path, (self._stamp, self._stamp))

    def pytest(self, tests: Sequence[str], *options: str, timeout_s: float = RUN_TIMEOUT_S) -> tuple[int, str]:
        """Run tests of the copy; the exit status (TIME_IS_OVER when it was) and what was said."""
        self._runs += 1
        base = self._scratch / f"run{self._runs}"
        base.parent.mkdir(exist_ok=True)
        command = [sys.executable, HOUSEHOLD, str(timeout_s), sys.executable]
        command += ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "-rfE"]
        command += [f"--basetemp={base}", f"--timeout={TEST_TIMEOUT_S}", *options, *tests]
        try:
            done = self._run(command, cwd=str(self.root), timeout=None)
            return done.returncode, done.stdout
        finally:
            subprocess.run(["rm", "-rf", "--one-file-system", str(base)], check=False)

    def _run(
        self, command: Sequence[str], *, cwd: str, timeout: float | None = 60, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(self.root), "COLUMNS": "200"}
        env.pop("PYTEST_ADDOPTS", None)
        return subprocess.run(
            command,
            cwd=cwd,
            env=env,
            timeout=timeout,
            check=check,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


def judge(fault: Fault, status: int, said: str, seconds: float) -> Verdict:
    """A test that could not be collected, or set up, says nothing of the fault; only one that failed does."""
    failed = re.findall(r"^FAILED (\S+)(?: - (.*))?$", said, re.MULTILINE)
    silent = tuple(test for test in fault.tests if not any(_belongs(node, test) for node, _ in failed))
    if status != 1:
        return Verdict(
            False,
            silent,
            {0: "all green", TIME_IS_OVER: "no end in time"}.get(status, f"pytest exited {status}"),
            seconds,
        )
    reason = next((words for _, words in failed if words), "")
    return Verdict(not silent, silent, reason or "only errors", seconds)


def _belongs(node: str, test: str) -> bool:
    return node == test or node.startswith((f"{test}[", f"{test}::"))


def judge_claims(fault: Fault, verdict: Verdict, runs: Sequence[dict[str, Any]]) -> Verdict:
    """Whether exactly the fault's claims suffered; ``runs`` are those of ``--results``."""
    failed = [run for run in runs if run["outcome"] == "failed"]
    hit = {claim for run in failed for claim in run["claims"]}
    unproven = tuple(claim for claim in fault.claims if claim not in hit)
    astray = tuple(
        f"{run['test']} {run.get('reason', '')[:90]}".rstrip()
        for run in failed
        if run["level"] == "conformance" and not set(run["claims"]) & set(fault.claims)
    )
    proven = {
        claim: tuple(dict.fromkeys(run["test"] for run in failed if claim in run["claims"])) for claim in fault.claims
    }
    others = [run for run in runs if run["level"] == "conformance" and not set(run["claims"]) & set(fault.claims)]
    return replace(
        verdict,
        caught=verdict.caught and not unproven and not astray,
        unproven=unproven,
        astray=astray,
        proven=proven,
        green=sum(run["outcome"] == "passed" for run in others),
    )


def told(verdict: Verdict) -> Iterator[str]:
    """A line for each claim that the fault names, and one for all else."""
    for claim, tests in verdict.proven.items():
        if tests:
            yield f"{claim} is red: {', '.join(test.rpartition('/')[2] for test in tests)}"
        else:
            yield f"{claim} is NOT red: none of its tests failed"
    for test in verdict.astray:
        yield f"NOT one of its claims, and red: {test}"
    if verdict.proven and not verdict.astray:
        yield f"nothing else is: {verdict.green} tests of other claims are green"


def try_fault(fault: Fault, copies: SimpleQueue[Copy], sample: Sequence[str]) -> Verdict:
    """Plant one fault in a copy that is free, and run its tests, with the sample if it has claims."""
    copy = copies.get()
    began = time.monotonic()
    results = copy.root.with_name(f"{copy.root.name}-{fault.id}.json")
    try:
        with copy.planted(fault):
            if not fault.claims:
                return judge(fault, *copy.pytest(fault.tests), time.monotonic() - began)
            tests = list(dict.fromkeys((*fault.tests, *sample)))
            status, said = copy.pytest(tests, "--results", str(results), timeout_s=2 * RUN_TIMEOUT_S)
    finally:
        copies.put(copy)
    verdict = judge(fault, status, said, time.monotonic() - began)
    runs = json.loads(results.read_text(encoding="utf-8"))["runs"] if results.exists() else []
    return judge_claims(fault, verdict, runs)


def control(copy: Copy, faults: Sequence[Fault], sample: Sequence[str]) -> bool:
    """Whether every test that a fault names, and the sample, is green without it; says which are not."""
    tests = sorted({*(test for fault in faults for test in fault.tests), *sample})
    status, said = copy.pytest(tests, "-n", "2", timeout_s=900)
    skipped = re.search(r"\b\d+ skipped", said)
    if status == 0 and not skipped:
        return True
    print(said)
    print(f"the copy without a fault is not green: {skipped[0] if skipped else f'pytest exited {status}'}")
    return False


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", metavar="ID", help="try this fault; may be repeated")
    parser.add_argument("--list", action="store_true", help="show the faults, and try none")
    options = parser.parse_args(arguments)
    listed = tomllib.loads(LIST.read_text(encoding="utf-8"))
    faults = [Fault.load(entry) for entry in listed["fault"]]
    chosen = [fault for fault in faults if not options.only or fault.id in options.only]
    if unknown := set(options.only or ()) - {fault.id for fault in faults}:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    if options.list:
        for fault in chosen:
            print(f"{fault.id:34} {fault.level:12} {fault.says} {' '.join(fault.claims)}".rstrip())
        return 0
    root = Path(tempfile.mkdtemp(prefix="pkfault"))
    try:
        return _try_all(chosen, root, listed["sample"])
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=False)


def _try_all(faults: Sequence[Fault], root: Path, sample: Sequence[str]) -> int:
    copies: SimpleQueue[Copy] = SimpleQueue()
    workers = [Copy(root, number) for number in range(min(2, len(faults)))]
    for copy in workers:
        copy.fill()
        copies.put(copy)
    for fault in faults:
        if (times := (workers[0].root / fault.file).read_text(encoding="utf-8").count(fault.old)) != 1:
            raise LookupError(f"{fault.id}: its old text is {times} times in {fault.file}")
    began = time.monotonic()
    if not control(workers[0], faults, sample if any(fault.claims for fault in faults) else ()):
        return 2
    print(f"without a fault all is green ({time.monotonic() - began:.0f} s)\n", flush=True)
    missed = exact = 0
    with ThreadPoolExecutor(len(workers)) as pool:
        for fault, verdict in zip(faults, pool.map(lambda each: try_fault(each, copies, sample), faults), strict=True):
            missed += not verdict.caught
            exact += verdict.caught and bool(fault.claims)
            state = "caught" if verdict.caught else "MISSED"
            print(
                f"{state}  {fault.id:34} {fault.level:12} {verdict.seconds:5.1f} s  {verdict.reason[:90]}", flush=True
            )
            for test in verdict.silent:
                print(f"        no failure of {test}", flush=True)
            for line in told(verdict):
                print(f"        {line}", flush=True)
    claims = {claim for fault in faults for claim in fault.claims}
    tied = sum(bool(fault.claims) for fault in faults)
    print(f"\n{len(faults) - missed} of {len(faults)} faults caught in {time.monotonic() - began:.0f} s")
    print(f"{exact} of the {tied} that name claims turned exactly those red; they name {len(claims)}")
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LookupError as error:
        print(error.args[0], file=sys.stderr)
        sys.exit(2)
