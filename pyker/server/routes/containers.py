"""``/containers/...``: create, the life cycle, lists, logs, attach."""

from __future__ import annotations

from time import time_ns
from typing import Any

from msgspec.structs import replace

from pyker.api import codec, filters
from pyker.api.codec import Decoder
from pyker.api.gojson import kind_of
from pyker.api.versions import Version
from pyker.errors import InvalidParameter
from pyker.jobs.containers import (
    AttachContainer,
    ContainerLogs,
    ContainerStats,
    CreateContainer,
    InspectContainer,
    KillContainer,
    ListContainers,
    PauseContainer,
    PruneContainers,
    RemoveContainer,
    RemoveLink,
    RenameContainer,
    ResizeContainer,
    RestartContainer,
    StartContainer,
    StopContainer,
    TopContainer,
    UnpauseContainer,
    UpdateContainer,
    WaitContainer,
)
from pyker.server.call import Call
from pyker.server.render import containers as render
from pyker.server.reply import JSON, STREAMED, Reply, encode_json, json_reply
from pyker.server.router import Route
from pyker.types.config import ContainerConfig, HostConfig, NetworkingConfig

_LISTS = ("Cmd", "Entrypoint", "Shell", "CapAdd", "CapDrop")
_config = Decoder(ContainerConfig, name="ContainerConfigWrapper", lists=_LISTS)
_host_config = Decoder(HostConfig, name="HostConfig.HostConfig", lists=_LISTS)
_networking = Decoder(NetworkingConfig, name="NetworkingConfig.NetworkingConfig")
_CONFIG_KEYS = frozenset(name.lower() for name in ContainerConfig.__struct_encode_fields__)
_CONDITIONS = ("", "not-running", "next-exit", "removed")
_EMPTY_BODY = 7
_STATUSES = frozenset({"created", "running", "paused", "restarting", "removing", "exited", "dead"})


def create(call: Call) -> Reply:
    """``POST /containers/create``: the container's part of the body is spread over its top level."""
    raw = call.json(_anything)
    folded = {str(key).lower(): value for key, value in raw.items()}
    if not any(key in _CONFIG_KEYS for key in folded):
        raise InvalidParameter("Config cannot be empty in order to create a container")
    config = _config.convert(raw)
    host_config = _for_version(_host_config.convert(folded.get("hostconfig")), call.version)
    networking = _networking.convert(folded.get("networkingconfig"))
    endpoints = networking.endpoints_config or {}
    if call.version < (1, 44) and len(endpoints) > 1:
        raise InvalidParameter(f"Container cannot be connected to network endpoints: {', '.join(endpoints)}")
    created = call.run(
        CreateContainer(
            config=config,
            host_config=host_config,
            networking=networking,
            container_name=call.text("name"),
            platform=call.text("platform") if call.version >= (1, 41) else "",
        )
    )
    return json_reply({"Id": created.id, "Warnings": list(created.warnings)}, 201)


class _Anything(Decoder[dict[str, Any]]):
    """A JSON object as it is, for bodies that are made of several types."""

    def __init__(self) -> None:
        self._name = "runconfig.ContainerConfigWrapper"

    def decode(self, data: bytes) -> dict[str, Any]:
        value = codec.parse(data)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InvalidParameter(f"json: cannot unmarshal {kind_of(value)} into Go value of type {self._name}")
        return value


_anything = _Anything()


def _for_version(host_config: HostConfig, version: Version) -> HostConfig:
    """What an older client means by what it leaves out."""
    changes: dict[str, Any] = {}
    if not host_config.network_mode:
        changes["network_mode"] = "default"
    if host_config.pids_limit is not None and host_config.pids_limit <= 0:
        changes["pids_limit"] = None
    if version < (1, 40) and not host_config.ipc_mode:
        changes["ipc_mode"] = "shareable"
    if version < (1, 41) and not host_config.cgroupns_mode:
        changes["cgroupns_mode"] = "host"
    if version >= (1, 42) and host_config.kernel_memory:
        changes["kernel_memory"] = 0
    return replace(host_config, **changes) if changes else host_config


def start(call: Call) -> Reply:
    if len(call.body.read(_EMPTY_BODY + 1)) > _EMPTY_BODY:
        raise InvalidParameter(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    call.run(StartContainer(container=call["name"]))
    return Reply(204)


def stop(call: Call) -> Reply:
    call.run(StopContainer(container=call["name"], timeout_s=_timeout(call), signal=_stop_signal(call)))
    return Reply(204)


def restart(call: Call) -> Reply:
    call.run(RestartContainer(container=call["name"], timeout_s=_timeout(call), signal=_stop_signal(call)))
    return Reply(204)


def _timeout(call: Call) -> int | None:
    return call.number("t") if call.text("t") else None


def _stop_signal(call: Call) -> str:
    return call.text("signal") if call.version >= (1, 42) else ""


def kill(call: Call) -> Reply:
    call.run(KillContainer(container=call["name"], signal=call.text("signal") or "KILL"))
    return Reply(204)


def pause(call: Call) -> Reply:
    call.run(PauseContainer(container=call["name"]))
    return Reply(204)


def unpause(call: Call) -> Reply:
    call.run(UnpauseContainer(container=call["name"]))
    return Reply(204)


def rename(call: Call) -> Reply:
    call.run(RenameContainer(container=call["name"], new_name=call.text("name")))
    return Reply(204)


def remove(call: Call) -> Reply:
    if call.flag("link"):
        call.run(RemoveLink(link=call["name"]))
        return Reply(204)
    call.run(RemoveContainer(container=call["name"], force=call.flag("force"), volumes=call.flag("v")))
    return Reply(204)


def wait(call: Call) -> Reply:
    """The head goes out before the job blocks; the result follows when it is known."""
    condition = call.text("condition") if call.version >= (1, 30) else ""
    if condition not in _CONDITIONS:
        if call.version >= (1, 42):
            raise InvalidParameter(f'invalid condition: "{condition}"')
        condition = ""
    result = call.run(WaitContainer(container=call["name"], condition=condition or "not-running"))
    answer: dict[str, Any] = {"StatusCode": result.exit_code}
    if result.error:
        answer["Error"] = {"Message": result.error}
    elif call.version < (1, 42):
        answer["Error"] = None
    call.stdio.stdout(JSON)(encode_json(answer))
    return STREAMED


def list_all(call: Call) -> Reply:
    chosen = call.filters(filters.CONTAINERS)
    for status in chosen.get("status", ()):
        if status not in _STATUSES:
            raise InvalidParameter(f"Invalid filter 'status={status}'")
    job = ListContainers(all=call.flag("all"), limit=call.number("limit"), size=call.flag("size"), filters=chosen)
    now_ns = time_ns()
    return json_reply([render.container_row(row, call.version, now_ns) for row in call.run(job)])


def inspect(call: Call) -> Reply:
    view = call.run(InspectContainer(container=call["name"], size=call.flag("size")))
    return json_reply(render.container_inspect(view, call.version))


def logs(call: Call) -> Reply:
    stdout, stderr = call.flag("stdout"), call.flag("stderr")
    if not (stdout or stderr):
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    tail = call.text("tail")
    call.run(
        ContainerLogs(
            container=call["name"],
            stdout=stdout,
            stderr=stderr,
            follow=call.flag("follow"),
            timestamps=call.flag("timestamps"),
            details=call.flag("details"),
            tail=int(tail) if tail.isascii() and tail.isdecimal() else -1,
            since_ns=call.moment("since"),
            until_ns=call.moment("until"),
        )
    )
    return STREAMED


def attach(call: Call) -> Reply:
    call.run(
        AttachContainer(
            container=call["name"],
            stdin=call.flag("stdin"),
            stdout=call.flag("stdout"),
            stderr=call.flag("stderr"),
            stream=call.flag("stream"),
            logs=call.flag("logs"),
            detach_keys=call.text("detachKeys"),
        )
    )
    return STREAMED


def resize(call: Call) -> Reply:
    height, width = call.number("h", required=True), call.number("w", required=True)
    call.run(ResizeContainer(container=call["name"], height=height, width=width))
    return Reply(200)


def update(call: Call) -> Reply:
    wanted = call.json(_host_config)
    if call.version < (1, 40):
        wanted = replace(wanted, pids_limit=None)
    warnings = call.run(UpdateContainer(container=call["name"], host_config=wanted))
    return json_reply({"Warnings": list(warnings) or None})


def stats(call: Call) -> Reply:
    one_shot = call.flag("one-shot") and call.version >= (1, 41)
    call.run(ContainerStats(container=call["name"], stream=call.flag("stream", True), one_shot=one_shot))
    return STREAMED


def top(call: Call) -> Reply:
    table = call.run(TopContainer(container=call["name"], ps_args=call.text("ps_args") or "-ef"))
    return json_reply({"Processes": [list(row) for row in table.processes], "Titles": list(table.titles)})


def prune(call: Call) -> Reply:
    done = call.run(PruneContainers(filters=call.filters(filters.CONTAINER_PRUNE)))
    return json_reply({"ContainersDeleted": list(done.ids) or None, "SpaceReclaimed": done.reclaimed})


ROUTES = [
    Route("GET", "/containers/json", list_all),
    Route("POST", "/containers/create", create),
    Route("POST", "/containers/prune", prune),
    Route("GET", "/containers/{name:.*}/json", inspect),
    Route("GET", "/containers/{name:.*}/logs", logs, ends_with_client=True),
    Route("GET", "/containers/{name:.*}/top", top),
    Route("GET", "/containers/{name:.*}/stats", stats, ends_with_client=True),
    Route("POST", "/containers/{name:.*}/update", update),
    Route("POST", "/containers/{name:.*}/start", start),
    Route("POST", "/containers/{name:.*}/stop", stop),
    Route("POST", "/containers/{name:.*}/restart", restart),
    Route("POST", "/containers/{name:.*}/kill", kill),
    Route("POST", "/containers/{name:.*}/pause", pause),
    Route("POST", "/containers/{name:.*}/unpause", unpause),
    Route("POST", "/containers/{name:.*}/rename", rename),
    Route("POST", "/containers/{name:.*}/wait", wait, ends_with_client=True),
    Route("POST", "/containers/{name:.*}/attach", attach),
    Route("POST", "/containers/{name:.*}/resize", resize),
    Route("DELETE", "/containers/{name:.*}", remove),
]
