"""Version, info and jobs as the wire has them. Source: Docker API v1.45, GET /version and GET /info."""

from __future__ import annotations

import platform
import sys
from typing import Any

from pyker.api import gotime
from pyker.api.versions import API_VERSION, MIN_API_VERSION, Version
from pyker.engine.job import JobRecord
from pyker.jobs.system import VersionInfo

JsonObject = dict[str, Any]

_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "ppc64le": "ppc64le"}


def architecture() -> str:
    """This machine's, in Go's words."""
    machine = platform.machine()
    return _GO_ARCHITECTURES.get(machine, machine)


def language() -> str:
    """What stands in the place of Go's version: this is no Go program."""
    return f"cpython{'.'.join(map(str, sys.version_info[:3]))}"


def version_info(info: VersionInfo) -> JsonObject:
    """``GET /version``."""
    arch = architecture()
    components: list[JsonObject] = [
        {
            "Name": "Engine",
            "Version": info.version,
            "Details": {
                "ApiVersion": API_VERSION,
                "Arch": arch,
                "BuildTime": info.build_time,
                "Experimental": "false",
                "GitCommit": info.git_commit,
                "GoVersion": language(),
                "KernelVersion": info.kernel_version,
                "MinAPIVersion": MIN_API_VERSION,
                "Os": "linux",
            },
        }
    ]
    for name, version, details in info.components:
        components.append({"Name": name, "Version": version, "Details": details})
    return {
        "Platform": {"Name": "Pyker"},
        "Components": components,
        "Version": info.version,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": info.git_commit,
        "GoVersion": language(),
        "Os": "linux",
        "Arch": arch,
        "KernelVersion": info.kernel_version,
        "BuildTime": info.build_time,
    }


def info_fields(fields: dict[str, object], version: Version) -> JsonObject:
    """``GET /info`` without what the version asked for does not know."""
    shown = dict(fields)
    if version >= (1, 42):
        shown.pop("KernelMemory", None)
        shown.pop("KernelMemoryTCP", None)
    if version < (1, 49):
        shown.pop("FirewallBackend", None)
    return shown


def job(record: JobRecord) -> JsonObject:
    """One element of ``GET /pyker/jobs``, which is Pyker's own."""
    running = record.ended_ns == 0
    return {
        "ID": record.job_id,
        "ParentID": record.parent_id or "",
        "RootID": record.root_id or record.job_id,
        "Name": record.name,
        "Actor": record.actor,
        "Subject": record.subject,
        "Arguments": record.arguments,
        "Status": record.status,
        "Error": record.error,
        "StartedAt": gotime.format_time(record.started_ns),
        "EndedAt": gotime.ZERO_TIME if running else gotime.format_time(record.ended_ns),
        "StartedNs": record.started_ns,
        "Stages": record.stages,
        "DurationNs": 0 if running else record.ended_ns - record.started_ns,
    }
