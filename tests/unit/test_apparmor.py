"""AppArmor without AppArmor: the profile's text, what is refused before the kernel is asked, what is loaded when."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pyker.errors import InvalidParameter, KernelError, NotSupported
from pyker.libcontainer import apparmor


@pytest.mark.requires("apparmor-parser")
def test_the_parser_takes_the_default_profile() -> None:
    """Compiled to the kernel's form, without a kernel that could load it."""
    done = subprocess.run(
        [apparmor.parser(), "-Q", "-K", "-S"], input=apparmor.default_text().encode(), capture_output=True, check=True
    )
    assert b"pyker-default" in done.stdout


def test_a_profile_may_have_another_name() -> None:
    text = apparmor.default_text("other")
    assert "profile other flags" in text
    assert "peer=other" in text
    assert "pyker-default" not in text


@pytest.mark.parametrize("name", ["", "two words", "line\nbreak", "tab\t"])
def test_a_name_that_says_more_than_a_name(name: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid apparmor profile name"):
        apparmor.check_name(name)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that stand for the kernel's."""
    for name, content in (("enabled", "Y\n"), ("profiles", "docker-default (enforce)\n"), ("remove", "")):
        (tmp_path / name).write_text(content)
        monkeypatch.setattr(apparmor, f"_{name.upper()}", str(tmp_path / name))
    return tmp_path


def test_which_profiles_are_loaded(kernel: Path) -> None:
    (kernel / "profiles").write_text("docker-default (enforce)\nmy prof (complain)\n/usr/bin/man (enforce)\n")
    assert apparmor.loaded("docker-default")
    assert apparmor.loaded("my prof")
    assert not apparmor.loaded("docker")
    (kernel / "profiles").unlink()
    assert not apparmor.loaded("docker-default")


def test_a_kernel_without_it_says_so(kernel: Path) -> None:
    for content in ("N\n", ""):
        (kernel / "enabled").write_text(content)
        assert not apparmor.enabled()
    (kernel / "enabled").unlink()
    for step in (apparmor.require, apparmor.load_default, lambda: apparmor.change_on_exec("x")):
        with pytest.raises(NotSupported, match="apparmor isn't enabled in this kernel"):
            step()
    apparmor.change_on_exec("")
    apparmor.change_on_exec(apparmor.UNCONFINED)


def test_the_default_is_loaded_once_for_each_text(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer daemon's text replaces an older one's, which a profile of the same name would otherwise hide."""
    texts: list[str] = []

    def load(text: str, name: str) -> None:
        texts.append(text)
        (kernel / "profiles").write_text(f"{name} (enforce)\n")

    monkeypatch.setattr(apparmor, "load", load)
    record = str(kernel / "record")
    apparmor.load_default(record)
    apparmor.load_default(record)
    assert texts == [apparmor.default_text()]
    monkeypatch.setattr(apparmor, "_NEVER", ("/other w",))
    apparmor.load_default(record)
    assert texts[1:] == [apparmor.default_text()]
    (kernel / "profiles").write_text("")  # booted again, with the record still there
    apparmor.load_default(record)
    assert len(texts) == 3


def test_without_the_parser(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apparmor, "_PARSER_PLACES", (str(kernel / "nowhere"),))
    with pytest.raises(NotSupported, match="apparmor_parser is missing") as caught:
        apparmor.load_default()
    assert caught.value.hint == "install the package apparmor"


def test_what_the_parser_refuses_is_told_with_its_reason(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel / "parser"
    fake.write_text("#!/bin/sh\necho 'syntax error, line 3' >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(apparmor, "_PARSER_PLACES", (str(fake),))
    with pytest.raises(KernelError, match="refused profile 'x': syntax error, line 3"):
        apparmor.load("profile x {", "x")


def test_unloading_writes_the_name_and_forgives_absence(kernel: Path) -> None:
    apparmor.unload("x")
    assert (kernel / "remove").read_text() == "x"
    (kernel / "remove").unlink()
    apparmor.unload("x")
