"""The files of containers: ``/containers/{id}/{changes,export,archive}``."""

from __future__ import annotations

import base64
import stat
from typing import Any

from pyker.api.gotime import format_time
from pyker.jobs.files import ContainerChanges, ExportContainer, GetArchive, PathStat, PutArchive, StatPath
from pyker.server.call import Call
from pyker.server.reply import STREAMED, Reply, encode_json, json_reply
from pyker.server.router import Route

_STAT = "X-Docker-Container-Path-Stat"
_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def changes(call: Call) -> Reply:
    """null, not [], if there are none."""
    found = call.run(ContainerChanges(container=call["name"]))
    return json_reply([{"Path": change.path, "Kind": change.kind} for change in found] or None)


def export(call: Call) -> Reply:
    call.run(ExportContainer(container=call["name"]))
    return STREAMED


def head_archive(call: Call) -> Reply:
    found = call.run(StatPath(container=call["name"], path=call.text("path")))
    return Reply(200, b"", headers={_STAT: _header(found)})


def get_archive(call: Call) -> Reply:
    """The header tells what the path is, before the tar."""
    found = call.run(StatPath(container=call["name"], path=call.text("path")))
    call.stdio.extra_headers = {_STAT: _header(found)}
    call.run(GetArchive(container=call["name"], path=call.text("path")))
    return STREAMED


def put_archive(call: Call) -> Reply:
    call.run(
        PutArchive(
            container=call["name"],
            path=call.text("path"),
            keep_kinds=call.flag("noOverwriteDirNonDir"),
        )
    )
    return Reply(200)


def _header(found: PathStat) -> str:
    fields: dict[str, Any] = {
        "name": found.name,
        "size": found.size,
        "mode": go_mode(found.mode),
        "mtime": format_time(found.mtime_ns),
        "linkTarget": found.link_target,
    }
    return base64.b64encode(encode_json(fields).rstrip()).decode()


def go_mode(mode: int) -> int:
    """st_mode as Go's os.FileMode. Source: pkg.go.dev/io/fs#FileMode."""
    return (mode & 0o777) | _KINDS.get(stat.S_IFMT(mode), 0) | sum(go for unix, go in _BITS if mode & unix)


ROUTES = [
    Route("GET", "/containers/{name:.*}/changes", changes),
    Route("GET", "/containers/{name:.*}/export", export, ends_with_client=True),
    Route("HEAD", "/containers/{name:.*}/archive", head_archive),
    Route("GET", "/containers/{name:.*}/archive", get_archive, ends_with_client=True),
    Route("PUT", "/containers/{name:.*}/archive", put_archive),
]
