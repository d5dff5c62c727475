"""The engine: handlers, children, cancellation, records, shutdown."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import ClassVar

import pytest

from pyker.engine.engine import Engine, new_job_id
from pyker.engine.job import CancelToken, Job, JobContext
from pyker.errors import Cancelled, InvalidParameter, NotFound, NotSupported, Unavailable
from pyker.types.events import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Double(Job[int]):
    name: ClassVar[str] = "double"
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer(Job[int]):
    name: ClassVar[str] = "outer"
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(Job[None]):
    name: ClassVar[str] = "service"
    service: ClassVar[bool] = True


def test_a_job_returns_what_its_handler_returns() -> None:
    engine = Engine()
    engine.register(Double, lambda job, ctx: job.number * 2)
    assert engine.run(Double(number=21)) == 42


@pytest.mark.claim("engine-handlers")
def test_a_job_without_a_handler_is_refused_by_name() -> None:
    with pytest.raises(NotSupported, match="double"):
        Engine().run(Double(number=1))


def test_a_job_type_has_one_handler() -> None:
    engine = Engine()
    engine.register(Double, lambda job, ctx: 1)
    with pytest.raises(ValueError, match="double"):
        engine.register(Double, lambda job, ctx: 2)


def test_children_know_their_parent_and_share_token_and_listener() -> None:
    engine = Engine()
    seen: list[object] = []
    progress: list[str] = []

    def outer(job: Outer, ctx: JobContext) -> int:
        seen.append((ctx.job_id, ctx.parent_id, ctx.cancel))
        return ctx.run(Double(number=job.number)) + ctx.spawn(Double(number=1)).result(5.0)

    def double(job: Double, ctx: JobContext) -> int:
        seen.append((ctx.job_id, ctx.parent_id, ctx.cancel))
        ctx.emit(Progress(status=f"doubling {job.number}"))
        return job.number * 2

    engine.register(Outer, outer)
    engine.register(Double, double)
    token = CancelToken()
    assert engine.run(Outer(number=5), listener=lambda step: progress.append(step.status), cancel=token) == 12
    (outer_id, no_parent, outer_token), (_, first_parent, first_token), (_, second_parent, second_token) = seen  # type: ignore[misc]
    assert no_parent is None
    assert first_parent == second_parent == outer_id
    assert outer_token is first_token is second_token is token
    assert progress == ["doubling 5", "doubling 1"]


@pytest.mark.claim("job-error-handling")
def test_a_childs_error_reaches_the_caller_as_it_is() -> None:
    engine = Engine()

    def fail(job: Double, ctx: JobContext) -> int:
        raise NotFound("No such number: 5")

    engine.register(Outer, lambda job, ctx: ctx.spawn(Double(number=job.number)).result(5.0))
    engine.register(Double, fail)
    with pytest.raises(NotFound, match="No such number: 5"):
        engine.run(Outer(number=5))


def test_a_token_made_late_is_the_same_for_the_whole_tree() -> None:
    engine = Engine()
    tokens: list[CancelToken] = []
    engine.register(Double, lambda job, ctx: tokens.append(ctx.cancel) or 0)  # type: ignore[func-returns-value]
    engine.register(Outer, lambda job, ctx: ctx.run(Double(number=1)) + (tokens.append(ctx.cancel) or 0))  # type: ignore[func-returns-value]
    engine.run(Outer(number=1))
    assert tokens[0] is tokens[1]


@pytest.mark.claim("job-streams")
def test_streams_that_the_caller_did_not_give_are_refused() -> None:
    engine = Engine()
    engine.register(Double, lambda job, ctx: len(ctx.stdio.stdin().read()))
    with pytest.raises(InvalidParameter, match="input stream"):
        engine.run(Double(number=1))


def test_job_ids_sort_by_time_and_are_unique() -> None:
    ids = [new_job_id(1_800_000_000_000_000_000 + step * 1_000_000) for step in range(1000)]
    assert ids == sorted(ids)
    assert len({identifier[:14] for identifier in ids}) == 1000
    assert {len(identifier) for identifier in ids} == {26}
    same_moment = {new_job_id(1_800_000_000_000_000_000) for _ in range(1000)}
    assert len(same_moment) == 1000


def test_running_jobs_are_listed_until_they_end() -> None:
    engine = Engine()
    inside, go_on = threading.Event(), threading.Event()

    def block(job: Double, ctx: JobContext) -> int:
        ctx.subject = "the block"
        inside.set()
        go_on.wait(5.0)
        return 0

    engine.register(Double, block)
    future = engine.spawn(Double(number=3))
    assert inside.wait(5.0)
    (record,) = engine.running()
    assert (record.name, record.status, record.subject, record.arguments) == (
        "double",
        "running",
        "the block",
        {"number": 3},
    )
    go_on.set()
    future.result(5.0)
    assert engine.running() == ()


def test_close_cancels_services_waits_for_the_rest_and_refuses_new_jobs() -> None:
    engine = Engine()
    order: list[str] = []
    inside = threading.Barrier(3)

    def serve(job: Service, ctx: JobContext) -> None:
        inside.wait(5.0)
        ctx.cancel.wait(10.0)
        order.append("service ended")

    def work(job: Double, ctx: JobContext) -> int:
        inside.wait(5.0)
        threading.Event().wait(0.05)
        order.append("cancelled" if ctx.cancel.cancelled else "work ended")
        return 1

    engine.register(Service, serve)
    engine.register(Double, work)
    engine.on_shutdown(lambda: order.append("first action"))
    engine.on_shutdown(lambda: order.append("second action"))
    service, job = engine.spawn(Service()), engine.spawn(Double(number=1))
    inside.wait(5.0)
    engine.close(grace_s=5.0)
    service.result(1.0)
    assert job.result(1.0) == 1
    assert sorted(order[:2]) == ["service ended", "work ended"]
    assert order[2:] == ["second action", "first action"]
    with pytest.raises(Unavailable):
        engine.run(Double(number=1))


def test_close_cancels_what_does_not_end_in_its_grace() -> None:
    engine = Engine()
    inside = threading.Event()

    def work(job: Double, ctx: JobContext) -> int:
        inside.set()
        if ctx.cancel.wait(10.0):
            raise Cancelled("given up")
        return 1

    engine.register(Double, work)
    future = engine.spawn(Double(number=1))
    assert inside.wait(5.0)
    engine.close(grace_s=0.05)
    with pytest.raises(Cancelled):
        future.result(1.0)
