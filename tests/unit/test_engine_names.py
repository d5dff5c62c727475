"""What ``--engine`` takes, and where packages of other suites come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import cache, debian, engines


def test_an_engine_is_found_by_name_and_by_release() -> None:
    assert [engines.find(name).specification for name in ("pyker", "docker", "podman", "docker:28")] == [
        "pyker",
        "docker",
        "podman",
        "docker:28",
    ]
    assert engines.find("docker:26").kind == "docker"


@pytest.mark.parametrize("name", ["", "dockerd", "docker:", "docker:27", "pyker:1", "podman:4"])
def test_an_unknown_engine_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(engines.UnknownEngine) as caught:
        engines.specification(name)
    assert str(caught.value) == (f'there is no engine "{name}"; there are: pyker, docker, podman, docker:26, docker:28')


@pytest.mark.parametrize(
    ("name", "content", "mirror"),
    [
        (
            "a.sources",
            "# comment\nTypes: deb\nURIs: http://one.example/debian\nSuites: SUITE SUITE-updates\nComponents: main\n"
            "Signed-By: /keys/a.gpg\n",
            debian.Mirror("http://one.example/debian", "/keys/a.gpg"),
        ),
        (
            "a.list",
            "# deb http://no.example/x SUITE main\ndeb-src http://no.example/y SUITE main\n"
            "deb [arch=amd64 signed-by=/keys/b.gpg] http://two.example/debian SUITE main contrib\n",
            debian.Mirror("http://two.example/debian", "/keys/b.gpg"),
        ),
        ("a.list", "deb http://three.example/debian SUITE main\n", debian.Mirror("http://three.example/debian", "")),
    ],
)
def test_the_mirror_is_the_machines_own(tmp_path: Path, name: str, content: str, mirror: debian.Mirror) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "0.list").write_text("deb http://other.example/tool stable main\n")
    (parts / name).write_text(content.replace("SUITE", debian.own_suite()))
    assert debian.own_mirror(tmp_path) == mirror


def test_a_machine_without_a_source_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(debian.Unavailable, match=f"no source of {debian.own_suite()}/main among apt's sources"):
        debian.own_mirror(tmp_path)


def test_a_cached_folder_is_filled_once_and_appears_when_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYKER_CACHE", str(tmp_path))
    calls = []

    def fill(folder: Path) -> None:
        assert not (tmp_path / "thing").exists()
        calls.append(folder)
        (folder / "file").write_text("x")

    assert cache.filled("thing", fill) == cache.filled("thing", fill) == tmp_path / "thing"
    assert len(calls) == 1 and (tmp_path / "thing" / "file").read_text() == "x"


def test_a_failed_fill_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYKER_CACHE", str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("the network went away")

    with pytest.raises(OSError):
        cache.filled("thing", fail)
    assert not (tmp_path / "thing").exists()
    cache.filled("thing", lambda folder: None)
    assert list((tmp_path / "thing").iterdir()) == []
