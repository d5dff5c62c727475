"""``--userns-remap``: which IDs it takes from subuid(5), and what it forbids."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from pyker.daemon import userns
from pyker.daemon.userns import Remap
from pyker.errors import InvalidParameter, NotSupported
from pyker.libcontainer.spec import IdMapping
from pyker.types.config import HostConfig

ME = pwd.getpwuid(os.getuid())


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "subuid").write_text(
        f"other:500000:65536\n{ME.pw_name}:100000:1000\nnonsense\n{ME.pw_uid}:300000:64536\n{ME.pw_name}:9:0\n4242:700000:10\n"
    )
    (tmp_path / "subgid").write_text(f"{ME.pw_name}:200000:65536\n4242:800000:10\n4343:900000:20\n")
    return {"subuid": str(tmp_path / "subuid"), "subgid": str(tmp_path / "subgid")}


def test_ranges_follow_one_another_by_name_and_by_number(files: dict[str, str]) -> None:
    found = userns.read(ME.pw_name, **files)
    assert found.uid_mappings == (IdMapping(0, 100_000, 1000), IdMapping(1000, 300_000, 64_536))
    assert found.gid_mappings == (IdMapping(0, 200_000, 65_536),)
    assert userns.read(str(ME.pw_uid), **files) == found


def test_numbers_need_no_entry_in_passwd_and_a_group_may_be_another(files: dict[str, str]) -> None:
    assert userns.read("4242", **files).gid_mappings == (IdMapping(0, 800_000, 10),)
    assert userns.read("4242:4343", **files).gid_mappings == (IdMapping(0, 900_000, 20),)


@pytest.mark.parametrize("option", [":", "x:", ":x"])
def test_what_names_nobody(option: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid --userns-remap"):
        userns.read(option)


def test_users_that_are_not_there_or_have_nothing_to_give(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="there is no user 'nosuchuser'") as caught:
        userns.read("nosuchuser", **files)
    assert "/etc/subuid" in caught.value.hint
    with pytest.raises(NotSupported, match='no missing ranges found for user "4242"'):
        userns.read("4242", subuid=files["subuid"], subgid=str(tmp_path / "missing"))


def test_without_the_option_nothing_is_mapped() -> None:
    remap = userns.read("")
    assert not remap
    remap.check(HostConfig(privileged=True, network_mode="host"))
    assert not remap.applies(HostConfig())


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ({"privileged": True}, "privileged mode is incompatible with user namespaces"),
        ({"network_mode": "host"}, "cannot share the host's network namespace when user namespaces are enabled"),
        ({"pid_mode": "host"}, "cannot share the host PID namespace when user namespaces are enabled"),
    ],
)
def test_what_a_user_namespace_cannot_go_with(host: dict[str, object], says: str) -> None:
    remap = Remap((IdMapping(0, 1, 1),), (IdMapping(0, 1, 1),))
    with pytest.raises(InvalidParameter, match=says):
        remap.check(HostConfig(**host))  # type: ignore[arg-type]
    remap.check(HostConfig(**host, userns_mode="host"))  # type: ignore[arg-type]
