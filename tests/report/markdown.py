"""``report.md``: the same report where only text is shown."""

from __future__ import annotations

import re
from collections import Counter

from tests.report import sections, words
from tests.report.model import Report, engine_name


def render(report: Report) -> str:
    said = words.verdict(report)
    blocks = [
        f"# {words.TITLE}",
        escape(words.lead(report)),
        f"**{escape(said.headline)}** {escape(said.rest)}".strip(),
        *(f"> {escape(notice)}" for notice in report.notices),
        _totals(report),
        "## Where it ran",
        _environments(report),
        *_claims(report),
        *_failures(report),
        *_unsteady(report),
        *_pending(report),
        *_docker_py(report),
        *_differences(report),
        *_levels(report),
        "## See for yourself",
        "On a Debian machine, as root: `tools/bootstrap --tests`, then `.venv/bin/nox -s conformance` and "
        "`.venv/bin/nox -s report`. `report.html` beside this file is the same with logs, search and filters.",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in a paragraph or in a table's cell."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", _escaped, text)


def _escaped(found: re.Match[str]) -> str:
    """A backslash only where the character can mean something: hyphens and parentheses alone are harmless."""
    character = found[1]
    return character if character in "-+!()#{}" else f"\\{character}"


def code(text: str) -> str:
    """A code span that ends where it should, in a table's cell too."""
    text = " ".join(text.split()).replace("|", "\\|")
    fence = "`"
    while fence in text:
        fence += "`"
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _totals(report: Report) -> str:
    rows = []
    for number, column in enumerate(report.columns):
        totals = report.totals(number)
        claims, tests = totals.claims, totals.tests
        rows.append(
            [
                escape(column.label),
                f"**{totals.met}** of {words.tried(report, totals)}",
                *(
                    str(claims.get(state, 0))
                    for state in ("fail", "pending", "differs", "skip", "not run", "no test", "n/a")
                ),
                *(str(tests.get(state, 0)) for state in ("pass", "fail", "pending", "differs", "skip")),
            ]
        )
    head = ["", "claims", "fail", "pending", "differs", "skip", "not run", "no test", "n/a"]
    return table([*head, "tests passed", "failed", "pending", "differ", "skipped"], rows) if rows else ""


def _environments(report: Report) -> str:
    names = words.facts_of(report)
    return table(
        ["environment", *map(escape, names), "engines"],
        [
            [
                escape(each.name),
                *(escape(each.facts.get(name, "")) or words.NOTHING for name in names),
                escape(", ".join(words.engines_of(report, each))) or words.NOTHING,
            ]
            for each in report.environments
        ],
    )


def _claims(report: Report) -> list[str]:
    blocks = ["## Claims", "The worst of a claim's tests decides its cell; `2/5`: two of five tests are in that state."]
    for source, section, numbers in report.sections():
        origin = {"document": "the document", "api": "Docker Engine API"}.get(source, "")
        blocks.append(f"### {escape(section)}" + (f" ({origin})" if origin else ""))
        rows = []
        for number in numbers:
            claim = report.claims[number]
            priority = f" {escape(claim.priority)}" if claim.priority else ""
            sentence = f" {escape(claim.sentence)}" if claim.sentence != claim.id else ""
            cells = [
                f"**FAIL** {cell.figure}" if cell.state == "fail" else f"{cell.state} {cell.figure}".strip()
                for cell in report.cells[number]
            ]
            rows.append([f"{code(claim.id)}{priority}{sentence}", *cells])
        blocks.append(table(["claim", *(escape(column.label) for column in report.columns)], rows))
    return blocks


def _failures(report: Report) -> list[str]:
    failed = sections.failures(report)
    if not failed:
        return []
    rows = [
        [
            code(words.full_name(run)),
            escape(words.place(run)),
            escape(", ".join(run.claims)),
            escape(run.why),
        ]
        for run in failed
    ]
    return ["## What fails", table(["test", "where", "claims", "reason"], rows)]


def _unsteady(report: Report) -> list[str]:
    found = sections.unsteady(report)
    if not found:
        return []
    rows = [[code(words.full_name(run)), escape(words.place(run)), escape(run.unsteady)] for run in found]
    return ["## What is unsteady", table(["test", "where", "what it said first, beside others"], rows)]


def _pending(report: Report) -> list[str]:
    groups = sections.pending_by_reason(report)
    if not groups:
        return []
    rows = []
    for reason, tests in groups:
        claims = dict.fromkeys(id for _, ids in tests for id in ids)
        rows.append([escape(reason), ", ".join(code(id) for id in claims) or words.NOTHING, str(len(tests))])
    return ["## What is pending", table(["reason", "claims", "tests"], rows)]


def _docker_py(report: Report) -> list[str]:
    rows = [
        [
            escape(column.label),
            f"**{counts['passed']}** of {sum(counts.values())}",
            str(counts["failed"] + counts["pending"]),
            str(counts["skipped"]),
        ]
        for column, counts, _ in sections.docker_py_rows(report)
    ]
    if not rows:
        return []
    blocks = ["## docker-py's own suite", table(["engine", "passed", "failed", "skipped"], rows)]
    exceptions = sections.docker_py_exceptions(report)
    if exceptions:
        engines = sorted({run.engine for run in report.of_level("docker-py")})
        lines = []
        for test, runs in exceptions:
            states = (runs[engine].state if engine in runs else words.NOTHING for engine in engines)
            lines.append([code(test), *states, escape(sections.docker_py_reason(report, test, runs))])
        blocks.append(table(["not passed everywhere", *map(engine_name, engines), "reason"], lines))
    return blocks


def _differences(report: Report) -> list[str]:
    rows = [
        [escape(who), escape(why), ", ".join(code(test.removeprefix("tests/conformance/")) for test in tests)]
        for who, why, tests in sections.difference_rows(report)
    ]
    return ["## Known differences", table(["engine", "why", "tests"], rows)] if rows else []


def _levels(report: Report) -> list[str]:
    rows = []
    for environment, level, runs in sections.level_rows(report):
        counts = Counter(run.outcome for run in runs)
        rows.append(
            [escape(environment), escape(level), *(str(counts[name]) for name in ("passed", "failed", "skipped"))]
        )
    return (
        ["## Other levels of tests", table(["environment", "level", "passed", "failed", "skipped"], rows)]
        if rows
        else []
    )
