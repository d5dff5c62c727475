"""``/volumes/...``."""

from __future__ import annotations

from msgspec import field

from pyker.api import filters
from pyker.api.codec import Decoder
from pyker.jobs.volumes import CreateVolume, InspectVolume, ListVolumes, PruneVolumes, RemoveVolume
from pyker.server.call import Call
from pyker.server.render.volumes import volume
from pyker.server.reply import Reply, json_reply
from pyker.server.router import Route
from pyker.types.config import Wire

_ANONYMOUS_ONLY_SINCE = (1, 42)


class VolumeRequest(Wire, frozen=True):
    """The body of ``POST /volumes/create``."""

    name: str = ""
    driver: str = ""
    options: dict[str, str] | None = field(default=None, name="DriverOpts")
    labels: dict[str, str] | None = None


_request = Decoder(VolumeRequest, name="VolumeCreateBody")


def create(call: Call) -> Reply:
    given = call.json(_request, empty=VolumeRequest())
    job = CreateVolume(
        volume=given.name, driver=given.driver or "local", options=given.options or {}, labels=given.labels or {}
    )
    return json_reply(volume(call.run(job)), 201)


def list_all(call: Call) -> Reply:
    found = call.run(ListVolumes(filters=call.filters(filters.VOLUMES)))
    return json_reply({"Volumes": [volume(entry) for entry in found], "Warnings": None})


def inspect(call: Call) -> Reply:
    return json_reply(volume(call.run(InspectVolume(volume=call["name"]))))


def remove(call: Call) -> Reply:
    call.run(RemoveVolume(volume=call["name"], force=call.flag("force")))
    return Reply(204)


def prune(call: Call) -> Reply:
    """Since API 1.42 named volumes stay unless the client says ``all``."""
    chosen = call.filters(filters.VOLUME_PRUNE)
    named = call.version < _ANONYMOUS_ONLY_SINCE or filters.truth(chosen, "all") is True
    done = call.run(PruneVolumes(filters=chosen, named=named))
    return json_reply({"VolumesDeleted": list(done.names), "SpaceReclaimed": done.reclaimed})


ROUTES = [
    Route("GET", "/volumes", list_all),
    Route("POST", "/volumes/create", create),
    Route("POST", "/volumes/prune", prune),
    Route("GET", "/volumes/{name:.*}", inspect),
    Route("DELETE", "/volumes/{name:.*}", remove),
]
