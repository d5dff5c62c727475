"""Talking with an attached container: bytes both ways, our terminal's size, our signals, and how it ended."""

from __future__ import annotations

import os
import sys

from pyker.client.failure import Failure
from pyker.client.signals import INTERRUPT, NAMES, RESIZED, TERMINATE
from pyker.client.streams import Attachment
from pyker.client.terminal import RawTerminal, terminal_size
from pyker.client.transport import quote_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.signals import Signals
    from pyker.client.surroundings import Surroundings
    from pyker.client.transport import Response

WAIT_FAILED = 125


def check_terminal(stdin: bool, tty: bool) -> None:
    """Raises Failure if a terminal is wanted for input that is none."""
    if stdin and tty and not os.isatty(0):
        raise Failure("the input device is not a TTY", 1)


def converse(
    around: Surroundings,
    identifier: str,
    stream: Response,
    signals: Signals,
    attached: list[str],
    *,
    tty: bool,
    proxy: bool,
    detach_keys: str = "",
    resize_path: str = "",
) -> bool:
    """Carry bytes, sizes and signals until the output ends. Returns whether the daemon saw the detach keys."""
    wants_input = "stdin" in attached
    attachment = Attachment(
        stream.connection,
        stdin=0 if wants_input else -1,
        output="stdout" in attached or "stderr" in attached,
        tty=tty,
        content_type=stream.headers.get("content-type", ""),
        detach_keys=detach_keys,
    )
    resize = resize_path or f"/containers/{identifier}/resize"
    sized = tty and os.isatty(1)

    def react() -> bool:
        for number in signals.take():
            if number == RESIZED:
                if sized:
                    send_size(around, resize)
            elif proxy:
                _forward(around, identifier, number)
            elif number in (INTERRUPT, TERMINATE):
                raise KeyboardInterrupt
        return False

    attachment.watch(signals.fileno(), react)
    with RawTerminal(0, wanted=tty and wants_input and os.isatty(0)):
        if sized:
            first_size(around, resize)
        attachment.run()
    stream.connection.close()
    return attachment.detached


def _forward(around: Surroundings, identifier: str, number: int) -> None:
    name = NAMES.get(number, str(number))
    try:
        around.client.call("POST", f"/containers/{quote_path(identifier)}/kill", {"signal": name})
    except Failure as failure:
        if around.debug:
            around.err(f"cannot hand on {name}: {failure.message}")


def send_size(around: Surroundings, path: str) -> bool:
    """Tell the daemon our terminal's size; False if it would not take it yet."""
    height, width = terminal_size()
    if height == 0 and width == 0:
        return True
    try:
        around.client.call("POST", path, {"h": str(height), "w": str(width)})
    except Failure:
        return False
    return True


def first_size(around: Surroundings, path: str) -> None:
    """The size right after the start: the terminal may not be there yet, so ask up to ten times."""
    import time

    for attempt in range(10):
        if send_size(around, path):
            return
        time.sleep(0.01 * (attempt + 1))
    around.err("failed to resize tty, using default size")


def exit_status(waiting: Response, around: Surroundings, identifier: str, signals: Signals, *, proxy: bool) -> int:
    """What the container ended with. Signals that come meanwhile go to it, too."""
    import select

    poll = select.poll()
    poll.register(waiting.fileno(), select.POLLIN)
    if signals.fileno() >= 0:
        poll.register(signals.fileno(), select.POLLIN)
    while not waiting.ready:
        events = poll.poll()
        for number in signals.take():
            if proxy and number != RESIZED:
                _forward(around, identifier, number)
            elif number in (INTERRUPT, TERMINATE):
                raise KeyboardInterrupt
        if any(descriptor == waiting.fileno() for descriptor, _ in events):
            break
    answer = waiting.json()
    if not isinstance(answer, dict):
        raise Failure("the daemon's answer to wait cannot be read", WAIT_FAILED)
    error = (answer.get("Error") or {}).get("Message") or ""
    if error:
        sys.stderr.write(f"Error waiting for container: {error}\n")
        return WAIT_FAILED
    return int(answer.get("StatusCode") or 0)
