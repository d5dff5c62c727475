"""The daemon's own log: lines of ``time=... level=... msg="..."`` on stderr."""

from __future__ import annotations

import json
import logging
import sys

from pyker.api.gotime import format_time_fixed

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR, "fatal": 60}
_NAMES = {logging.WARNING: "warning", logging.CRITICAL: "fatal"}


class LineFormatter(logging.Formatter):
    """One line a record; a traceback goes into the field ``error`` so that it stays one line."""

    def format(self, record: logging.LogRecord) -> str:
        level = _NAMES.get(record.levelno, record.levelname.lower())
        moment = format_time_fixed(int(record.created * 1e9))
        line = f'time="{moment}" level={level} msg={_quoted(record.getMessage())}'
        if record.exc_info:
            line += f" error={_quoted(self.formatException(record.exc_info))}"
        return line


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def set_up(level: str) -> None:
    """Send everything from ``level`` up to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    logging.getLogger("urllib3").setLevel(logging.WARNING)
