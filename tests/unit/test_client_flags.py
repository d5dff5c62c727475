"""Flags in docker's grammar."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyker.client.failure import Failure
from pyker.client.flags import Flag, HelpAsked, parse

FLAGS = (
    Flag("interactive", "bool", "", short="i"),
    Flag("tty", "bool", "", short="t"),
    Flag("rm", "bool", ""),
    Flag("env", "list", "", short="e"),
    Flag("publish", "list", "", short="p"),
    Flag("memory", "bytes", "", short="m"),
    Flag("last", "int", "", short="n", default=-1),
    Flag("sig-proxy", "bool", "", default=True),
    Flag("platforms", "strings", ""),
)


def test_shorts_combine_and_the_last_takes_the_rest() -> None:
    options = parse(FLAGS, ["-itp8080:80", "-eA=1", "-e", "B=2", "-e=C=3", "--env=D=4", "--env", "E"])
    assert options.on("interactive") and options.on("tty")
    assert options.items("publish") == ["8080:80"]
    assert options.items("env") == ["A=1", "B=2", "C=3", "D=4", "E"]


def test_a_boolean_takes_a_value_only_after_an_equals_sign() -> None:
    options = parse(FLAGS, ["--rm=false", "--sig-proxy=f", "--tty", "false"])
    assert not options.on("rm") and options.given("rm")
    assert not options.on("sig-proxy")
    assert options.on("tty") and options.arguments == ["false"]


def test_what_was_not_given_has_its_default() -> None:
    options = parse(FLAGS, [])
    assert options.on("sig-proxy") and options.number("last") == -1 and not options.given("last")


def test_flags_end_at_the_first_argument_where_commands_follow() -> None:
    options = parse(FLAGS, ["-i", "image", "sh", "-t", "--rm"], interspersed=False)
    assert options.arguments == ["image", "sh", "-t", "--rm"] and not options.on("tty")


def test_flags_may_follow_arguments_elsewhere_up_to_two_dashes() -> None:
    options = parse(FLAGS, ["a", "-t", "b", "--", "--rm", "-i"])
    assert options.arguments == ["a", "b", "--rm", "-i"] and options.on("tty") and not options.on("rm")


def test_a_lone_dash_is_an_argument() -> None:
    assert parse(FLAGS, ["-", "-t"]).arguments == ["-"]


def test_strings_split_at_commas_and_lists_do_not() -> None:
    options = parse(FLAGS, ["--platforms", "a,b", "-e", "A=1,2"])
    assert options.items("platforms") == ["a", "b"] and options.items("env") == ["A=1,2"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--nosuch"], "unknown flag: --nosuch"),
        (["-iz"], "unknown shorthand flag: 'z' in -z"),
        (["--memory"], "flag needs an argument: --memory"),
        (["-tm"], "flag needs an argument: 'm' in -tm"),
        (["-m", "x"], 'invalid argument "x" for "-m, --memory" flag: invalid size: \'x\''),
        (["--rm=2"], 'invalid argument "2" for "--rm" flag: strconv.ParseBool: parsing "2": invalid syntax'),
        (["-n", "1x"], 'invalid argument "1x" for "-n, --last" flag: strconv.ParseInt: parsing "1x": invalid syntax'),
        (["--=x"], "bad flag syntax: --=x"),
    ],
)
def test_mistakes_are_told_with_status_125(words: list[str], text: str) -> None:
    with pytest.raises(Failure) as caught:
        parse(FLAGS, words)
    assert (caught.value.message, caught.value.exit_code) == (text, 125)


@given(st.lists(st.text(alphabet="-=itpemn1xA,:[]0 é", max_size=12), max_size=6), st.booleans())
def test_any_words_are_read_or_refused(words: list[str], interspersed: bool) -> None:
    with contextlib.suppress(Failure, HelpAsked):
        options = parse(FLAGS, words, interspersed=interspersed)
        assert all(word in words for word in options.arguments)


def test_help_is_asked_for_before_anything_is_checked() -> None:
    with pytest.raises(HelpAsked):
        parse(FLAGS, ["-i", "--help", "--nosuch"])
