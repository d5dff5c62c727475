"""References, against the reference engine's grammar and words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyker.errors import InvalidParameter
from pyker.types.reference import Reference, check_digest, is_digest, parse, with_tag_or_digest

SHA = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("bb", "docker.io/library/bb", "bb"),
        ("bb:1", "docker.io/library/bb:1", "bb:1"),
        ("a/b", "docker.io/a/b", "a/b"),
        ("library/x", "docker.io/library/x", "x"),
        ("docker.io/bb", "docker.io/library/bb", "bb"),
        ("index.docker.io/a/b:2", "docker.io/a/b:2", "a/b:2"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/x", "localhost/x", "localhost/x"),
        ("docker.io/localhost/x", "docker.io/localhost/x", "docker.io/localhost/x"),
        ("docker.io/a.b/x", "docker.io/a.b/x", "docker.io/a.b/x"),
        ("localhost:5000/x", "localhost:5000/x", "localhost:5000/x"),
        ("127.0.0.1:5000/team/bb:1", "127.0.0.1:5000/team/bb:1", "127.0.0.1:5000/team/bb:1"),
        ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
        ("Reg/x", "Reg/x", "Reg/x"),
        ("a.b/c__d/e-f---g.h", "a.b/c__d/e-f---g.h", "a.b/c__d/e-f---g.h"),
        (f"bb@{SHA}", f"docker.io/library/bb@{SHA}", f"bb@{SHA}"),
        (f"bb:1@{SHA}", f"docker.io/library/bb:1@{SHA}", f"bb:1@{SHA}"),
        ("bb:" + "t" * 128, "docker.io/library/bb:" + "t" * 128, "bb:" + "t" * 128),
        ("pyker.local/hello", "pyker.local/hello", "pyker.local/hello"),
    ],
)
def test_forms(text: str, canonical: str, familiar: str) -> None:
    reference = parse(text)
    assert reference.canonical == canonical
    assert reference.familiar == familiar
    assert parse(reference.canonical) == reference
    assert parse(reference.familiar) == reference


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "invalid reference format"),
        ("-x", "invalid reference format"),
        ("x:", "invalid reference format"),
        ("x:y:z", "invalid reference format"),
        ("x/", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("x@sha256:abc", "invalid reference format"),
        ("bb:" + "t" * 129, "invalid reference format"),
        ("bb:\N{LATIN SMALL LETTER E WITH ACUTE}", "invalid reference format"),
        ("x\n", "invalid reference format"),
        ("bb\0", "invalid reference format"),
        ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
        ("foo/Bar:1", "invalid reference format: repository name (foo/Bar) must be lowercase"),
        ("a" * 64, f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal strings"),
        ("bb@sha999:" + "a" * 64, "unsupported digest algorithm"),
        ("bb@sha256:" + "a" * 63, "invalid checksum digest length"),
        ("bb@sha256:" + "A" * 64, "invalid checksum digest format"),
        ("a" * 300, "repository name must not be more than 255 characters"),
    ],
)
def test_refusals(text: str, words: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse(text)
    assert str(caught.value) == words


def test_length_counts_the_domain() -> None:
    assert len(parse("r.io/" + "a" * 250).name) == 255
    with pytest.raises(InvalidParameter):
        parse("r.io/" + "a" * 251)


def test_tags_and_digests() -> None:
    bb = parse("bb")
    assert bb.name_only
    assert bb.default_tag().canonical == "docker.io/library/bb:latest"
    assert bb.with_tag("2").default_tag().familiar == "bb:2"
    assert bb.with_digest(SHA).default_tag().familiar == f"bb@{SHA}"
    assert bb.with_tag("2").with_digest(SHA).trimmed() == bb
    with pytest.raises(InvalidParameter, match=r"^invalid tag format$"):
        bb.with_tag("no tag")
    with pytest.raises(InvalidParameter):
        bb.with_digest("sha256:abc")


@pytest.mark.parametrize(
    ("name", "suffix", "familiar"),
    [
        ("bb", "1", "bb:1"),
        ("bb:", "1", "bb:1"),
        ("bb:1", "2", "bb:2"),
        ("bb", SHA, f"bb@{SHA}"),
        ("bb:1", SHA, f"bb@{SHA}"),
        ("bb", "", "bb"),
    ],
)
def test_name_and_suffix(name: str, suffix: str, familiar: str) -> None:
    assert with_tag_or_digest(name, suffix).familiar == familiar


def test_digests() -> None:
    assert is_digest(SHA)
    assert is_digest("sha512:" + "0" * 128)
    for bad in (
        "",
        "sha256",
        "sha256:",
        SHA[:-1],
        SHA + "0",
        "sha256:" + "g" * 64,
        "md5:" + "0" * 32,
        "../x:" + "0" * 64,
    ):
        assert not is_digest(bad), bad
    with pytest.raises(InvalidParameter, match="length"):
        check_digest("sha256:" + "0" * 40)


_PART = st.from_regex(r"\A[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+){0,2}\Z")


@given(
    domain=st.sampled_from(["docker.io", "localhost", "r.example:5000", "[::1]:80", "pyker.local"]),
    path=st.lists(_PART, min_size=1, max_size=3),
    tag=st.from_regex(r"\A(?:|[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})\Z"),
    digest=st.sampled_from(["", SHA]),
)
def test_what_is_written_is_read(domain: str, path: list[str], tag: str, digest: str) -> None:
    joined = "/".join(path)
    if domain == "docker.io" and len(path) == 1:
        joined = f"library/{joined}"
    reference = Reference(domain, joined, tag, digest)
    if len(reference.name) > 255:
        return
    assert parse(reference.canonical) == reference
    assert parse(reference.familiar) == reference


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        reference = parse(text)
    except InvalidParameter:
        return
    assert parse(reference.canonical) == reference
    assert "\n" not in reference.canonical
