"""Users and groups from a container's own files."""

from __future__ import annotations

import grp
import os
import pwd

import pytest

from pyker.errors import InvalidParameter
from pyker.libcontainer.user import resolve

PASSWD = b"""\
# a comment
root:x:0:0:root:/root:/bin/sh
broken line
www:x:33:33:www:/var/www:/bin/false
1000:x:77:77::/digits:
anna:x:1000:1000::/home/anna:/bin/sh
late:x:1000:1001::/home/late:/bin/sh
nohome:x:1500:1500
huge:x:1600:1600::/h:/bin/sh"""
GROUP = b"""\
root:x:0:
www:x:33:
wheel:x:10:anna,www
audio:x:29:anna
docker:x:999:
nobody-in-it:x:555:,,
"""


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, (0,), "/root"),
        ("root", 0, 0, (0,), "/root"),
        ("0", 0, 0, (0,), "/root"),
        ("anna", 1000, 1000, (1000, 10, 29), "/home/anna"),
        ("www", 33, 33, (33, 10), "/var/www"),
        ("33", 33, 33, (33, 10), "/var/www"),
        ("4242", 4242, 0, (0,), "/"),
        ("4242:docker", 4242, 999, (999,), "/"),
        ("anna:audio", 1000, 29, (29,), "/home/anna"),
        ("anna:5555", 1000, 5555, (5555,), "/home/anna"),
        (":29", 0, 29, (29,), "/root"),
        ("nohome", 1500, 1500, (1500,), "/"),
        ("2147483647", 2147483647, 0, (0,), "/"),
    ],
)
def test_resolve(user: str, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
    found = resolve(user, PASSWD, GROUP)
    assert (found.uid, found.gid, found.groups, found.home) == (uid, gid, groups, home)


def test_the_first_line_of_the_file_wins() -> None:
    """A user named 1000 comes before one whose number is 1000."""
    assert resolve("1000", PASSWD, GROUP).uid == 77


def test_additional_groups_come_last_and_once() -> None:
    found = resolve("anna", PASSWD, GROUP, ("docker", "29", "7777"))
    assert found.groups == (1000, 10, 29, 999, 7777)


def test_image_without_files() -> None:
    found = resolve("", b"", b"")
    assert (found.uid, found.gid, found.groups, found.home) == (0, 0, (0,), "/")


@pytest.mark.parametrize(
    ("user", "additional", "message"),
    [
        ("nosuch", (), "unable to find user nosuch: no matching entries in passwd file"),
        ("root:x", (), "unable to find group x: no matching entries in group file"),
        ("2147483648", (), "uids and gids must be in range 0-2147483647"),
        ("0:2147483648", (), "uids and gids must be in range 0-2147483647"),
        ("", ("nosuch",), "Unable to find group nosuch: no matching entries in group file"),
        ("-1", (), "unable to find user -1: no matching entries in passwd file"),
    ],
)
def test_refused(user: str, additional: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        resolve(user, PASSWD, GROUP, additional)
    assert caught.value.message == message


def test_hostile_files_do_no_harm() -> None:
    passwd = b"\xff\xfe:x:1:1::/\n" + b"a" * 100_000 + b"\n:::\nroot:x:nine:0::/\nroot:x:0:0::/root:\n"
    assert resolve("root", passwd, b"\x00:x:9:root\ng:x:-5:root\nh:x:8:root").groups == (0, 9, 8)


def test_agrees_with_the_c_library() -> None:
    """The host's own files, read by getpwnam and getgrall."""
    with open("/etc/passwd", "rb") as file:
        passwd = file.read()
    with open("/etc/group", "rb") as file:
        group = file.read()
    for entry in pwd.getpwall():
        found = resolve(entry.pw_name, passwd, group)
        expected = {entry.pw_gid} | {g.gr_gid for g in grp.getgrall() if entry.pw_name in g.gr_mem}
        assert (found.uid, found.gid, found.home) == (entry.pw_uid, entry.pw_gid, entry.pw_dir)
        assert set(found.groups) == expected
    assert os.getuid() == resolve(pwd.getpwuid(os.getuid()).pw_name, passwd, group).uid
