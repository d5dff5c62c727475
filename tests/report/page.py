"""``report.html``: one file that needs nothing else. The table is plain HTML, so that it reads without scripts;
``page.js`` searches, sorts, filters and opens cells, whose tests and logs travel along as JSON.

A log may hold anything. Text reaches the page through ``markup.h`` or as JSON that the script shows as text, and a
content security policy allows no script and no style but the two that were written here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from tests.report import sections, words
from tests.report.markup import Html, data, h, join, verbatim
from tests.report.model import (
    KNOWN_DIFFERENCE,
    REFERENCE,
    STATES,
    Cell,
    Claim,
    Column,
    Report,
    Totals,
    engine_name,
    short_commits,
    slug,
)

_FOLDER = Path(__file__).parent

# What the table needs for the claims and for each column, in pixels; where the window has less, rows become cards.
_CLAIM_WIDTH = 430
_COLUMN_WIDTH = 116

FACT_NAMES = {
    "kernel": "Kernel",
    "distribution": "Distribution",
    "cgroup": "Cgroups",
    "graphdriver": "Graphdriver",
    "python": "Python",
    "commit": "Commit",
}
SOURCE_NAMES = {"document": "The document", "api": "Docker Engine API", "other": ""}
_WIDE_ENOUGH = "1000px"


def render(report: Report) -> str:
    """The whole page."""
    width = max(700, _CLAIM_WIDTH + _COLUMN_WIDTH * len(report.columns))
    style = verbatim((_FOLDER / "page.css").read_text("utf-8").replace(_WIDE_ENOUGH, f"{width}px"))
    script = verbatim((_FOLDER / "page.js").read_text("utf-8"))
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    below = sections.render(report)
    page = h(
        "html",
        h(
            "head",
            h("meta", charset="utf-8"),
            h("meta", http_equiv="Content-Security-Policy", content=policy),
            h("meta", name="viewport", content="width=device-width, initial-scale=1"),
            h("meta", name="color-scheme", content="light dark"),
            h("title", words.TITLE),
            h("style", style),
        ),
        h(
            "body",
            h("a", "Skip to the claims", class_="skip-link", href="#report-claims"),
            _top(report, below),
            h(
                "main",
                _environments(report),
                _claims(report),
                *(section.body for section in below),
                id="report-main",
            ),
            h("script", data(_payload(report)), type="application/json", id="report-data"),
            h("script", script),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _top(report: Report, below: Sequence[sections.Section]) -> Html:
    said = words.verdict(report)
    return h(
        "header",
        h("h1", words.TITLE),
        h("p", words.lead(report), class_="lead"),
        h(
            "div",
            h("p", said.headline, class_="headline"),
            h("p", said.rest) if said.rest else None,
            class_=f"verdict {_class(said.state)}",
            role="note",
            aria_label="Verdict",
        ),
        *(h("p", notice, class_="notice") for notice in report.notices),
        h("ul", *(_card(report, number) for number in range(len(report.columns))), class_="cards"),
        h(
            "nav",
            h("a", "Where it ran", href="#report-environments"),
            h("a", "Claims", href="#report-claims"),
            *(h("a", section.title, href=f"#{section.id}") for section in below),
            aria_label="On this page",
        ),
        class_="top",
    )


def _card(report: Report, number: int) -> Html:
    column, totals = report.columns[number], report.totals(number)
    tests = totals.tests
    where = f"on {column.environment}" + (", the reference" if column.engine == REFERENCE else "")
    return h(
        "li",
        h("h2", engine_name(column.engine), " ", h("small", where)),
        h("p", h("strong", f"{totals.met:,}"), f" of {words.tried(report, totals)}", class_="met"),
        _bar(totals),
        h("p", _states(totals.claims), class_="states"),
        h(
            "p",
            f"{words.count(sum(tests.values()), 'test')}: {tests.get('pass', 0):,} passed, "
            f"{tests.get('fail', 0):,} failed, {tests.get('pending', 0):,} pending, {tests.get('skip', 0):,} skipped"
            + (f", {tests['differs']:,} known to differ" if tests.get("differs") else ""),
            class_="tests",
        ),
    )


def _states(counts: dict[str, int]) -> Html:
    return join(
        *(
            h("span", f"{counts[state]:,} {state}", class_=f"state {_class(state)}")
            for state in STATES
            if state != "pass" and counts.get(state)
        ),
        by=" ",
    ) or h("span", "nothing else", class_="state not-run")


def _bar(totals: Totals) -> Html:
    """The claims of a column as one bar, the good ones at the left."""
    parts, left = [], 0
    for state in ("pass", "differs", "skip", "pending", "fail", "not run", "no test", "n/a"):
        share = totals.claims.get(state, 0)
        if share:
            parts.append(h("rect", x=left, y=0, width=share, height=1, class_=_class(state)))
        left += share
    return h(
        "svg",
        *parts,
        viewBox=f"0 0 {max(left, 1)} 1",
        preserveAspectRatio="none",
        class_="bar",
        aria_hidden="true",
        focusable="false",
    )


def _environments(report: Report) -> Html:
    names = words.facts_of(report)
    rows = []
    for each in report.environments:
        engines = words.engines_of(report, each)
        rows.append(
            h(
                "tr",
                h("th", each.name, scope="row"),
                *(
                    h("td", _value(name, each.facts.get(name, "")), data_label=FACT_NAMES.get(name, name.capitalize()))
                    for name in names
                ),
                h("td", ", ".join(engines) or words.NOTHING, data_label="Engines"),
            )
        )
    return h(
        "section",
        h("h2", "Where it ran"),
        h(
            "table",
            h(
                "thead",
                h(
                    "tr",
                    h("th", "Environment", scope="col"),
                    *(h("th", FACT_NAMES.get(name, name.capitalize()), scope="col") for name in names),
                    h("th", "Engines", scope="col"),
                ),
            ),
            h("tbody", *rows),
            class_="facts",
        ),
        h("p", f"Report made {report.date}.", class_="small"),
        id="report-environments",
    )


def _value(name: str, value: str) -> Html | str:
    if name == "commit" and value:
        return h("code", short_commits(value))
    return value or words.NOTHING


def _claims(report: Report) -> Html:
    return h(
        "section",
        h("h2", "Claims"),
        h(
            "p",
            "A row is a claim, a column is an engine on a machine. ",
            h("span", "Open a cell to read its tests and their logs.", class_="needs-script"),
        ),
        h(
            "details",
            h("summary", "What the words mean"),
            h(
                "dl",
                *(
                    join(h("dt", h("span", state, class_=f"state {_class(state)}")), h("dd", meaning))
                    for state, meaning in words.STATE_MEANS.items()
                ),
            ),
            h(
                "p",
                "The worst of a claim's tests decides its cell. 2/5 beside the word: two of five tests are in that "
                "state. P0 is what a user needs on the first day, P1 in the first week.",
            ),
            class_="legend",
        ),
        _controls(report),
        _table(report),
        h(
            "p",
            "No claim is like that. ",
            h("button", "Show all", type="button", id="report-reset"),
            id="report-empty",
            hidden=True,
        ),
        id="report-claims",
    )


def _controls(report: Report) -> Html:
    present = [state for state in STATES if any(cell.state == state for row in report.cells for cell in row)]
    return h(
        "form",
        h(
            "label",
            h("span", "Search"),
            h(
                "input",
                type="search",
                id="report-search",
                placeholder="claim, sentence, test or reason",
                autocomplete="off",
                spellcheck="false",
                aria_keyshortcuts="/",
            ),
            class_="search",
        ),
        h(
            "label",
            h("span", "Section"),
            h(
                "select",
                h("option", "all sections", value=""),
                *(
                    h("option", _section_name(source, name), value=number)
                    for number, (source, name, _) in enumerate(report.sections())
                ),
                id="report-section",
            ),
        ),
        h(
            "label",
            h("span", "Order"),
            h(
                "select",
                h("option", "of the document", value=""),
                h("option", "by name", value="name"),
                *(
                    join(
                        h("option", f"{column.label}, worst first", value=f"{number} worst"),
                        h("option", f"{column.label}, best first", value=f"{number} best"),
                    )
                    for number, column in enumerate(report.columns)
                ),
                id="report-order",
            ),
        ),
        h(
            "fieldset",
            h("legend", "Show"),
            h("button", "all", type="button", aria_pressed="true", data_state="", class_="chip"),
            *(
                h(
                    "button",
                    "failing" if state == "fail" else state,
                    " ",
                    h("span", "", class_="n"),
                    type="button",
                    aria_pressed="false",
                    data_state=state,
                    class_=f"chip {_class(state)}",
                )
                for state in dict.fromkeys(("fail", *present))
            ),
            h(
                "label",
                h("span", "in"),
                h(
                    "select",
                    h("option", "any column", value=""),
                    *(h("option", column.label, value=number) for number, column in enumerate(report.columns)),
                    id="report-column",
                ),
            ),
        ),
        h("output", f"{words.count(len(report.claims), 'claim')}", id="report-shown", aria_live="polite"),
        id="report-controls",
        role="search",
        class_="controls needs-script",
        aria_label="Find claims",
    )


def _section_name(source: str, name: str) -> str:
    prefix = SOURCE_NAMES.get(source, source)
    return f"{prefix}: {name}" if prefix else name


def _table(report: Report) -> Html:
    bodies = []
    for number, (source, name, claims) in enumerate(report.sections()):
        rows = [_row(report, claim) for claim in claims]
        bodies.append(h("tbody", _section_row(report, source, name, claims), *rows, data_section=number))
    return h(
        "table",
        h("caption", "Claims by engine and machine", class_="unseen"),
        h("thead", *_head(report)),
        *bodies,
        id="report-matrix",
        class_="matrix",
    )


def _head(report: Report) -> list[Html]:
    """Two rows: machines, and engines that sort. A header repeated on paper shows no buttons: hence spans."""
    groups: list[tuple[str, int]] = []
    for column in report.columns:
        if groups and groups[-1][0] == column.environment:
            groups[-1] = (column.environment, groups[-1][1] + 1)
        else:
            groups.append((column.environment, 1))
    sorter = h("button", "Claim", type="button", class_="sorter", data_order="name", title="Sort by name")
    return [
        h(
            "tr",
            h("th", sorter, h("span", "Claim", class_="on-paper"), scope="col", rowspan=2),
            *(h("th", name, scope="colgroup", colspan=span, class_="place") for name, span in groups),
        ),
        h(
            "tr",
            *(
                h(
                    "th",
                    h(
                        "button",
                        engine_name(column.engine),
                        type="button",
                        class_="sorter",
                        data_order=number,
                        title=f"Sort by {column.label}",
                    ),
                    h("span", engine_name(column.engine), class_="on-paper"),
                    scope="col",
                    class_=_edge(report, number),
                )
                for number, column in enumerate(report.columns)
            ),
        ),
    ]


def _edge(report: Report, number: int) -> str | None:
    """A line between machines."""
    here = report.columns[number].environment
    return "edge" if number == 0 or report.columns[number - 1].environment != here else None


def _section_row(report: Report, source: str, name: str, claims: list[int]) -> Html:
    cells = []
    for number in range(len(report.columns)):
        met = sum(report.cells[claim][number].state == "pass" for claim in claims)
        cells.append(
            h("td", f"{met}/{len(claims)}", class_=_edge(report, number), data_label=report.columns[number].label)
        )
    origin = SOURCE_NAMES.get(source, source)
    return h(
        "tr", h("th", name, " ", h("small", origin) if origin else None, scope="rowgroup"), *cells, class_="section"
    )


def _row(report: Report, number: int) -> Html:
    claim = report.claims[number]
    cells = [
        h(
            "td",
            _cell(cell, column),
            data_label=column.label,
            data_state=cell.state,
            class_=_edge(report, index),
        )
        for index, (cell, column) in enumerate(zip(report.cells[number], report.columns, strict=True))
    ]
    return h("tr", _claim(report, claim, report.cells[number]), *cells, id=claim.slug, class_="claim", data_n=number)


def _claim(report: Report, claim: Claim, row: tuple[Cell, ...]) -> Html:
    notes = reasons(report, row)
    return h(
        "th",
        h("a", claim.id, href=f"#{claim.slug}", class_="id"),
        join(" ", h("span", claim.priority, class_="priority")) if claim.priority else None,
        h("span", claim.sentence, class_="sentence") if claim.sentence and claim.sentence != claim.id else None,
        h("ul", *(h("li", h("b", state), ": ", reason) for state, reason in notes), class_="notes") if notes else None,
        scope="row",
    )


def reasons(report: Report, row: tuple[Cell, ...], limit: int = 3) -> list[tuple[str, str]]:
    """Why the cells of a row are what they are: state and reason, each once, the worst first."""
    found: dict[tuple[str, str], None] = {}
    for cell in row:
        for index in cell.runs:
            run = report.runs[index]
            if run.state != "pass" and run.reason:
                found[run.state, run.why] = None
    return sorted(found, key=lambda pair: STATES.index(pair[0]))[:limit]


def _cell(cell: Cell, column: Column) -> Html:
    if not cell.runs:
        return h("span", cell.state, class_=f"cell {_class(cell.state)}")
    return h(
        "button",
        h("span", f"{column.label}: ", class_="unseen"),
        h("span", cell.state, class_="word"),
        " ",
        h("span", cell.figure, class_="n"),
        type="button",
        class_=f"cell {_class(cell.state)}",
        aria_expanded="false",
    )


def _class(state: str) -> str:
    return state.replace(" ", "-").replace("/", "")


def _payload(report: Report) -> dict[str, object]:
    """What the script needs: the runs behind each cell. Only those that a cell shows."""
    used = sorted({index for row in report.cells for cell in row for index in cell.runs})
    where = {index: place for place, index in enumerate(used)}
    return {
        "columns": [column.label for column in report.columns],
        "addresses": [slug(column.label) for column in report.columns],
        "cells": [[[where[index] for index in cell.runs] for cell in row] for row in report.cells],
        "runs": [
            {
                "test": run.test,
                "parameters": run.parameters,
                "level": run.level,
                "state": run.state,
                "reason": run.reason.removeprefix(KNOWN_DIFFERENCE),
                "log": run.log,
                "seconds": words.seconds(run.seconds),
            }
            for run in (report.runs[index] for index in used)
        ],
    }
