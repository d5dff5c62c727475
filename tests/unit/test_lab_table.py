"""The lab's table: what it promises, what contradicts itself, and what is made from it."""

from __future__ import annotations

import ast
import json
import re

import pytest

from lab import workflow
from lab.runner import LEVELS, shared
from lab.table import TABLE, Guest, LabError, parse, table
from tests.support import capabilities
from tests.support.claims import load_claims


def test_the_guests_that_were_promised() -> None:
    kernels = {(guest.kernel, guest.cgroup) for guest in table().guests}
    assert {("5.10", "v1"), ("6.1", "v1"), ("6.1", "v2"), ("6.12", "v2"), ("7.2", "v2")} <= kernels
    assert {"overlay2", "vfs"} <= {guest.graphdriver for guest in table().guests}


def test_what_it_promises_is_something_that_tests_can_ask_for() -> None:
    for guest in table().guests:
        for capability in table().promised(guest):
            assert capability in capabilities.NAMES, (guest.name, capability)


def test_a_guest_is_promised_what_all_have_and_what_its_cgroup_mode_brings() -> None:
    old, new = table().guest("5.10-v1"), table().guest("6.12-v2")
    assert {"overlay", "cgroup-v1"} <= set(table().promised(old))
    assert "cgroup-v2" not in table().promised(old)
    assert {"overlay", "cgroup-v2"} <= set(table().promised(new))


def test_what_a_guest_lacks_is_not_promised() -> None:
    value = json.loads(TABLE.read_text())
    value["guests"][0]["lacks"] = ["overlay"]
    changed = parse(json.dumps(value).encode())
    assert "overlay" not in changed.promised(changed.guests[0])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda value: value["guests"][0].update(kernel="2.6"), "names the kernel '2.6', which is not in the table"),
        (lambda value: value["guests"][0].update(root="potato"), "names the root 'potato'"),
        (lambda value: value["guests"].append(value["guests"][0]), "is there twice"),
        (lambda value: value["guests"][0].update(name="a b"), "is not made of"),
        (lambda value: value["pairs"][0].update(guests=["6.1-v2", "none"]), "names 'none', which is no guest"),
        (lambda value: value["kernels"]["6.1"].update(folder="x"), "needs a suite and a package, or a folder"),
        (lambda value: value["guests"][0].update(cgroup="v3"), "Invalid enum value 'v3'"),
        (lambda value: value["guests"][0].update(colour="red"), "unknown field `colour`"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(change: object, complaint: str) -> None:
    value = json.loads(TABLE.read_text())
    assert callable(change)
    change(value)
    with pytest.raises(LabError, match=complaint):
        parse(json.dumps(value).encode())


def test_an_unknown_guest_is_answered_with_those_there_are() -> None:
    with pytest.raises(LabError, match=r"no guest 'nope'; there are: 5\.10-v1, "):
        table().guest("nope")


def test_the_hosted_ci_has_a_job_for_every_guest() -> None:
    text = workflow.PATH.read_text()
    assert text == workflow.render(table()), "run python -m lab.workflow"
    for guest in table().guests:
        assert (f'- "{guest.name}"' in text) is not guest.on_request


TREE = TABLE.parents[1]
WALKTHROUGHS = [f"tests/conformance/test_walkthrough_{part}.py" for part in ("pull", "run")]


def claims_by_test(path: str) -> dict[str, set[str]]:
    """The tests of a file, and what of the document each claims."""
    ours = {claim.id for claim in load_claims().values() if claim.source == "document"}
    found = {}
    for node in ast.parse((TREE / path).read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            words = {
                each.value for mark in node.decorator_list for each in ast.walk(mark) if isinstance(each, ast.Constant)
            }
            found[f"{path}::{node.name}"] = words & ours
    return found


def run_in(guest: Guest, path: str) -> set[str]:
    """The tests of a selected file that a guest does not leave to others."""
    given = shared([path], guest)
    left = {each.removeprefix("--deselect=") for each in given}
    return {test for test in claims_by_test(path) if path in given and test not in left}


@pytest.mark.parametrize("path", WALKTHROUGHS)
def test_guests_share_the_walkthroughs_and_each_version_of_cgroups_proves_the_document(path: str) -> None:
    claims = claims_by_test(path)
    guests = [guest for guest in table().guests if not guest.on_request]
    assert set.union(*(run_in(guest, path) for guest in guests)) == set(claims)
    for mode in ("v1", "v2"):
        tests = set.union(*(run_in(guest, path) for guest in guests if guest.cgroup == mode))
        proven = set.union(*(claims[test] for test in tests))
        assert set.union(*claims.values()) - proven == set(), mode
    assert len(set.union(*claims.values())) > 10


def test_what_is_left_is_there() -> None:
    for guest in table().guests:
        for test in guest.leaves:
            path, _, name = test.partition("::")
            assert not name or test in claims_by_test(path), test


def test_what_a_guest_leaves_is_taken_from_what_pytest_is_given() -> None:
    guest = Guest(
        name="x", kernel="k", cgroup="v1", root="r", graphdriver="vfs", leaves=("tests/a.py", "tests/b.py::test_one")
    )
    given = ["tests/a.py", "tests/b.py", "tests/c.py::test_two"]
    assert shared(given, guest) == ["tests/b.py", "tests/c.py::test_two", "--deselect=tests/b.py::test_one"]


def test_a_guest_cannot_leave_what_nobody_selected() -> None:
    text = re.sub(rb'("leaves": \[\s*"tests)/conformance/', rb"\1/elsewhere/", TABLE.read_bytes(), count=1)
    with pytest.raises(LabError, match=r"leaves 'tests/elsewhere/.*', which is not selected"):
        parse(text)


def test_what_is_selected_is_there_and_has_both_walkthroughs() -> None:
    selection = table().selection
    assert set(selection) == set(LEVELS)
    for level, tests in selection.items():
        for test in tests:
            path, _, name = test.partition("::")
            assert path.startswith(f"tests/{level}/"), test
            assert not name or f"def {name}(" in (TREE / path).read_text(), test
    assert set(WALKTHROUGHS) <= set(selection["conformance"])
