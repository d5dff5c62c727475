"""What is made of the results of tests that were asked again."""

from __future__ import annotations

from tests.support.report_results import run
from tests.support.second_look import merged


def test_the_second_answer_stands_and_the_first_is_kept() -> None:
    first = run("t.py::a", "failed", parameters="x", reason="assert 1 == 2", log="the first\n")
    (row,) = merged([first], [run("t.py::a", parameters="x", log="the second\n")])
    assert (row["outcome"], row["unsteady"], row["log"]) == ("passed", "assert 1 == 2", "the first\n")


def test_what_fails_again_has_failed_with_both_logs() -> None:
    first = run("t.py::a", "failed", reason="assert 1 == 2", log="the first\n")
    (row,) = merged([first], [run("t.py::a", "failed", reason="assert 1 == 3", log="the second\n")])
    assert (row["outcome"], row["reason"]) == ("failed", "assert 1 == 3")
    assert "unsteady" not in row
    assert row["log"].startswith("the first\n") and row["log"].endswith("the second\n")


def test_other_rows_stay() -> None:
    """Even where the second look tells of them: another case, another engine, one that did not fail."""
    rows = [
        run("t.py::a", "failed", parameters="x"),
        run("t.py::a", "failed", parameters="y", engine="docker"),
        run("t.py::b", "pending"),
    ]
    again = [run("t.py::a", parameters="y"), run("t.py::b"), run("t.py::c")]
    assert merged(rows, again) == rows
