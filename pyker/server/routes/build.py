"""``/build/...``: what there is of it."""

from __future__ import annotations

from pyker.api import filters
from pyker.errors import InvalidParameter
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


ROUTES = [
    Route("POST", "/build/prune", prune),
]
