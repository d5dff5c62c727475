"""The project's tasks. ``nox`` alone runs what a developer wants before a commit, in under three minutes.

Every session uses the environment that ``tools/bootstrap --tests`` made; none installs anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "imports", "unit", "contracts", "kernel", "api"]

PACKAGES = ("pyker", "tests", "bench", "lab", "tools", "noxfile.py")
WORKERS = os.environ.get("PYKER_TEST_WORKERS", "2")


def _module(session: nox.Session, *arguments: str) -> None:
    session.run(sys.executable, "-m", *arguments, external=True)


def _pytest(
    session: nox.Session,
    level: str,
    *extra: str,
    whole: Sequence[str] = (),
    timeout_s: int = 120,
    workers: str = WORKERS,
) -> None:
    """A whole level with a second look (tests/support/second_look.py), or just what was asked for.

    ``extra`` is for either; ``whole`` says what the whole level is, if that is not all of its folder.
    """
    always = [f"--timeout={timeout_s}", *extra]
    if session.posargs:
        _module(session, "pytest", "-q", "-p", "no:cacheprovider", "-n", workers, *always, *session.posargs)
    else:
        results = f"build/results/{level}.json"
        _module(session, "tests.support.second_look", results, workers, *always, *(whole or [f"tests/{level}"]))


@nox.session
def lint(session: nox.Session) -> None:
    """Style by ruff, and the layers by import-linter."""
    present = [name for name in PACKAGES if Path(name).exists()]
    _module(session, "ruff", "check", *present)
    _module(session, "ruff", "format", "--check", *present)
    session.run(str(Path(sys.executable).with_name("lint-imports")), external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Types by mypy --strict, over the package, the tests' support code, the report and the lab."""
    _module(session, "mypy", "--strict", "pyker", "tests/support", "tests/report", "lab")


@nox.session
def imports(session: nox.Session) -> None:
    """Import diet: what a start of the client and of the launcher may not import."""
    _module(session, "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_import_diet.py")


@nox.session
def unit(session: nox.Session) -> None:
    """Pure code: no root, no network, seconds."""
    _pytest(session, "unit")


@nox.session
def contracts(session: nox.Session) -> None:
    """One suite a Protocol, run on every implementation."""
    _pytest(session, "contracts")


@nox.session
def kernel(session: nox.Session) -> None:
    """Real system calls: namespaces, mounts, cgroups, seccomp, netlink, nftables. Needs root."""
    _pytest(session, "kernel", whole=["-m", "not slow", "tests/kernel"])


@nox.session
def api(session: nox.Session) -> None:
    """A whole daemon over HTTP. Needs root."""
    _pytest(session, "api", whole=["-m", "not slow", "tests/api"])


@nox.session
def slow(session: nox.Session) -> None:
    """What takes long of the levels kernel and api, so that a plain ``nox`` stays short."""
    _pytest(session, "slow", whole=["-m", "slow", "tests/kernel", "tests/api"])


@nox.session
def conformance(session: nox.Session) -> None:
    """The same tests on dockerd and on Pyker; ``-- --engine pyker`` chooses one. Results are in build/results/."""
    engines = [] if session.posargs else ["--engine", "docker", "--engine", "pyker"]
    # --engine is known where the level's conftest.py is: without a path of its own, what was asked for is of all of it.
    named = any("tests/conformance" in each for each in session.posargs)
    chosen = ["tests/conformance"] if session.posargs and not named else []
    _pytest(session, "conformance", *engines, *chosen, timeout_s=180)


@nox.session
def report(session: nox.Session) -> None:
    """Make build/report/report.html of build/results/. ``-- --output DIR``, ``-- --strict``, ``-- --help``."""
    _module(session, "tests.report", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """The report's page in headless Chromium."""
    _pytest(session, "browser", workers="0")


@nox.session
def lab(session: nox.Session) -> None:
    """The suites in virtual machines of several kernels; ``-- --help`` and docs/lab.md say more. Needs root."""
    # It ends with nox, however that ends; and after Ctrl-C it has the time to give everything back.
    argv = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "lab", *session.posargs]
    session.run(*argv, external=True, interrupt_timeout=120, terminate_timeout=30)


@nox.session
def labtests(session: nox.Session) -> None:
    """The lab put to the test: guests that hang, die and fail, Ctrl-C, promises broken. Needs the lab, and root."""
    # One after the other, and never again: each has whole guests, and ends them in its own way.
    chosen = session.posargs or ["tests/lab/live"]
    _module(session, "pytest", "-q", "-p", "no:cacheprovider", "--timeout=900", *chosen)


@nox.session
def dockerpy(session: nox.Session) -> None:
    """docker-py's own integration tests on Pyker; ``-- --engine docker`` on another. Fetches them. Needs root."""
    _module(session, "tests.dockerpy", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Plant faults in a copy of the tree; each must turn its tests red. ``-- --only ID``, ``-- --list``. Needs root."""
    _module(session, "tests.faults", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Pyker and dockerd side by side in one run; writes bench/results/."""
    _module(session, "bench", *session.posargs)
