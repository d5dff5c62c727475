"""Devices of the host, and the rules for them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pyker.errors import InvalidParameter, NotFound
from pyker.libcontainer import apparmor, devices
from pyker.libcontainer.cgroups.v1 import device_line
from pyker.libcontainer.spec import DeviceRule


def test_from_path_follows_links(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    found = devices.from_path(str(link), as_path="/dev/x")
    assert (found.path, found.kind, found.major, found.minor) == ("/dev/x", "c", 1, 3)
    assert found.mode == os.stat("/dev/null").st_mode & 0o7777


def test_not_a_device(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(InvalidParameter, match="not a device node"):
        devices.from_path(str(tmp_path / "f"))
    with pytest.raises(NotFound, match="no such file or directory"):
        devices.from_path(str(tmp_path / "g"))


def test_host_nodes_skip_what_is_mounted_anew() -> None:
    paths = {node.path for node in devices.host_nodes()}
    assert {"/dev/null", "/dev/urandom"} <= paths
    assert not any(path.startswith(("/dev/pts/", "/dev/shm/", "/dev/mqueue/")) for path in paths)
    assert "/dev/console" not in paths


@pytest.mark.requires("root")
def test_a_folder_means_all_devices_below(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    os.mknod(tmp_path / "sub" / "a", 0o600 | 0o020000, os.makedev(1, 3))
    os.mknod(tmp_path / "b", 0o640 | 0o060000, os.makedev(7, 1))
    (tmp_path / "file").write_text("")
    nodes, rules = devices.requested(str(tmp_path), "/dev/mine", "rw")
    assert [(node.path, node.kind, node.mode) for node in nodes] == [
        ("/dev/mine/b", "b", 0o640),
        ("/dev/mine/sub/a", "c", 0o600),
    ]
    assert [(rule.kind, rule.major, rule.minor, rule.access) for rule in rules] == [
        ("b", 7, 1, "rw"),
        ("c", 1, 3, "rw"),
    ]


def test_bad_permissions() -> None:
    with pytest.raises(InvalidParameter, match="invalid device mode: zz"):
        devices.requested("/dev/null", "/dev/null", "zz")


@pytest.mark.parametrize(
    ("text", "line"),
    [("c 1:3 rwm", "c 1:3 rwm"), ("b *:* r", "b *:* r"), ("a *:* rwm", "a"), ("c 42:* m", "c 42:* m")],
)
def test_rules(text: str, line: str) -> None:
    assert device_line(devices.parse_rule(text)) == line


@pytest.mark.parametrize(
    "text", ["", "foo", "c 1:3", "c 1 rwm", "d 1:3 r", "c 1:3 x", "c -1:3 r", "c 1:3  r", "c 1:3 rwmr"]
)
def test_bad_rules(text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        devices.parse_rule(text)
    assert caught.value.message == f"invalid device cgroup rule format: '{text}'"


def test_default_rules_begin_by_denying_everything() -> None:
    assert devices.DEFAULT_RULES[0] == DeviceRule(allow=False)
    assert all(rule.allow for rule in devices.DEFAULT_RULES[1:])
    assert "c 136:* rwm" in [device_line(rule) for rule in devices.DEFAULT_RULES]


# AppArmor: what can be said without it


def test_the_apparmor_template_is_balanced_and_named() -> None:
    text = apparmor.default_text("pyker-test")
    assert "profile pyker-test " in text
    assert text.count("{") == text.count("}")
    rules = [line.strip() for line in text.splitlines() if line.startswith("  ") and "#include" not in line]
    assert all(rule.endswith(",") for rule in rules)
    assert "deny mount," in rules


@pytest.mark.requires("apparmor-parser")
def test_the_apparmor_template_compiles() -> None:
    done = subprocess.run(
        ["apparmor_parser", "-Q", "-K", "-S"], input=apparmor.default_text().encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"pyker-default" in done.stdout


@pytest.mark.parametrize("name", ["", "a b", "x\nexec y", "a\tb"])
def test_a_profile_name_cannot_say_more_than_a_name(name: str) -> None:
    with pytest.raises(InvalidParameter):
        apparmor.check_name(name)


def test_unconfined_and_none_need_no_apparmor() -> None:
    apparmor.change_on_exec("")
    apparmor.change_on_exec("unconfined")
