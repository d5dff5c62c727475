"""``/_ping``, ``/version``, ``/info``, ``/events``, ``/auth``."""

from __future__ import annotations

import msgspec

from pyker.api import filters
from pyker.api.codec import Decoder
from pyker.errors import InvalidParameter
from pyker.jobs.system import Auth, Info, MeasureDisk, StreamEvents, Version
from pyker.server.call import Call
from pyker.server.render import system as render
from pyker.server.render.diskusage import disk_usage
from pyker.server.reply import STREAMED, Reply, json_reply
from pyker.server.router import Route


class Credentials(msgspec.Struct):
    """The body of ``POST /auth``."""

    username: str = ""
    password: str = ""
    email: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    auth: str = ""


_credentials = Decoder(Credentials, name="types.AuthConfig")

_KINDS = ("image", "container", "volume", "build-cache")
_KINDS_SINCE = (1, 42)
_PING_HEADERS = {
    "Builder-Version": "1",
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}


def ping(call: Call) -> Reply:
    """The way that pings take which the connection does not answer by itself."""
    body = b"" if call.request.method == "HEAD" else b"OK"
    return Reply(200, body, "text/plain; charset=utf-8", _PING_HEADERS)


def version(call: Call) -> Reply:
    return json_reply(render.version_info(call.run(Version())))


def info(call: Call) -> Reply:
    return json_reply(render.info_fields(call.run(Info()).fields, call.version))


def df(call: Call) -> Reply:
    """Since API 1.42 a client may ask for some kinds only."""
    chosen = call.query.get("type", []) if call.version >= _KINDS_SINCE else []
    for kind in chosen:
        if kind not in _KINDS:
            raise InvalidParameter(f"unknown object type: {kind}")
    kinds = frozenset(chosen or _KINDS)
    usage = call.run(MeasureDisk(kinds=kinds - {"build-cache"}))
    return json_reply(disk_usage(usage, kinds, call.version))


def events(call: Call) -> Reply:
    """Endless JSON, one event a line."""
    since, until = call.moment("since"), call.moment("until")
    if until and since > until:
        raise InvalidParameter(
            f"`since` time ({call.text('since')}) cannot be after `until` time ({call.text('until')})"
        )
    accepted = None if call.version < (1, 42) else filters.EVENTS
    call.run(StreamEvents(since_ns=since, until_ns=until, filters=call.filters(accepted)))
    return STREAMED


def auth(call: Call) -> Reply:
    given = call.json(_credentials)
    result = call.run(
        Auth(
            username=given.username,
            password=given.password,
            server_address=given.serveraddress,
            identity_token=given.identitytoken,
        )
    )
    return json_reply({"Status": result.status, "IdentityToken": result.identity_token})


ROUTES = [
    Route("GET", "/_ping", ping),
    Route("HEAD", "/_ping", ping),
    Route("GET", "/version", version),
    Route("GET", "/info", info),
    Route("GET", "/system/df", df),
    Route("GET", "/events", events, ends_with_client=True),
    Route("POST", "/auth", auth),
]
