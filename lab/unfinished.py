"""Results of a guest's run that did not end: what was known until then, for people and for the report.

A guest that hangs, dies or is not what it should be has a row of level ``lab`` that says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.support.results import CutShort, cut_short

TEST = "lab::the guest itself"
LEVEL = "lab"
NO_RUN = CutShort({}, {}, "")


def known(journal: Path, why: str, log: str) -> CutShort:
    """What ``journal`` says, if it is there."""
    if not journal.exists():
        return NO_RUN
    return cut_short(journal.read_text(encoding="utf-8", errors="replace"), why, log)


def results(found: CutShort, machine: Mapping[str, str], why: str, log: str) -> bytes:
    """The file that the report reads. ``machine`` is what is known of it besides."""
    value = {"environment": {**machine, **found.environment}, "runs": list(found.rows.values())}
    return with_trouble(json.dumps(value).encode(), why, log)


def with_trouble(written: bytes, why: str, log: str) -> bytes:
    """A results file, and in it that something was wrong with the guest."""
    value = json.loads(written)
    row = {"test": TEST, "parameters": "", "level": LEVEL, "engine": "", "claims": [], "only": ""}
    value["runs"].append({**row, "outcome": "failed", "reason": why, "log": log, "seconds": 0.0})
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def junit(found: CutShort, name: str, why: str, log: str) -> bytes:
    """The same as a junit file: the test that was running, and the guest itself, are errors."""
    suite = ElementTree.Element("testsuite", name=name, tests=str(len(found.rows) + 1))
    for nodeid, row in found.rows.items():
        path, _, test = nodeid.partition("::")
        place = path.removesuffix(".py").replace("/", ".")
        case = _case(suite, place, test, float(row["seconds"]))
        if nodeid == found.running:
            _told(case, "error", str(row["reason"]), str(row["log"]))
        elif (tag := _TAGS.get(str(row["outcome"]))) is not None:
            _told(case, tag, str(row["reason"]), str(row["log"]))
    _told(_case(suite, LEVEL, TEST.rpartition("::")[2], 0.0), "error", why, log)
    for tag, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(count, str(sum(1 for _ in suite.iter(tag))))
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    written: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return written


_TAGS = {"failed": "failure", "skipped": "skipped", "pending": "skipped"}


def _case(suite: ElementTree.Element, place: str, test: str, seconds: float) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=place, name=test, time=f"{seconds:.3f}")


def _told(case: ElementTree.Element, tag: str, why: str, log: str) -> None:
    told = ElementTree.SubElement(case, tag, message=_printable(why))
    told.text = _printable(log)


def _printable(text: Any) -> str:
    """XML has no way to write most control characters; a console has many."""
    return "".join(each if each in "\t\n" or each >= " " else "?" for each in str(text))
