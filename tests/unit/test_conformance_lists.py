"""The suite's own parts: its lists, what it writes down, what it compares, and how it judges a planted fault."""

from __future__ import annotations

import json
import re
import tomllib
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyker.server.routes import all_routes
from tests.faults.__main__ import Fault, Verdict, judge_claims, told
from tests.support import claims, compare, results


def test_the_lists_of_the_suite_are_sound() -> None:
    listed = claims.load_claims()
    assert len(listed) > 400
    assert {claim.source for claim in listed.values()} == {"document", "api"}
    assert all(claim.sentence and claim.section for claim in listed.values())
    assert all(claim.priority for claim in listed.values() if claim.source == "api")
    assert all(entry.reason for entry in (*claims.load_pending(), *claims.load_differences()))
    claims.check_listed([entry.test for entry in claims.load_pending()], [], whole=False)


# The headings of docs/seed.md, in its order, without what is in brackets, and the section of claims that each became.
SECTIONS = (
    ("Docker总体框架结构", "The framework as a whole"),
    ("Docker Client", "Docker Client"),
    ("Docker Daemon", "Docker Daemon"),
    ("Docker Server", "Docker Server"),
    ("Engine", "Engine"),
    ("Job", "Job"),
    ("Docker Registry", "Docker Registry"),
    ("Graph", "Graph"),
    ("Driver", "Driver"),
    ("graphdriver", "graphdriver"),
    ("networkdriver", "networkdriver"),
    ("execdriver", "execdriver"),
    ("libcontainer", "libcontainer"),
    ("Docker container", "Docker container"),
    ("Client/Server/Engine", "Client, Server, Engine"),
    ("Docker Registry", "Finding an image"),
    ("Graph Driver", "overlay2"),
    ("Rootfs", "Rootfs"),
    ("Network Driver", "Network Driver"),
    ("Libcontainer-netlink", "Libcontainer: netlink"),
    ("Exec Driver", "Exec Driver"),
    ("Libcontainer-namespace/cgroup", "Libcontainer: namespace and cgroup"),
    ("docker pull", "Example: docker pull"),
    ("docker run", "Example: docker run"),
)
# These have no sentence of their own: they only announce the headings below them.
ANNOUNCING = {"框架结构中各模块的功能与实现分析", "框架总结", "举例"}


def test_the_claims_are_in_the_order_of_the_document() -> None:
    """Every heading of it has claims, and the claims of the API come after them, endpoints first."""
    page = (claims.TREE / "docs" / "seed.md").read_text(encoding="utf-8")
    headings = [text for text in re.findall(r"^#+ *([^\n\uff08]+)", page, re.MULTILINE) if text not in ANNOUNCING]
    assert headings == [heading for heading, _ in SECTIONS]
    listed = list(claims.load_claims().values())
    sections = list(dict.fromkeys((claim.source, claim.section) for claim in listed))
    assert len(sections) == len([key for key, _ in groupby((claim.source, claim.section) for claim in listed)])
    assert sections[: len(SECTIONS)] == [("document", section) for _, section in SECTIONS]
    assert {source for source, _ in sections[len(SECTIONS) :]} == {"api"}
    endpoints = [claim.id[:1].isupper() for claim in listed if claim.source == "api"]
    assert endpoints == sorted(endpoints, reverse=True)


# What the router knows, and no client of these days has to have: P2 in the checklist, or Pyker's own.
BEYOND = re.compile(r"/(plugins/|swarm|nodes|services|tasks|secrets|configs|pyker/|debug/)|/attach/ws$|^OPTIONS ")


def test_every_endpoint_is_a_claim_and_every_such_claim_an_endpoint() -> None:
    """Claims name endpoints as the API's documents do: ``{id}`` for a container, an exec or a network."""

    def plain(endpoint: str) -> str:
        return re.sub(r"\{[^}]*\}", "{}", endpoint).rstrip("/")

    routed = {
        plain(f"{route.method} {route.pattern}")
        for route in all_routes()
        if not BEYOND.search(f"{route.method} {route.pattern}")
    }
    claimed = [claim for claim in claims.load_claims().values() if claim.source == "api" and claim.id[:1].isupper()]
    assert {plain(claim.id) for claim in claimed} == routed
    # Two endpoints that BuildKit needs are one row of the checklist, and a third is named above its table.
    assert len(claimed) == 65 + 2


def test_the_claims_of_the_faults_are_claims() -> None:
    listed = tomllib.loads((claims.TREE / "tests" / "faults" / "faults.toml").read_text(encoding="utf-8"))
    tied = [fault for fault in listed["fault"] if fault.get("claims")]
    assert len(tied) >= 12
    assert {claim for fault in tied for claim in fault["claims"]} <= set(claims.load_claims())


def test_the_faults_are_where_the_list_says() -> None:
    """Whoever changes such a line says how the fault is planted now."""
    listed = tomllib.loads((claims.TREE / "tests" / "faults" / "faults.toml").read_text(encoding="utf-8"))
    for fault in map(Fault.load, listed["fault"]):
        assert (claims.TREE / fault.file).read_text(encoding="utf-8").count(fault.old) == 1, fault.id
    claims.check_listed([test for fault in listed["fault"] for test in fault["tests"]], [], whole=False)
    claims.check_listed(listed["sample"], [], whole=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[claim]]\nid = "a"\nsource = "api"\nsection = "s"\nsentence = "x"\n' * 2, "'a' is there twice"),
        ('[[claim]]\nid = "a"\n', "missing"),
        ('[[claim]]\nid = "a"\nsource = "api"\nsection = "s"\nsentence = "x"\nbogus = 1\n', "bogus"),
    ],
)
def test_claims_that_cannot_be(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "claims.toml").write_text(text)
    with pytest.raises(claims.WrongList, match=words):
        claims.load_claims(tmp_path / "claims.toml")


def item(nodeid: str, engine: str = "pyker", **marks: tuple[str, ...]) -> Any:
    parameters = nodeid.partition("[")[2].removesuffix("]")
    return SimpleNamespace(
        nodeid=nodeid,
        callspec=SimpleNamespace(params={"engine": engine}, id=parameters),
        iter_markers=lambda name: [SimpleNamespace(args=each) for each in marks.get(name, ())],
    )


def test_an_entry_means_a_test_or_one_of_its_cases() -> None:
    case = item("t/test_a.py::test_b[pyker-x-1]")
    assert claims.parameters_of(case) == "x-1"
    assert claims.names("t/test_a.py::test_b", case)
    assert claims.names("t/test_a.py::test_b[x-1]", case)
    assert not claims.names("t/test_a.py::test_b[x-2]", case)
    assert not claims.names("t/test_a.py::test_bb", case)
    # A parameter may be called as an engine is.
    assert claims.parameters_of(item("t/test_a.py::test_b[docker-docker]", "docker")) == "docker"
    assert claims.parameters_of(item("t/test_a.py::test_b[docker-pyker-1]", "pyker")) == "docker-1"
    assert claims.parameters_of(item("t/test_a.py::test_b[pyker--x]", "pyker")) == "-x"
    assert claims.parameters_of(item("t/test_a.py::test_b[pyker]", "pyker")) == ""


def test_what_is_listed_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("def test_b(): ...\nclass TestC:\n    def test_d(self): ...\n")
    claims.check_listed(["test_a.py::test_b", "test_a.py::TestC::test_d"], [], whole=True, tree=tmp_path)
    for gone in ("test_a.py::test_x", "test_z.py::test_b", "test_a.py::TestC"):
        with pytest.raises(claims.WrongList, match="not there"):
            claims.check_listed([gone], [], whole=True, tree=tmp_path)
    cases = [item("test_a.py::test_b[pyker-1]"), item("test_a.py::test_b[pyker-2]")]
    claims.check_listed(["test_a.py::test_b[2]"], cases, whole=True, tree=tmp_path)
    with pytest.raises(claims.WrongList, match="its cases are 1, 2"):
        claims.check_listed(["test_a.py::test_b[3]"], cases, whole=True, tree=tmp_path)


def test_one_reason_may_be_that_of_several_tests(tmp_path: Path) -> None:
    path = tmp_path / "known-differences.toml"
    path.write_text('[[difference]]\nengine = "podman"\nreason = "r"\ntests = ["a", "b[c]"]\n')
    found = claims.load_differences(path)
    assert found == [claims.Difference("a", "podman", "r"), claims.Difference("b[c]", "podman", "r")]
    path.write_text('[[difference]]\nengine = "podman"\nreason = "r"\ntests = []\n')
    with pytest.raises(claims.WrongList, match="test"):
        claims.load_differences(path)


def test_a_difference_may_be_of_some_tests_of_a_file(tmp_path: Path) -> None:
    assert claims.names("t/test_a.py", item("t/test_a.py::test_b[podman-1]", "podman"))
    assert not claims.names("t/test_a.py", item("t/test_aa.py::test_b[podman]", "podman"))
    (tmp_path / "test_a.py").write_text("def test_b(): ...\n")
    claims.check_listed(["test_a.py"], [], whole=True, tree=tmp_path)
    with pytest.raises(claims.WrongList, match="not there"):
        claims.check_listed(["test_z.py"], [], whole=True, tree=tmp_path)
    rows = tmp_path / "known-differences.toml"
    rows.write_text('[[difference]]\nengine = "podman"\nreason = "r"\ntest = "test_a.py"\n')
    assert claims.load_differences(rows) == [claims.Difference("test_a.py", "podman", "r")]
    rows.write_text(rows.read_text().replace("podman", "docker:28"))
    with pytest.raises(claims.WrongList, match="no test; a whole file is only of engines other than"):
        claims.load_differences(rows)


def test_a_difference_is_of_an_engine_a_version_and_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "version", lambda kind: kind.partition(":")[2] or "20.10.24")
    monkeypatch.setattr(claims.capabilities, "has", lambda name: name == "had")
    plain = claims.Difference("t", "docker", "r")
    assert plain.concerns("docker") and plain.concerns("docker:28") and not plain.concerns("pyker")
    assert not claims.Difference("t", "docker:28", "r").concerns("docker")
    old = claims.Difference("t", "docker", "r", versions=("20.",))
    assert old.concerns("docker") and not old.concerns("docker:28")
    assert claims.Difference("t", "docker", "r", lacks=("had", "lacked")).concerns("docker")
    assert not claims.Difference("t", "docker", "r", lacks=("had",)).concerns("docker")


def report(when: str, outcome: str, text: str = "", expected: str | None = None) -> Any:
    made = pytest.TestReport(
        nodeid="tests/conformance/test_a.py::test_b[docker-1]",
        location=("", 0, ""),
        keywords={},
        outcome=outcome,  # type: ignore[arg-type]
        longrepr=("file", 1, text) if outcome == "skipped" and expected is None else text or None,  # type: ignore[arg-type]
        when=when,  # type: ignore[arg-type]
        duration=0.25,
    )
    made.user_properties = [("engine", "docker"), ("parameters", "1"), ("claims", ["a"]), ("fact:docker version", "9")]
    if expected is not None:
        made.wasxfail = expected
    return made


@pytest.mark.parametrize(
    ("reports", "outcome", "reason"),
    [
        ([("setup", "passed"), ("call", "passed"), ("teardown", "passed")], "passed", ""),
        ([("setup", "passed"), ("call", "failed", "it broke"), ("teardown", "passed")], "failed", "it broke"),
        ([("setup", "passed"), ("call", "passed"), ("teardown", "failed", "left a")], "failed", "teardown: left a"),
        ([("setup", "skipped", "Skipped: needs x"), ("teardown", "passed")], "skipped", "needs x"),
        ([("setup", "passed"), ("call", "skipped", "", "pending: no cp"), ("teardown", "passed")], "pending", "no cp"),
        (
            [("setup", "passed"), ("call", "skipped", "", "known difference: old"), ("teardown", "passed")],
            "skipped",
            "known difference: old",
        ),
    ],
)
def test_outcomes(tmp_path: Path, reports: list[tuple[str, ...]], outcome: str, reason: str) -> None:
    writer = results.Results(tmp_path / "deep" / "r.json")
    for each in reports:
        writer.pytest_runtest_logreport(report(*each))
    writer.pytest_sessionfinish()
    written = json.loads((tmp_path / "deep" / "r.json").read_text())
    [run] = written["runs"]
    assert (run["outcome"], run["reason"]) == (outcome, reason)
    assert (run["test"], run["parameters"], run["engine"]) == ("tests/conformance/test_a.py::test_b", "1", "docker")
    assert (run["level"], run["claims"], run["seconds"]) == ("conformance", ["a"], 0.25 * len(reports))
    assert written["environment"]["docker version"] == "9"
    assert {"name", "kernel", "distribution", "cgroup", "graphdriver", "python", "commit"} <= set(
        written["environment"]
    )


ENGINE: Any = SimpleNamespace(
    data_root=Path("/tmp/e/data"), socket="/tmp/e/engine.sock", root=Path("/tmp/e"), cgroup_parent="/pktest-1-e"
)


def test_what_must_differ_is_replaced_and_keeps_its_identity() -> None:
    one, two = "1a" * 32, "2b" * 32

    def said(first: str, second: str) -> str:
        return compare.normalise(f"{first} {second} {first[:12]} at 172.17.0.2 2026-01-02T03:04:05.6Z", ENGINE)

    assert said(one, two) == said(two, one) == "<id1> <id2> <id1> at <address1> <time1>"
    assert said(one, one) != said(one, two)
    assert compare.normalise("/tmp/e/data/x /tmp/e/engine.sock", ENGINE) == "<data>/x <socket>"
    assert compare.normalise(compare.ZERO_TIME, ENGINE) == compare.ZERO_TIME
    assert compare.normalise(f"sha256:{one}", ENGINE) == f"sha256:{one}"
    assert compare.normalise("exit 3, 8080/tcp, feedface", ENGINE) == "exit 3, 8080/tcp, feedface"
    assert compare.normalise("Up 3 seconds   1.98MB", ENGINE) == "Up <ago>  <size>"


def test_shapes_tell_null_empty_and_absent_apart() -> None:
    shapes = [compare.shape(each) for each in ({"a": None}, {"a": []}, {"a": {}}, {}, {"a": ""}, {"a": 1}, {"a": True})]
    assert len({json.dumps(each) for each in shapes}) == len(shapes)
    assert compare.shape({"a": compare.ZERO_TIME}) != compare.shape({"a": "2026-01-01T00:00:00Z"})
    assert compare.shape([{"a": 1}, {"a": 2}]) == compare.shape([{"a": 3}])
    assert compare.shape([{"a": 1}, {"b": 2}]) != compare.shape([{"a": 3}])


def test_fields_are_left_out_by_their_paths() -> None:
    value = {"a": 1, "b": {"c": 2, "d": [{"e": 3, "f": 4}]}}
    assert compare.without(value, ["a", "b.d.e"]) == {"b": {"c": 2, "d": [{"f": 4}]}}


@pytest.mark.parametrize(
    ("failed", "unproven", "astray"),
    [
        ([("conformance", ["c"])], (), ()),
        ([("kernel", [])], ("c",), ()),
        ([("conformance", ["c"]), ("conformance", ["other"])], (), ("t1",)),
        ([("conformance", ["c", "other"]), ("unit", [])], (), ()),
        ([], ("c",), ()),
    ],
)
def test_a_fault_is_caught_by_its_claims_alone(
    failed: list[tuple[str, list[str]]], unproven: tuple[str, ...], astray: tuple[str, ...]
) -> None:
    fault = Fault("id", "says", "conformance", "file", "old", "new", ("t",), ("c",))
    runs = [
        {"outcome": "failed", "level": level, "claims": named, "test": f"t{number}"}
        for number, (level, named) in enumerate(failed)
    ]
    verdict = judge_claims(fault, Verdict(True, (), "", 0.0), runs)
    assert (verdict.unproven, verdict.astray) == (unproven, astray)
    assert verdict.caught is (not unproven and not astray)
    lines = list(told(verdict))
    assert len(lines) == 1 + max(len(astray), 1) and ("NOT" in lines[0]) is bool(unproven)
    assert lines[-1].startswith("NOT one of its claims" if astray else "nothing else is: 0 tests")
