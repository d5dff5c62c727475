"""What a test asked of an engine and what it answered, as lines that a person reads in the report.

Lines go to standard output, which pytest keeps with the test. So a test that passes has a log too: it shows what works.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Sequence

COMMAND_LIMIT = 400
OUTPUT_LIMIT = 600
BODY_LIMIT = 200


class Transcript:
    """Writes down requests and commands; ``who`` stands before each where two engines are asked.

    The same request with the same answer, again and again, as when a test waits, is written once.
    """

    def __init__(self, who: str = "") -> None:
        self._before = f"{who}: " if who else ""
        self._last = ""
        self._lock = threading.Lock()

    def command(self, argv: Sequence[str], code: int, out: str, err: str) -> None:
        """A client's command line, what it printed, and its exit code unless that is 0."""
        lines = [f"$ {_cut(shlex.join(argv), COMMAND_LIMIT)}"]
        lines += (_cut(text.rstrip("\n"), OUTPUT_LIMIT) for text in (out, err) if text.strip())
        if code:
            lines.append(f"exit {code}")
        self._write("\n".join(lines))

    def request(self, method: str, path: str, body: bytes | None, status: int, answer: bytes) -> None:
        """A request of the API with the beginning of its body, and the answer with the beginning of its own."""
        asked = " ".join(filter(None, (method, _cut(path, COMMAND_LIMIT), _shown(body or b""))))
        self._write(f"{asked}\n  {status} {_shown(answer)}".rstrip())

    def _write(self, text: str) -> None:
        with self._lock:
            if text == self._last:
                return
            self._last = text
            print(self._before + text, flush=True)


def _shown(body: bytes) -> str:
    text = body.decode("utf-8", "replace").strip()
    if any(ord(character) < 32 and character not in "\n\t\r" for character in text[:BODY_LIMIT]):
        return f"({len(body)} bytes)"
    return _cut(text, BODY_LIMIT)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit} more)"
