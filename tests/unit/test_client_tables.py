"""Sizes, times, columns, ports: what lists are made of."""

from __future__ import annotations

import pytest

from pyker.client import units
from pyker.client.commands.jobs import draw
from pyker.client.commands.networks import _natural
from pyker.client.commands.ps import describe_ports, quote
from pyker.client.table import lay_out, render, truncate


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("64m", 64 << 20),
        ("1.5g", 3 << 29),
        ("2GB", 2 << 30),
        ("3KiB", 3072),
        ("10 k", 10240),
        ("0", 0),
        ("5b", 5),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1x", "1mm", "1 2", "+1", "1_0", "m", "1.2.3", "1kbb"])
def test_sizes_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        units.parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1h2m3s", 3723 * 10**9),
        ("500ms", 5 * 10**8),
        ("1.5s", 15 * 10**8),
        ("-2m", -120 * 10**9),
        ("0", 0),
        ("3us", 3000),
    ],
)
def test_durations_are_read(text: str, nanoseconds: int) -> None:
    assert units.parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "1", "s", "1x", "1..5s", "-", "1h2"])
def test_durations_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError):
        units.parse_duration(text)


def test_times_are_read_in_any_zone() -> None:
    assert units.parse_time("1970-01-01T00:00:10Z") == 10
    assert units.parse_time("2026-11-23T17:08:01.5+01:00") == units.parse_time("2026-11-23T16:08:01.5Z") == 1795450081.5
    assert units.parse_time("0001-01-01T00:00:00Z") == -62135596800
    with pytest.raises(ValueError):
        units.parse_time("yesterday")


def test_columns_are_as_wide_as_their_widest_cell_and_at_least_ten() -> None:
    assert lay_out([["A", "BB", "C"], ["longer than ten", "x", ""]]) == (
        "A                 BB        C\nlonger than ten   x         \n"
    )
    assert lay_out([]) == ""


def test_a_list_prints_as_table_template_json_or_names() -> None:
    rows = [{"ID": "1", "Name": "a"}, {"ID": "2", "Name": "b<"}]
    headers = {"ID": "THE ID", "Name": "NAME"}

    def text(template: str = "", quiet: bool = False) -> str:
        return render(rows, headers=headers, columns=("ID", "Name"), template=template, quiet_field="ID", quiet=quiet)

    assert text() == "THE ID    NAME\n1         a\n2         b<\n"
    assert text(quiet=True) == "1\n2\n"
    assert text("{{.Name}}") == "a\nb<\n"
    assert text(r"{{.ID}}\t{{.Name}}") == "1\ta\n2\tb<\n"
    assert text(r"table {{.Name}}\t{{.ID}}") == "NAME      THE ID\na         1\nb<        2\n"
    assert text("json") == '{"ID":"1","Name":"a"}\n{"ID":"2","Name":"b\\u003c"}\n'


def test_ports_are_drawn_together() -> None:
    def port(private: int, public: int = 0, ip: str = "", kind: str = "tcp") -> dict[str, object]:
        return {"PrivatePort": private, "PublicPort": public, "IP": ip, "Type": kind}

    assert describe_ports([port(81), port(80), port(90, kind="udp")]) == "80-81/tcp, 90/udp"
    assert (
        describe_ports([port(80, 8080, "0.0.0.0"), port(80, 8080, "::")]) == "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
    )
    assert describe_ports([port(n, n, "0.0.0.0") for n in (82, 80, 81)]) == "0.0.0.0:80-82->80-82/tcp"
    assert describe_ports([]) == ""


def test_text_is_cut_and_quoted() -> None:
    assert truncate("abcdef", 4) == "abc…" and truncate("abcd", 4) == "abcd"
    assert quote('a"b\n\x01é') == '"a\\"b\\n\\x01é"'


def test_names_with_numbers_sort_as_people_expect() -> None:
    assert sorted(["n10", "n2", "bridge", "n1b"], key=_natural) == ["bridge", "n1b", "n2", "n10"]


def test_a_job_s_tree_has_branches_parts_and_times() -> None:
    def job(name: str, identifier: str, parent: str = "", **more: object) -> dict[str, object]:
        started = int(identifier, 36)
        return {
            "Name": name,
            "ID": identifier,
            "ParentID": parent,
            "StartedNs": started,
            "DurationNs": 1_500_000,
            "Status": "done",
            **more,
        }

    text = draw(
        [
            job("allocate_interface", "3", "2", Status="failed", Error="no address"),
            job("start", "2", DurationNs=12_345_678, Subject="c" * 64),
            job("execdriver_run", "4", "2"),
            job("odd", "5", "4", DurationNs=0, Status="running"),
        ]
    )
    lines = text.split("\n")
    assert lines[0].startswith("start cccccccccccc ") and lines[0].endswith("12.3 ms")
    assert lines[1].startswith("├─ allocate_interface ") and "networkdriver → libcontainer/netlink" in lines[1]
    assert lines[1].endswith("failed: no address")
    assert lines[2].startswith("└─ execdriver_run ") and lines[2].endswith(" 1.5 ms")
    assert lines[3].startswith("   └─ odd ") and lines[3].endswith("running")
    assert lines[0].index("12.3 ms") + 7 == lines[2].index("1.5 ms") + 6
    assert "second request" in text and "The pull" not in text


def test_a_tree_that_bites_its_tail_ends() -> None:
    loop = [
        {"Name": "a", "ID": "1", "ParentID": "1", "StartedNs": 1},
        {"Name": "b", "ID": "2", "ParentID": "", "StartedNs": 2},
    ]
    assert "b" in draw(loop)
