"""Endpoints that docker has and Pyker has not yet: they say so, rather than "page not found"."""

from __future__ import annotations

from collections.abc import Callable

from pyker.errors import InvalidParameter, NotFound, NotSupported
from pyker.server.call import Call
from pyker.server.reply import Reply
from pyker.server.router import Route


def _absent(what: str) -> Callable[[Call], Reply]:
    def refuse(call: Call) -> Reply:
        raise NotSupported(f"{what} is not there yet in Pyker")

    return refuse


def volume(call: Call) -> Reply:
    """``docker inspect`` asks for a volume of any name: until there are any, none is found."""
    raise NotFound(f"get {call['name']}: no such volume")


def session(call: Call) -> Reply:
    """The client's end of a build: only a connection that is handed over could serve it."""
    if not call.request.headers.get("upgrade"):
        raise InvalidParameter("no upgrade proto in request")
    raise NotSupported("build with BuildKit is not there yet in Pyker")


_ENDPOINTS = (
    ("GET", "/containers/{name:.*}/changes", "diff"),
    ("GET", "/containers/{name:.*}/export", "export"),
    ("GET", "/containers/{name:.*}/stats", "stats"),
    ("GET", "/containers/{name:.*}/attach/ws", "attach over a WebSocket"),
    ("GET", "/containers/{name:.*}/archive", "cp"),
    ("HEAD", "/containers/{name:.*}/archive", "cp"),
    ("PUT", "/containers/{name:.*}/archive", "cp"),
    ("POST", "/containers/{name:.*}/update", "update"),
    ("POST", "/containers/prune", "container prune"),
    ("POST", "/commit", "commit"),
    ("POST", "/build", "build"),
    ("POST", "/build/prune", "builder prune"),
    ("POST", "/build/cancel", "build"),
    ("POST", "/grpc", "build with BuildKit"),
    ("GET", "/images/get", "save"),
    ("GET", "/images/{name:.*}/get", "save"),
    ("POST", "/images/load", "load"),
    ("POST", "/images/prune", "image prune"),
    ("GET", "/distribution/{name:.*}/json", "manifest inspect"),
    ("GET", "/system/df", "system df"),
    ("GET", "/volumes", "volume ls"),
    ("POST", "/volumes/create", "volume create"),
    ("POST", "/volumes/prune", "volume prune"),
    ("DELETE", "/volumes/{name:.*}", "volume rm"),
    ("POST", "/networks/prune", "network prune"),
    ("POST", "/networks/{name:.*}/connect", "network connect"),
    ("POST", "/networks/{name:.*}/disconnect", "network disconnect"),
    ("GET", "/plugins/privileges", "plugin install"),
    ("POST", "/plugins/{name:.*}", "plugins"),
)

ROUTES = [
    *(Route(method, pattern, _absent(what)) for method, pattern, what in _ENDPOINTS),
    Route("GET", "/volumes/{name:.*}", volume),
    Route("POST", "/session", session),
]
