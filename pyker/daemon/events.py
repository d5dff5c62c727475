"""The event bus: what happens is published once, kept for a while, and told to everybody who listens.

Source: Docker API v1.45 GET /events.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from queue import Empty, SimpleQueue

from pyker.container.record import Container
from pyker.engine.job import JobContext
from pyker.errors import InvalidParameter
from pyker.jobs.system import EventLogged, StreamEvents
from pyker.types.events import Event

_KEPT = 256
_FILTERS = frozenset(
    [
        "type",
        "event",
        "container",
        "image",
        "volume",
        "network",
        "label",
        "scope",
        "daemon",
        "plugin",
        "service",
        "node",
        "secret",
        "config",
    ]
)

Filters = dict[str, tuple[str, ...]]


class EventBus:
    """Publishes events in one order to all. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ring: deque[Event] = deque(maxlen=_KEPT)
        self._queues: list[SimpleQueue[Event | None]] = []
        self._last_ns = 0

    def publish(self, event: Event) -> None:
        """Keep the event and tell all listeners; its time is now unless it has one. Never blocks."""
        with self._lock:
            now = max(time.time_ns(), self._last_ns + 1)
            self._last_ns = now
            stamped = event if event.time_ns else replace(event, time_ns=now)
            self._ring.append(stamped)
            for queue in self._queues:
                queue.put(stamped)

    def container(self, action: str, container: Container, **attributes: str) -> None:
        """Publish an event of a container, with the attributes that each such event has."""
        fields = dict(container.config.labels or {})
        fields.update(attributes)
        fields["image"] = container.config.image
        fields["name"] = container.name
        self.publish(Event(kind="container", action=action, actor_id=container.id, attributes=fields))

    def subscribe(self) -> tuple[list[Event], SimpleQueue[Event | None], Callable[[], None]]:
        """The events kept so far, a queue of those to come, and a function that ends the subscription."""
        queue: SimpleQueue[Event | None] = SimpleQueue()
        with self._lock:
            past = list(self._ring)
            self._queues.append(queue)

        def leave() -> None:
            with self._lock:
                if queue in self._queues:
                    self._queues.remove(queue)

        return past, queue, leave

    def listeners(self) -> int:
        """How many listen now."""
        return len(self._queues)


class EventHandlers:
    """The jobs ``events`` and ``log_event``."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    def log_event(self, job: EventLogged, ctx: JobContext) -> None:
        """Publish what another part saw."""
        self._bus.publish(job.event)

    def stream(self, job: StreamEvents, ctx: JobContext) -> None:
        """Write events until cancelled, or until ``until_ns`` is past."""
        for key in job.filters:
            if key not in _FILTERS:
                raise InvalidParameter(f"invalid filter '{key}'")
        past, queue, leave = self._bus.subscribe()
        forget = ctx.cancel.on_cancel(lambda: queue.put(None))
        try:
            write = ctx.stdio.stdout("application/json")
            if job.since_ns or job.until_ns:
                for event in past:
                    if event.time_ns < job.since_ns or (job.until_ns and event.time_ns > job.until_ns):
                        continue
                    if matches(event, job.filters):
                        write(encode(event))
            while not ctx.cancel.cancelled:
                try:
                    timeout = None if not job.until_ns else (job.until_ns - time.time_ns()) / 1e9
                    if timeout is not None and timeout <= 0:
                        return
                    coming = queue.get(timeout=timeout)
                except Empty:
                    return
                if coming is None:
                    return
                if matches(coming, job.filters):
                    write(encode(coming))
        finally:
            forget()
            leave()


def encode(event: Event) -> bytes:
    """One line of the stream. ``status``, ``id`` and ``from`` are what clients before API 1.52 read."""
    fields: dict[str, object] = {}
    if event.kind in ("container", "image"):
        fields["status"] = event.action
        fields["id"] = event.actor_id
        if "image" in event.attributes:
            fields["from"] = event.attributes["image"]
    fields["Type"] = event.kind
    fields["Action"] = event.action
    fields["Actor"] = {"ID": event.actor_id, "Attributes": dict(sorted(event.attributes.items()))}
    fields["scope"] = event.scope
    fields["time"] = event.time_ns // 1_000_000_000
    fields["timeNano"] = event.time_ns
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def matches(event: Event, filters: Filters) -> bool:
    """Whether an event passes: the values of one key are alternatives (all labels must fit), the keys must all fit."""
    return all(_fits(event, key, values) for key, values in filters.items() if values)


def _fits(event: Event, key: str, values: tuple[str, ...]) -> bool:
    match key:
        case "event":
            return any(event.action == value or event.action.startswith(value + ":") for value in values)
        case "type":
            return event.kind in values
        case "scope":
            return event.scope in values
        case "label":
            return all(_has_label(event.attributes, value) for value in values)
        case "image":
            names = {event.attributes.get("image", "")} if event.kind == "container" else set()
            if event.kind == "image":
                names = {event.actor_id, event.attributes.get("name", "")}
            names |= {_without_tag(name) for name in names}
            return any(value in names for value in values)
        case _:
            return event.kind == key and any(_names(event, value) for value in values)


def _has_label(attributes: dict[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in attributes and (not equals or attributes[key] == value)


def _names(event: Event, value: str) -> bool:
    name = event.attributes.get("name", "")
    if value in (event.actor_id, name) or (len(value) >= 4 and event.actor_id.startswith(value)):
        return True
    try:
        return re.fullmatch(value, name) is not None
    except re.error:
        return False


def _without_tag(name: str) -> str:
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name
