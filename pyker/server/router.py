"""The router: items of method, URL and handler, with and without a version before the path.

A variable stands for one part of the path; ``{name:.*}`` also takes slashes, as image names have them.
Seed: "Docker Server": each item has a method, a URL and a handler.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyker.api.versions import API_VERSION, MIN_API_VERSION, NEWEST, OLDEST, Version, parse
from pyker.errors import InvalidParameter, NotFound
from pyker.server.reply import Reply

if TYPE_CHECKING:
    from pyker.server.call import Call

Handler = Callable[["Call"], Reply]

_VERSION = re.compile(r"/v(\d[\d.]*)(/.*)\Z", re.DOTALL)
_VARIABLE = re.compile(r"\{(\w+)(:\.\*)?\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One item. With ``ends_with_client`` the job is cancelled when the client goes away."""

    method: str
    pattern: str
    handler: Handler
    ends_with_client: bool = False

    def compiled(self) -> re.Pattern[str]:
        """The whole path as a regular expression."""
        expression = ""
        at = 0
        for match in _VARIABLE.finditer(self.pattern):
            expression += re.escape(self.pattern[at : match.start()])
            expression += f"(?P<{match[1]}>{'.+' if match[2] else '[^/]+'})"
            at = match.end()
        return re.compile(expression + re.escape(self.pattern[at:]) + r"\Z", re.DOTALL)


class Router:
    """Finds the item for a request. Among those that match, the first registered wins."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._fixed: dict[tuple[str, str], Route] = {}
        self._patterns: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        self.routes: list[Route] = []
        for route in routes:
            self.routes.append(route)
            if "{" not in route.pattern:
                self._fixed.setdefault((route.method, route.pattern), route)
            else:
                key = (route.method, _first_part(route.pattern))
                self._patterns.setdefault(key, []).append((route.compiled(), route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str], Version]:
        """The item, the values of its variables, and the API version asked for.

        Raises NotFound "page not found", or InvalidParameter for a version that is not spoken.
        """
        version = NEWEST
        asked = _VERSION.match(path)
        if asked is not None:
            path = asked[2]
        route, variables = self._match(method, path)
        if asked is not None:
            version = parse(asked[1])
            if version > NEWEST:
                raise InvalidParameter(
                    f"client version {asked[1]} is too new. Maximum supported API version is {API_VERSION}"
                )
            if version < OLDEST:
                raise InvalidParameter(
                    f"client version {asked[1]} is too old. Minimum supported API version is {MIN_API_VERSION},"
                    " please upgrade your client to a newer version"
                )
        return route, variables, version

    def _match(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        fixed = self._fixed.get((method, path))
        if fixed is not None:
            return fixed, {}
        for pattern, route in self._patterns.get((method, _first_part(path)), ()):
            match = pattern.match(path)
            if match is not None:
                return route, match.groupdict()
        raise NotFound("page not found")


def _first_part(path: str) -> str:
    return path[1:].partition("/")[0]
