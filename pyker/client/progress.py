"""What a pull or a push tells while it goes: bars on a terminal, one line a step in a pipe.

Source: the docker CLI's lines, which the document shows; Docker API POST /images/create.
"""

from __future__ import annotations

import os
import sys

from pyker.client.failure import Failure
from pyker.client.wirejson import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyker.client.transport import Response


def records(response: Response) -> Iterator[dict[str, Any]]:
    """The steps, as they come. Raises Failure when one of them is an error."""
    for line in response.lines():
        try:
            record = loads(line)
        except ValueError as error:
            raise Failure(f"the daemon's progress cannot be read: {error}") from None
        if not isinstance(record, dict):
            raise Failure("the daemon's progress cannot be read: a step is no object")
        detail = record.get("errorDetail")
        if isinstance(detail, dict) and detail.get("message"):
            code = detail.get("code")
            raise Failure(str(detail["message"]), code if isinstance(code, int) and 0 < code < 256 else 1)
        if record.get("error"):
            raise Failure(str(record["error"]))
        yield record


def show_progress(response: Response, *, quiet: bool, descriptor: int) -> None:
    """Follow the steps to their end. Raises Failure when one of them is an error."""
    if quiet:
        for _record in records(response):
            continue
        return
    if os.isatty(descriptor) and os.environ.get("TERM", "dumb") != "dumb":
        from pyker.client.bars import show_bars

        show_bars(records(response), descriptor)
        return
    stream = sys.stderr if descriptor == 2 else sys.stdout
    for record in records(response):
        if text := plain_line(record):
            stream.write(text)
            stream.flush()


def plain_line(record: dict[str, Any]) -> str:
    """One step as a line; "" for what only a bar can show."""
    if record.get("aux") is not None:
        return ""
    detail = record.get("progressDetail")
    if isinstance(detail, dict) and ((detail.get("current") or 0) > 0 or (detail.get("total") or 0) > 0):
        return ""
    if stream := record.get("stream"):
        return str(stream)
    identifier = record.get("id")
    status = record.get("status") or ""
    return f"{identifier}: {status}\n" if identifier else f"{status}\n"
