"""What stands below the table of claims: failures, pending tests, docker-py's suite, differences, other levels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tests.report import words
from tests.report.markup import Html, h, join
from tests.report.model import (
    REFERENCE,
    SUBJECT,
    Column,
    Report,
    Run,
    column_of,
    engine_name,
    in_matrix,
    natural,
)

LEVELS = ("unit", "contracts", "kernel", "api", "lab")


def render(report: Report) -> list[Section]:
    """The sections that have something to say."""
    made = (
        _failures(report),
        _unsteady(report),
        _pending(report),
        _docker_py(report),
        _differences(report),
        _levels(report),
        _loose(report),
        _again(),
    )
    return [section for section in made if section is not None]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page that the contents link to."""

    id: str
    title: str
    body: Html


def _section(name: str, title: str, *children: Html | None) -> Section:
    id = f"report-{name}"
    return Section(id, title, h("section", h("h2", title), *children, id=id))


def _table(head: Iterable[str], rows: Iterable[Iterable[Html | str]], class_: str = "list") -> Html:
    """The first cell of a row is its header; each cell knows its column's name, for narrow screens."""
    names = list(head)
    return h(
        "table",
        h("thead", h("tr", *(h("th", name, scope="col") for name in names))),
        h(
            "tbody",
            *(
                h(
                    "tr",
                    *(
                        h("th", cell, scope="row") if number == 0 else h("td", cell, data_label=names[number])
                        for number, cell in enumerate(row)
                    ),
                )
                for row in rows
            ),
        ),
        class_=class_,
    )


def _claim_links(report: Report, claims: Iterable[str]) -> Html:
    slugs = {claim.id: claim.slug for claim in report.claims}
    return join(
        *(h("a", id, href=f"#{slugs[id]}", class_="id") if id in slugs else h("code", id) for id in claims), by=", "
    )


def failures(report: Report) -> list[Run]:
    """The failed runs that the table of claims counts."""
    failed = [run for run in report.runs if in_matrix(run) and run.outcome == "failed"]
    places = list(report.columns)
    return sorted(failed, key=lambda run: (places.index(column_of(run)), run.test, run.parameters))


def _failures(report: Report) -> Section | None:
    return _of_runs(report, "failures", "What fails", "Reason", [(run, run.why) for run in failures(report)])


def unsteady(report: Report) -> list[Run]:
    """The runs that passed only when they were asked again, by themselves."""
    return sorted((run for run in report.runs if run.unsteady), key=lambda run: (run.test, run.parameters))


def _unsteady(report: Report) -> Section | None:
    found = [(run, run.unsteady) for run in unsteady(report)]
    return _of_runs(report, "unsteady", "What is unsteady", "What it said first, beside others", found)


def _of_runs(report: Report, name: str, title: str, said: str, runs: Iterable[tuple[Run, str]]) -> Section | None:
    """Runs, each with what it said; None if there are none."""
    rows = [
        (
            h("code", words.full_name(run)),
            words.place(run),
            _claim_links(report, run.claims) or words.NOTHING,
            text or words.NOTHING,
        )
        for run, text in runs
    ]
    return _section(name, title, _table(("Test", "Where", "Claims", said), rows)) if rows else None


def pending_by_reason(report: Report) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Reason, and the tests that it holds back with their claims: those that ran, and what else the list names."""
    found: dict[str, dict[str, list[str]]] = {}
    seen = set()
    for run in report.runs:
        if run.outcome == "pending" and in_matrix(run):
            seen.add(run.test)
            tests = found.setdefault(run.why or "no reason given", {})
            tests.setdefault(run.test, []).extend(id for id in run.claims if id not in tests.get(run.test, []))
    for each in report.pending:
        if each.test.split("[", 1)[0] not in seen:
            found.setdefault(each.reason or "no reason given", {}).setdefault(each.test, [])
    return sorted(((reason, list(tests.items())) for reason, tests in found.items()), key=lambda item: -len(item[1]))


def _pending(report: Report) -> Section | None:
    groups = pending_by_reason(report)
    if not groups:
        return None
    rows = []
    for reason, tests in groups:
        claims = dict.fromkeys(id for _, ids in tests for id in ids)
        names = h(
            "details",
            h("summary", words.count(len(tests), "test")),
            h("ul", *(h("li", h("code", test)) for test, _ in tests)),
        )
        rows.append((reason, _claim_links(report, claims) or words.NOTHING, names))
    total = sum(len(tests) for _, tests in groups)
    return _section(
        "pending",
        "What is pending",
        h(
            "p",
            f"{words.count(total, 'test')} ahead of Pyker. They are right on the reference and are kept on a list that "
            "may only shrink: one that starts to pass fails the build until it leaves the list.",
        ),
        _table(("Reason", "Claims", "Tests"), rows),
    )


def docker_py_rows(report: Report) -> list[tuple[Column, Counter[str], float]]:
    """docker-py's own suite by engine and environment: outcomes, and the time that the tests took."""
    found: dict[Column, list[Run]] = {}
    for run in report.of_level("docker-py"):
        found.setdefault(column_of(run), []).append(run)
    order = {each.name: number for number, each in enumerate(report.environments)}
    columns = sorted(found, key=lambda column: (order[column.environment], natural(column.engine)))
    return [
        (column, Counter(run.outcome for run in found[column]), sum(run.seconds for run in found[column]))
        for column in columns
    ]


def docker_py_exceptions(report: Report) -> list[tuple[str, dict[str, Run]]]:
    """The tests of docker-py that did not pass on some engine, each with its runs by engine."""
    by_test: dict[str, dict[str, Run]] = {}
    for run in report.of_level("docker-py"):
        by_test.setdefault(words.full_name(run), {})[run.engine] = run
    return sorted(
        (test, runs) for test, runs in by_test.items() if any(run.outcome != "passed" for run in runs.values())
    )


def _docker_py(report: Report) -> Section | None:
    rows = docker_py_rows(report)
    if not rows:
        return None
    exceptions = docker_py_exceptions(report)
    engines = sorted(
        {run.engine for run in report.of_level("docker-py")}, key=lambda engine: (engine != REFERENCE, engine)
    )
    not_on_reference = [item for item in exceptions if REFERENCE in item[1] and item[1][REFERENCE].outcome != "passed"]
    others = [item for item in exceptions if item not in not_on_reference]
    return _section(
        "docker-py",
        "docker-py's own suite",
        h(
            "p",
            "The integration tests of Docker's own Python client, as its authors published them.",
        ),
        _table(
            ("Engine", "Passed", "Failed", "Skipped", "Time"),
            (
                (
                    column.label,
                    h("span", h("strong", str(counts["passed"])), f" of {sum(counts.values())}"),
                    str(counts["failed"] + counts["pending"]),
                    str(counts["skipped"]),
                    words.seconds(time),
                )
                for column, counts, time in rows
            ),
            "list figures",
        ),
        *_docker_py_list(report, "Not passed on the reference", not_on_reference, engines),
        *_docker_py_list(
            report, "Passed on the reference, not on Pyker" if SUBJECT in engines else "Not passed", others, engines
        ),
    )


def _docker_py_list(
    report: Report, title: str, items: list[tuple[str, dict[str, Run]]], engines: list[str]
) -> list[Html]:
    if not items:
        return []
    rows = []
    for test, runs in items:
        states = (_state(runs[engine].state) if engine in runs else words.NOTHING for engine in engines)
        rows.append((h("code", test), *states, docker_py_reason(report, test, runs)))
    table = _table(("Test", *map(engine_name, engines), "Reason"), rows)
    if len(rows) > 12:
        table = h("details", h("summary", words.count(len(rows), "test")), table)
    return [h("h3", title), table]


def docker_py_reason(report: Report, test: str, runs: dict[str, Run]) -> str:
    """Why a test fails on the reference, as the list knows it, or else what the runs say."""
    said = dict.fromkeys(run.why for run in runs.values() if run.why)
    return report.docker_py_fails.get(test) or "; ".join(said) or words.NOTHING


def _state(state: str) -> Html:
    return h("span", state, class_=f"state {state.replace(' ', '-')}")


def difference_rows(report: Report) -> list[tuple[str, str, list[str]]]:
    """Who differs, why, and the tests: one row a reason, of the engines that the report has a column for."""
    here = {name for column in report.columns for name in (column.engine, column.engine.partition(":")[0])}
    found: dict[tuple[str, str], list[str]] = {}
    for each in report.differences:
        if each.engine in here:
            found.setdefault((words.meant(each), each.reason), []).append(each.test)
    return [(who, why, tests) for (who, why), tests in found.items()]


def _differences(report: Report) -> Section | None:
    rows = difference_rows(report)
    if not rows:
        return None

    def listed(tests: list[str]) -> Html:
        names = [h("code", test.removeprefix("tests/conformance/")) for test in tests]
        if len(names) == 1:
            return names[0]
        kind = "tests" if any("::" in test for test in tests) else "files of tests"
        return h("details", h("summary", f"{len(names)} {kind}"), h("ul", *(h("li", name) for name in names)))

    return _section(
        "differences",
        "Known differences",
        h(
            "p",
            "Tests that an engine other than Pyker is known to fail, and why that is no reason to change the test.",
        ),
        _table(("Engine", "Why", "Tests"), ((who, why, listed(tests)) for who, why, tests in rows)),
    )


def level_rows(report: Report) -> list[tuple[str, str, list[Run]]]:
    """Environment, level and its runs, for the levels that are not in the table of claims."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in report.runs:
        if run.level not in ("conformance", "docker-py"):
            found.setdefault((run.environment, run.level), []).append(run)
    places = [each.name for each in report.environments]
    ordered = sorted(
        found,
        key=lambda key: (places.index(key[0]), LEVELS.index(key[1]) if key[1] in LEVELS else len(LEVELS), key[1]),
    )
    return [(environment, level, found[environment, level]) for environment, level in ordered]


def _levels(report: Report) -> Section | None:
    rows = level_rows(report)
    if not rows:
        return None
    lines = []
    for environment, level, runs in rows:
        counts = Counter(run.outcome for run in runs)
        lines.append(
            (
                environment,
                level,
                str(counts["passed"]),
                str(counts["failed"]),
                str(counts["skipped"]),
                words.seconds(sum(run.seconds for run in runs)),
                _not_passed(runs),
            )
        )
    return _section(
        "levels",
        "Other levels of tests",
        h(
            "p",
            "Pyker's own parts on the same machines: drivers held to one contract, system calls on that kernel.",
        ),
        _table(("Environment", "Level", "Passed", "Failed", "Skipped", "Time", "Not passed"), lines, "list figures"),
    )


def _not_passed(runs: list[Run]) -> Html | str:
    """Failures with their reason and log; skips by reason."""
    failed = [run for run in runs if run.outcome == "failed"]
    skipped: dict[str, int] = Counter(run.why or "no reason given" for run in runs if run.outcome == "skipped")
    items = [
        h(
            "li",
            h("code", words.full_name(run)),
            ": ",
            run.why,
            h("pre", run.log) if run.log else None,
        )
        for run in failed
    ]
    items += [h("li", f"{words.count(number, 'test')} skipped: {reason}") for reason, number in skipped.items()]
    if not items:
        return words.NOTHING
    return h("details", h("summary", "show"), h("ul", *items), open=bool(failed))


def _loose(report: Report) -> Section | None:
    """Conformance tests that name no claim: they count, so they are shown."""
    runs = [run for run in report.of_level("conformance") if not run.claims]
    if not runs:
        return None
    tests: dict[str, Counter[str]] = {}
    for run in runs:
        tests.setdefault(run.test, Counter())[f"{engine_name(run.engine)} {run.state}"] += 1
    return _section(
        "loose",
        "Tests that name no claim",
        h("p", "They run like the others and count among a column's tests, but support no row of the table."),
        h(
            "details",
            h("summary", words.count(len(tests), "test")),
            _table(
                ("Test", "Outcome"),
                (
                    (h("code", test), ", ".join(f"{name} {number}" for name, number in counts.items()))
                    for test, counts in sorted(tests.items())
                ),
            ),
        ),
    )


def _again() -> Section:
    return _section(
        "again",
        "See for yourself",
        h("p", "On a Debian machine, as root, from a clone of the repository:"),
        h(
            "pre",
            "tools/bootstrap --tests\n"
            ".venv/bin/nox                   # every other level, on Pyker alone\n"
            ".venv/bin/nox -s conformance    # dockerd and Pyker side by side\n"
            ".venv/bin/nox -s report         # this page\n",
        ),
        h(
            "p",
            "Keys: ",
            h("kbd", "/"),
            " searches, arrow keys go from cell to cell, ",
            h("kbd", "Enter"),
            " opens one, ",
            h("kbd", "Esc"),
            " closes it.",
            class_="needs-script small",
        ),
    )
