"""``/networks/...``."""

from __future__ import annotations

from pyker.api import filters
from pyker.jobs.networks import InspectNetwork, ListNetworks
from pyker.server.call import Call
from pyker.server.render.networks import network
from pyker.server.reply import Reply, json_reply
from pyker.server.router import Route


def list_all(call: Call) -> Reply:
    views = call.run(ListNetworks(filters=call.filters(filters.NETWORKS)))
    return json_reply([network(view, with_containers=False) for view in views])


def inspect(call: Call) -> Reply:
    return json_reply(network(call.run(InspectNetwork(network=call["name"])), with_containers=True))


ROUTES = [
    Route("GET", "/networks", list_all),
    Route("GET", "/networks/", list_all),
    Route("GET", "/networks/{name:.*}", inspect),
]
