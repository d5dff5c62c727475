"""``/build/...``: what there is of it."""

from __future__ import annotations

from pyker.api import filters
from pyker.errors import InvalidParameter, SystemFailure
from pyker.server.call import Call
from pyker.server.reply import Reply, json_reply
from pyker.server.router import Route


def prune(call: Call) -> Reply:
    """There is no build cache, so that nothing is what can be freed: ``docker system prune`` asks for it too."""
    try:
        call.filters(filters.BUILD_PRUNE)
    except InvalidParameter as error:
        raise InvalidParameter(f"failed to prune build cache: {error.message}", hint=error.hint) from error
    return json_reply({"CachesDeleted": None, "SpaceReclaimed": 0})


def cancel(call: Call) -> Reply:
    """No build is ever under way, so that there is none of any ID, which is no error: it may have ended just now."""
    if not call.text("id"):
        raise SystemFailure("build ID not provided", hint="name the build: ?id=ID")
    return Reply(200, b"")


ROUTES = [
    Route("POST", "/build/cancel", cancel),
    Route("POST", "/build/prune", prune),
]
