"""One API call, as a route sees it: variables, query, body, version, and the way to run a job for it."""

from __future__ import annotations

import base64
import binascii
import logging
import re
import threading
from collections.abc import Callable, Collection
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import unquote_plus

import msgspec

from pyker.api import filters, gotime, jsonmessage
from pyker.api.codec import Decoder
from pyker.api.versions import Version
from pyker.engine.engine import Engine
from pyker.engine.job import Actor, CancelToken, Job
from pyker.errors import Cancelled, InvalidParameter, PykerError
from pyker.jobs.images import RegistryAuth
from pyker.server.reply import JSON, STREAMED, Reply
from pyker.server.request import Request, RequestBody
from pyker.server.stdio import HttpStdio
from pyker.types.events import Progress

R = TypeVar("R")
T = TypeVar("T")

BODY_LIMIT = 16 << 20
_FALSE = frozenset({"", "0", "no", "false", "none"})
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)
_PROGRESS_INTERVAL_S = 0.1

log = logging.getLogger("pyker.server")


class Call:
    """One request on its way through a route."""

    def __init__(
        self,
        engine: Engine,
        request: Request,
        body: RequestBody,
        stdio: HttpStdio,
        actor: Actor,
        version: Version,
        variables: dict[str, str],
        cancel: CancelToken | None,
    ) -> None:
        self.engine = engine
        self.request = request
        self.body = body
        self.stdio = stdio
        self.actor = actor
        self.version = version
        self.variables = variables
        self.cancel = cancel
        self._query: dict[str, list[str]] | None = None

    def run(self, job: Job[R], *, listener: Callable[[Progress], None] | None = None) -> R:
        """Run ``job`` for this client."""
        env = {
            "api_version": f"{self.version[0]}.{self.version[1]}",
            "user_agent": self.request.headers.get("user-agent", ""),
        }
        return self.engine.run(job, actor=self.actor, env=env, stdio=self.stdio, listener=listener, cancel=self.cancel)

    # The path and the query.

    def __getitem__(self, name: str) -> str:
        """A variable of the path."""
        return self.variables[name]

    def check_query(self) -> None:
        """Raise InvalidParameter for a broken escape, whether or not anybody reads the query."""
        bad = _BAD_ESCAPE.search(self.request.query)
        if bad is not None:
            raise InvalidParameter(f'invalid URL escape "{bad[0]}"')

    @property
    def query(self) -> dict[str, list[str]]:
        """The query, decoded."""
        if self._query is None:
            parsed: dict[str, list[str]] = {}
            for pair in self.request.query.split("&"):
                if pair:
                    name, _, value = pair.partition("=")
                    parsed.setdefault(unquote_plus(name), []).append(unquote_plus(value))
            self._query = parsed
        return self._query

    def text(self, name: str, default: str = "") -> str:
        """A parameter's first value."""
        values = self.query.get(name)
        return values[0] if values else default

    def flag(self, name: str, default: bool = False) -> bool:
        """A parameter as every client writes booleans: false are "", 0, no, false and none."""
        values = self.query.get(name)
        return default if not values else values[0].strip().lower() not in _FALSE

    def number(self, name: str, default: int = 0, *, required: bool = False) -> int:
        """A parameter as an integer. Raises InvalidParameter in Go's words."""
        text = self.text(name)
        if not text and not required:
            return default
        digits = text[1:] if text[:1] in ("+", "-") else text
        if not (digits.isascii() and digits.isdecimal()):
            raise InvalidParameter(f'strconv.Atoi: parsing "{text}": invalid syntax')
        value = int(text)
        if not -(1 << 63) <= value < 1 << 63:
            raise InvalidParameter(f'strconv.Atoi: parsing "{text}": value out of range')
        return value

    def moment(self, name: str) -> int:
        """A parameter such as ``since`` in nanoseconds since 1970; 0 if not given."""
        return gotime.parse_unix(self.text(name))

    def filters(self, accepted: Collection[str] | None) -> filters.Filters:
        """The ``filters`` parameter in either dialect. Raises InvalidParameter for unknown keys."""
        return filters.parse(self.text("filters"), accepted)

    # The body and the headers.

    def read_body(self) -> bytes:
        """The whole body. Raises InvalidParameter if it is larger than any JSON that makes sense."""
        body = self.body.read(BODY_LIMIT + 1)
        if len(body) > BODY_LIMIT:
            raise InvalidParameter("the request's body is too large")
        return body

    def json(self, decoder: Decoder[T], *, empty: T | None = None) -> T:
        """The body, decoded. ``empty`` stands for a missing body; without it that is an error."""
        headers = self.request.headers
        content_type = headers.get("content-type", "")
        is_json = content_type.partition(";")[0].strip().lower() == JSON
        if not is_json and (content_type or self.request.has_body):
            raise InvalidParameter(f"Content-Type specified ({content_type}) must be '{JSON}'")
        body = self.read_body()
        if not body.strip():
            if empty is not None:
                return empty
            raise InvalidParameter("got EOF while reading request body")
        return decoder.decode(body)

    def registry_auth(self) -> RegistryAuth:
        """``X-Registry-Auth``; what can't be read counts as none, as with the reference engine."""
        header = self.request.headers.get("x-registry-auth", "")
        if not header:
            return RegistryAuth()
        try:
            padded = header.rstrip("=")
            raw = base64.urlsafe_b64decode(padded + "=" * (-len(padded) % 4))
            fields = msgspec.json.decode(raw)
        except (binascii.Error, ValueError, msgspec.DecodeError):
            return RegistryAuth()
        if not isinstance(fields, dict):
            return RegistryAuth()
        found = {str(key).lower(): value for key, value in fields.items() if isinstance(value, str)}
        username, password = found.get("username", ""), found.get("password", "")
        if found.get("auth") and not username:
            try:
                username, _, password = base64.b64decode(found["auth"]).decode().partition(":")
            except (binascii.Error, ValueError):
                return RegistryAuth()
        return RegistryAuth(
            username=username,
            password=password.strip("\0"),
            server_address=found.get("serveraddress", ""),
            identity_token=found.get("identitytoken", ""),
            registry_token=found.get("registrytoken", ""),
        )

    # Answers that are streams.

    def stream_progress(
        self, job: Job[Any], at_end: Callable[[Any], Progress | None] | None = None, *, fails_in_stream: bool = False
    ) -> Reply:
        """Run a job whose progress is the answer. An error before the first step is an HTTP error, later a record.

        ``fails_in_stream``: every error is a record, since the body has been read by then.
        """
        teller = ProgressTeller(self)
        try:
            result = self.run(job, listener=teller.tell)
            last = at_end(result) if at_end is not None else None
            if last is not None:
                teller.tell(last)
        except Cancelled:
            if not self.stdio.begun:
                raise
        except PykerError as error:
            if not self.stdio.begun and not fails_in_stream:
                raise
            teller.tell(Progress(error=error.message))
        except Exception as error:
            if not self.stdio.begun:
                raise
            log.exception("job %s broke after its answer began", job.name)
            teller.tell(Progress(error=str(error) or type(error).__name__))
        if not self.stdio.begun:
            self.stdio.stdout(JSON)
        return STREAMED


class ProgressTeller:
    """Writes progress records, from any thread; byte counts of one layer at most ten times a second.

    Once the client is gone it cancels the job and is silent.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._last: dict[str, tuple[str, float]] = {}
        self._gone = False

    def tell(self, progress: Progress) -> None:
        """Send one record, if there is reason to."""
        with self._lock:
            if self._gone:
                return
            if progress.total and progress.current < progress.total:
                now = monotonic()
                status, told = self._last.get(progress.id, ("", 0.0))
                if status == progress.status and now - told < _PROGRESS_INTERVAL_S:
                    return
                self._last[progress.id] = (progress.status, now)
            try:
                self._call.stdio.stdout(JSON)(jsonmessage.encode(progress))
            except Cancelled:
                self._gone = True
        if self._gone and self._call.cancel is not None:
            self._call.cancel.cancel()
