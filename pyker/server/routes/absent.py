"""Endpoints that docker has and Pyker has not yet: they say so, rather than "page not found"."""

from __future__ import annotations

from collections.abc import Callable

from pyker.errors import InvalidParameter, NotSupported
from pyker.server.call import Call
from pyker.server.reply import Reply
from pyker.server.router import Route


def _absent(what: str) -> Callable[[Call], Reply]:
    def refuse(call: Call) -> Reply:
        raise NotSupported(f"{what} is not there yet in Pyker")

    return refuse


def session(call: Call) -> Reply:
    """The client's end of a build: only a connection that is handed over could serve it."""
    if not call.request.headers.get("upgrade"):
        raise InvalidParameter("no upgrade proto in request")
    raise NotSupported("build with BuildKit is not there yet in Pyker")


_ENDPOINTS = (
    ("GET", "/containers/{name:.*}/attach/ws", "attach over a WebSocket"),
    ("POST", "/build", "build"),
    ("POST", "/build/cancel", "build"),
    ("POST", "/grpc", "build with BuildKit"),
    ("GET", "/plugins/privileges", "plugin install"),
    ("POST", "/plugins/{name:.*}", "plugins"),
)

ROUTES = [
    *(Route(method, pattern, _absent(what)) for method, pattern, what in _ENDPOINTS),
    Route("POST", "/session", session),
]
