"""Events: what happened, to which object, when. Source: Docker API v1.45 GET /events."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """``kind`` is container, image, network, volume or daemon; ``time_ns`` is nanoseconds since 1970, UTC."""

    kind: str
    action: str
    actor_id: str
    attributes: dict[str, str] = field(default_factory=dict)
    time_ns: int = 0
    scope: str = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of a long job, as pull, push, load and build report them.

    ``id`` names the part (twelve hex digits of a layer, or a tag). ``current`` and ``total`` are bytes; total 0 means
    unknown. ``aux`` is an extra JSON value, as push sends at its end. ``error`` ends the stream.
    """

    status: str = ""
    id: str = ""
    current: int = 0
    total: int = 0
    aux: dict[str, object] | None = None
    error: str = ""
    stream: str = ""
