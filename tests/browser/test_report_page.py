"""The report's page in a real browser: search, filters, order, opened cells, keys, a phone, the dark, and paper."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.browser import Browser
from tests.support.report_results import HOSTILE

pytestmark = pytest.mark.requires("chromium")

ALL = 47


def shown(browser: Browser) -> list[str]:
    """The IDs of the claims that a reader sees, from top to bottom."""
    found = browser.evaluate(
        "() => [...document.querySelectorAll('tr.claim')].filter((row) => row.checkVisibility())"
        ".map((row) => row.querySelector('.id').textContent)"
    )
    assert isinstance(found, list)
    return found


def text(browser: Browser, selector: str) -> str:
    """What stands in the first such element that can be seen; empty where there is none."""
    return str(
        browser.evaluate(
            "(selector) => [...document.querySelectorAll(selector)].find((one) => one.checkVisibility())?.innerText"
            " ?? ''",
            selector,
        )
    )


def focused(browser: Browser) -> str:
    """The row and the column, or else the ID, of what has the focus."""
    return str(
        browser.evaluate(
            "() => { const at = document.activeElement, row = at.closest('tr.claim');"
            " return row ? `${row.id} ${[...row.cells].indexOf(at.parentElement)}` : at.id || at.textContent; }"
        )
    )


def cell(row: str, column: int) -> str:
    return f"#{row} > :nth-child({column + 1}) button"


def test_the_first_screen_says_what_was_tested_and_the_verdict(browser: Browser) -> None:
    top = text(browser, "header.top")
    assert "Pyker is a container engine" in top
    assert "1 claim fails" in top
    assert browser.evaluate("() => document.querySelector('.verdict').getBoundingClientRect().bottom < innerHeight")


def test_search_narrows_and_says_to_how_many(browser: Browser) -> None:
    assert len(shown(browser)) == ALL
    browser.click("#report-search")
    browser.type("containers START")
    assert shown(browser) == ["POST /containers/{id}/start"]
    assert text(browser, "#report-shown") == f"1 of {ALL} claims"
    sections = browser.evaluate(
        "() => [...document.querySelectorAll('tr.section')].filter((row) => row.checkVisibility()).length"
    )
    assert sections == 1


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("test_unix", ["client-unix"]),
        ("cp is not built", ["GET /containers/{id}/archive"]),
        ("job says", ["job-name", "job-untested"]),
    ],
)
def test_search_finds_tests_reasons_and_sentences(browser: Browser, words: str, found: list[str]) -> None:
    browser.click("#report-search")
    browser.type(words)
    assert shown(browser) == found


def test_a_search_without_result_says_so_and_can_be_undone(browser: Browser) -> None:
    browser.press("/")
    browser.type("no such thing")
    assert shown(browser) == []
    browser.click("#report-reset")
    assert len(shown(browser)) == ALL
    assert focused(browser) == "report-search"


def test_filter_to_failing_and_other_states(browser: Browser) -> None:
    browser.click(".chip[data-state=fail]")
    assert shown(browser) == ["client-tcp"]
    assert text(browser, ".chip[data-state=fail]") == "failing 1"
    browser.click(".chip[data-state=pending]")
    assert shown(browser) == ["client-tcp", "GET /containers/{id}/archive"]
    browser.click(".chip[data-state='']")
    assert len(shown(browser)) == ALL
    browser.click(".chip[data-state=differs]")
    assert shown(browser) == ["GET /version"]


def test_filter_by_column_and_section(browser: Browser) -> None:
    columns = browser.evaluate("() => [...document.querySelectorAll('#report-column option')].map((one) => one.text)")
    assert columns == ["any column", "Pyker on guest with kernel 5.10", "Pyker on this host", "dockerd on this host"]
    browser.click(".chip[data-state=fail]")
    browser.choose("#report-column", "2")
    assert shown(browser) == []
    browser.choose("#report-column", "0")
    assert shown(browser) == ["client-tcp"]
    browser.click(".chip[data-state=fail]")
    browser.choose("#report-section", "1")
    assert shown(browser) == ["job-name", "job-untested"]


def test_sort_by_column_both_ways_and_back(browser: Browser) -> None:
    as_listed = shown(browser)
    header = "thead tr:nth-child(2) th:nth-child(2)"
    browser.click(f"{header} button")
    assert shown(browser)[:3] == ["client-tcp", "GET /containers/{id}/archive", "job-name"]
    assert browser.evaluate("(selector) => document.querySelector(selector).ariaSort", header) == "descending"
    browser.click(f"{header} button")
    assert shown(browser)[0] == "client-unix"
    assert browser.evaluate("(selector) => document.querySelector(selector).ariaSort", header) == "ascending"
    assert shown(browser)[-1] == "job-untested"
    browser.click(f"{header} button")
    assert shown(browser) == as_listed
    browser.click("thead .sorter[data-order=name]")
    assert shown(browser)[0] == "client-tcp"


def test_a_cell_opens_to_its_tests_and_their_log(browser: Browser) -> None:
    browser.click(cell("client-tcp", 2))
    opened = text(browser, ".opened")
    assert opened.startswith("client-tcp · Pyker on this host")
    assert opened.index("test_tcp 0.5") < opened.index("test_tcp_again")
    assert browser.evaluate("() => document.querySelector('.run .reason').textContent") == HOSTILE
    log = browser.evaluate("() => document.querySelector('.opened pre').textContent")
    assert log.startswith(HOSTILE) and log.endswith("line 79")
    assert browser.evaluate("() => document.querySelector('.opened').querySelectorAll('img, script').length") == 0
    assert text(browser, ".opened pre").startswith("</script>")
    browser.click(cell("client-tcp", 3))
    assert text(browser, ".opened").startswith("client-tcp · dockerd on this host")
    browser.click(cell("client-tcp", 3))
    assert text(browser, ".opened") == ""


def test_a_log_of_a_test_that_passed_is_folded(browser: Browser) -> None:
    browser.click(cell("client-unix", 2))
    assert text(browser, ".opened pre") == ""
    browser.click(".opened summary")
    assert text(browser, ".opened pre") == "connected"


def test_by_keyboard_alone(browser: Browser) -> None:
    browser.press("Tab")
    assert focused(browser) == "Skip to the claims"
    browser.press("Enter", "/")
    assert focused(browser) == "report-search"
    browser.type("client")
    browser.press(*["Tab"] * 40)
    browser.evaluate("(selector) => document.querySelector(selector).focus()", cell("client-unix", 1))
    browser.press("ArrowRight")
    assert focused(browser) == "client-unix 2"
    browser.press("ArrowDown")
    assert focused(browser) == "client-tcp 2"
    browser.press("Enter")
    assert text(browser, ".opened").startswith("client-tcp")
    browser.press("Tab", "Tab")
    assert focused(browser) == "close"
    browser.press("Escape")
    assert text(browser, ".opened") == ""
    assert focused(browser) == "client-tcp 2"
    browser.press(" ")
    assert text(browser, ".opened").startswith("client-tcp")
    browser.press("Escape", "/", "Escape")
    assert len(shown(browser)) == ALL


def test_every_control_is_reached_by_tab_in_order_and_has_a_name(browser: Browser) -> None:
    reached = []
    for _ in range(40):
        browser.press("Tab")
        reached.append(focused(browser))
    order = ["Skip to the claims", "report-search", "report-section", "report-order", "report-column", "client-unix 0"]
    places = [reached.index(name) for name in order]
    assert places == sorted(places)
    nameless = browser.evaluate(
        "() => [...document.querySelectorAll('button, input, select, a, summary')].filter((one) =>"
        " !(one.textContent.trim() || one.ariaLabel || one.labels?.length)).map((one) => one.outerHTML)"
    )
    assert nameless == []


def test_a_link_to_a_claim_shows_it_whatever_is_filtered(browser: Browser, address: str) -> None:
    browser.open(f"{address}#rule-30")
    assert browser.evaluate("() => document.querySelector('.target').id") == "rule-30"
    header, top = browser.evaluate(
        "() => [document.querySelector('#report-matrix thead').getBoundingClientRect().bottom,"
        " document.getElementById('rule-30').getBoundingClientRect().top]"
    )
    assert 0 <= header <= top < 400
    browser.click(".chip[data-state=fail]")
    assert "rule-30" not in shown(browser)
    browser.evaluate("() => { location.hash = '#rule-7'; return new Promise((done) => setTimeout(done)); }")
    assert "rule-7" in shown(browser)


def test_a_link_to_an_opened_cell(browser: Browser, address: str) -> None:
    browser.click(cell("client-tcp", 2))
    tail = browser.evaluate("() => location.hash")
    assert tail == "#client-tcp/pyker-on-this-host"
    browser.open(address + tail)
    assert text(browser, ".opened").startswith("client-tcp · Pyker on this host")


@pytest.mark.parametrize("width", [320, 390, 768])
def test_on_a_narrow_screen_nothing_sticks_out_sideways(browser: Browser, address: str, width: int) -> None:
    browser.window(width, 800, phone=True)
    browser.open(address)
    browser.click(cell("client-tcp", 2))
    for details in ("details", ".opened details"):
        browser.evaluate("(which) => document.querySelectorAll(which).forEach((one) => { one.open = true; })", details)
    across, inner = browser.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
    assert (across, inner) == (width, width)
    label = "() => getComputedStyle(document.querySelector('tr.claim td'), '::before').content"
    assert browser.evaluate(label) == '"Pyker on guest with kernel 5.10"'
    small = browser.evaluate(
        "() => [...document.querySelectorAll('button.cell, .chip, select, input')].filter((one) =>"
        " one.checkVisibility() && one.getBoundingClientRect().height < 24).length"
    )
    assert small == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_text_stands_out_from_its_ground(browser: Browser, scheme: str, width: int) -> None:
    browser.window(width, phone=width < 700)
    browser.media(scheme=scheme)
    browser.click(cell("client-tcp", 2))
    browser.click(".chip[data-state=fail]")
    browser.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    faint = browser.evaluate(CONTRAST)
    assert faint == []
    dark = browser.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")


# WCAG 2.2, 1.4.3: text and what is behind it differ by 4.5 to 1, or by 3 to 1 where the text is large.
CONTRAST = """() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const over = (front, back, alpha) => front.map((value, i) => value * alpha + back[i] * (1 - alpha));
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const [r, g, b, a = 1] = numbers(getComputedStyle(one).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !one.checkVisibility() || one.closest("script, svg, option, .unseen")) continue;
    const style = getComputedStyle(one);
    const [r, g, b, a = 1] = numbers(style.color), back = ground(one);
    const text = over([r, g, b], back, a * Number(style.opacity));
    const [high, low] = [light(text), light(back)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (high + 0.05) / (low + 0.05);
    const said = `${one.tagName} ${one.className}: ${one.innerText.slice(0, 40)}`;
    if (ratio < (large ? 3 : 4.5)) faint.push(`${ratio.toFixed(2)} ${said}`);
  }
  return [...new Set(faint)];
}"""


def test_without_scripts_the_table_reads_and_offers_nothing_that_needs_them(
    chromium: Browser, browser: Browser, address: str
) -> None:
    browser.scripts(allowed=False)
    try:
        browser.open(address)
        assert len(shown(browser)) == ALL
        assert text(browser, "#report-controls") == ""
        assert "cp is not built yet" in text(browser, "#get-containers-id-archive")
    finally:
        browser.scripts(allowed=True)


@pytest.mark.requires("pdftotext")
def test_on_paper_all_rows_stand_below_a_header_on_each_page(browser: Browser, tmp_path: Path) -> None:
    browser.click(".chip[data-state=fail]")
    browser.click(cell("client-tcp", 2))
    browser.pdf(tmp_path / "report.pdf")
    done = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "report.pdf", "-"], capture_output=True, text=True, check=True
    )
    pages = done.stdout.split("\f")
    for id in ("client-unix", "job-untested", "GET /version", *(f"rule-{number}" for number in range(40))):
        assert re.search(rf"{re.escape(id)}\b", done.stdout), id
    assert "any column" not in done.stdout and "close" not in done.stdout
    with_rows = [page for page in pages if re.search(r"^ *rule-\d+\b", page, re.MULTILINE)]
    assert len(with_rows) > 1
    for page in with_rows:
        assert re.search(r"Claim +Pyker +Pyker +dockerd", page), page
