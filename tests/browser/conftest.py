"""One browser for all tests of a worker, and the page that they look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.report import page
from tests.support.browser import Browser
from tests.support.claims import Difference
from tests.support.report_results import HOSTILE, claim, document, report, run


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file address of a report of two machines and three engines, with a state of each kind and hostile text."""
    folder = tmp_path_factory.mktemp("page")
    claims = (
        claim("client-unix"),
        claim("client-tcp"),
        claim("job-name", "Job"),
        claim("job-untested", "Job"),
        claim("GET /version", "System", "api", "P0"),
        claim("POST /containers/{id}/start", "Container", "api", "P0"),
        claim("GET /containers/{id}/archive", "Container", "api", "P0"),
        *(claim(f"rule-{number}", "Rules", "api", "P1") for number in range(40)),
    )
    long = "x" * 400 + "\n" + "\n".join(f"line {number}" for number in range(80))
    runs = [
        run("test_client.py::test_unix", claims=["client-unix"], log="connected"),
        run("test_client.py::test_tcp", "failed", claims=["client-tcp"], reason=HOSTILE, log=f"{HOSTILE}\n{long}"),
        run("test_client.py::test_tcp_again", claims=["client-tcp"]),
        run("test_job.py::test_name", "skipped", claims=["job-name"], reason="needs overlay"),
        run("test_version.py::test_fields", claims=["GET /version"], parameters="cli"),
        run("test_start.py::test_start", claims=["POST /containers/{id}/start"]),
        run("test_cp.py::test_cp", "pending", claims=["GET /containers/{id}/archive"], reason="cp is not built yet"),
        *(run(f"test_rules.py::test_{number}", claims=[f"rule-{number}"]) for number in range(40)),
    ]
    reference = [{**each, "engine": "docker", "outcome": "passed", "reason": ""} for each in runs]
    reference[4] |= {"outcome": "skipped", "reason": "known difference: an older one"}
    kernel = [
        run("test_mounts.py::test_bind", level="kernel", engine=""),
        run("test_mounts.py::test_idmap", "skipped", level="kernel", engine="", reason="needs idmapped-mounts"),
    ]
    made = report(
        folder,
        document(*runs, *reference, *kernel, **{"docker version": "20.10.24"}),
        document(*(each for each in runs if "client" in str(each["test"])), name="guest with kernel 5.10", cgroup="v1"),
        claims=claims,
        differences=(Difference("tests/conformance/test_version.py::test_fields", "docker", "an older one"),),
    )
    path = folder / "report.html"
    path.write_text(page.render(made), "utf-8")
    return path.as_uri()


@pytest.fixture
def browser(chromium: Browser, address: str) -> Iterator[Browser]:
    """The browser with the page newly opened, on a desk. Whatever the page complains of fails the test."""
    chromium.window(1280, 900)
    chromium.media()
    chromium.open(address)
    yield chromium
    assert chromium.complaints() == []
    assert chromium.evaluate("() => window.hacked") is None
