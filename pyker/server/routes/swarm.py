"""``/swarm``, ``/nodes``, ``/services`` and the like: this engine is in no swarm, and says so as the reference does."""

from __future__ import annotations

from pyker.api import filters
from pyker.errors import NotFound, Unavailable
from pyker.server.call import Call
from pyker.server.reply import Reply, json_reply
from pyker.server.router import Route


def no_swarm(call: Call) -> Reply:
    raise Unavailable(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to'
        " swarm and try again."
    )


def not_in_one(call: Call) -> Reply:
    raise Unavailable("This node is not part of a swarm")


def plugins(call: Call) -> Reply:
    call.filters(filters.PLUGINS)
    return json_reply([])


def plugin(call: Call) -> Reply:
    raise NotFound(f'plugin "{call["name"]}" not found')


def _family(name: str) -> list[Route]:
    return [
        Route("GET", f"/{name}", no_swarm),
        Route("POST", f"/{name}/create", no_swarm),
        Route("GET", f"/{name}/{{id:.*}}", no_swarm),
        Route("POST", f"/{name}/{{id:.*}}/update", no_swarm),
        Route("DELETE", f"/{name}/{{id:.*}}", no_swarm),
    ]


ROUTES = [
    Route("GET", "/plugins", plugins),
    Route("GET", "/plugins/{name:.*}/json", plugin),
    Route("DELETE", "/plugins/{name:.*}", plugin),
    *(Route("POST", f"/plugins/{{name:.*}}/{verb}", plugin) for verb in ("enable", "disable", "push", "set")),
    Route("GET", "/swarm", no_swarm),
    Route("GET", "/swarm/unlockkey", no_swarm),
    Route("POST", "/swarm/leave", not_in_one),
    *(Route("POST", f"/swarm/{verb}", no_swarm) for verb in ("init", "join", "update", "unlock")),
    *(route for name in ("nodes", "services", "tasks", "secrets", "configs") for route in _family(name)),
]
