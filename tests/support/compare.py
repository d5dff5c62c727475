"""The same request to the reference engine and to the engine under test, and what differs between the answers.

What cannot be the same is replaced before the comparison: IDs, times, addresses, ports, made-up names, sizes on disk,
folders. Each kind keeps its identity: the third ID on one side must be the third ID on the other.
"""

from __future__ import annotations

import difflib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

from tests.support.engines import Engine, Output, Reply

ZERO_TIME = "0001-01-01T00:00:00Z"
STOCK = ("docker",)
"""The stock docker CLI."""
VERSION = "1.41"
"""API version of a comparison unless the path has one: the newest of the oldest reference engine."""

_KINDS = [
    ("digest", r"sha256:[0-9a-f]{64}\b"),
    ("id", r"\b[0-9a-f]{64}\b"),
    ("mac", r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"),
    ("time", r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| ?[+-]\d\d:?\d\d(?: [A-Z]+)?)"),
    ("time", r"\b1[6-9]\d{8}(?:\d{9})?\b"),
    ("ago", r"\b(?:Less than a second|About an? \w+|\d+ (?:second|minute|hour|day|week|month|year)s?)(?= ago|\b)"),
    ("shortid", r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{12}\b"),
    ("subnet", r"\b(?:172\.(?:1[6-9]|2\d|3[01])|192\.168)\.\d+\.\d+/\d+"),
    ("address", r"\b(?:172\.(?:1[6-9]|2\d|3[01])|192\.168)\.\d+\.\d+\b"),
    ("port", r"\b(?:3[2-9]\d{3}|[45]\d{4}|60\d{3})(?=->|\b)"),
    ("size", r"\b\d+(?:\.\d+)? ?[kMGT]?i?B\b"),
]
_PATTERN = re.compile("|".join(f"(?P<k{number}>{pattern})" for number, (_, pattern) in enumerate(_KINDS)))


class Shelf(Protocol):
    """Where images for both engines are put."""

    busybox: str

    def add(self, name: str, **build: object) -> str: ...


class Side(NamedTuple):
    """One of the two engines, with the images beside it."""

    engine: Engine
    shelf: Shelf


Answer = TypeVar("Answer")


class Pair(NamedTuple):
    """What both said, as they said it."""

    reference: Output
    tested: Output


class Replies(NamedTuple):
    """What both answered."""

    reference: Reply
    tested: Reply


def normalise(text: str, engine: Engine) -> str:
    """``text`` without what must differ between two engines, or two runs of one."""
    for path, place in ((str(engine.data_root), "<data>"), (engine.socket, "<socket>"), (str(engine.root), "<root>")):
        text = text.replace(path, place)
    text = text.replace(engine.cgroup_parent, "<cgroup>")
    seen: dict[tuple[str, str], int] = {}
    counts: dict[str, int] = {}

    def word(match: re.Match[str]) -> str:
        kind = _KINDS[int(str(match.lastgroup)[1:])][0]
        value = match[0]
        if kind == "digest" or value == ZERO_TIME:
            return value
        if kind in ("ago", "size"):
            return f"<{kind}>"
        if kind in ("id", "shortid"):
            kind, value = "id", value[:12]
        if (kind, value) not in seen:
            counts[kind] = counts.get(kind, 0) + 1
            seen[kind, value] = counts[kind]
        return f"<{kind}{seen[kind, value]}>"

    text = _PATTERN.sub(word, text)
    text = re.sub(r"(?<=[\"/ ])[a-z]+_[a-z]+\d?(?= *$|\")", "<name>", text, flags=re.MULTILINE)
    return re.sub(r"[ \t]{2,}", "  ", text)


def shape(value: Any) -> Any:
    """Keys and types of a JSON value. null, [], {} and the time that never was are told apart."""
    match value:
        case dict():
            return {key: shape(each) for key, each in sorted(value.items())}
        case list():
            return _merged([shape(each) for each in value]) if value else []
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "zero time" if value == ZERO_TIME else "string"
    raise TypeError(f"not JSON: {value!r}")


def _merged(shapes: list[Any]) -> list[Any]:
    """The different shapes of a list's elements."""
    found: list[Any] = []
    for each in shapes:
        if each not in found:
            found.append(each)
    return sorted(found, key=lambda each: json.dumps(each, sort_keys=True))


def without(value: Any, paths: Sequence[str]) -> Any:
    """A copy of ``value`` without what ``paths`` name: ``"HostConfig.Runtime"``; lists are walked through."""
    if isinstance(value, list):
        return [without(each, paths) for each in value]
    if not isinstance(value, dict):
        return value
    heads = {path for path in paths if "." not in path}
    inner: dict[str, list[str]] = {}
    for path in paths:
        head, dot, tail = path.partition(".")
        if dot:
            inner.setdefault(head, []).append(tail)
    return {key: without(each, inner.get(key, [])) for key, each in value.items() if key not in heads}


def differing(reference: str, tested: str) -> str:
    """A unified diff, empty if both are the same."""
    lines = difflib.unified_diff(reference.splitlines(), tested.splitlines(), "reference", "tested", lineterm="", n=2)
    return "\n".join(lines)


def _headers(reply: Reply) -> dict[str, str]:
    """The headers that clients act on; of those whose value is an engine's own, that they are there."""
    kept = {
        name: value
        for name, value in reply.headers.items()
        if name in ("content-type", "ostype", "docker-experimental", "connection", "upgrade")
    }
    if "api-version" in reply.headers:
        kept["api-version"] = "there"
    if "server" in reply.headers:
        kept["server"] = re.sub(r"^(Docker)/\S+", r"\1/version", reply.headers["server"])
    return kept


def _attributes(event: Mapping[str, Any]) -> dict[str, str]:
    """Without how long a process took, which newer engines tell."""
    return {key: value for key, value in event["Actor"]["Attributes"].items() if key != "execDuration"}


def _pulled(engine: Engine, reference: str, busybox: str) -> None:
    """A pull is a client and a question to the registry: too much for what every test asks for."""
    if reference or engine.request("GET", f"/images/{busybox}/json").status != 200:
        engine.docker("pull", "-q", reference or busybox, check=True)


def remove_named(engine: Engine, name: str) -> None:
    """Remove every container whose name begins with ``name``."""
    rows = engine.request("GET", "/containers/json?all=1").json()
    assert isinstance(rows, list)
    for row in rows:
        if any(each.startswith(f"/{name}") for each in row["Names"]):
            engine.request("DELETE", f"/containers/{row['Id']}?force=1&v=1")


class Comparison:
    """Asks both engines the same, at the same time."""

    def __init__(self, reference: Side, tested: Side, name: str) -> None:
        self.reference = reference
        self.tested = tested
        self.name = name
        """A container name that is free on both; what has it, or it with something behind, is removed afterwards."""
        self.busybox = tested.shelf.busybox
        self._pool = ThreadPoolExecutor(2)

    def both(self, ask: Callable[[Engine], Answer]) -> tuple[Answer, Answer]:
        """``ask`` done with either engine, at the same time: the reference's answer, and the tested one's."""
        first = self._pool.submit(ask, self.reference.engine)
        second = self._pool.submit(ask, self.tested.engine)
        return first.result(), second.result()

    def add(self, name: str, **build: object) -> str:
        """The same image in the registries of both; returns the reference that names it on both."""
        names = {side.shelf.add(name, **build) for side in (self.reference, self.tested)}
        assert len(names) == 1, names
        return names.pop()

    def pulled(self, reference: str = "") -> str:
        """``reference``, pulled on both; unless told, busybox, which is pulled once."""
        self.both(lambda engine: _pulled(engine, reference, self.busybox))
        return reference or self.busybox

    def __call__(
        self,
        *arguments: str,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        unordered: bool = False,
        only: str = "code out err",
        cli: Sequence[str] = STOCK,
    ) -> Pair:
        """One docker command line on both: exit code, stdout and stderr must be the same.

        ``unordered``: lines may come in another order. ``only``: which of the three are compared. ``cli``: the client
        of the engine under test; the reference is always asked by the stock one.
        """

        def run(engine: Engine) -> Output:
            client = cli if engine is self.tested.engine else STOCK
            return engine.docker(*arguments, input=input, env=env, timeout=timeout, cli=client)

        answers = Pair(*self.both(run))
        told = [self._told(side.engine, said, unordered, only) for side, said in zip(self._sides, answers, strict=True)]
        assert told[0] == told[1], f"docker {' '.join(arguments)}\n{differing(*told)}"
        return answers

    @property
    def _sides(self) -> tuple[Side, Side]:
        return self.reference, self.tested

    @staticmethod
    def _told(engine: Engine, said: Output, unordered: bool, only: str) -> str:
        parts = []
        for title, text in (("code", f"{said.code}"), ("out", said.out), ("err", said.err)):
            if title in only.split():
                plain = normalise("\n".join(sorted(text.splitlines())) if unordered else text, engine)
                parts.append(f"[{title}]\n{plain}")
        return "\n".join(parts)

    def api(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        ignoring: Sequence[str] = (),
        values: bool = False,
        timeout: float = 60,
    ) -> Replies:
        """One API request to both: status, headers and the body's shape must be the same.

        ``values``: the body's values too, normalised. ``ignoring``: fields of the body that need not be the same.
        """
        versioned = path if re.match(r"/v\d", path) else f"/v{VERSION}{path}"
        replies = Replies(
            *self.both(lambda engine: engine.request(method, versioned, body, headers=headers, timeout=timeout))
        )
        told = [
            self._reply(side.engine, reply, ignoring, values) for side, reply in zip(self._sides, replies, strict=True)
        ]
        assert told[0] == told[1], f"{method} {versioned}\n{differing(*told)}"
        return replies

    @staticmethod
    def _reply(engine: Engine, reply: Reply, ignoring: Sequence[str], values: bool) -> str:
        head = {"status": reply.status, **dict(sorted(_headers(reply).items()))}
        body: Any = reply.body.decode(errors="replace")
        if reply.headers.get("content-type", "").startswith("application/json") and body:
            parts = [without(json.loads(line), ignoring) for line in body.splitlines() if line.strip()]
            if not values and reply.status < 400:
                parts = [shape(each) for each in parts]
            body = "\n".join(json.dumps(each, indent=1, sort_keys=True) for each in parts)
        return json.dumps(head, indent=1) + "\n" + normalise(body, engine)

    def events(
        self, work: Callable[[Engine], object], *, filters: Mapping[str, Sequence[str]] | None = None
    ) -> list[str]:
        """Do ``work`` with both; the events that came of it must be the same: type, action and attributes, in order.

        ``work`` has to wait for the last event's cause. Returns "type action" of each.
        """

        def listen(engine: Engine) -> list[dict[str, Any]]:
            since = time.time_ns()
            work(engine)
            until = time.time_ns()
            wanted = f"&filters={quote(json.dumps(filters))}" if filters else ""
            span = "&".join(
                f"{name}={at // 10**9}.{at % 10**9:09}" for name, at in (("since", since), ("until", until))
            )
            reply = engine.request("GET", f"/v{VERSION}/events?{span}{wanted}")
            assert reply.status == 200, reply
            return [json.loads(line) for line in reply.body.splitlines() if line.strip()]

        found = self.both(listen)
        told = [
            normalise(
                "\n".join(
                    f"{each['Type']} {each['Action']} {json.dumps(_attributes(each), sort_keys=True)}"
                    for each in events
                ),
                side.engine,
            )
            for side, events in zip(self._sides, found, strict=True)
        ]
        assert told[0] == told[1], differing(*told)
        return [f"{each['Type']} {each['Action']}" for each in found[0]]

    def close(self) -> None:
        """Remove on both what has the comparison's name."""
        try:
            self.both(lambda engine: remove_named(engine, self.name))
        finally:
            self._pool.shutdown()


class Alike:
    """Asks the engine under test, and the reference beside it where one is at hand, which must say the same.

    For tests that have to run where there is no reference too, such as in a guest of the lab: what they assert of the
    answer holds everywhere, and the comparison adds to it.
    """

    def __init__(self, tested: Side, name: str, comparison: Comparison | None) -> None:
        self._tested = tested
        self._comparison = comparison
        self.name = name
        """A container name that is free; what has it, or it with something behind, is removed afterwards."""

    def __call__(
        self,
        *arguments: str,
        input: str | None = None,
        timeout: float = 60,
        unordered: bool = False,
        only: str = "code out err",
        cli: Sequence[str] = STOCK,
    ) -> Output:
        """One docker command line, as ``Comparison`` has it; what the engine under test said."""
        if self._comparison is None:
            return self._tested.engine.docker(*arguments, input=input, timeout=timeout, cli=cli)
        pair = self._comparison(*arguments, input=input, timeout=timeout, unordered=unordered, only=only, cli=cli)
        return pair.tested

    def agree(self, ask: Callable[[Engine], Answer]) -> Answer:
        """What ``ask`` finds on the engine under test; on the reference it must find the same."""
        if self._comparison is None:
            return ask(self._tested.engine)
        reference, tested = self._comparison.both(ask)
        assert reference == tested, f"the reference has {reference!r}, the engine under test {tested!r}"
        return tested

    def add(self, name: str, **build: object) -> str:
        """An image in the registries beside the engines; returns the reference that names it."""
        maker = self._tested.shelf if self._comparison is None else self._comparison
        return maker.add(name, **build)

    def pulled(self, reference: str = "") -> str:
        """``reference``, pulled; unless told, busybox, which is pulled once."""
        busybox = self._tested.shelf.busybox
        self.both(lambda engine: _pulled(engine, reference, busybox))
        return reference or busybox

    def both(self, work: Callable[[Engine], object]) -> None:
        """Have ``work`` done with the engine under test, and with the reference if there is one."""
        if self._comparison is None:
            work(self._tested.engine)
        else:
            self._comparison.both(work)

    def close(self) -> None:
        """Remove what has the name."""
        if self._comparison is None:
            remove_named(self._tested.engine, self.name)
