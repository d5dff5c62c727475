"""What a registry warns of in ``Warning`` headers: words for people, of which nothing is done but showing them.

They come from a stranger: how many there are, how long they are and what is in them has bounds.

Source: OCI distribution-spec spec.md#warnings; RFC 7234 section 5.5.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable

from pyker.types.events import Progress

log = logging.getLogger("pyker.registry")

_HEADERS_MAX = 4096
_TEXT_MAX = 512
_TEXTS_MAX = 16
_WARNING = re.compile(
    r"""
    [ \t,]*
    (?P<code>[0-9]{3}) [ ] (?P<agent>[^\s",]+) [ ] "(?P<text>(?:[^"\\]|\\.)*)" (?P<date>[ ]"[^"]*")?
    [ \t]* (?:,|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)


class Warnings:
    """What was warned of during one command, each text once. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: set[str] = set()
        self._untold: list[str] = []

    def hear(self, host: str, fields: Iterable[str]) -> None:
        """Take the values of one answer's ``Warning`` headers, as they came."""
        for text in parse(fields):
            with self._lock:
                if text in self._heard or len(self._heard) >= _TEXTS_MAX:
                    continue
                self._heard.add(text)
                self._untold.append(text)
            log.info("%s warns: %s", host, text)

    def tell(self, emit: Callable[[Progress], None]) -> None:
        """Show those that were not shown yet, in the order in which they came."""
        with self._lock:
            texts, self._untold = self._untold, []
        for text in texts:
            emit(Progress(status=f"Warning: {text}"))


def parse(fields: Iterable[str]) -> list[str]:
    """The texts of warnings for people (299, of no named agent, without a date); all else is passed over.

    ``fields`` are as HTTP has them, one byte a character. The rest of one is passed over where it cannot be read, and
    every one after the 4096 bytes that a registry may send in all.
    """
    texts: list[str] = []
    room = _HEADERS_MAX
    for field in fields:
        room -= len(field)
        if room < 0:
            break
        end = 0
        while (found := _WARNING.match(field, end)) is not None:
            end = found.end()
            wanted = (found["code"], found["agent"], found["date"]) == ("299", "-", None)
            if wanted and (text := _shown(found["text"])):
                texts.append(text)
    return texts


def _shown(quoted: str) -> str:
    """The text of a quoted string on one line, at most so long, without what a terminal does not print."""
    plain = re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL).encode("latin-1", "replace").decode("utf-8", "replace")
    spaced = "".join(each if each.isprintable() else " " if each.isspace() else "" for each in plain)
    text = " ".join(spaced.split())
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 3] + "..."
