"""The engine: it knows which handler does which job, runs jobs, and keeps a record of every run.

Mechanism only: nothing here knows what a container or an image is.
Source: seed, "Engine"; moby v1.2 engine/engine.go:147-153 for the order of a shutdown.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from time import monotonic, time_ns
from typing import Any, Protocol, TypeVar, cast

from pyker.engine.job import (
    Actor,
    ByteSource,
    CancelToken,
    Duplex,
    Job,
    JobContext,
    JobFuture,
    JobRecord,
    Stdio,
)
from pyker.engine.journal import Journal, arguments_of, subject_of
from pyker.errors import Cancelled, InvalidParameter, NotModified, NotSupported, PykerError, Unavailable
from pyker.types.events import Progress
from pyker.types.ids import JobId

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
J = TypeVar("J")

Listener = Callable[[Progress], None]

log = logging.getLogger("pyker.engine")

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_SEQUENCE = count(int.from_bytes(os.urandom(2), "big"))
_PROCESS_PART = "".join(_ALPHABET[byte & 31] for byte in os.urandom(12))


def new_job_id(now_ns: int) -> JobId:
    """26 characters: ten of time (milliseconds), four that count, twelve that are this process's own.

    The first fourteen are unique within one daemon's life and make a good short form.
    """
    pairs = _PAIRS
    now = now_ns // 1_000_000
    sequence = next(_SEQUENCE)
    return JobId(
        pairs[now >> 40 & 1023]
        + pairs[now >> 30 & 1023]
        + pairs[now >> 20 & 1023]
        + pairs[now >> 10 & 1023]
        + pairs[now & 1023]
        + pairs[sequence >> 10 & 1023]
        + pairs[sequence & 1023]
        + _PROCESS_PART
    )


class NoStdio:
    """The streams of a job that nobody gave any."""

    def stdin(self) -> ByteSource:
        raise InvalidParameter("this job needs an input stream, and its caller gave none")

    def stdout(self, content_type: str = "application/octet-stream") -> Callable[[bytes], None]:
        raise InvalidParameter("this job needs an output stream, and its caller gave none")

    def hijack(self, *, multiplexed: bool) -> Duplex:
        raise InvalidParameter("this job needs a connection, and its caller gave none")


_ENGINE_ACTOR = Actor()
_NO_STDIO = NoStdio()
_NO_ENV: dict[str, str] = {}


class Run:
    """One run of a job: the context that its handler sees, and the row that the journal keeps."""

    __slots__ = (
        "_cancel",
        "_engine",
        "_listener",
        "actor",
        "ended_ns",
        "env",
        "error",
        "job",
        "job_id",
        "parent",
        "root_id",
        "stages",
        "started_ns",
        "status",
        "stdio",
        "subject",
    )

    def __init__(
        self,
        engine: Engine,
        job: Job[Any],
        parent: Run | None,
        actor: Actor,
        env: dict[str, str],
        stdio: Stdio,
        listener: Listener | None,
        cancel: CancelToken | None,
    ) -> None:
        self._engine = engine
        self._listener = listener
        self._cancel = cancel
        self.job = job
        self.parent = parent
        self.actor = actor
        self.env = env
        self.stdio: Stdio = stdio
        self.started_ns = now = time_ns()
        self.job_id = job_id = new_job_id(now)
        self.root_id: JobId = job_id if parent is None else parent.root_id
        self.ended_ns = 0
        self.status = "running"
        self.error = ""
        self.subject = ""
        self.stages: dict[str, int] = {}

    @property
    def parent_id(self) -> JobId | None:
        return None if self.parent is None else self.parent.job_id

    @property
    def cancel(self) -> CancelToken:
        token = self._cancel
        if token is None:
            token = self.parent.cancel if self.parent is not None else self._engine.token_for(self)
            self._cancel = token
        return token

    def adopt_token(self, token: CancelToken) -> CancelToken:
        """Give a root its token, unless another thread was faster; returns the one that counts."""
        if self._cancel is None:
            self._cancel = token
        return self._cancel

    def emit(self, progress: Progress) -> None:
        if self._listener is not None:
            self._listener(progress)

    def run(self, job: Job[R]) -> R:
        return cast("R", self._engine.execute(self._child(job)))

    def spawn(self, job: Job[R]) -> JobFuture[R]:
        return cast("JobFuture[R]", self._engine.execute_in_thread(self._child(job)))

    def _child(self, job: Job[Any]) -> Run:
        return Run(self._engine, job, self, self.actor, self.env, self.stdio, self._listener, self._cancel)

    def record(self) -> JobRecord:
        """A snapshot for the journal and for listings."""
        return JobRecord(
            job_id=self.job_id,
            parent_id=self.parent_id,
            name=self.job.name,
            actor=str(self.actor),
            arguments=arguments_of(self.job),
            started_ns=self.started_ns,
            ended_ns=self.ended_ns,
            status=self.status,
            error=self.error,
            root_id=self.root_id,
            subject=self.subject or subject_of(self.job),
            stages=self.stages,
        )


class JobKind(Protocol[J, R_co]):
    """A job class, as the type checker sees it: it makes a J, and a J returns an R.

    By it ``register`` refuses a handler that takes another job or returns something else.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, *args: Any, **fields: Any) -> J: ...

    def returns(self, job: J, /) -> R_co: ...


class Engine:
    """Runs jobs. Thread-safe. ``close`` is the end: see there.

    A run costs its caller a few microseconds beside the handler's own time: the journal is written by a thread of
    its own.
    """

    def __init__(self, journal: Journal | None = None) -> None:
        self._journal = journal
        self._handlers: dict[type[Job[Any]], Callable[[Any, JobContext], Any]] = {}
        self._running: dict[JobId, Run] = {}
        self._closing = False
        self._idle = threading.Condition()
        self._on_shutdown: list[Callable[[], None]] = []

    def register(self, job_type: JobKind[J, R], handler: Callable[[J, JobContext], R]) -> None:
        """Let ``handler`` do every job of ``job_type``. Raises ValueError if the type has a handler already."""
        kind = cast("type[Job[Any]]", job_type)
        if kind in self._handlers:
            raise ValueError(f"job {job_type.name!r} has a handler already")
        self._handlers[kind] = handler

    def handles(self, job_type: type[Job[Any]]) -> bool:
        """Whether somebody registered for ``job_type``."""
        return job_type in self._handlers

    def run(
        self,
        job: Job[R],
        *,
        actor: Actor = _ENGINE_ACTOR,
        env: dict[str, str] | None = None,
        stdio: Stdio | None = None,
        listener: Listener | None = None,
        cancel: CancelToken | None = None,
    ) -> R:
        """Run ``job`` in this thread and return its result; raises what the handler raises.

        Raises Unavailable once the engine is closing, NotSupported if nobody handles the job.
        """
        return cast("R", self.execute(self._root(job, actor, env, stdio, listener, cancel)))

    def spawn(
        self,
        job: Job[R],
        *,
        actor: Actor = _ENGINE_ACTOR,
        env: dict[str, str] | None = None,
        stdio: Stdio | None = None,
        listener: Listener | None = None,
        cancel: CancelToken | None = None,
    ) -> JobFuture[R]:
        """Like ``run``, in a thread of its own: for services."""
        return cast("JobFuture[R]", self.execute_in_thread(self._root(job, actor, env, stdio, listener, cancel)))

    def _root(
        self,
        job: Job[Any],
        actor: Actor,
        env: dict[str, str] | None,
        stdio: Stdio | None,
        listener: Listener | None,
        cancel: CancelToken | None,
    ) -> Run:
        if self._closing:
            raise Unavailable("the engine is shutting down")
        return Run(self, job, None, actor, env or _NO_ENV, stdio or _NO_STDIO, listener, cancel)

    def execute(self, run: Run) -> Any:
        """Do one run, from its first journal entry to its last. For this package: others call ``run``."""
        job = run.job
        handler = self._handlers.get(type(job))
        if handler is None:
            raise NotSupported(f"job {job.name!r} has no handler", hint="this part of Pyker is not there yet")
        journal = self._journal if job.journaled else None
        self._running[run.job_id] = run
        if journal is not None:
            journal.note(run)
        status = "done"
        try:
            result = handler(job, run)
        except NotModified as error:
            run.error = error.message
            raise
        except Cancelled as error:
            status = "cancelled"
            run.error = error.message
            raise
        except PykerError as error:
            status = "failed"
            run.error = error.message
            raise
        except BaseException as error:
            status = "failed"
            run.error = f"{type(error).__name__}: {error}"
            if run.parent is None and isinstance(error, Exception):
                log.exception("job %s %s broke", job.name, run.job_id)
            raise
        finally:
            run.ended_ns = time_ns()
            run.status = status
            del self._running[run.job_id]
            if journal is not None:
                journal.note(run)
            if self._closing:
                with self._idle:
                    self._idle.notify_all()
        return result

    def execute_in_thread(self, run: Run) -> Future[Any]:
        """``execute`` in a new thread that is named for the job."""
        future: Future[Any] = Future()

        def body() -> None:
            try:
                result = self.execute(run)
            except BaseException as error:  # noqa: BLE001  it crosses to the waiting thread
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=body, name=f"job-{run.job.name}", daemon=True).start()
        return future

    def token_for(self, run: Run) -> CancelToken:
        """The cancel token of a root that was given none, made when it is first asked for."""
        token = run.adopt_token(CancelToken())
        if self._closing and run.job.service:
            token.cancel()
        return token

    def running(self) -> tuple[JobRecord, ...]:
        """What runs now, oldest first."""
        return tuple(run.record() for _, run in sorted(self._running.copy().items()))

    def jobs(self, *, limit: int = 50, tree: str = "", running: bool = False) -> tuple[JobRecord, ...]:
        """Read the journal: see ``pyker.jobs.system.ListJobs``. Without a journal, only what runs now."""
        if self._journal is None:
            return self.running()
        return self._journal.read(limit=limit, tree=tree, running=running)

    def on_shutdown(self, action: Callable[[], None]) -> None:
        """Call ``action`` during ``close``, after the jobs ended; the last one added is called first."""
        self._on_shutdown.append(action)

    def close(self, *, grace_s: float = 5.0) -> None:
        """Shut down: refuse new jobs, cancel services, wait for the others, cancel those too, run the shutdown actions.

        The others get ``grace_s`` to end by themselves. Returns in bounded time even if a handler hangs; such a run
        is found as "lost" by the next start.
        """
        if self._closing:
            return
        self._closing = True
        for run in list(self._running.copy().values()):
            if run.parent is None and run.job.service:
                run.cancel.cancel()
        if not self._wait_idle(grace_s):
            for run in list(self._running.copy().values()):
                run.cancel.cancel()
            if not self._wait_idle(1.0):
                log.warning(
                    "still running at shutdown: %s", ", ".join(run.job.name for run in self._running.copy().values())
                )
        for action in reversed(self._on_shutdown):
            try:
                action()
            except Exception:
                log.exception("a shutdown action failed")
        if self._journal is not None:
            self._journal.close()

    def _wait_idle(self, timeout_s: float) -> bool:
        deadline = monotonic() + timeout_s
        with self._idle:
            return self._idle.wait_for(lambda: not self._running, max(0.0, deadline - monotonic()))

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
