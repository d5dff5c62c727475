"""The report: how results are merged, what decides a cell, in which order things stand, and that text stays text."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path

import pytest

from tests.report import __main__ as command
from tests.report import markdown, page, read, sections, words
from tests.report.markup import data, h
from tests.report.merge import as_json
from tests.report.model import Report, natural, short_commits, slug, worst
from tests.support.claims import Difference, Pending
from tests.support.report_results import HOSTILE, claim, document, report, run


def states(made: Report) -> dict[str, list[str]]:
    """What each row of the table says."""
    return {each.id: [cell.state for cell in row] for each, row in zip(made.claims, made.cells, strict=True)}


@pytest.mark.parametrize(
    ("outcomes", "state", "figure"),
    [
        (["passed", "passed"], "pass", "2"),
        (["passed", "skipped"], "skip", "1/2"),
        (["passed", "pending", "skipped"], "pending", "1/3"),
        (["pending", "failed", "passed", "failed"], "fail", "2/4"),
    ],
)
def test_the_worst_test_decides_the_cell(tmp_path: Path, outcomes: list[str], state: str, figure: str) -> None:
    runs = [run(f"test_a.py::test_{i}", outcome, claims=["a"]) for i, outcome in enumerate(outcomes)]
    made = report(tmp_path, document(*runs), claims=(claim("a"),))
    assert made.cells[0][0].state == state
    assert made.cells[0][0].figure == figure
    assert made.runs[made.cells[0][0].runs[0]].state == state


def test_worst_of_nothing_is_not_run() -> None:
    assert worst([]) == "not run"


def test_a_known_difference_is_a_state_of_its_own(tmp_path: Path) -> None:
    here = run("t.py::a", "skipped", engine="podman", claims=["a"], reason="known difference: podman says 500")
    made = report(tmp_path, document(here), claims=(claim("a"),))
    assert states(made) == {"a": ["differs"]}
    assert page.reasons(made, made.cells[0]) == [("differs", "podman says 500")]


def test_no_test_and_not_run_are_told_apart(tmp_path: Path) -> None:
    made = report(
        tmp_path,
        document(run("t.py::a", claims=["a"]), run("t.py::b", claims=["b"], engine="docker")),
        claims=(claim("a"), claim("b"), claim("written"), claim("nobody")),
        written=("written",),
    )
    assert states(made) == {
        "a": ["pass", "not run"],
        "b": ["not run", "pass"],
        "written": ["not run", "not run"],
        "nobody": ["no test", "no test"],
    }


def test_a_claim_that_no_client_can_see_asks_nothing_of_others(tmp_path: Path) -> None:
    made = report(
        tmp_path,
        document(
            run("t.py::a", claims=["a"], engine="docker"),
            run("t.py::b", claims=["inside"], level="kernel", engine=""),
            run("t.py::c", claims=["jobs"], only="pyker"),
            run("t.py::d", claims=["both"]),
        ),
        claims=(claim("a"), claim("inside"), claim("jobs"), claim("both"), claim("below", level="unit")),
        written=("below",),
    )
    assert states(made) == {
        "a": ["not run", "pass"],
        "inside": ["pass", "n/a"],
        "jobs": ["pass", "n/a"],
        "both": ["pass", "not run"],
        "below": ["not run", "n/a"],
    }


def test_columns_stand_in_order(tmp_path: Path) -> None:
    def on(name: str, *engines: str) -> dict[str, object]:
        return document(*(run("t.py::a", engine=engine, claims=["a"]) for engine in engines), name=name)

    made = report(
        tmp_path,
        on("v2-6.12", "pyker"),
        on("v1-5.10", "pyker"),
        on("this host", "podman", "docker:28", "pyker", "docker:26", "docker"),
        claims=(claim("a"),),
        guests=("v1-5.10", "v2-6.12"),
    )
    assert [column.label for column in made.columns] == [
        "Pyker on this host",
        "dockerd on this host",
        "dockerd 26 on this host",
        "dockerd 28 on this host",
        "Podman on this host",
        "Pyker on v1-5.10",
        "Pyker on v2-6.12",
    ]


def test_rows_stand_in_the_order_of_the_list(tmp_path: Path) -> None:
    listed = (
        claim("z", "Job"),
        claim("a", "Engine"),
        claim("POST /b", "Container", "api", "P0"),
        claim("GET /a", "Container", "api", "P1"),
    )
    made = report(tmp_path, document(run("t.py::a", claims=["a"])), claims=listed)
    assert [each.id for each in made.claims] == ["z", "a", "POST /b", "GET /a"]
    assert made.sections() == [("document", "Job", [0]), ("document", "Engine", [1]), ("api", "Container", [2, 3])]
    text = page.render(made)
    places = [text.index(f'id="{address}"') for address in ("z", "a", "post-b", "get-a")]
    assert places == sorted(places)


def test_an_unknown_claim_gets_a_row_and_a_notice(tmp_path: Path) -> None:
    made = report(tmp_path, document(run("t.py::a", "failed", claims=["a", "strange"])), claims=(claim("a"),))
    assert states(made) == {"a": ["fail"], "strange": ["fail"]}
    assert not made.claims[1].known
    assert any("strange" in notice for notice in made.notices)
    assert "strange" in page.render(made)


def test_the_later_file_wins_test_by_test(tmp_path: Path) -> None:
    first = document(run("t.py::a", "failed", claims=["a"]), run("t.py::b", claims=["b"]))
    made = report(tmp_path, first, document(run("t.py::a", claims=["a"])), claims=(claim("a"), claim("b")))
    assert states(made) == {"a": ["pass"], "b": ["pass"]}
    assert len(made.runs) == 2


def test_cases_of_one_test_are_not_confused(tmp_path: Path) -> None:
    runs = [
        run("t.py::a", outcome, parameters=case, claims=["a"]) for case, outcome in (("x", "passed"), ("y", "failed"))
    ]
    made = report(tmp_path, document(*runs), claims=(claim("a"),))
    assert made.cells[0][0].counts == {"pass": 1, "fail": 1}


def test_results_of_two_commits_are_said_to_be(tmp_path: Path) -> None:
    made = report(
        tmp_path,
        document(run("t.py::a"), commit="aaa", graphdriver="unknown"),
        document(run("t.py::b"), commit="bbb"),
        document(run("t.py::c"), commit="aaa", graphdriver="unknown"),
    )
    assert made.environments[0].facts["commit"] == "aaa; bbb"
    assert short_commits(f"aaa; {'5a' * 20}") == "aaa; 5a5a5a5a5a5a"
    assert made.environments[0].facts["graphdriver"] == "overlay2"
    assert any("aaa; bbb" in notice for notice in made.notices)


def test_other_levels_stay_out_of_the_table_unless_they_name_a_claim(tmp_path: Path) -> None:
    made = report(
        tmp_path,
        document(
            run("t.py::a", claims=["a"], level="kernel", engine=""),
            run("t.py::b", "failed", level="kernel", engine=""),
            run("t.py::c", "failed", level="docker-py", engine="docker", claims=["a"]),
        ),
        claims=(claim("a"),),
    )
    assert states(made) == {"a": ["pass"]}
    assert made.totals(0).tests == {"pass": 1}
    assert made.failed_cells() == 1


def test_totals_count_claims_and_tests(tmp_path: Path) -> None:
    made = report(
        tmp_path,
        document(
            run("t.py::a", claims=["a", "b"]),
            run("t.py::b", "pending", claims=["b"], reason="not built yet"),
            run("t.py::c"),
        ),
        claims=(claim("a"), claim("b"), claim("c")),
    )
    totals = made.totals(0)
    assert (totals.met, totals.claims) == (1, {"pass": 1, "pending": 1, "no test": 1})
    assert totals.tests == {"pass": 2, "pending": 1}


def test_the_verdict_says_how_many_and_whether_any_fails(tmp_path: Path) -> None:
    runs = [run("t.py::a", claims=["a"]), run("t.py::a", claims=["a"], engine="docker")]
    good = document(*runs)
    said = words.verdict(report(tmp_path, good, claims=(claim("a"), claim("b"))))
    assert said.state == "pass"
    assert said.headline == "Pyker meets 1 of 2 claims on this host; no claim fails."
    assert "meets 1 claim and fails none; of those that it meets, Pyker meets 1." in said.rest
    good["runs"] = [*runs, run("t.py::b", claims=["b"])]
    bad = document(run("t.py::a", "failed", claims=["a"]), name="a guest")
    said = words.verdict(report(tmp_path, good, bad, claims=(claim("a"), claim("b"))))
    assert said.state == "fail"
    assert said.headline == "Pyker meets 2 of 2 claims on this host. There and on 1 other machine, 1 claim fails."


def test_without_pyker_there_is_no_verdict_on_it(tmp_path: Path) -> None:
    made = report(tmp_path, document(run("t.py::a", engine="docker", claims=["a"])), claims=(claim("a"),))
    assert words.verdict(made).state == "not run"


def test_pending_tests_that_did_not_run_are_listed_too(tmp_path: Path) -> None:
    made = report(
        tmp_path,
        document(
            run("t.py::a", "pending", claims=["a"], reason="cp is not built yet"),
            run("t.py::d", engine="docker", claims=["a"]),
        ),
        claims=(claim("a"),),
        pending=(
            Pending("tests/conformance/t.py::a", "cp is not built yet"),
            Pending("tests/conformance/t.py::other", "build is not built yet"),
        ),
        differences=(
            Difference("tests/conformance/t.py::d", "docker", "the kernel", ("20.10",), ("root",)),
            Difference("tests/conformance/t.py::e", "docker", "the kernel", ("20.10",), ("root",)),
            Difference("tests/conformance/t.py::f", "podman", "who is not here"),
        ),
    )
    assert sections.difference_rows(made) == [
        ("dockerd 20.10, without root", "the kernel", ["tests/conformance/t.py::d", "tests/conformance/t.py::e"])
    ]
    for text in (page.render(made), markdown.render(made)):
        assert "build is not built yet" in text
        assert text.count("cp is not built yet") >= 1
        assert "dockerd 20.10, without root" in text


def test_docker_py_is_counted_apart(tmp_path: Path) -> None:
    made = report(
        tmp_path,
        document(
            run("a.py::one", level="docker-py", engine="docker"),
            run("a.py::two", "failed", level="docker-py", engine="docker", reason="AssertionError"),
            run("a.py::one", "failed", level="docker-py", reason="500 for a volume"),
            run("a.py::two", "failed", level="docker-py", reason="AssertionError"),
        ),
        docker_py_fails={"tests/conformance/a.py::two": "no such capability here"},
    )
    text = page.render(made)
    assert "<strong>1</strong> of 2" in text and "<strong>0</strong> of 2" in text
    assert text.index("Not passed on the reference") < text.index("no such capability here")
    assert text.index("Passed on the reference, not on Pyker") < text.index("500 for a volume")
    assert "**1** of 2" in markdown.render(made)


# ---- text stays text


class Scripts(html.parser.HTMLParser):
    """What a browser would run: script elements, and attributes that hold script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str | None] = []
        self.handlers: list[str] = []
        self.images = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.scripts.append(dict(attributes).get("type"))
        self.images += tag == "img"
        self.handlers += [name for name, _ in attributes if name.startswith("on")]


def hostile(tmp_path: Path) -> Report:
    """Every text that comes from outside, at its worst."""
    rest = {"reason": HOSTILE, "log": HOSTILE, "parameters": HOSTILE}
    kernel = run(HOSTILE, "failed", level="kernel", engine="", **rest)
    client = run(HOSTILE, "failed", level="docker-py", **rest)
    loose = run(HOSTILE + "loose", "failed", **rest)
    runs = [
        run(f"{HOSTILE}{number}", outcome, claims=["a", HOSTILE], engine=engine, **rest)
        for number, (outcome, engine) in enumerate(
            [("failed", "pyker"), ("pending", "pyker"), ("skipped", HOSTILE), ("passed", "docker")]
        )
    ]
    return report(
        tmp_path,
        document(*runs, kernel, client, loose, name=HOSTILE, kernel=HOSTILE, commit=HOSTILE, **{HOSTILE: HOSTILE}),
        claims=(claim("a", HOSTILE, HOSTILE, HOSTILE),),
        pending=(Pending(HOSTILE, HOSTILE),),
        differences=(Difference(HOSTILE, HOSTILE, HOSTILE),),
    )


def test_no_text_becomes_markup(tmp_path: Path) -> None:
    text = page.render(hostile(tmp_path))
    found = Scripts(text)
    assert found.scripts == ["application/json", None]
    assert (found.handlers, found.images) == ([], 0)
    payload = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', text, re.DOTALL)
    assert payload is not None
    assert "<" not in payload[1]
    assert json.loads(payload[1])["runs"][0]["log"] == HOSTILE


def test_the_page_names_no_other_resource(tmp_path: Path) -> None:
    text = page.render(report(tmp_path, document(run("t.py::a", claims=["a"])), claims=(claim("a"),)))
    assert re.findall(r"""(?:src|href)=["']?(?!["'#])|url\(|@import|https?:""", text) == []
    assert "default-src 'none'" in html.unescape(text) and "unsafe" not in text


def test_markdown_shows_text_as_text(tmp_path: Path) -> None:
    text = markdown.render(hostile(tmp_path))
    outside = re.sub(r"(`+) .*? \1|`[^`\n]*`", "", text)
    assert "<img" not in outside and "<script" not in outside
    tables = [block.split("\n") for block in text.split("\n\n") if block.startswith("|")]
    for lines in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) == 1, lines


def test_terminal_codes_are_left_out(tmp_path: Path) -> None:
    log = "\x1b[31mred\x1b[0m \x1b]0;title\x07plain\x00\r\nnext\ttab\ud800"
    made = report(tmp_path, document(run("t.py::a", claims=["a"], log=log)), claims=(claim("a"),))
    assert made.runs[0].log == "red plain\nnext\ttab?"
    page.render(made).encode()


def test_paths_of_the_machine_are_left_out(tmp_path: Path) -> None:
    log = "[gw1] linux -- Python 3.11.2 /home/me/.venv/bin/python\n\n"
    log += f"{Path(__file__).resolve()}:3: in /var/tmp/pytest-of-me/pytest-12/popen-gw0/test_x0/a.tar and /etc/passwd"
    made = report(tmp_path, document(run("t.py::a", claims=["a"], log=log)), claims=(claim("a"),))
    assert made.runs[0].log == "tests/unit/test_report.py:3: in tmp/popen-gw0/test_x0/a.tar and /etc/passwd"


def test_markup_escapes_what_is_not_markup() -> None:
    assert h("p", "<b>", h("i", "&"), title='"<') == '<p title="&quot;&lt;">&lt;b&gt;<i>&amp;</i></p>'
    assert h("input", disabled=True, hidden=False) == "<input disabled>"
    assert data("</script>\u2028") == '"\\u003c/script\\u003e\\u2028"'


def test_addresses_are_unlike(tmp_path: Path) -> None:
    made = report(tmp_path, document(run("t.py::a")), claims=(claim("GET /a/b"), claim("GET /a-b"), claim("get a b")))
    assert [each.slug for each in made.claims] == ["get-a-b", "get-a-b-2", "get-a-b-3"]
    assert slug("POST /containers/{id}/start") == "post-containers-id-start"


def test_numbers_sort_as_numbers() -> None:
    assert sorted(["6.12", "6.1", "b", "10", "9"], key=natural) == ["6.1", "6.12", "9", "10", "b"]


# ---- files and the command


def test_the_merged_results_make_the_same_report(tmp_path: Path) -> None:
    made = report(
        tmp_path,
        document(run("t.py::a", claims=["a"]), **{"pyker version": "0.1"}),
        document(run("t.py::a", "failed", claims=["a"], reason="no"), name="guest"),
        claims=(claim("a"),),
    )
    again = report(tmp_path, json.loads(json.dumps(as_json(made))), claims=(claim("a"),))
    assert page.render(again) == page.render(made)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", 'an object with "environment" and "runs"'),
        ('{"runs": []}', 'an object with "environment" and "runs"'),
        ('{"environment": {}, "runs": [3]}', "runs[0]: expected an object, not int"),
        ('{"environment": {}, "runs": [{"test": "a"}]}', "runs[0]: lacks level, outcome"),
        (json.dumps(document(run("a", "odd"))), "outcome 'odd' is none of"),
        (json.dumps(document(run("a", claims="a"))), "runs[0]: claims: expected a list"),
        (json.dumps(document(run("a", seconds="long"))), "runs[0]: seconds: expected a number"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    path = tmp_path / "results.json"
    path.write_text(text, "utf-8")
    assert command.main([str(path), "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert says in said and str(path) in said


def test_without_results_it_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    assert command.main(["--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "nox -s conformance" in said and "nox -s lab" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("outcome", "code"), [("passed", 0), ("pending", 0), ("failed", 1)])
def test_strict_fails_when_a_cell_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], outcome: str, code: int
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document(run("t.py::a", outcome, claims=["client-tcp"]))), "utf-8")
    arguments = [str(path), "--output", str(tmp_path / "out")]
    assert command.main(arguments) == 0
    assert command.main([*arguments, "--strict"]) == code
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"results.json", "report.md", "report.html"}
    assert str(tmp_path / "out" / "report.html") in capsys.readouterr().out


def test_long_logs_keep_their_beginning_and_end(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document(run("t.py::a", log="x" * 99 + "end", claims=["client-tcp"]))), "utf-8")
    made = command.collect([path], 10)
    assert made.runs[0].log == "xxxxx\n[92 characters left out]\nxxend"


def test_guests_come_in_the_order_of_the_labs_table() -> None:
    names = read.guests(Path(__file__).parents[2] / "lab" / "machines.json")
    assert names.index("5.10-v1") < names.index("7.2-v2") < names.index("two-nodes")


def test_claims_are_found_in_the_source_of_tests(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "test_it.py").write_text(
        "import pytest\npytestmark = pytest.mark.claim('a')\n@pytest.mark.claim('b', 'GET /c')\ndef test_x(): ...\n"
    )
    (tmp_path / "other.py").write_text("x.claim('d')\n")
    assert read.claims_in_tests(tmp_path) == {"a", "b", "GET /c"}


def test_what_passed_only_when_asked_again_is_told(tmp_path: Path) -> None:
    shaky = run("t.py::shaky", claims=["a"], parameters="x", unsteady="assert 137 == 7 | twice")
    made = report(tmp_path, document(shaky, run("t.py::calm", claims=["a"])), claims=(claim("a"),))
    assert states(made) == {"a": ["pass"]}
    told = markdown.render(made)
    assert "## What is unsteady" in told
    assert "t.py::shaky[x]" in told
    assert "assert 137 == 7 \\| twice" in told
    assert 'id="report-unsteady"' in page.render(made)
    calm = report(tmp_path, document(run("t.py::calm", claims=["a"])), claims=(claim("a"),))
    assert "unsteady" not in markdown.render(calm)
