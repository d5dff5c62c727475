"""``/pyker/jobs``: what the engine did. Pyker's own; no docker client asks for it."""

from __future__ import annotations

from pyker.errors import NotFound
from pyker.jobs.system import ListJobs
from pyker.server.call import Call
from pyker.server.render.system import job
from pyker.server.reply import Reply, json_reply
from pyker.server.router import Route


def list_all(call: Call) -> Reply:
    """The newest roots first (``limit``, ``running``), or with ``tree`` one story, oldest first."""
    records = call.run(ListJobs(limit=call.number("limit", 50), tree=call.text("tree"), running=call.flag("running")))
    return json_reply([job(record) for record in records])


def inspect(call: Call) -> Reply:
    """All jobs of the story that a job's ID, a container or an image names."""
    records = call.run(ListJobs(tree=call["name"]))
    if not records:
        raise NotFound(f"no job is about '{call['name']}'", hint="see `pyker jobs`")
    return json_reply([job(record) for record in records])


ROUTES = [
    Route("GET", "/pyker/jobs", list_all),
    Route("GET", "/pyker/jobs/{name:.*}", inspect),
]
