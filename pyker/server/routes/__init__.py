"""The items of the router: HTTP in, a job run, HTTP out; no logic of the engine."""

from __future__ import annotations

from pyker.server.router import Route


def all_routes() -> list[Route]:
    """Every item, in the order in which they are tried."""
    from pyker.server.routes import (
        absent,
        build,
        containers,
        execs,
        files,
        images,
        jobs,
        networks,
        swarm,
        system,
        volumes,
    )

    return [
        *system.ROUTES,
        *containers.ROUTES,
        *execs.ROUTES,
        *files.ROUTES,
        *build.ROUTES,
        *images.ROUTES,
        *networks.ROUTES,
        *volumes.ROUTES,
        *jobs.ROUTES,
        *swarm.ROUTES,
        *absent.ROUTES,
    ]
