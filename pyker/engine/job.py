"""What a job is: a frozen request whose type says what it returns, and the context it runs in.

A job resembles a Unix process: it has a name, arguments, an environment, stdin/stdout/stderr, error handling and a
status. Source: seed, "Job"; moby v1.2 engine/job.go for the idea.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from pyker.errors import Cancelled
from pyker.types.events import Progress
from pyker.types.ids import JobId

R = TypeVar("R")
Self_ = TypeVar("Self_", bound="Job[Any]")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Generic[R_co]):
    """Base of every job. A subclass adds arguments as fields and says its ``name``.

    ``journaled`` is False only for calls that are asked thousands of times a second and change nothing.
    ``secret`` names the fields that the journal must not keep. A ``service`` runs until the engine closes.
    """

    name: ClassVar[str]
    journaled: ClassVar[bool] = True
    service: ClassVar[bool] = False
    secret: ClassVar[frozenset[str]] = frozenset()

    if TYPE_CHECKING:

        def returns(self: Self_) -> R_co:
            """What ties a job to its result for the type checker (see ``engine.JobKind``); not there at run time."""
            raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asked: a peer of the unix socket (uid, pid), a TLS client (its common name), or the engine itself."""

    kind: str = "engine"
    uid: int = -1
    pid: int = -1
    name: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "unix":
                return f"uid={self.uid} pid={self.pid}"
            case "tls":
                return f"cn={self.name}"
            case "tcp":
                return f"tcp={self.name}"
            case _:
                return "engine"


class CancelToken:
    """Says that nobody waits for a result any more. Thread-safe; callbacks run once, in the cancelling thread."""

    __slots__ = ("_callbacks", "_event", "_lock")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def cancel(self) -> None:
        """Set the token and run the callbacks that were added. Calling it again does nothing."""
        with self._lock:
            if self._event.is_set():
                return
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Run ``callback`` at cancellation (at once if that was before). Returns a function that takes it back."""
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return lambda: self._forget(callback)
        callback()
        return lambda: None

    def _forget(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until cancelled or until the time is over; True if cancelled."""
        return self._event.wait(timeout_s)

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled if the token is set."""
        if self._event.is_set():
            raise Cancelled("the job was cancelled", hint="start it again if that was not meant")


class Duplex(Protocol):
    """A hijacked connection: bytes both ways, with a half-close from the client.

    ``recv`` returns b"" at the end of the client's input. ``fileno`` is pollable, or -1 where the stream is wrapped
    (TLS) and only ``recv`` tells. ``send`` blocks until all is taken and raises Cancelled if the peer is gone.
    """

    def recv(self, size: int) -> bytes: ...
    def send(self, data: bytes | memoryview) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class ByteSource(Protocol):
    """A request's body, or any stream that is read once. b"" at the end."""

    def read(self, size: int = -1, /) -> bytes: ...


class Stdio(Protocol):
    """A job's byte streams. Each may be asked for once; what the caller did not provide raises InvalidParameter."""

    def stdin(self) -> ByteSource:
        """The body that came with the call."""
        ...

    def stdout(self, content_type: str = "application/octet-stream") -> Callable[[bytes], None]:
        """Begin the reply's body; returns its writer. After this an error can only end the stream."""
        ...

    def hijack(self, *, multiplexed: bool) -> Duplex:
        """Turn the connection into a raw stream (101 or 200 is sent now). Call it after all that can be refused."""
        ...


class JobContext(Protocol):
    """What a running job knows of its surroundings.

    ``subject`` is what the job turned out to be about: a handler sets it to the container's full ID (or the image's
    full reference), and the journal finds by it all the jobs of one story, such as create, attach, start and wait.
    ``stages`` is where the time went inside the job, by name, in nanoseconds; a handler that knows sets it.
    """

    subject: str
    stages: dict[str, int]

    @property
    def job_id(self) -> JobId: ...
    @property
    def parent_id(self) -> JobId | None: ...
    @property
    def actor(self) -> Actor: ...
    @property
    def cancel(self) -> CancelToken: ...
    @property
    def stdio(self) -> Stdio: ...
    @property
    def env(self) -> dict[str, str]:
        """What the caller said of itself, such as ``api_version``."""
        ...

    def emit(self, progress: Progress) -> None:
        """Tell the caller of a step. Costs nothing when nobody listens."""
        ...

    def run(self, job: Job[R]) -> R:
        """Run ``job`` as a child of this one, in this thread, with this one's cancel token and listeners."""
        ...

    def spawn(self, job: Job[R]) -> JobFuture[R]:
        """Run ``job`` as a child in a thread of its own."""
        ...


class JobFuture(Protocol[R_co]):
    """A child job under way."""

    def result(self, timeout_s: float | None = None) -> R_co:
        """Wait for the end; raises what the job raised."""
        ...


J = TypeVar("J", bound="Job[object]")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One run, as the journal keeps it. Times are nanoseconds since 1970, UTC; ``ended_ns`` 0 means still running.

    ``status`` is running, done, failed, cancelled, or lost (the daemon died under it). ``subject`` is a container's
    full ID, an image's reference, or what the caller typed for one.
    """

    job_id: JobId
    parent_id: JobId | None
    name: str
    actor: str
    arguments: dict[str, object] = field(default_factory=dict)
    started_ns: int = 0
    ended_ns: int = 0
    status: str = "running"
    error: str = ""
    root_id: JobId | None = None
    subject: str = ""
    stages: dict[str, int] = field(default_factory=dict)
