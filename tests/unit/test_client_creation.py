"""Values of run's flags: whatever is typed, a body or a refusal comes of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyker.client.container.body import build_body
from pyker.client.container.flags import SHARED
from pyker.client.container.mounts import parse_gpus, parse_mount, sort_volumes, split_csv
from pyker.client.container.networks import check_mac, parse_network
from pyker.client.container.ports import Ports
from pyker.client.failure import Failure
from pyker.client.flags import BadValue, parse

TEXT = st.text(alphabet="abx0189:/-,=.[]\"'~@ é\\\n", max_size=24)


@given(TEXT)
def test_any_port_is_read_or_refused(text: str) -> None:
    for read in (Ports().publish, Ports().expose):
        try:
            read(text)
        except Failure as failure:
            assert failure.exit_code == 125


@given(TEXT)
def test_any_mount_network_volume_or_gpu_is_read_or_refused(text: str) -> None:
    for read in (parse_mount, parse_network, parse_gpus, split_csv, lambda value: sort_volumes([value])):
        try:
            read(text)  # type: ignore[operator]
        except BadValue as error:
            assert str(error)
    try:
        check_mac(text)
    except Failure as failure:
        assert "not a valid mac address" in failure.message


VALUED = [flag for flag in SHARED if flag.kind != "bool"]


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(VALUED), TEXT), max_size=3))
def test_any_flags_give_a_body_or_a_refusal(given_flags: list[tuple[object, str]]) -> None:
    words = [f"--{flag.name}={text}" for flag, text in given_flags]  # type: ignore[attr-defined]
    try:
        options = parse(SHARED, [*words, "image"], interspersed=False)
        body = build_body(options, proxies={}, api_at_least=(1, 45))
    except Failure as failure:
        assert failure.exit_code == 125 and failure.message
    else:
        assert json.loads(json.dumps(body))["Image"] == "image"


def test_proxies_of_the_configuration_file_yield_to_variables() -> None:
    options = parse(SHARED, ["-e", "HTTP_PROXY=mine", "image"], interspersed=False)
    body = build_body(options, proxies={"HTTP_PROXY": "theirs", "NO_PROXY": "x"}, api_at_least=(1, 45))
    assert body["Env"] == ["HTTP_PROXY=mine", "NO_PROXY=x"]


@pytest.mark.parametrize(
    ("line", "fields"),
    [('a,"b,c",d', ["a", "b,c", "d"]), ('"a""b"', ['a"b']), ("a,", ["a", ""]), ("", [""])],
)
def test_quoted_fields_hold_commas(line: str, fields: list[str]) -> None:
    assert split_csv(line) == fields
